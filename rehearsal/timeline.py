"""When the items of a rehearsal ran: what overlapped, what waited, and what took the time."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rehearsal.models import CheckItem, Status
from rehearsal.wording import anchor, duration, sign

WIDTH = 1000
"""Units across the timeline."""
SHORTEST = 2
"""Units that a bar has at least, so that it can be seen."""
MOST = 60
"""Bars shown: those of the items that took longest."""


@dataclass(frozen=True)
class Bar:
    """An item's time, in units from the beginning of the timeline."""

    item: CheckItem
    queued: int
    """Where it was handed to the workers."""
    start: int
    width: int
    seconds: float

    @property
    def waited(self) -> int:
        return max(0, self.start - self.queued)

    @property
    def sign(self) -> str:
        return sign(self.item)

    @property
    def anchor(self) -> str:
        return anchor(self.item.ref)

    @property
    def duration(self) -> str:
        return duration(self.seconds)


@dataclass(frozen=True)
class Timeline:
    """The bars in the document's order, and over how long a time they stretch."""

    bars: Sequence[Bar] = ()
    left_out: int = 0
    """How many items took less time than any of those shown."""
    seconds: float = 0.0
    width: int = field(default=WIDTH)

    @property
    def duration(self) -> str:
        return duration(self.seconds)


def timeline(items: Iterable[CheckItem], now: datetime.datetime) -> Timeline:
    """The timeline of all items that ran or run, by their last attempts."""
    ran: list[tuple[CheckItem, datetime.datetime, datetime.datetime]] = []
    for item in items:
        ended = now if item.status == Status.RUNNING else item.finished_at
        if item.started_at is not None and ended is not None:
            ran.append((item, item.started_at, max(ended, item.started_at)))
    if not ran:
        return Timeline()
    began, ended = min(start for _, start, _ in ran), max(end for _, _, end in ran)
    whole = (ended - began).total_seconds() or 1.0

    def unit(at: datetime.datetime) -> int:
        return min(WIDTH, max(0, round((at - began).total_seconds() / whole * WIDTH)))

    longest = sorted(ran, key=lambda one: one[2] - one[1], reverse=True)[:MOST]
    shown = {item.pk for item, _, _ in longest}
    bars = [
        Bar(
            item,
            queued=unit(item.queued_at or start),
            start=min(unit(start), WIDTH - SHORTEST),
            width=max(SHORTEST, unit(end) - unit(start)),
            seconds=(end - start).total_seconds(),
        )
        for item, start, end in ran
        if item.pk in shown
    ]
    return Timeline(bars, len(ran) - len(bars), whole)
