"""How the migrations in the code and those recorded in the databases stand to each other."""

from __future__ import annotations

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
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ProjectState


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
