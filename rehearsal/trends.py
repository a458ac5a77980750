"""How numbers went over the past rehearsals: charts to look at, never to judge by.

Stored times depend on the machine and its load; what decides is compared by section 5's checks.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from django.db.models import Max, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rehearsal.checks.performance.timings import series
from rehearsal.conf import configuration
from rehearsal.models import CheckItem, Measurement, Rehearsal
from rehearsal.wording import anchor, duration, measured

REHEARSALS = 50
"""The rehearsals that are drawn: the last ones."""
MOST = 40
"""Series of one item that are drawn: its first ones."""
WIDTH, HEIGHT = 320, 96
TOP, BOTTOM, LEFT, RIGHT = 8, 88, 6, 314
"""Where the lines begin and end in a chart, in its own units."""
DURATION = "duration"
Values = dict[int, tuple[float, str]]
"""A series: its value in each rehearsal, and how that is read."""
FIXED: tuple[tuple[Promise, str], ...] = (
    (gettext_lazy("Duration of a rehearsal"), DURATION),
    (gettext_lazy("Size of the snapshot"), "snapshot.archive_bytes"),
    (gettext_lazy("Time of the migrations"), "migrations.seconds"),
)


@dataclass(frozen=True)
class Point:
    """One rehearsal's number, and where it stands in the chart."""

    number: int
    value: float
    shown: str
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """One series over the rehearsals that have it, the oldest first."""

    slug: str
    title: str
    points: tuple[Point, ...]

    @property
    def line(self) -> str:
        """The points of an SVG polyline."""
        return " ".join(f"{point.x:g},{point.y:g}" for point in self.points)

    @property
    def last(self) -> Point:
        return self.points[-1]

    @property
    def lowest(self) -> Point:
        return min(self.points, key=lambda point: point.value)

    @property
    def highest(self) -> Point:
        return max(self.points, key=lambda point: point.value)

    @property
    def sentence(self) -> str:
        """What somebody is told who does not see the line."""
        return _(
            "%(title)s: %(number)d rehearsals, the last %(last)s, between %(lowest)s and "
            "%(highest)s."
        ) % {
            "title": self.title,
            "number": len(self.points),
            "last": self.last.shown,
            "lowest": self.lowest.shown,
            "highest": self.highest.shown,
        }


def charts(environment: str) -> list[Chart]:
    """The charts of an environment's last rehearsals, without the series that none measured."""
    begun = _ended(environment)
    wanted = list(_wanted())
    held = Measurement.objects.filter(
        rehearsal__in=begun, name__in=[name for _title, name in wanted if name != DURATION]
    )
    rows = _values(held)
    rows[DURATION] = _durations(begun)
    return [
        _chart(f"trend-{position}", title, sorted(begun), rows[name])
        for position, (title, name) in enumerate(wanted)
        if rows[name]
    ]


def durations(environment: str) -> Chart | None:
    """How long an environment's last rehearsals took; None where there is no line to draw."""
    values = _durations(_ended(environment))
    title, name = FIXED[0]
    return _chart(name, str(title), sorted(values), values) if len(values) > 1 else None


class OfItem(TypedDict):
    """What an item measured, over several rehearsals."""

    charts: list[Chart]
    """What varied."""
    unchanged: list[str]
    """The names of what was the same each time."""


def of_item(item: CheckItem) -> OfItem:
    """What an item measured, over the rehearsals up to its own in which the same line, word for
    word, was served by the same check; without what was measured once only."""
    wanted = list(dict.fromkeys(item.measurements.values_list("name", flat=True)))[:MOST]
    if not wanted:
        return OfItem(charts=[], unchanged=[])
    begun = _ended(item.rehearsal.environment, item.rehearsal_id)
    numbers = sorted({*begun, item.rehearsal_id})
    held = Measurement.objects.filter(
        rehearsal__in=numbers,
        name__in=wanted,
        item__text=item.text,
        item__check_path=item.check_path,
    )
    rows = _values(held)
    again = [name for name in wanted if len(rows[name]) > 1]
    varied = [name for name in again if len(set(rows[name].values())) > 1]
    return OfItem(
        charts=[
            _chart(f"{anchor(item.ref)}-trend-{position}", name, numbers, rows[name])
            for position, name in enumerate(varied)
        ],
        unchanged=[name for name in again if name not in varied],
    )


def _ended(environment: str, until: int | None = None) -> dict[int, datetime.datetime]:
    """The last rehearsals of an environment that ended, each with when it began."""
    ended = Rehearsal.objects.filter(environment=environment, closed_at__isnull=False)
    ended = ended.filter(cancelled_by="").order_by("-number")
    if until is not None:
        ended = ended.filter(number__lte=until)
    return dict(ended.values_list("number", "started_at")[:REHEARSALS])


def _durations(begun: Mapping[int, datetime.datetime]) -> Values:
    lasts = CheckItem.objects.filter(rehearsal__in=begun).order_by().values("rehearsal")
    rows: Values = {}
    for told in lasts.annotate(last=Max("finished_at")):
        number, last = told["rehearsal"], told["last"]
        if last is not None:
            seconds = (last - begun[number]).total_seconds()
            rows[number] = (seconds, duration(seconds))
    return rows


def _values(held: QuerySet[Measurement]) -> dict[str, Values]:
    """Measurements by their series, each with its last value in a rehearsal."""
    rows: dict[str, Values] = defaultdict(dict)
    for number, name, value, unit in held.order_by("pk").values_list(
        "rehearsal", "name", "value", "unit"
    ):
        rows[name][number] = (value, measured(value, unit))
    return rows


def _wanted() -> Iterator[tuple[str, str]]:
    yield from ((str(title), name) for title, name in FIXED)
    for page in configuration().pages:
        yield _("Response time of %s") % page.name, series("seconds", page.name)
        yield _("Queries of %s") % page.name, series("queries", page.name)


def _chart(slug: str, title: str, numbers: Sequence[int], held: Values) -> Chart:
    """Lay a series out over an axis that begins at 0: no change looks larger than it is."""
    most = max(value for value, _shown in held.values()) or 1
    step = (RIGHT - LEFT) / max(1, len(numbers) - 1)
    points = []
    for position, number in enumerate(numbers):
        if number in held:
            value, shown = held[number]
            y = BOTTOM - (BOTTOM - TOP) * max(0.0, value) / most
            points.append(
                Point(number, value, shown, round(LEFT + step * position, 1), round(y, 1))
            )
    return Chart(slug, title, tuple(points))
