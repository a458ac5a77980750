"""Give a database away: from now on a rehearsal may replace it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from rehearsal.conf import configuration
from rehearsal.databases import replacement
from rehearsal.databases.address import AddressError


class Command(BaseCommand):
    """Enrolls the database that REHEARSAL['TARGET'] names."""

    help = (
        "Enrolls the target database: rehearsals may then replace it with a restored snapshot. "
        "Done once for each environment; refused for the source's own database."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--yes", metavar="NAME", help="the database's name, instead of typing it when asked"
        )

    def handle(self, *, yes: str | None, **options: Any) -> None:
        try:
            way = replacement.configured(number=0)
            self.stderr.write(
                f"Rehearsals of {configuration().environment} will replace everything in "
                f"{way.target.shown}."
            )
            typed = yes if yes is not None else input("Type the database's name to agree: ")
            if typed != way.target.name:
                raise CommandError(
                    f"{way.target.name!r} was expected, {typed!r} was given: nothing was enrolled."
                )
            mark = way.enroll()
        except (AddressError, replacement.Refused) as error:
            raise CommandError(str(error)) from None
        except (Error, EOFError) as error:
            first = (str(error).splitlines() or ["no answer was typed"])[0]
            raise CommandError(f"Nothing was enrolled: {first}.") from None
        self.stdout.write(f"Enrolled as {mark}.")
