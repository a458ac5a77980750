"""Who would wait: what a migration locks, how long, and what it writes anew.

It is seen twice: from a connection beside it, which knows how long a lock was held, and by the
process that migrates, which misses none and knows which transaction was which migration's.

PostgreSQL's lock modes that stand in somebody's way (its documentation, "Explicit Locking"):
readers wait for AccessExclusive alone; writers also for Share, ShareRowExclusive and Exclusive,
which CREATE INDEX and ADD FOREIGN KEY take.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.migrations.recorder import MigrationRecorder

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
    " WHERE c.relkind IN ('r', 'p', 'm')"
    " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
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
    transaction: str = ""
    """The server's name for the transaction that held it."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def blocks(self) -> str:
        return "readers and writers" if self.mode in BLOCK_READERS else "writers"


@dataclass(frozen=True)
class Recorded:
    """A migration at the moment when it was recorded as applied, told by its own transaction."""

    name: str
    at: float
    """By the monotonic clock, which all processes of a machine share."""
    transaction: str
    tables: dict[int, tuple[str, int]]
    """Of each table by its oid: its name, and the number of its file."""


@dataclass
class Watched:
    """What was seen."""

    holds: list[Hold] = field(default_factory=list)
    statements: dict[tuple[int, str], tuple[float, str]] = field(default_factory=dict)
    """Seconds and text of each statement seen, by process and start."""
    looks: int = 0
    error: str = ""
    """Why the watching ended before its time."""

    def slowest(self) -> list[tuple[float, str]]:
        """Seconds and text of the slowest statements."""
        return sorted(self.statements.values(), reverse=True)[:STATEMENTS]


def held_for(
    holds: Iterable[Hold], began: float, migration: Recorded, others: Collection[str]
) -> list[Hold]:
    """The holds of a migration that began at `began`, the longest of each table and mode.

    Those of its own transaction; besides, for one that is no transaction, those which began before
    it was recorded and belong to no transaction in `others`, which are other migrations'.
    """
    longest: dict[tuple[str, str], Hold] = {}
    for hold in holds:
        own = hold.transaction == migration.transaction
        if not own and (hold.transaction in others or not began <= hold.began < migration.at):
            continue
        key = hold.table, hold.mode
        if key not in longest or hold.seconds > longest[key].seconds:
            longest[key] = hold
    return sorted(longest.values(), key=_weight)


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
                        open_holds[key] = Hold(name, mode, now, now, transaction)
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
"""The variable that names the file to which a process tells what it does, a line each."""
OWN = (
    "SELECT DISTINCT virtualtransaction, relation::bigint, mode FROM pg_locks"
    " WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted"
    f" AND mode IN ({', '.join(sorted(map(repr, BLOCK_WRITERS)))})"
)
OWN_TRANSACTION = (
    "SELECT virtualtransaction FROM pg_locks"
    " WHERE pid = pg_backend_pid() AND locktype = 'virtualxid' LIMIT 1"
)
HARMLESS = ("SELECT", "INSERT", "UPDATE", "DELETE", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET")


def tell(path: str) -> None:
    """Have every PostgreSQL connection of this process tell its locks, and each migration's end.

    Locks after each statement that may take any, and once more with a migration's record, before
    its transaction ends: who looks from beside can miss one that is held for a millisecond, and
    this cannot say how long it was held.
    """

    def told(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        connection, text = context["connection"], str(sql)
        records = text.startswith(f'INSERT INTO "{MigrationRecorder.Migration._meta.db_table}"')
        takes = ";" in text or not text.lstrip()[:10].upper().startswith(HARMLESS)
        if not records and not (takes and connection.in_atomic_block):
            return result
        lines: list[dict[str, Any]] = []
        now = time.monotonic()
        with connection.connection.cursor() as cursor:
            if connection.in_atomic_block:  # else they are gone by now
                cursor.execute(OWN)
                keys = ("transaction", "oid", "mode")
                lines += [dict(zip(keys, row, strict=True)) for row in cursor.fetchall()]
            if records:
                cursor.execute(OWN_TRANSACTION)
                (transaction,) = cursor.fetchone() or ("",)
                name = ".".join(map(str, params[:2]))
                lines.append(
                    {"recorded": name, "transaction": transaction, "tables": _tables(cursor)}
                )
        with open(path, "a", encoding="utf-8") as file:
            for line in lines:
                line |= {"alias": connection.alias, "at": now}
                file.write(json.dumps(line) + "\n")
        return result

    def wrap(connection: BaseDatabaseWrapper, **_: object) -> None:
        if connection.vendor == "postgresql" and told not in connection.execute_wrappers:
            connection.execute_wrappers.append(told)

    connection_created.connect(wrap, weak=False)


def told(
    path: Path, alias: str, before: dict[int, tuple[str, int]]
) -> tuple[list[Recorded], list[Hold]]:
    """The migrations that a process recorded, in their order, and the locks that it told of.

    Locks on the tables that were there before each migration: nobody waits for a new one. `before`
    are the tables before the first.
    """
    recorded: list[Recorded] = []
    holds: list[Hold] = []
    if not path.exists():
        return recorded, holds
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        if line["alias"] != alias:
            continue
        at, transaction = line["at"], line["transaction"]
        if name := line.get("recorded"):
            before = {oid: (table, file) for oid, table, file in line["tables"]}
            recorded.append(Recorded(name, at, transaction, before))
        elif line["oid"] in before:
            holds.append(Hold(before[line["oid"]][0], line["mode"], at, at, transaction))
    return recorded, holds


def tables(connection: BaseDatabaseWrapper) -> dict[int, tuple[str, int]]:
    """Of each table by its oid: its name, and the number of its file.

    A new number is a table written anew.
    """
    with connection.cursor() as cursor:
        return {oid: (name, file) for oid, name, file in _tables(cursor)}


def _tables(cursor: Any) -> list[tuple[int, str, int]]:
    cursor.execute(TABLES)
    return list(cursor.fetchall())


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
