"""How code and databases stand to each other, for the checks of section 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from rehearsal.databases import identity_or_error, migrations
from rehearsal.management.commands.rehearsal_identity import write


class Command(BaseCommand):
    help = "Says which migrations are known, applied, unapplied or missing, as JSON."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, help="write to this file, not to stdout")

    def handle(self, *, output: Path | None, **options: Any) -> None:
        found = {
            "identities": {alias: identity_or_error(alias) for alias in connections},
            "databases": {alias: migrations.state(alias) for alias in migrations.aliases()},
            **migrations.code(),
        }
        write(self, output, found)
