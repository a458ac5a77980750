"""Which databases a process of manage.py is connected to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from rehearsal.databases import identity_or_error


class Command(BaseCommand):
    help = "Says which database each alias is really connected to, as JSON without secrets."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, help="write to this file, not to stdout")

    def handle(self, *, output: Path | None, **options: Any) -> None:
        write(self, output, {alias: identity_or_error(alias) for alias in connections})


def write(command: BaseCommand, output: Path | None, answer: dict[str, Any]) -> None:
    """Write an answer as JSON to a file, or to the command's stdout without one."""
    said = json.dumps(answer, indent=2)
    if output:
        output.write_text(said, encoding="utf-8")
    else:
        command.stdout.write(said)
