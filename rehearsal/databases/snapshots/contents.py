"""Counts and digests of everything a PostgreSQL database holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.databases.address import Address

JOBS = 2
SETTINGS = (
    # What decides how a value reads as text.
    "datestyle = 'ISO, YMD'", "intervalstyle = 'postgres'", "timezone = 'UTC'",
    "extra_float_digits = 1", "bytea_output = 'hex'", "xmloption = 'content'",
    "lc_monetary = 'C'", "search_path = ''",
    # Rows that a policy hides would be missing from the dump, too: better an error.
    "row_security = off",
    "statement_timeout = 0", "idle_in_transaction_session_timeout = 0",
)  # fmt: skip
OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
NOT_EXTENSIONS = "NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = {} AND e.deptype = 'e')"

TABLES = (
    "SELECT c.oid::regclass::text FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OURS}"
    f" AND {NOT_EXTENSIONS.format('c.oid')} ORDER BY c.relpages DESC"
)
# Summed, so that the order of rows does not matter; a count of equal rows still does.
ROWS = (
    # (t.*) is the row even where a column is called t.
    'SELECT count(*), coalesce(sum(hashtextextended((t.*)::text COLLATE "C", 0)::numeric), 0)::text'
    " || '/' || coalesce(sum(hashtextextended((t.*)::text COLLATE \"C\", 1)::numeric), 0)::text"
    " FROM ONLY {} t"
)
SEQUENCES = (
    "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {OURS}"
    f" AND {NOT_EXTENSIONS.format('c.oid')}"
)
STRUCTURE = {
    "column": (
        "SELECT c.oid::regclass || '.' || quote_ident(a.attname), concat_ws(' ',"
        " format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,"
        " nullif(a.attidentity, ''), nullif(a.attgenerated, ''),"
        " pg_get_expr(d.adbin, d.adrelid))"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'm', 'v', 'f')"
        f" AND c.relpersistence <> 't' AND {OURS} AND {NOT_EXTENSIONS.format('c.oid')}"
    ),
    "index": (
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)"
        " || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relpersistence <> 't' AND {OURS} AND {NOT_EXTENSIONS.format('c.oid')}"
    ),
    "constraint": (
        "SELECT coalesce(nullif(o.conrelid, 0)::regclass::text, o.contypid::regtype::text)"
        " || '.' || quote_ident(o.conname), pg_get_constraintdef(o.oid)"
        " FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace"
        f" WHERE o.contype <> 'n' AND {OURS} AND {NOT_EXTENSIONS.format('o.conrelid')}"
    ),
    "trigger": (
        "SELECT t.tgrelid::regclass || '.' || quote_ident(t.tgname), pg_get_triggerdef(t.oid)"
        " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE NOT t.tgisinternal AND {OURS}"
    ),
    "view": (
        "SELECT c.oid::regclass::text, pg_get_viewdef(c.oid) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm')"
        f" AND {OURS} AND {NOT_EXTENSIONS.format('c.oid')}"
    ),
    "function": (
        "SELECT p.oid::regprocedure::text, md5(coalesce(p.prosrc, '')) FROM pg_proc p"
        f" JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS}"
        f" AND {NOT_EXTENSIONS.format('p.oid')}"
    ),
    "extension": "SELECT extname, '' FROM pg_extension",
}
LARGE_OBJECTS = "large objects"
"""They are counted and digested like the rows of a table."""
LARGE = (
    "SELECT count(*), coalesce(sum(hashtextextended(oid || md5(lo_get(oid)), 0)::numeric), 0)::text"
    " FROM pg_largeobject_metadata HAVING count(*) > 0"
)


@contextmanager
def session(at: Address, snapshot: str = "") -> Iterator[BaseDatabaseWrapper]:
    """A read-only transaction in which every value reads the same everywhere.

    With `snapshot`, it sees what the transaction that exported it sees. Raises django.db.Error.
    """
    with closing(at.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot:
            cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        # Of this transaction alone: behind a pooler, the next client gets this server process.
        for setting in SETTINGS:
            cursor.execute(f"SET LOCAL {setting}")
        # PostgreSQL 13 does not have it.
        cursor.execute(
            "SELECT set_config(name, '500ms', true) FROM pg_catalog.pg_settings"
            " WHERE name = 'client_connection_check_interval'"
        )
        yield connection


def sequences(connection: BaseDatabaseWrapper) -> dict[str, int]:
    """Where each sequence stands: twice its last value, and one more once that was given out."""
    with connection.cursor() as cursor:
        cursor.execute(SEQUENCES)
        found = {}
        for (name,) in cursor.fetchall():
            cursor.execute(f"SELECT last_value, is_called::int FROM {name}")
            last, called = cursor.fetchone()
            found[name] = 2 * last + called
        return found


def structure(connection: BaseDatabaseWrapper) -> dict[str, list[str]]:
    """The lines of each kind: a name, a tab, and the definition."""
    found = {}
    with connection.cursor() as cursor:
        for kind, query in STRUCTURE.items():
            cursor.execute(query)
            found[kind] = sorted(f"{name}\t{' '.join(said.split())}" for name, said in cursor)
    return found


def rows(
    at: Address, snapshot: str = "", *, stop: threading.Event, say: Callable[[str], object]
) -> dict[str, list[Any]]:
    """Count and digest of every table, taken by two sessions at once. Raises django.db.Error."""
    with session(at, snapshot) as connection:
        names = _tables(connection)
        found: dict[str, list[Any]] = {}

        def count(take: Callable[[], str]) -> None:
            with session(at, snapshot) as own, own.cursor() as cursor:
                while not stop.is_set():
                    name = take()
                    cursor.execute(ROWS.format(name))
                    found[name] = list(cursor.fetchone())
                    say(f"{len(found)} of {len(names)} tables counted and digested.")

        _share(names, count)
        with connection.cursor() as cursor:
            cursor.execute(LARGE)
            if large := cursor.fetchone():
                found[LARGE_OBJECTS] = list(large)
    return found


def analyze(at: Address) -> None:
    """Gather statistics on every table, by two sessions at once. Raises django.db.Error."""
    with session(at) as connection:
        names = _tables(connection)

    def gather(take: Callable[[], str]) -> None:
        with closing(at.connect()) as own, own.cursor() as cursor:
            with suppress(Error):  # PostgreSQL 13 does not have it
                cursor.execute("SET client_connection_check_interval = '500ms'")
            while True:
                cursor.execute(f"ANALYZE {take()}")

    _share(names, gather)


def _tables(connection: BaseDatabaseWrapper) -> list[str]:
    """The names of all tables, the largest first."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        return [name for (name,) in cursor.fetchall()]


def _share(names: list[str], work: Callable[[Callable[[], str]], None]) -> None:
    """Let threads take one name after the other until none is left; raises what any raised."""
    waiting: SimpleQueue[str] = SimpleQueue()
    for name in names:
        waiting.put(name)
    wrong: list[BaseException] = []

    def take() -> str:
        if wrong:
            raise Empty
        return waiting.get_nowait()

    def perform() -> None:
        try:
            work(take)
        except Empty:
            pass
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=perform, daemon=True) for _ in range(JOBS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
