"""The least a check and a task can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from celery import shared_task

from rehearsal.checks.base import Check, Report


@dataclass(frozen=True)
class Nothing(Check):
    """Passes at once: a fact, without which nothing passes, is written with the outcome's row."""

    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        report.evidence("looked at", "nothing, on purpose")


@shared_task(name="benchmarks.nothing")
def nothing() -> None:
    """Ends at once."""
