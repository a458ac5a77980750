"""The least a check and a task can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from celery import shared_task

from rehearsal.checks.base import Check, Report


@dataclass(frozen=True)
class Nothing(Check):
    """Passes at once."""

    needs: ClassVar[tuple[str, ...]] = ()

    def run(self, report: Report) -> None:
        return None


@shared_task(name="benchmarks.nothing")
def nothing() -> None:
    """Ends at once."""
