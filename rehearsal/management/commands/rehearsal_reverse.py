"""Migrations forwards and backwards on a copy, for a check of section 2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from rehearsal.checks.environment import mail
from rehearsal.databases import absent, identity, migrations, replacement
from rehearsal.management.commands.rehearsal_identity import write


class Command(BaseCommand):
    help = "Applies migrations to a rehearsal's scratch database and takes them back, as JSON."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, help="write to this file, not to stdout")
        parser.add_argument("--database", required=True, help="the alias that is migrated")
        parser.add_argument("--number", type=int, required=True, help="the rehearsal's number")
        parser.add_argument("--token", required=True, help="of the scratch database")

    def handle(
        self, *, output: Path | None, database: str, number: int, token: str, **options: Any
    ) -> None:
        # A migration may name any alias, and its code the default one: each leads to the scratch,
        # whose name follows from the token, or to nothing.
        way = replacement.configured(number)
        at = replace(way, token=token).scratch
        scratch = {
            "ENGINE": at.engine, "NAME": at.name, "HOST": at.host, "PORT": at.port,
            "USER": at.user, "PASSWORD": at.password, "OPTIONS": at.wanted,
        }  # fmt: skip
        for connection in connections.all(initialized_only=True):
            connection.close()
            del connections[connection.alias]
        for alias, said in connections.settings.items():
            copied = alias == database or str(said["NAME"]) == way.target.name
            said |= scratch if copied else {"ENGINE": absent.__name__, "OPTIONS": {}}
        # What a migration sends was sent once already, and the copy holds restored people.
        mail.send_nothing()
        current_app.conf.update(broker_url="memory://", broker_write_url="memory://")
        found = identity(database)["name"]
        if found != at.name:
            raise CommandError(
                f"{database} leads to {found} where {at.name} was expected, so nothing was done: "
                "the project's backend or its OPTIONS choose another database than NAME."
            )
        try:
            answer = migrations.there_and_back(database)
        except absent.NoCopy as reached:
            answer = {"reached": str(reached)}
        write(self, output, answer)
