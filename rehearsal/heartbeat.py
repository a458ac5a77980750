"""What a worker does beside a check: keep its claim alive, show its output, notice a cancel."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from django.db import Error, connections, router, transaction
from django.db.models import F, Subquery
from django.db.utils import InterfaceError, InternalError, OperationalError

from rehearsal.checks.base import Report
from rehearsal.conf import configuration
from rehearsal.models import CheckItem, Rehearsal, Status
from rehearsal.statements import InSeconds

logger = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks at the claim, and so at most until a cancel is noticed."""


class Heartbeat:
    """Extends the lease of a claimed item from a thread of its own while the check runs.

    Sets `report.stop` when the claim is gone, since the item was cancelled or given to another
    worker, and after `longest` seconds: Celery's own limits do not reach every kind of worker.
    """

    def __init__(self, pk: int, token: str, report: Report, *, longest: float) -> None:
        self._ends = time.monotonic() + longest
        self._pk = pk
        self._token = token
        self._report = report
        self._done = threading.Event()
        self._shown: tuple[str, str, dict[str, object]] | None = None  # not even that it runs
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join(timeout=30)

    def _beat(self) -> None:
        held = True
        try:
            while held and not self._done.wait(INTERVAL):
                held = False  # whatever ends this thread before its time also ends the check
                if time.monotonic() > self._ends:
                    return
                try:
                    held = self._extend()
                except Error as error:
                    # The lease outlives a short outage; a long one is for the sweep to judge.
                    held = True
                    logger.warning("The claim could not be extended: %s", error)
                    connections[router.db_for_write(CheckItem)].close()
        finally:
            if not held:
                self._report.stop.set()
            connections.close_all()

    def _extend(self) -> bool:
        claim = CheckItem.objects.filter(pk=self._pk, token=self._token, status=Status.RUNNING)
        lease = InSeconds(configuration().lease_seconds)
        shows = (self._report.said, self._report.output, dict(self._report.facts))
        if shows == self._shown:
            return bool(claim.update(lease_expires_at=lease))
        with transaction.atomic(using=router.db_for_write(CheckItem)):
            own = CheckItem.objects.filter(pk=self._pk).values_list("rehearsal", flat=True)
            number = own.first()
            if number is None:
                return False
            Rehearsal.objects.filter(pk=number).update(version=F("version") + 1)
            version = Rehearsal.objects.filter(pk=number).values("version")
            kept = claim.update(
                lease_expires_at=lease,
                summary=shows[0],
                output=shows[1],
                evidence=shows[2],
                changed_in=Subquery(version),
            )
        self._shown = shows
        return bool(kept)


def patiently(settle: Callable[[], None]) -> None:
    """Call `settle`, and again while the database is away, for about half a minute."""
    for pause in (0.5, 1, 2, 4, 8, 15):
        try:
            return settle()
        except (OperationalError, InterfaceError, InternalError) as error:
            # Of the last is a session that the server ended since this process was frozen in it.
            logger.warning("The outcome could not be written yet: %s", error)
            connections[router.db_for_write(CheckItem)].close()
            time.sleep(pause)
    settle()
