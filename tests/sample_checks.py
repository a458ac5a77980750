"""Checks for the tests: the smallest that can be written, and some that misbehave."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from celery.worker import request
from django.utils import timezone
from kombu.asynchronous import timer

from rehearsal import command
from rehearsal.checks.base import (
    ActionRequired,
    Check,
    Failed,
    Inconclusive,
    Outcome,
    Report,
    Skipped,
)
from rehearsal.conf import redactor


@dataclass(frozen=True)
class Passes(Check):
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        report.measure("answer", 42, "things")
        report.evidence("looked at", "everything")


@dataclass(frozen=True)
class PassesAfterAll(Check):
    """Needs everything above it, as an unknown check does."""

    def run(self, report: Report) -> None:
        report.evidence("looked at", "everything")


@dataclass(frozen=True)
class LooksAfterAll(PassesAfterAll):
    """Waits for everything above it to end, whatever comes of it."""

    needs: ClassVar[tuple[str, ...] | None] = ()
    after: ClassVar[tuple[str, ...] | None] = None


@dataclass(frozen=True)
class NeedsTheFirst(PassesAfterAll):
    needs: ClassVar[tuple[str, ...] | None] = ("tests.sample_checks.Passes",)


@dataclass(frozen=True)
class Alone(PassesAfterAll):
    needs: ClassVar[tuple[str, ...] | None] = ()
    exclusive: ClassVar[bool] = True


@dataclass(frozen=True)
class RecordsNothing(Check):
    """Returns, says that all is well, and gives nothing to see it by."""

    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        report.progress("All is well.")
        report.write("I looked.")


@dataclass(frozen=True)
class ListsTwo(Check):
    """Names two things that a person has to acknowledge, one of them in two lines."""

    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        names = ["drop <b>a</b>, b & c", "rename\n 'd'"]
        raise ActionRequired("Two things are to be acknowledged.", acknowledge=names)


class Somehow(Outcome):
    """No way to not pass, though it says so itself."""

    status = "passed"


@dataclass(frozen=True)
class Ends(Check):
    """Ends as its option says."""

    how: str = "failed"
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        outcomes = {
            "failed": Failed,
            "inconclusive": Inconclusive,
            "skipped": Skipped,
            "action_required": ActionRequired,
        }
        if self.how in outcomes:
            raise outcomes[self.how](f"It was told to end {self.how}: tell it otherwise.")
        if self.how == "somehow":
            raise Somehow("It was told to end in a way of its own: tell it otherwise.")
        if self.how == "nohow":
            raise Outcome("It says that it did not pass, and not how: let it say.")
        if self.how == "breaks":
            raise RuntimeError("planted")
        sys.exit(0)


@dataclass(frozen=True)
class FailsUntil(Check):
    """Fails until a file exists."""

    path: str = ""
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        if not Path(self.path).exists():
            raise Failed(f"{self.path} does not exist: create it.")
        report.evidence("exists", self.path)


@dataclass(frozen=True)
class Runs(Check):
    """Runs a shell line as a command of ours, and appends a line to `log` when it began."""

    line: str = "true"
    log: str = ""
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        if self.log:
            with open(self.log, "a") as log:
                log.write(f"{report.line}\n")
        report.progress("the command runs")
        finished = command.run(
            ["sh", "-c", self.line],
            cwd=Path.cwd(),
            env=os.environ,
            timeout=60,
            write=report.write,
            stop=report.stop,
            redactor=redactor(),
        )
        if finished.code != 0:
            raise Failed(f"The command ended with {finished.code}: mend it.")
        report.evidence("exit code", 0)


@dataclass(frozen=True)
class RunsSafely(Runs):
    safe_to_repeat: ClassVar[bool] = True


@dataclass(frozen=True)
class TellsTheTime(Passes):
    """Records the time by each of the clocks that Celery, Kombu and Django look at."""

    def run(self, report: Report) -> None:
        report.evidence("process", time.time())
        report.evidence("celery, in seconds", request.time())
        report.evidence("celery, as a date", request.datetime.now().timestamp())
        report.evidence("kombu", timer._time())
        report.evidence("django", timezone.now().timestamp())


@dataclass(frozen=True)
class TakesForEver(Check):
    timeout: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        time.sleep(60)


@dataclass(frozen=True)
class ReturnsFalse(Passes):
    def run(self, report: Report) -> None:
        return False  # type: ignore[return-value]


@dataclass(frozen=True)
class IsAsynchronous(Passes):
    async def run(self, report: Report) -> None:  # type: ignore[override]
        raise Failed("Nobody awaits this: do not write it so.")


@dataclass(frozen=True)
class IsGenerator(Passes):
    def run(self, report: Report) -> Iterator[None]:  # type: ignore[override]
        raise Failed("Nobody asks this for its first value: do not write it so.")
        yield


@dataclass(frozen=True)
class RecordsOddly(Passes):
    """Records what no database takes, or only when it was cleaned."""

    what: str = ""

    def run(self, report: Report) -> None:
        match self.what:
            case "nan":
                report.evidence("ratio", float("nan"))
            case "bytes":
                report.evidence("body", b"abc")  # type: ignore[arg-type]
            case "name":
                report.measure("n" * 201, 1, "s")
            case "unit":
                report.measure("name", 1, "u" * 41)
            case "key":
                report.evidence("token=abcd\x001234", 1)


@dataclass(frozen=True)
class SignsOff(Passes):
    sign_off: ClassVar[bool] = True


@dataclass(frozen=True)
class SignsOffBadly(Ends):
    """Ends as its option says, after the decision."""

    sign_off: ClassVar[bool] = True


@dataclass(frozen=True)
class NeedsTheSignOff(PassesAfterAll):
    needs: ClassVar[tuple[str, ...] | None] = ("tests.sample_checks.SignsOff",)


@dataclass(frozen=True)
class PassesTooLate(TakesForEver):
    """Takes the word that its time is over for any error, and passes."""

    def run(self, report: Report) -> None:
        time.sleep(1.2)


@dataclass(frozen=True)
class WaitsToBeStopped(TakesForEver):
    def run(self, report: Report) -> None:
        if report.stop.wait(20):
            raise Inconclusive("It was stopped: let it take less time.")


@dataclass(frozen=True)
class Forks(Passes):
    """Its child comes back from `run` first, as if the check had passed."""

    def run(self, report: Report) -> None:
        if child := os.fork():
            os.waitpid(child, 0)
            raise Failed("The parent looked, and it is wrong: mend it.")


@dataclass(frozen=True)
class Floods(Passes):
    """Writes 50 MB."""

    def run(self, report: Report) -> None:
        for number in range(700_000):
            report.write(f"line {number} {'.' * 59}")
        report.evidence("lines", 700_000)
