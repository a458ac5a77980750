"""Let a deployment pass only on a sealed, intact and unexpired go for this very commit."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError
from django.db import DatabaseError

from rehearsal import conf, gate, release
from rehearsal.management.console import put, reopen

CLOSED, USAGE = 1, 2
MOST_HOURS = 24 * 366 * 10


class Command(BaseCommand):
    """The door that a deploy script knocks at; it needs the records, and no broker or worker."""

    help = (
        "Exits with 0 only for a sealed, untampered, unexpired go on this revision; with 1 "
        "otherwise, naming the reason; with 2 for wrong usage or configuration."
    )
    requires_system_checks = ()  # Run in handle(), so that what they find exits with 2.

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--revision", metavar="SHA", help="the commit (default: the one checked out)")
        add("--evidence", type=Path, metavar="evidence.json", help="judge by this file alone")
        add("--seal", type=Path, metavar="FILE", help="default: evidence.seal beside it")
        add("--max-age", type=float, metavar="HOURS", help="how old the decision may be")
        add("--json", action="store_true", help="write the answer to stdout as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        reopen(self)
        try:
            self.check(app_configs=None, tags=["rehearsal"])
            here = conf.configuration()
        except (SystemCheckError, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=USAGE) from error
        hours = here.gate_max_age_hours if options["max_age"] is None else options["max_age"]
        if not 0 < hours <= MOST_HOURS:  # which is so of nan too
            raise CommandError("--max-age is a number of hours greater than 0.", returncode=USAGE)
        asked = options["revision"]
        revision = release.revision() if asked is None else release.commit(asked)
        if not revision.strip():
            raise CommandError(
                "Which revision? There is no git here to ask: name it by --revision.",
                returncode=USAGE,
            )
        try:
            answer = self._judge(
                revision, datetime.timedelta(hours=hours), options["evidence"], options["seal"]
            )
        except OSError as error:
            raise CommandError(
                f"{error.filename} cannot be read ({error.strerror}): name the exported file.",
                returncode=USAGE,
            ) from error
        except DatabaseError as error:
            said = str(error).strip().split("\n")[0]
            answer = gate.Answer(revision, reasons=[f"The records cannot be read: {said}."])
        self._say(answer, as_json=options["json"])
        if not answer.go:
            sys.exit(CLOSED)

    def _judge(
        self,
        revision: str,
        max_age: datetime.timedelta,
        evidence: Path | None,
        seal: Path | None,
    ) -> gate.Answer:
        if evidence is None:
            return gate.judge(revision, max_age)
        sealed = (seal or evidence.with_suffix(".seal")).read_bytes()
        return gate.judge_exported(evidence.read_bytes(), sealed, revision, max_age)

    def _say(self, answer: gate.Answer, *, as_json: bool) -> None:
        stream = sys.stderr if as_json else sys.stdout
        told = answer.told or {"rehearsal": None, "decision": None}
        if answer.go:
            put(
                stream,
                f"Go: Rehearsal {told['rehearsal']} of {answer.revision} is green, decided and "
                "sealed.\n",
            )
        for reason in answer.reasons:
            put(stream, f"No: {' '.join(reason.split())}\n")
        if as_json:
            said = {
                "schema": 1,
                "go": answer.go,
                "environment": conf.configuration().environment,
                "revision": answer.revision,
                "rehearsal": told["rehearsal"],
                "decision": told["decision"],
                "evidence_sha256": answer.sha256 or None,
                "reasons": answer.reasons,
            }
            put(sys.stdout, json.dumps(said, indent=2) + "\n")
