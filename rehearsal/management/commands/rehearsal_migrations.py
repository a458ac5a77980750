"""How code and databases stand to each other, for the checks of section 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections
from django.db.migrations.exceptions import (
    AmbiguityError,
    BadMigrationError,
    CircularDependencyError,
    NodeNotFoundError,
)

from rehearsal.databases import foreseen, identity_or_error, migrations
from rehearsal.management.commands.rehearsal_identity import write

BROKEN = (AmbiguityError, BadMigrationError, CircularDependencyError, NodeNotFoundError)


class Command(BaseCommand):
    help = "Says which migrations are known, applied, unapplied or missing, as JSON."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, help="write to this file, not to stdout")
        parser.add_argument(
            "--foresee", action="store_true", help="say too what the unapplied ones would do"
        )

    def handle(self, *, output: Path | None, foresee: bool, **options: Any) -> None:
        found: dict[str, Any] = {
            "identities": {alias: identity_or_error(alias) for alias in connections}
        }
        try:
            found["databases"] = {alias: migrations.state(alias) for alias in migrations.aliases()}
            found |= migrations.code()
        except BROKEN as error:
            found["broken"] = f"{type(error).__name__}: {error}".rstrip(".")
        if foresee and "broken" not in found and not found["conflicts"]:
            found["foreseen"] = {
                alias: foreseen.foresee_or_error(alias)
                for alias, state in found["databases"].items()
                if state.get("unapplied")
            }
        write(self, output, found)
