"""Taking times of two revisions in turns, in one run, and finding out whether one is slower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rehearsal.checks.base import Inconclusive, Report
from rehearsal.checks.performance.sides import CannotRun, Profile, Side, side
from rehearsal.checks.performance.statistics import (
    LEAST_BLOCKS,
    Change,
    Times,
    compare,
    compare_elapsed,
)
from rehearsal.observed import PageName

REQUESTS = 240
"""Requests of a page on each side, where its budget of seconds allows it."""
BLOCK = 10
CONTROL = 0.2
"""The share of a page's own time by which it is slowed down to see whether that is noticed."""


@dataclass(frozen=True)
class Compared:
    """What a session found of one page."""

    change: Change
    cpu: Times
    elapsed: Times
    control_noticed: bool
    requests: int

    def __str__(self) -> str:
        said = f"{self.change}: processor time {self.cpu}, elapsed time {self.elapsed}"
        return said + ("" if self.control_noticed else "; a planted slowdown was not noticed")


def session(page: PageName, before: Side, after: Side, budget: float) -> Compared:
    """Compare one page's times; `budget` is how many seconds that may take.

    A third of the requests are those of `after` with a slowdown planted: where that is not noticed,
    neither would one be that nobody planted. Raises CannotRun.
    """
    trial = [one.block(page, 3) for one in (before, after)]
    each = max(median(taken["wall"]) for taken in trial)
    requests = min(REQUESTS, max(3, int(budget / (3 * max(each, 1e-4)))))
    size = BLOCK if requests >= 2 * LEAST_BLOCKS * BLOCK else max(1, requests // (2 * LEAST_BLOCKS))
    burn = CONTROL * median(trial[1]["cpu"])
    taken: dict[str, list[dict[str, list[float]]]] = {"before": [], "after": [], "control": []}
    turns = {
        "before": lambda: before.block(page, size),
        "after": lambda: after.block(page, size),
        "control": lambda: after.block(page, size, burn),
    }
    for number in range(requests // size):
        # Whoever was last goes first in the next round, so that a drift helps nobody.
        for name in list(turns) if number % 2 else reversed(turns):
            taken[name].append(turns[name]())
    cpu, wall = ({name: [one[kind] for one in blocks] for name, blocks in taken.items()}
                 for kind in ("cpu", "wall"))  # fmt: skip
    times = compare(cpu["before"], cpu["after"])
    elapsed = compare_elapsed(wall["before"], wall["after"])
    noticed = compare(cpu["after"], cpu["control"]).change == Change.WORSE
    change = Change.WORSE if elapsed.change == Change.WORSE else times.change
    if not noticed and change != Change.WORSE:
        change = Change.INCONCLUSIVE
    return Compared(change, times, elapsed, noticed, (requests // size) * size)


@dataclass
class Both:
    """What is known of a page on both sides."""

    before: Profile | None = None
    after: Profile | None = None
    times: Compared | None = None
    why: str = ""
    """Why a side or the times are missing."""


def compare_trees(
    before: Path, after: Path, pages: Iterable[PageName], report: Report, budget: float
) -> Mapping[str, Both]:
    """Profiles and times of the pages in two trees of the project's files, on the same data.

    A page that is found slower is compared once more with new processes; only what both found
    counts. Raises CannotRun when a side does not start at all.
    """
    pages = list(pages)
    found = _once(before, after, pages, report, budget)
    again = [
        page for page in pages if (times := found[page.name].times) and times.change == Change.WORSE
    ]
    if again:
        report.write("Found slower, and therefore compared once more with new processes:")
        second = _once(before, after, again, report, budget)
        for page in again:
            if times := second[page.name].times:
                found[page.name].times = times
            else:
                found[page.name].times, found[page.name].why = None, second[page.name].why
    return found


def _once(
    before: Path, after: Path, pages: list[PageName], report: Report, budget: float
) -> dict[str, Both]:
    found: dict[str, Both] = {}
    with side(before, "before", report) as first, side(after, "after", report) as second:
        if first.database != second.database:
            raise CannotRun(
                f"its settings lead to the database {first.database!r}, and this revision's to "
                f"{second.database!r}; name it in a variable such as DATABASE_URL"
            )
        for page in pages:
            report.progress(f"Comparing {page.name} with the earlier revision.")
            both = found[page.name] = Both()
            try:
                both.after = second.profile(page)
            except CannotRun as error:
                both.why = f"this revision: {error}"
                continue
            try:
                both.before = first.profile(page)
                both.times = session(page, first, second, budget)
            except CannotRun as error:
                both.why = f"the earlier revision: {error}"
                continue
            report.write(f"{page.name}: {both.times}")
            if report.stop.is_set():
                raise Inconclusive("Stopped before all pages were compared: run this item again.")
    return found
