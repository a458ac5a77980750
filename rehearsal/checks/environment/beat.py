"""Celery beat as section 1 looks at it: it ticks, there is one of it, and it is staging's own.

Every beat names itself in its tick, and says which database and release it serves. The worker that
performs the tick announces it to whoever listens at that moment, so nothing needs to be stored to
tell two beats apart.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from celery import Celery
from django.db import connection
from django.utils import timezone
from kombu import Connection, Consumer, Exchange, Queue

from rehearsal.checks.base import Report
from rehearsal.checks.environment.findings import Findings
from rehearsal.checks.environment.workers import (
    broker,
    declared_queues,
    expected_release,
    one_commit,
)
from rehearsal.conf import configuration
from rehearsal.databases import describe, identity_or_error, same
from rehearsal.release import running

logger = logging.getLogger(__name__)

TICKS = Exchange("rehearsal.ticks", type="fanout", durable=False)
DRAIN_SECONDS = 0.05
"""How long a message that has arrived may take to be read."""
LATE_SECONDS = 2
"""How late a tick may be, beyond what beat promises."""


class Tick(NamedTuple):
    """That a beat sent its task."""

    beat: str
    """The name of the process that sent it: its host, and its process id there."""
    fired: datetime.datetime
    serves: dict[str, Any] | None = None
    """The identity of its database, and its release; None from a beat of an older release."""


def sign(body: tuple[Any, dict[str, Any], Any], **_: object) -> None:
    """Let a tick say what its beat serves at this moment; called when beat publishes it."""
    fresh = connection.connection is None
    connection.close_if_unusable_or_obsolete()
    body[1]["serves"] = {"database": identity_or_error(), "release": running()}
    if fresh:
        connection.close()  # a beat that had no connection is in no restore's way


def name() -> str:
    """What this process calls itself when it is a beat."""
    return f"{socket.gethostname()}:{os.getpid()}"


def announce(app: Celery, tick: Tick) -> None:
    """Tell whoever listens; called where the tick is performed. Never raises."""
    try:
        with app.producer_or_acquire() as producer:
            said = {**tick._asdict(), "fired": tick.fired.isoformat()}
            options = {"serializer": "json", "declare": [TICKS], "retry": False}
            producer.publish(said, exchange=TICKS, routing_key="", **options)
    except Exception as error:
        logger.warning("The tick of beat could not be announced: %s", error)


def several(ticks: Sequence[Tick], seconds: float) -> list[str]:
    """The names of the beats that tick at the same time, where there are several.

    Two of one name, as when they share a schedule in a database, tick more often than one would.
    A beat that was restarted does not tick any more once the next one does.
    """
    names = [tick.beat for tick in ticks]
    for at, one in enumerate(names):
        back = one in names[at + 1 :] and names[at + 1 + names[at + 1 :].index(one) - 1] != one
        if back:
            return sorted(set(names))
    for one in set(names):
        fired = sorted({tick.fired for tick in ticks if tick.beat == one})
        gaps = [(b - a).total_seconds() for a, b in zip(fired, fired[1:], strict=False)]
        if gaps and min(gaps) < 0.75 * seconds:
            return [one, f"another of the name {one}"]
    return []


class Ear:
    """Hears the ticks that are announced from now on."""

    def __init__(self, connection: Connection) -> None:
        self.heard: list[Tick] = []
        self.began = time.monotonic()
        self._connection = connection

    def listen(self, seconds: float) -> None:
        """Take all that was announced; wait at most so long for the first of it."""
        with suppress(socket.timeout):
            while True:
                self._connection.drain_events(timeout=seconds)
                seconds = DRAIN_SECONDS

    def _hear(self, said: dict[str, Any], message: object) -> None:
        with suppress(KeyError, ValueError):
            fired = datetime.datetime.fromisoformat(said["fired"])
            self.heard.append(Tick(said["beat"], fired, said.get("serves")))

    @classmethod
    @contextmanager
    def open(cls, app: Celery) -> Iterator[Ear]:
        """Listen until the end of the block."""
        with broker(app) as connection:
            ear = cls(connection)
            queue = Queue(f"rehearsal-{uuid.uuid4().hex}-ticks", TICKS, durable=False,
                          auto_delete=True)  # fmt: skip
            channel = connection.default_channel
            with Consumer(channel, [queue], callbacks=[ear._hear], accept=["json"], no_ack=True):
                ear.listen(0.1)  # Redis subscribes when it is first waited for
                try:
                    yield ear
                finally:
                    queue(channel).delete()


def look(
    report: Report,
    app: Celery,
    found: Findings,
    ear: Ear,
    began: datetime.datetime,
    before: datetime.datetime | None,
) -> str:
    """See a tick, performed since `began` and after `before`; see that one beat sends them all."""
    queue = app.conf.task_default_queue
    if queue in declared_queues(app) and queue not in found.queues:
        found.problems.append(
            f"Whether beat runs could not be seen, since its tick goes through the queue {queue}."
        )
        return ""
    report.progress("Waiting for a tick of beat.")
    seconds = configuration().beat_seconds
    fired = _wait(report, ear, began, before, 3 * seconds + 5)
    if fired is None:
        if not report.stop.is_set():
            last = f"; it last ticked at {before.isoformat(timespec='seconds')}" if before else ""
            found.problems.append(
                f"Beat did not tick within {3 * seconds + 5} s{last}: start `celery -A "
                f"{app.main or '<project>'} beat`, of a release that has this app."
            )
        return ""
    ago = max(0.0, (timezone.now() - fired).total_seconds())
    report.progress("Listening for a second beat.")
    _listen(report, ear, seconds)
    names = sorted({tick.beat for tick in ear.heard})
    ticked = f"ticked at {fired.isoformat(timespec='seconds')}"
    report.evidence("beat", f"{ticked}; {len(ear.heard)} ticks heard, of {', '.join(names)}")
    if not names:
        found.doubts.append(
            "Whether a second beat runs could not be seen, since no tick was announced: restart "
            "the workers with this release."
        )
    _judge(report, found, ear.heard)
    if more := several(ear.heard, seconds):
        found.problems.append(
            f"More than one beat ticks on this broker ({' and '.join(more)}), so every scheduled "
            "task is done more than once: stop all but one."
        )
    return f"beat ticked {ago:.0f} s ago"


def _judge(report: Report, found: Findings, ticks: Sequence[Tick]) -> None:
    """Every beat that ticked serves this environment's database, and this release."""
    here, expected = identity_or_error(), expected_release(report)
    for beat, serves in {tick.beat: tick.serves for tick in ticks}.items():
        if serves is None:
            found.doubts.append(
                f"Which database the beat {beat} serves is unknown: restart it with this release."
            )
        elif not same(here, serves["database"]):
            found.problems.append(
                f"The beat {beat} serves {describe(serves['database'])}, and this environment is "
                f"{describe(here)}: take it off this broker, or correct its DATABASE_URL and "
                "restart it."
            )
        elif expected and serves["release"] and not one_commit(expected, serves["release"]):
            found.problems.append(
                f"The beat {beat} runs release {serves['release']}, expected {expected}: "
                "restart it."
            )


def _wait(
    report: Report,
    ear: Ear,
    began: datetime.datetime,
    before: datetime.datetime | None,
    seconds: float,
) -> datetime.datetime | None:
    deadline = time.monotonic() + seconds
    while not report.stop.is_set() and time.monotonic() < deadline:
        fired = report.beat_seen_at()
        if fired is not None and fired != before and fired > began:
            return fired
        ear.listen(0.5)
    return None


def _listen(report: Report, ear: Ear, seconds: float) -> None:
    """Listen for as long as each beat takes to tick once; if two did, for once more."""
    ear.listen(DRAIN_SECONDS)
    while not report.stop.is_set() and not several(ear.heard, seconds):
        rounds = len({tick.beat for tick in ear.heard}) or 1
        left = ear.began + rounds * seconds + LATE_SECONDS - time.monotonic()
        if left <= 0:
            return
        ear.listen(min(left, 0.5))
