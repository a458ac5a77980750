"""Rehearsals to look at: the adopted checklist, performed as `make demo` once recorded it.

`performed.json` holds what each line ended with there. Here the same outcomes are played through
the door of all changes (`journal.change`), as fast as the records take them, with their times.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db.models import F
from django.utils import timezone

from rehearsal import decisions, sealing, tasks
from rehearsal.conf import SHIPPED_CHECKLIST
from rehearsal.journal import change
from rehearsal.models import CheckItem, Measurement, Rehearsal, Status

PERFORMED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("performed.json").read_text()
)
WORKER = "rehearsal@staging"
PLACES = 2
"""Items that the worker performs at once."""
REVISION = "3c38f2b168393d8ebbc18a5332ab795a29531b12"
OUTPUT = """\
============================= test session starts ==============================
collected 6 items

src/project_central/tests/test_views.py ...F..                           [100%]

=================================== FAILURES ===================================
___________ MyTasksWithProjectsViewTests.test_tasks_of_a_stage ________________

    def test_tasks_of_a_stage(self):
        response = self.client.get(self.address, {"stage": "budget_planning"})
>       self.assertEqual(titles(response), ["Draft the budget", "Cost the activities"])
E       AssertionError: Lists differ: ['Draft the budget'] != ['Draft the budget', 'Cost the ac…']

src/project_central/tests/test_views.py:112: AssertionError
=========================== short test summary info ============================
FAILED src/project_central/tests/test_views.py::MyTasksWithProjectsViewTests::test_tasks_of_a_stage
========================= 1 failed, 5 passed in 5.61s ==========================
"""
A_TEST_FAILS = {
    "3.2": {
        "status": "failed",
        "summary": "1 of 6 tests failed, first: test_tasks_of_a_stage. The stage's filter leaves a "
        "task out: mend it, then run 3.2 again.",
        "output": OUTPUT,
        "evidence": {**PERFORMED["3.2"]["evidence"], "tests": "5 passed, 1 failed", "exit code": 1},
        "measurements": [["tests.passed", 5, "tests"], ["tests.failed", 1, "tests"]],
    }
}
A_COLUMN_IS_DROPPED = {
    "2.1": {
        "status": "action_required",
        "summary": "81 migrations known, 5 migrations to apply. 2 of 5 operations are dangerous, "
        "first common.0032: Remove field legacy_code from stafftask: 3,000 values are lost. "
        "A person reads each and acknowledges it.",
        "evidence": {
            "database": "PostgreSQL database obcms_staging at 127.0.0.1:5432",
            "tables touched": ["common_stafftask: 3,000 rows, 1.1 MB"],
            "to be acknowledged": [
                "common.0032: Remove field legacy_code from stafftask (3,000 values are lost)",
                "common.0033: Alter field title on stafftask (the table is rewritten, 2 s)",
            ],
        },
        "measurements": [
            ["migrations.known", 81, "migrations"],
            ["migrations.unapplied", 5, "migrations"],
            ["migrations.model_changes", 0, "changes"],
            ["migrations.flagged", 2, "operations"],
        ],
    }
}
A_DOUBT = {
    "6.1": {
        "status": "inconclusive",
        "summary": "The log worker.log has no entry of this time: it was looked at, and says "
        "nothing. Point REHEARSAL['LOGS'] at the log of the workers.",
    },
    "7.2": {"summary": "2 owners were told: green, with 1 line waived."},
}


class Play:
    """One rehearsal being performed."""

    def __init__(
        self,
        *,
        by: str = "release-engineer",
        revision: str = REVISION,
        otherwise: Mapping[str, Mapping[str, Any]] | None = None,
        slower: float = 1.0,
    ) -> None:
        self.rehearsal = tasks.start(SHIPPED_CHECKLIST.read_bytes(), by=by, revision=revision)
        self.number = self.rehearsal.number
        self._otherwise = otherwise or {}
        self._slower = slower
        self._now = self.rehearsal.started_at
        self._running: list[tuple[datetime.datetime, CheckItem]] = []

    def until(self, ref: str = "") -> Play:
        """Perform until `ref` runs; without it, all that can be performed."""
        while self._claim(ref) and self._running:
            if ref in {item.ref for _, item in self._running}:
                break
            self._settle()
        self._now_is_now()
        return self

    def go_on(self, ref: str = "") -> Play:
        """After somebody acted: the same from now on."""
        self._now = max(timezone.now(), self._now)
        return self.until(ref)

    def decide(self, choice: str, by: str, reason: str, ticket: str = "") -> Play:
        outcomes = sealing.outcomes(Rehearsal.objects.get(pk=self.number))
        decisions.decide(self.number, choice, by=by, reason=reason, seen=outcomes, ticket=ticket)
        return self.go_on()

    def was(self, ago: datetime.timedelta) -> Play:
        """Let it have been performed that long ago; not for one that is sealed."""
        every = ("started_at", "closed_at", "decided_at")
        Rehearsal.objects.filter(pk=self.number).update(**{k: F(k) - ago for k in every})
        self._shift(-ago)
        return self

    def _outcome(self, ref: str) -> dict[str, Any]:
        told = {"output": "", **PERFORMED[ref], **self._otherwise.get(ref, {})}
        # It was the first there.
        told["summary"] = told["summary"].replace("rehearsal 1;", f"rehearsal {self.number};")
        return told

    def _claim(self, last: str) -> bool:
        queued = CheckItem.objects.filter(rehearsal=self.number, status=Status.QUEUED)
        for item in queued.select_related("section").order_by("queued_at", "position"):
            if len(self._running) == PLACES:
                break
            told = self._outcome(item.ref)
            begun = self._now + datetime.timedelta(seconds=0.02)
            with change(self.number, WORKER) as made:
                values = {"worker": WORKER, "token": "t", "queued_at": self._now}
                values |= {"status": Status.RUNNING, "started_at": begun}
                # As a claim does: its entry in the journal comes with the one that ends it.
                CheckItem.objects.filter(pk=item.pk).update(
                    changed_in=made.rehearsal.version, **values
                )
            for name, value in values.items():
                setattr(item, name, value)
            ends = begun + datetime.timedelta(seconds=told["seconds"] * self._slower)
            self._running.append((ends, item))
            if item.ref == last:
                said = {"summary": told.get("said", ""), "output": told["output"]}
                CheckItem.objects.filter(pk=item.pk).update(**said)
                self._now = begun + (ends - begun) * 0.6
                break
        return True

    def _settle(self) -> None:
        self._running.sort(key=lambda one: one[0])
        self._now, item = self._running.pop(0)
        told = self._outcome(item.ref)
        with change(self.number, WORKER) as made:
            made.move(
                item,
                Status(told["status"]),
                told["summary"],
                summary=told["summary"],
                evidence=told["evidence"],
                output=told["output"],
                finished_at=self._now,
                token="",
            )
            Measurement.objects.bulk_create(
                Measurement(
                    rehearsal_id=self.number,
                    item=item,
                    name=name,
                    unit=unit,
                    value=value * self._slower if unit in {"s", "seconds"} else value,
                )
                for name, value, unit in told["measurements"]
            )
            tasks.dispatch(made, tasks.items_of(self.number))

    def _now_is_now(self) -> None:
        """Move what was played ahead of the clock back to where it ends now."""
        ahead = self._now - timezone.now()
        rehearsal = Rehearsal.objects.filter(pk=self.number)
        if ahead > datetime.timedelta(0):
            if not rehearsal.filter(decision="go").exists():
                rehearsal.update(started_at=F("started_at") - ahead)
                self._shift(-ahead)
            self._now -= ahead

    def _shift(self, by: datetime.timedelta) -> None:
        every = ("queued_at", "started_at", "finished_at")
        items = CheckItem.objects.filter(rehearsal=self.number)
        items.update(**{name: F(name) + by for name in every})
        self._running = [(ends + by, item) for ends, item in self._running]


def past(days: int, *, number_of_failures: int = 0, slower: float = 1.0, revision: str) -> Play:
    """A rehearsal of some days ago: decided go, or red."""
    play = Play(
        otherwise=A_TEST_FAILS if number_of_failures else None, slower=slower, revision=revision
    ).until()
    if not number_of_failures:
        play.decide("go", "release-manager", "All lines are in order.")
    return play.was(datetime.timedelta(days=days))
