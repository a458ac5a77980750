"""Migrations applied, one after the other, while somebody looks at what they lock."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from django.core.management import CommandError, get_commands, load_command_class

from rehearsal.checks.base import ActionRequired, Check, Failed, Inconclusive, Outcome, Report
from rehearsal.checks.commands import ASK_SECONDS, Ran, manage, words
from rehearsal.checks.migrations.effects import (
    SHOWN_SECONDS,
    Effects,
    Recorder,
    lasts,
    recorded,
    session_variables,
)
from rehearsal.checks.migrations.reverse import take_back
from rehearsal.checks.migrations.state import State, count, state
from rehearsal.command import Ending
from rehearsal.databases import describe, locks

APPLYING = re.compile(r"\s*Applying (?P<name>[\w.]+)\.\.\.(?P<end> OK| FAKED)?")


@dataclass(frozen=True)
class Apply(Check):
    """The line's `migrate` is run, and what the database then records as applied is compared."""

    timeout = 3600
    # Itself as well: of two such lines, the second waits for the first.
    needs = ("rehearsal.checks.migrations.Plan", "rehearsal.checks.migrations.Apply")

    blocked_seconds: float = 5.0
    """How long others may wait for a migration before a person has to accept it."""
    lock_timeout_seconds: int = 30
    """How long migrate waits for others' locks; 0 for ever."""
    reverse: bool = False
    """Whether the way back is tried too, on a copy restored from the rehearsal's snapshot."""

    def run(self, report: Report) -> None:
        began = time.monotonic()
        arguments = words(report.line, "migrate")
        alias = _alias(arguments)
        report.progress("Reading the migrations of code and databases.")
        before = state(report, arguments)
        if alias not in before.databases:
            raise Failed(f"Nothing is migrated in the alias {alias!r}; name another in the line.")
        planned = before.of(alias, "unapplied")
        report.progress(f"{count(planned)} to apply in {describe(before.identities[alias])}.")
        limit = self.timeout - 2 * ASK_SECONDS - 60
        application = f"rehearsal-migrate-{secrets.token_hex(4)}"
        variables = session_variables(alias, application, self.lock_timeout_seconds, report)
        with recorded(alias, application, report) as recorder:
            heard = _Heard(report, planned, recorder)
            if recorder:
                variables[locks.TOLD] = str(recorder.told)
            ran = manage(
                report, [*arguments, "--no-input"], timeout=limit, hear=heard, environ=variables
            )
            if recorder:
                recorder.close(planned)
                recorder.effects.tell(report)
        if ran.finished.ending is Ending.STOPPED:
            raise Inconclusive(f"manage.py migrate {ran.ending()}; see what is applied by now.")
        try:
            after = state(report, arguments)
        except Outcome as outcome:
            raise Failed(f"migrate {ran.ending()}. What is applied is unknown: {outcome}") from None
        _judge(report, alias, before, after, ran, heard)
        if self.reverse and planned:
            ends = began + self.timeout - 60
            take_back(report, alias, after.identities[alias], planned, arguments, ends)
        if recorder:
            self._judge_waiting(report, recorder.effects)

    def _judge_waiting(self, report: Report, effects: Effects) -> None:
        longest = effects.longest()
        waits = {
            one.name: f"{hold.blocks} of {hold.table} wait {lasts(hold)}"
            for one, hold in longest
            if hold.seconds >= SHOWN_SECONDS
        }
        if waits:
            name, said = next(iter(waits.items()))
            report.progress(f"{report.said} In production {said} for {name}.")
        if too_long := [one.name for one, hold in longest if hold.seconds >= self.blocked_seconds]:
            raise ActionRequired(
                f"{report.said} At most {self.blocked_seconds:g} s is accepted by itself: "
                "acknowledge each, or let the migration lock less.",
                acknowledge=[f"{name}: {waits.get(name, 'a wait')}" for name in too_long],
            )
        if effects.watched.error:
            raise ActionRequired(
                f"{report.said} The locks were not watched to the end ({effects.watched.error}): "
                "confirm that it does not matter, or restore and run again.",
            )


def _judge(
    report: Report, alias: str, before: State, after: State, ran: Ran, heard: _Heard
) -> None:
    planned, applied = before.of(alias, "unapplied"), set(after.of(alias, "applied"))
    done = [name for name in planned if name in applied and name not in heard.faked]
    rest = [name for name in planned if name not in applied]
    undone = [name for name in before.of(alias, "applied") if name not in applied]
    report.evidence("applied", done)
    report.evidence("unapplied", rest)
    report.measure("migrations.applied", len(done), "migrations")
    where = describe(after.identities[alias])
    if ran.code != 0:
        raise Failed(
            f"migrate failed{_where(before, alias, heard.running, rest)}, after {len(done)} of "
            f"{count(planned)}: it {ran.ending()}. Correct the migration, and restore the database "
            "before this line runs again."
        )
    if undone:
        raise Failed(f"migrate took back {', '.join(undone)} in {where}; correct the line.")
    if heard.faked:
        raise Failed(
            f"Recorded as applied without being run: {', '.join(heard.faked)}. "
            "Restore the database, and take the faking out of the line."
        )
    if rest:
        raise Inconclusive(
            f"migrate ended with exit code 0 and left {count(rest)} unapplied, first {rest[0]}; "
            "let the line say `python manage.py migrate`."
        )
    if lacks := after.lacks():
        raise Failed(lacks)
    if not planned:
        if (known := len(after.of(alias, "known"))) == 0:
            raise Inconclusive(
                f"No migration belongs in {where}, so nothing was applied and nothing looked at; "
                "see that the project's apps have their migrations, or name another alias."
            )
        report.progress(f"Nothing was there to apply: all {known} are recorded in {where}.")
        return
    report.measure("migrations.seconds", ran.finished.seconds, "seconds")
    report.progress(f"{count(done)} applied to {where} in {ran.finished.seconds:.1f} s.")


def _where(before: State, alias: str, running: str, rest: Sequence[str]) -> str:
    """Which migration was under way, and what has become of what it did."""
    if running not in rest:
        return ""
    if running in before.of(alias, "partial"):
        return f" at {running}, which is no transaction: what it did by then stays"
    return f" at {running}, which was rolled back"


class _Heard:
    """Follows migrate's own lines: how far it has come, and what it only recorded."""

    def __init__(
        self, report: Report, planned: list[str], recorder: Recorder | None = None
    ) -> None:
        self.report = report
        self.planned = planned
        self.recorder = recorder
        self.done = 0
        self.running = ""
        """The migration that was begun and not ended."""
        self.faked: list[str] = []

    def __call__(self, line: str) -> None:
        if (found := APPLYING.match(line)) is None:
            return
        name, end = found["name"], found["end"]
        if end == " FAKED" and name in self.planned:
            self.faked.append(name)
        self.running = "" if end else name
        if self.running in self.planned:
            self.report.progress(f"{self.done} of {len(self.planned)} applied, {name} is running.")
        if end and name in self.planned:
            # Django also runs through the apps that belong in another database.
            self.done += 1
            if self.recorder and end == " OK":
                self.recorder.ended(name)
            self.report.progress(f"{self.done} of {len(self.planned)} applied, last {name}.")


def _alias(arguments: Sequence[str]) -> str:
    """The alias that a `migrate` line works on; raises Failed for a line that only records."""
    given = load_command_class(get_commands()["migrate"], "migrate")
    try:
        asked = given.create_parser("manage.py", "migrate").parse_args(list(arguments[1:]))
    except CommandError as error:
        raise Failed(f"The line's command cannot be read ({error}); correct the line.") from None
    if asked.fake or (asked.fake_initial and asked.verbosity < 1):
        raise Failed(
            "The line only records migrations as applied, without running them; nothing was done. "
            "Take --fake out of the line."
        )
    return str(asked.database)
