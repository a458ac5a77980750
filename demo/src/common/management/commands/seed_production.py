"""Migrates an empty database to the release before this one, and fills it."""

from argparse import ArgumentParser
from typing import Any

from django.apps.registry import Apps
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.core.management.sql import emit_post_migrate_signal
from django.db import DatabaseError, connections, transaction
from django.db.migrations.executor import MigrationExecutor

from common.management.office import Seeder

# Where each application with newer migrations stood before this release.
PREVIOUS_RELEASE = {"common": "0028_stafftask_status_due_index"}


class Command(BaseCommand):
    help = "Migrate an empty database to a release and fill it as production's stand-in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default="default")
        parser.add_argument(
            "--release",
            choices=["previous", "current"],
            default="previous",
            help="previous (the default) leaves this release's migrations unapplied",
        )

    def handle(self, *args: Any, database: str, release: str, **options: Any) -> None:
        if database not in connections:
            raise CommandError(
                f"No database {database!r}. Choose one of: {', '.join(connections)}."
            )
        if self._users(database):
            raise CommandError(
                f"Database {connections[database].settings_dict['NAME']!s} already holds users. "
                "Drop and create it, then seed again."
            )
        apps = self._migrate(database)
        with transaction.atomic(using=database):
            counts = Seeder(apps, database).fill()
        if release == "current":
            call_command("migrate", database=database, verbosity=0)
        for label, count in counts.items():
            self.stdout.write(f"{count:6,d} {label}")

    def _users(self, database: str) -> bool:
        connection = connections[database]
        try:
            with connection.cursor() as cursor:
                if "auth_user" not in connection.introspection.table_names(cursor):
                    return False
                cursor.execute("SELECT EXISTS (SELECT 1 FROM auth_user)")
                return bool(cursor.fetchone()[0])
        except DatabaseError as error:
            raise CommandError(f"Database {database!r} does not answer: {error}") from None

    def _migrate(self, database: str) -> Apps:
        """Bring the database to the previous release; return the models of that moment."""
        executor = MigrationExecutor(connections[database])
        targets = [
            (app, PREVIOUS_RELEASE.get(app, name))
            for app, name in executor.loader.graph.leaf_nodes()
        ]
        if executor.loader.applied_migrations.keys() & self._newer(executor, targets):
            raise CommandError("This release's migrations are applied. Start from a new database.")
        plan = executor.migration_plan(targets)
        executor.migrate(targets, plan)
        apps = executor.loader.project_state(targets).apps
        emit_post_migrate_signal(0, False, database, apps=apps, plan=plan)
        return apps

    def _newer(
        self, executor: MigrationExecutor, targets: list[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        wanted = {
            node for target in targets for node in executor.loader.graph.forwards_plan(target)
        }
        return set(executor.loader.graph.nodes) - wanted
