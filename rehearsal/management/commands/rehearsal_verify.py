"""Verify exported evidence from its files alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rehearsal import exported
from rehearsal.management.console import put, reopen

BROKEN, USAGE = 1, 2


class Command(BaseCommand):
    """Needs the project's SECRET_KEY, and no database, broker or worker."""

    help = (
        "Verify exported evidence by its seal. Exits with 0 when it is intact, with 1 when it is "
        "not, naming what differs, and with 2 for files that are not there."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("evidence", type=Path, metavar="evidence.json")
        add("--seal", type=Path, metavar="FILE", help="default: evidence.seal beside it")
        add("--checklist", type=Path, metavar="FILE.md", help="the ticked checklist, to compare")

    def handle(self, *args: Any, **options: Any) -> None:
        reopen(self)
        evidence: Path = options["evidence"]
        seal: Path = options["seal"] or evidence.with_suffix(".seal")
        ticked: Path | None = options["checklist"]
        try:
            said = evidence.read_bytes()
            found = exported.wrong(said, seal.read_bytes(), ticked.read_bytes() if ticked else None)
        except OSError as error:
            raise CommandError(
                f"{error.filename} cannot be read ({error.strerror}): name the exported file.",
                returncode=USAGE,
            ) from error
        for sentence in found:
            put(sys.stdout, f"Broken: {sentence}\n")
        if found:
            sys.exit(BROKEN)
        put(sys.stdout, f"Intact: {evidence} is as it was sealed.\n")
        if refs := exported.unsealed(said):
            put(
                sys.stdout,
                f"Not sealed: {', '.join(refs)} came after the decision, so what a checklist says "
                "of them was not compared. Export again once the sign-off has ended.\n",
            )
