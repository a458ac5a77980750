"""Migrations forwards and backwards on a copy, for a check of section 2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from rehearsal.databases import migrations, replacement
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
        # The alias leads to the scratch, whose name follows from the token, and to nothing else.
        at = replace(replacement.configured(number), token=token).scratch
        connections[database].close()
        del connections[database]
        connections.settings[database] |= {
            "ENGINE": at.engine, "NAME": at.name, "HOST": at.host, "PORT": at.port,
            "USER": at.user, "PASSWORD": at.password, "OPTIONS": dict(at.options),
        }  # fmt: skip
        write(self, output, migrations.there_and_back(database))
