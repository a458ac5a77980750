"""How the migrations in the code and those recorded in the databases stand to each other."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.commands.makemigrations import Command as MakeMigrations
from django.db import DEFAULT_DB_ALIAS, Error, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ProjectState

from rehearsal.databases import absent


def aliases() -> list[str]:
    """The databases that are migrated: without routers, Django itself knows only the first."""
    return list(connections) if settings.DATABASE_ROUTERS else [DEFAULT_DB_ALIAS]


def state(alias: str) -> dict[str, Any]:
    """What is known, applied and unapplied in a database, in the order in which it would run.

    Only apps that belong there count, since Django records every app's migrations everywhere.
    `partial` are the unapplied ones that are no transaction. `missing` are recorded as applied and
    unknown to the code of an app that has migrations; `left` are the recorded migrations of apps
    that are gone, `unmigrated` the apps that are installed and whose migrations the code has lost,
    or never had. Where nothing is unapplied, `absent` are the tables and columns of models that the
    database lacks all the same. `error` stands alone when the database cannot be read.
    """
    connection = connections[alias]
    try:
        executor = MigrationExecutor(connection)
        loader = executor.loader
        try:
            loader.check_consistent_history(connection)
            inconsistent = ""
        except InconsistentMigrationHistory as error:
            inconsistent = str(error)
        plan = executor.migration_plan(loader.graph.leaf_nodes())
        tables = set(connection.introspection.table_names(include_views=True))
        here = {app for app in loader.migrated_apps if belongs(alias, app)}
        absent = [] if plan else _absent(connection, here)
    except Error as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    replaced = {key for one in loader.disk_migrations.values() for key in one.replaces}
    unknown = loader.applied_migrations.keys() - loader.disk_migrations.keys() - replaced
    known = {key for key in loader.graph.nodes if key[0] in here}
    recorded = {app for app, _name in unknown}
    # An app without migrations is in order where its tables were made without any.
    unmigrated = [
        app
        for app in loader.unmigrated_apps
        if (made := _tables(alias, app)) and (app in recorded or not made <= tables)
    ]
    return {
        "known": _names(sorted(known)),
        "applied": _names(sorted(known & loader.applied_migrations.keys())),
        "unapplied": _names((one.app_label, one.name) for one, _ in plan if one.app_label in here),
        # What they did before they failed, or were killed, would stay.
        "partial": _names(
            (one.app_label, one.name)
            for one, _ in plan
            if not (one.atomic and connection.features.can_rollback_ddl)
        ),
        "absent": absent,
        "missing": _names(sorted(key for key in unknown if key[0] in here)),
        "left": _names(
            sorted(
                key
                for key in unknown
                if key[0] not in loader.migrated_apps and key[0] not in unmigrated
            )
        ),
        "unmigrated": sorted(unmigrated),
        "inconsistent": inconsistent,
    }


def code() -> dict[str, Any]:
    """What is wrong with the migrations in the code, whatever the databases hold.

    `conflicts` are apps with several last migrations, `changes` are models that differ from
    what their migrations make.
    """
    loader = MigrationLoader(None, ignore_no_migrations=True)
    conflicts = {app: sorted(names) for app, names in loader.detect_conflicts().items()}
    changes: list[str] = []
    if not conflicts:
        # As `makemigrations --check` would, without questions that nobody is there to answer.
        detector: type[MigrationAutodetector] = MakeMigrations.autodetector
        detected = detector(
            loader.project_state(), ProjectState.from_apps(apps), MigrationQuestioner(dry_run=True)
        )
        for app, found in sorted(detected.changes(graph=loader.graph).items()):
            changes += [f"{app}: {one.describe()}" for each in found for one in each.operations]
    return {"conflicts": conflicts, "changes": changes}


def there_and_back(alias: str) -> dict[str, Any]:
    """Apply what is unapplied in a database, then take it back, the last one first.

    `irreversible` are those that say themselves that they cannot be taken back, `kept` what they
    need; the way back goes past both. It ends at the first one that `failed`, which is a name and
    an error, or None. `reversed` are names and seconds, `applied` what there was to apply. Raises
    absent.NoCopy where a migration works in another database.
    """
    began, back = 0.0, []

    def follow(action: str, migration: Migration | None = None, *_: object) -> None:
        nonlocal began
        if action == "unapply_start":
            began = time.monotonic()
        elif action == "unapply_success" and migration:
            name = f"{migration.app_label}.{migration.name}"
            back.append({"name": name, "seconds": time.monotonic() - began})

    executor = MigrationExecutor(connections[alias])
    targets = executor.loader.graph.leaf_nodes()
    # Of the others Django only records that they ran, as in `state`.
    here = {app for app in executor.loader.migrated_apps if belongs(alias, app)}
    plan = [one for one, _ in executor.migration_plan(targets) if one.app_label in here]
    executor.migrate(targets)
    executor = MigrationExecutor(connections[alias], follow)
    irreversible = [one for one in plan if not all(map(reversible, one.operations))]
    graph = executor.loader.graph
    needed = {key for one in irreversible for key in graph.forwards_plan(_key(one))}
    ways = [one for one in reversed(plan) if _key(one) not in needed]
    failed = None
    if ways:
        try:
            executor.migrate(targets, [(one, True) for one in ways])
        except absent.NoCopy:
            raise
        except Exception as error:  # a migration's own code may raise anything
            said = (str(error).splitlines() or [""])[0]
            at = ways[len(back)]
            failed = {
                "name": f"{at.app_label}.{at.name}",
                "error": f"{type(error).__name__}: {said}".rstrip(":. "),
            }
    return {
        "applied": _names(map(_key, plan)),
        "reversed": back,
        "irreversible": _names(map(_key, irreversible)),
        "kept": _names(
            _key(one) for one in plan if _key(one) in needed and one not in irreversible
        ),
        "failed": failed,
    }


def reversible(operation: Operation) -> bool:
    """Whether an operation says that it can be taken back, and all that it holds."""
    # SeparateDatabaseAndState says so whatever it holds.
    within = getattr(operation, "database_operations", [])
    return bool(operation.reversible) and all(map(reversible, within))


def _key(migration: Migration) -> tuple[str, str]:
    return migration.app_label, migration.name


def belongs(alias: str, app: str) -> bool:
    """Whether an app's migrations are meant for a database.

    For the default one, whatever the routers do not keep out of it. For another one, only apps of
    which the routers put a model there: a legacy database or a store of its own is nobody else's.
    """
    models = list(apps.get_app_config(app).get_models(include_auto_created=True))
    allowed = [model for model in models if router.allow_migrate_model(alias, model)]
    if alias == DEFAULT_DB_ALIAS:
        return bool(allowed) if models else router.allow_migrate(alias, app)
    managed = [model for model in allowed if model._meta.can_migrate(alias)]
    return any(router.db_for_write(model) == alias for model in managed)


def _absent(connection: BaseDatabaseWrapper, labels: Iterable[str]) -> list[str]:
    """The tables and columns that the models of these apps have and the database has not."""
    found: list[str] = []
    there = {name.lower() for name in connection.introspection.table_names(include_views=True)}
    with connection.cursor() as cursor:
        for label in sorted(labels):
            for model in apps.get_app_config(label).get_models(include_auto_created=True):
                table = model._meta.db_table
                if (
                    not model._meta.can_migrate(connection)
                    or not router.allow_migrate_model(connection.alias, model)
                    or '"' in table  # names a schema as well
                ):
                    continue
                if table.lower() not in there:
                    found.append(table)
                    continue
                description = connection.introspection.get_table_description(cursor, table)
                columns = {column.name.lower() for column in description}
                found += [
                    f"{table}.{field.column}"
                    for field in model._meta.local_concrete_fields
                    if (field.column or "").lower() not in columns
                ]
    return found


def _tables(alias: str, app: str) -> set[str]:
    """The tables that an app without migrations needs in a database."""
    models = apps.get_app_config(app).get_models(include_auto_created=True)
    return {
        model._meta.db_table
        for model in models
        if router.db_for_write(model) == alias and model._meta.can_migrate(alias)
    }


def _names(keys: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{app}.{name}" for app, name in keys]
