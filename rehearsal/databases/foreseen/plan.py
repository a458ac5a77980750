"""The unapplied migrations of a database, operation by operation: SQL, tables, reversibility.

Nothing is written: an operation that does not let itself be written as SQL, but works on the
database at once, meets a transaction that is read only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

from django.db import Error, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from rehearsal.databases.foreseen import statements
from rehearsal.databases.foreseen.probe import Probe, probing
from rehearsal.databases.foreseen.statements import Touch
from rehearsal.databases.migrations import belongs, reversible

COUNT_SECONDS = 10
"""How long the rows of a table may be counted; after that the server's estimate must do."""


def foresee_or_error(alias: str) -> dict[str, Any]:
    """What `foresee` finds, or as `{"error": …}` why nothing can be foreseen."""
    try:
        return foresee(alias)
    except Exception as error:  # a project's own operations may do anything
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}


def foresee(alias: str) -> dict[str, Any]:
    """What the unapplied migrations will do in a database.

    `migrations` are in the order in which they would run: each has its `name`, whether it is
    `atomic`, and its `operations`. An operation `is` a phrase and of a `kind`, is `reversible` or
    not, runs `code` or not, has its `sql`, and what that `touches` where the SQL was `read`; where
    it cannot be known, `unknown` says why. `tables` are those that are touched and there, with
    `rows`, whether these are `exact`, and `bytes`. Where nothing is applied yet, there is nothing
    to be foreseen: `fresh`.
    """
    connection = connections[alias]
    executor = MigrationExecutor(connection)
    targets = executor.loader.graph.leaf_nodes()
    planned = [migration for migration, _ in executor.migration_plan(targets)]
    known = executor.loader.applied_migrations.keys() & executor.loader.graph.nodes.keys()
    if not known or not planned:
        return {"fresh": not known, "migrations": [], "tables": {}}
    state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    for migration, _ in executor.migration_plan(targets, clean_start=True):
        if (migration.app_label, migration.name) in known:
            migration.mutate_state(state, preserve=False)
    with _reading_only(connection):
        said = [(one.app_label, _migration(connection, one, state)) for one in planned]
        found = [migration for app, migration in said if belongs(alias, app)]
        tables = connection.introspection.table_names()
    each = [operation for migration in found for operation in migration["operations"]]
    if connection.vendor == "postgresql":
        _judge(connection, each, tables)
    touched = sorted({touch["table"] for one in each for touch in one["touches"]} - {""})
    sizes = {name: size for name in touched if (size := _size(connection, name))}
    return {"fresh": False, "migrations": found, "tables": sizes}


def _migration(
    connection: BaseDatabaseWrapper, migration: Migration, state: ProjectState
) -> dict[str, Any]:
    found = []
    for operation in migration.operations:
        before = state.clone()
        operation.state_forwards(migration.app_label, state)
        for one, old, new in _steps(operation, migration.app_label, before, state):
            if not _elsewhere(connection, migration.app_label, one):
                found.append(_operation(connection, migration.app_label, one, old, new))
    return {
        "name": f"{migration.app_label}.{migration.name}",
        "atomic": migration.atomic,
        "operations": found,
    }


def _steps(
    operation: Operation, app: str, before: ProjectState, after: ProjectState
) -> Iterator[tuple[Operation, ProjectState, ProjectState]]:
    """The operation, or those that it does to the database while it tells another state."""
    if not isinstance(operation, SeparateDatabaseAndState):
        yield operation, before, after
        return
    for one in operation.database_operations:
        changed = before.clone()
        one.state_forwards(app, changed)
        yield from _steps(one, app, before, changed)
        before = changed


def _elsewhere(connection: BaseDatabaseWrapper, app: str, operation: Operation) -> bool:
    """Whether the routers keep an operation without a model out of this database."""
    hints = getattr(operation, "hints", None)
    return hints is not None and not router.allow_migrate(connection.alias, app, **hints)


def _operation(
    connection: BaseDatabaseWrapper,
    app: str,
    operation: Operation,
    before: ProjectState,
    after: ProjectState,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "is": _named(operation),
        "kind": [one.__name__ for one in type(operation).__mro__],
        "reversible": reversible(operation),
        "code": not operation.reduces_to_sql,
        "sql": [],
        "touches": [],
        "read": False,
        "unknown": "",
    }
    if not operation.reduces_to_sql:
        return found
    try:
        with (
            _savepoint(connection),
            connection.schema_editor(collect_sql=True, atomic=False) as editor,
        ):
            operation.database_forwards(app, editor, before, after)
        for sql in editor.collected_sql:
            found["sql"] += statements.split(sql)
    except Exception as error:  # whatever a project's own operation does
        found["unknown"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return found


def _named(operation: Operation) -> str:
    said = " ".join(operation.describe().split())
    if (code := getattr(operation, "code", None)) and (name := getattr(code, "__name__", "")):
        return f"{said} {name}"
    sql = getattr(operation, "sql", None)
    if isinstance(sql, str):
        return f"{said}: {statements.plain(sql[:2000])[:80]}"
    return said


@contextmanager
def _reading_only(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let nothing be written. Django's own transaction would not let operations see that they are
    outside of one."""
    begin, end = {
        "postgresql": (
            "BEGIN TRANSACTION READ ONLY; SET LOCAL lock_timeout = '10s'",
            "ROLLBACK",
        ),
        "sqlite": ("PRAGMA query_only = on", "PRAGMA query_only = off"),
    }.get(connection.vendor, ("", ""))
    with connection.cursor() as cursor:
        if begin:
            cursor.execute(begin)
        try:
            yield
        finally:
            if end:
                cursor.execute(end)


@contextmanager
def _savepoint(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT operation")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK TO SAVEPOINT operation")


def _judge(connection: BaseDatabaseWrapper, each: list[dict[str, Any]], tables: list[str]) -> None:
    """Put down what each operation's statements touch, as the server says where it can be asked."""
    read = [statements.of_operation(operation["sql"]) for operation in each]
    with suppress(Error), probing(connection, tables) as probe:
        read = [
            [_asked(probe, sql, own) for sql, own in zip(operation["sql"], all_, strict=True)]
            for operation, all_ in zip(each, read, strict=True)
        ]
    names: dict[str, str] = {}  # of tables that the plan has renamed by then
    for operation, all_ in zip(each, read, strict=True):
        operation["read"] = not operation["unknown"]
        for touch in (touch for own in all_ for touch in own):
            table = names.get(touch.table, touch.table)
            operation["touches"].append({**asdict(touch), "table": table, "blocks": touch.blocks})
            if touch.to:
                names[touch.to] = table


def _asked(probe: Probe, sql: str, own: list[Touch]) -> list[Touch]:
    if (answer := probe.ask(sql)) is None:
        return own
    grows, rewrites = answer
    # What a new foreign key puts on the table that it points to is done at once.
    return [
        replace(one, grows=grows, rewrites=rewrites)
        if one.mode and one.table == own[0].table
        else one
        for one in own
    ]


def _size(connection: BaseDatabaseWrapper, table: str) -> dict[str, Any]:
    """The rows and bytes of a table; empty when there is no such table."""
    quoted = ".".join(map(connection.ops.quote_name, table.split(".")))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT greatest(reltuples, 0)::bigint, relpages * 8192::bigint FROM pg_class"
            " WHERE oid = to_regclass(%s) AND relkind IN ('r', 'p', 'm')",
            [quoted],
        )
        if (found := cursor.fetchone()) is None:
            return {}
        rows, size = found
        exact = True
        cursor.execute("BEGIN")
        try:
            # Both wait for whoever has locked the table.
            cursor.execute(f"SET LOCAL statement_timeout = '{COUNT_SECONDS}s'")
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            cursor.execute("SELECT pg_total_relation_size(%s::regclass)", [quoted])
            size = cursor.fetchone()[0]
            cursor.execute(f"SELECT count(*) FROM {quoted}")
            rows = cursor.fetchone()[0]
        except Error:
            exact = False
        finally:
            cursor.execute("ROLLBACK")
        return {"rows": rows, "exact": exact, "bytes": size}
