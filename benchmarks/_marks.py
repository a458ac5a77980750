"""Checks that write what they do into a file that only grows and that no database holds."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from celery import current_task

from rehearsal import command
from rehearsal.checks.base import Check, Failed, Report
from rehearsal.conf import redactor


def mark(report: Report, what: str) -> None:
    """One line, written by one call, so that no other process's comes between."""
    # As the message says: in the records the item may have gone on to a later attempt meanwhile.
    _, attempt = current_task.request.args
    line = f"{what} {report.rehearsal.number} {attempt} {os.getpid()} {report.line}\n".encode()
    log = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, line)
    finally:
        os.close(log)


def read(log: str) -> dict[tuple[str, int, str], Counter[int]]:
    """How often each attempt wrote what, by what, rehearsal and line."""
    wrote: dict[tuple[str, int, str], Counter[int]] = defaultdict(Counter)
    for mark in log.splitlines():
        what, number, attempt, _process, line = mark.split(" ", 4)
        wrote[what, int(number), line][int(attempt)] += 1
    return wrote


@dataclass(frozen=True)
class Marks(Check):
    """Runs a command of `seconds`, with a daemon in a session of its own; passes if it is to."""

    seconds: float = 0.1
    well: bool = True
    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        mark(report, "began")
        finished = command.run(
            ["sh", "-c", f"setsid sleep 600.{os.environ['CHAOS_MARK']} & sleep {self.seconds}"],
            cwd=Path("/"),
            env=os.environ,
            timeout=60,
            write=report.write,
            stop=report.stop,
            redactor=redactor(),
        )
        if finished.code != 0:
            raise Failed(f"The command ended with {finished.code}: look for who ended it.")
        if not self.well:
            raise Failed("It was told to fail: tell it otherwise.")
        mark(report, "saw")
        report.evidence("exit code", 0)


@dataclass(frozen=True)
class MarksSafely(Marks):
    safe_to_repeat: ClassVar[bool] = True


@dataclass(frozen=True)
class MarksAfterAll(Marks):
    """Looks when everything above it has ended."""

    after: ClassVar[tuple[str, ...] | None] = None
