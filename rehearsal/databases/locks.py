"""Who would wait: what a migration locks, how long, and what it writes anew, seen from beside it.

PostgreSQL's lock modes that stand in somebody's way (its documentation, "Explicit Locking"):
readers wait for AccessExclusive alone; writers also for Share, ShareRowExclusive and Exclusive,
which CREATE INDEX and ADD FOREIGN KEY take.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from rehearsal.databases.address import Address
from rehearsal.databases.foreseen.statements import outline

LOOK_SECONDS = 0.005
"""How often the locks are looked at: the error of a hold's length is about twice as much."""
BLOCK_READERS = {"AccessExclusiveLock"}
BLOCK_WRITERS = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}
STATEMENTS = 10
"""How many of the slowest statements are kept."""
STATEMENT_LENGTH = 200

HELD = (
    # Tables made in the very same transaction have no name for others, and nobody waits for them.
    "SELECT l.virtualtransaction, c.oid::bigint, c.oid::regclass::text, l.mode"
    " FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " JOIN pg_database d ON d.oid = l.database JOIN pg_stat_activity a ON a.pid = l.pid"
    # Locks on a table's pages, rows or end name the table too, and nobody notices them.
    " WHERE l.granted AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm')"
    " AND d.datname = current_database()"
    " AND a.backend_type = 'client backend' AND l.pid <> pg_backend_pid()"
    f" AND l.mode IN ({', '.join(sorted(map(repr, BLOCK_WRITERS)))})"
    " AND %s IN ('', a.application_name)"
)
RUNNING = (
    "SELECT pid, query_start::text, query, extract(epoch FROM clock_timestamp() - query_start)"
    " FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    " AND %s IN ('', application_name)"
)
TABLES = (
    "SELECT c.oid::bigint, c.oid::regclass::text, c.relfilenode::bigint"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
)
SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
)
WRITTEN = "SELECT relid::bigint, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"


@dataclass
class Hold:
    """A lock that stood in others' way."""

    table: str
    mode: str
    began: float
    """By this process's monotonic clock."""
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def blocks(self) -> str:
        return "readers and writers" if self.mode in BLOCK_READERS else "writers"


@dataclass(frozen=True)
class Table:
    """A table as it stands at one moment."""

    name: str
    file: int


@dataclass
class Watched:
    """What was seen."""

    holds: list[Hold] = field(default_factory=list)
    statements: dict[tuple[int, str], tuple[float, str]] = field(default_factory=dict)
    """Seconds and text of each statement seen, by process and start."""
    looks: int = 0
    error: str = ""
    """Why the watching ended before its time."""

    def between(self, began: float, ended: float, told: Iterable[Hold] = ()) -> list[Hold]:
        """The holds that began in a span of time, the longest of each table and mode.

        With those that were `told` of, and could have been missed.
        """
        longest: dict[tuple[str, str], Hold] = {}
        for hold in (*self.holds, *told):
            if began <= hold.began < ended:
                key = hold.table, hold.mode
                if key not in longest or hold.seconds > longest[key].seconds:
                    longest[key] = hold
        return sorted(longest.values(), key=_weight)

    def slowest(self) -> list[tuple[float, str]]:
        """Seconds and text of the slowest statements."""
        return sorted(self.statements.values(), reverse=True)[:STATEMENTS]


def _weight(hold: Hold) -> tuple[float, bool, str]:
    return -round(hold.seconds, 2), hold.mode not in BLOCK_READERS, hold.table


@contextmanager
def watching(at: Address, application: str = "") -> Iterator[Watched]:
    """Watch the locks of a PostgreSQL database from a connection of its own.

    With `application`, only those of sessions by that name. Raises django.db.Error when the
    database cannot be reached.
    """
    seen = Watched()
    done = threading.Event()
    with closing(at.connect()) as connection:
        connection.inc_thread_sharing()
        thread = threading.Thread(
            target=_watch, args=(connection, application, seen, done), name="locks", daemon=True
        )
        thread.start()
        try:
            yield seen
        finally:
            done.set()
            thread.join(10)


def _watch(
    connection: BaseDatabaseWrapper, application: str, seen: Watched, done: threading.Event
) -> None:
    # By transaction: two that follow each other closely are two holds.
    open_holds: dict[tuple[str, int, str], Hold] = {}
    try:
        with connection.cursor() as cursor:
            with suppress(Error):
                cursor.execute("SET jit = off")
            while not done.is_set():
                cursor.execute(HELD, [application])
                now = time.monotonic()
                held = set()
                for transaction, oid, name, mode in cursor.fetchall():
                    key = transaction, oid, mode
                    held.add(key)
                    if key not in open_holds:
                        open_holds[key] = Hold(name, mode, now, now)
                        seen.holds.append(open_holds[key])
                    open_holds[key].ended = now
                for key in open_holds.keys() - held:
                    open_holds.pop(key).ended = now
                if seen.looks % 4 == 0:
                    cursor.execute(RUNNING, [application])
                    for pid, start, query, seconds in cursor.fetchall():
                        # Without what stands in quotes: rows may hold secrets.
                        text = outline(query)[:STATEMENT_LENGTH]
                        seen.statements[pid, start] = (float(seconds), text)
                seen.looks += 1
                done.wait(LOOK_SECONDS)
    except Error as error:
        seen.error = (str(error).splitlines() or [type(error).__name__])[0]


TOLD = "REHEARSAL_LOCKS_TOLD"
"""The variable that names the file to which a process tells its own locks, a line each."""
OWN = (
    "SELECT DISTINCT relation::bigint, mode FROM pg_locks WHERE pid = pg_backend_pid()"
    " AND locktype = 'relation' AND granted"
    f" AND mode IN ({', '.join(sorted(map(repr, BLOCK_WRITERS)))})"
)
HARMLESS = ("SELECT", "INSERT", "UPDATE", "DELETE", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET")


def tell(path: str) -> None:
    """Have every PostgreSQL connection of this process tell the locks that it holds.

    After each statement that may take any, before its transaction ends: who looks from beside can
    miss one that is held for a millisecond, and this cannot say how long it was held.
    """

    def told(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        connection = context["connection"]
        first = str(sql).lstrip()[:10].upper()
        if connection.in_atomic_block and (";" in str(sql) or not first.startswith(HARMLESS)):
            with connection.connection.cursor() as cursor:
                cursor.execute(OWN)
                now = time.monotonic()
                lines = [json.dumps([connection.alias, now, *row]) for row in cursor.fetchall()]
            if lines:
                with open(path, "a", encoding="utf-8") as file:
                    file.write("\n".join([*lines, ""]))
        return result

    def wrap(connection: BaseDatabaseWrapper, **_: object) -> None:
        if connection.vendor == "postgresql" and told not in connection.execute_wrappers:
            connection.execute_wrappers.append(told)

    connection_created.connect(wrap, weak=False)


def told(
    path: Path, alias: str, tables: Mapping[int, Table], began: float, ended: float
) -> list[Hold]:
    """The locks that a process told of in a span of time, on tables that were there before."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Hold(tables[oid].name, mode, at, at)
        for of, at, oid, mode in lines
        if of == alias and began <= at < ended and oid in tables
    ]


def tables(connection: BaseDatabaseWrapper) -> dict[int, Table]:
    """Every table by its oid, with the number of its file: a new number is a table written anew."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        return {oid: Table(name, file) for oid, name, file in cursor.fetchall()}


def size(connection: BaseDatabaseWrapper) -> int | None:
    """The bytes of all tables, with their indexes; None while one of them is locked."""
    with connection.cursor() as cursor:
        try:
            cursor.execute("BEGIN")
            cursor.execute("SET LOCAL lock_timeout = '200ms'")
            cursor.execute(SIZE)
            return int(cursor.fetchone()[0])
        except Error:
            return None
        finally:
            cursor.execute("ROLLBACK")


def written(connection: BaseDatabaseWrapper) -> dict[int, int]:
    """How many rows of each table were ever inserted, changed or deleted, by the table's oid."""
    with connection.cursor() as cursor:
        with suppress(Error):  # what this session read before would be told again
            cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(WRITTEN)
        return dict(cursor.fetchall())
