"""What changed in the pages since the previous rehearsal: counts decide, and times taken in turns.

Times that were stored are never compared: on the same code, one session in three differs from the
one before. Both revisions are run beside each other, on the same data, in the same minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from rehearsal.checks.base import Check, Failed, Inconclusive, Past, Report, Skipped
from rehearsal.checks.commands import prove_revision
from rehearsal.checks.performance.counts import Counted, compare_counts
from rehearsal.checks.performance.sessions import Both, compare_trees
from rehearsal.checks.performance.sides import CannotRun, Profile, tree_of
from rehearsal.checks.performance.statistics import Change
from rehearsal.checks.performance.timings import MEASURED, kept, record_circumstances, series
from rehearsal.conf import configuration

CREEP = 1.25
"""How much more than in the accepted baseline a page may cost, however slowly it grew."""
CREEP_LEAST = {"queries": 2, "calls": 5000}
SAME_DATA = 0.1
"""By which share the data may differ where counts of two rehearsals are compared."""
NAMED = 3


@dataclass
class Found:
    """What is known of the pages together."""

    pages: dict[str, tuple[Change, str]] = field(default_factory=dict)
    """Each page's change, and what it is made of."""
    doubts: list[str] = field(default_factory=list)

    def of(self, change: Change) -> list[str]:
        return [
            f"{name}: {said}" for name, (became, said) in self.pages.items() if became == change
        ]


@dataclass(frozen=True)
class ChangeSincePrevious(Check):
    """No page that matters takes more queries or time than the previous rehearsal's revision."""

    budget_seconds: float = 240
    """How long the times of one page may be taken; a slow page needs more to be judged."""

    timeout: ClassVar[int] = 7200
    needs: ClassVar[tuple[str, ...]] = (
        "rehearsal.checks.environment.Restore",
        "rehearsal.checks.migrations.Apply",
    )
    after: ClassVar[tuple[str, ...]] = ("rehearsal.checks.performance.Timings",)
    safe_to_repeat: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True

    def run(self, report: Report) -> None:
        if not configuration().pages:
            raise Inconclusive(
                "No page was compared: name those that matter in REHEARSAL['PAGES'], and whose "
                "eyes to look with in REHEARSAL['ROLES']."
            )
        prove_revision(report)
        now = kept(report.rehearsal.number)
        if not now:
            raise Inconclusive(
                "This rehearsal measured no page, so there is nothing to compare, now or in the "
                "next one: let line 5.1 measure them, by rehearsal.checks.performance.Timings."
            )
        previous = report.history.previous(MEASURED)
        if previous is None:
            raise Skipped(
                f"No baseline yet: no earlier rehearsal of {configuration().environment} measured "
                f"pages. The {len(now)} pages measured in this one are the baseline of the next: "
                "perform it after the next change."
            )
        _record_previous(report, previous)
        record_circumstances(report)
        found = Found()
        both = self._beside(report, previous, found)
        _judge_pages(now, both, previous, found)
        _creep(report, now, found)
        _record(report, found, both)
        _conclude(report, found, previous)

    def _beside(self, report: Report, previous: Past, found: Found) -> Mapping[str, Both]:
        """Both revisions of each page; nothing where the earlier one cannot be run."""
        revision = previous.rehearsal.revision
        try:
            if not revision:
                raise CannotRun(f"rehearsal {previous.rehearsal.number} does not name its revision")
            with tree_of(revision, report) as before:
                after = configuration().root
                return compare_trees(
                    before, after, configuration().pages, report, self.budget_seconds
                )
        except CannotRun as error:
            found.doubts.append(
                f"Times are inconclusive, since the revision {revision[:12] or 'unknown'} of "
                f"rehearsal {previous.rehearsal.number} cannot be run here: {error}. Counts were "
                "compared with the recorded ones"
            )
            return {}


def _record_previous(report: Report, previous: Past) -> None:
    at = previous.rehearsal
    report.evidence(
        "compared with",
        f"rehearsal {at.number} of {at.started_at:%Y-%m-%d}, revision {at.revision[:12]}",
    )
    before = previous.measurements.get("data.rows")
    report.evidence(
        "data of the previous rehearsal", f"{before.value:.0f} rows" if before else "unknown"
    )


def _judge_pages(
    now: Mapping[str, Profile], both: Mapping[str, Both], previous: Past, found: Found
) -> None:
    recorded = kept(previous.rehearsal.number)
    for page in configuration().pages:
        name = page.name
        pair = both.get(name, Both())
        if pair.before and pair.after:
            found.pages[name] = _together(compare_counts(pair.before, pair.after), pair)
            continue
        after = pair.after or now.get(name)
        before = recorded.get(name) or _from_measurements(previous, name, after)
        if after is None or pair.why.startswith("this revision"):
            found.pages[name] = (Change.INCONCLUSIVE, pair.why or "it was not measured")
        elif before is None:
            found.pages[name] = (Change.INCONCLUSIVE, "the previous rehearsal did not measure it")
        else:
            counted = compare_counts(before, after)
            why = f"; times: {pair.why}" if pair.why else ""
            change = Change.INCONCLUSIVE if counted.change == Change.SAME else counted.change
            found.pages[name] = (change, f"{counted} (recorded counts, on other data){why}")


def _together(counted: Counted, pair: Both) -> tuple[Change, str]:
    """Counts and times as one: worse when either is."""
    times = pair.times
    said = f"{counted}; {times}" if times else f"{counted}; no times ({pair.why})"
    became = times.change if times else Change.INCONCLUSIVE
    for change in (Change.WORSE, Change.INCONCLUSIVE, Change.BETTER):
        if change in (counted.change, became):
            return change, said
    return Change.SAME, said


def _from_measurements(previous: Past, page: str, after: Profile | None) -> Profile | None:
    """The counts that the records hold, where the file with the queries' texts is gone."""
    names = ("queries", "rows", "bytes", "calls", "warm_queries")
    held = [previous.measurements.get(series(name, page)) for name in names]
    if after is None or any(one is None for one in held):
        return None
    numbers = {n: int(one.value) for n, one in zip(names, held, strict=True) if one is not None}
    return Profile(sql=after.sql, **numbers)


def _creep(report: Report, now: Mapping[str, Profile], found: Found) -> None:
    """Hold the counts against the accepted baseline, where the data are about the same."""
    baseline = report.history.baseline(MEASURED)
    if baseline is None:
        return
    at = baseline.rehearsal
    report.evidence("accepted baseline", f"rehearsal {at.number}, revision {at.revision[:12]}")
    for name, profile in now.items():
        rows = baseline.measurements.get(series("rows", name))
        if rows is None or abs(profile.rows - rows.value) > SAME_DATA * max(rows.value, 10):
            continue
        for kind, least in CREEP_LEAST.items():
            was = baseline.measurements.get(series(kind, name))
            value = getattr(profile, kind)
            if was and value > CREEP * was.value and value - was.value >= least:
                change, said = found.pages.get(name, (Change.SAME, ""))
                crept = (
                    f"{was.value:.0f} → {value} {'function calls' if kind == 'calls' else kind} "
                    f"since the baseline, rehearsal {at.number}"
                )
                found.pages[name] = (Change.WORSE, f"{said}; {crept}".removeprefix("; "))


def _record(report: Report, found: Found, both: Mapping[str, Both]) -> None:
    counts = Counter(change for change, _said in found.pages.values())
    report.evidence("result", [f"{count} {change}" for change, count in counts.items()])
    for change in Change:
        if entries := found.of(change):
            report.evidence(change, entries)
    for name, pair in both.items():
        if pair.times:
            report.measure(series("cpu_ratio", name), pair.times.cpu.ratio, "of before")
    report.write("")
    for name, (change, said) in found.pages.items():
        report.write(f"{change}: {name}: {said}")


def _conclude(report: Report, found: Found, previous: Past) -> None:
    number = previous.rehearsal.number
    doubts = [f"{doubt}." for doubt in found.doubts]
    if worse := found.of(Change.WORSE):
        raise Failed(
            f"{len(worse)} of {len(found.pages)} pages are worse than in rehearsal {number}: "
            f"{_listed(worse)}. Mend them; or waive this item with your reason, and they are the "
            f"baseline from now on. {' '.join(doubts)}".strip()
        )
    unknown = found.of(Change.INCONCLUSIVE)
    if unknown:
        doubts.append(
            f"Of {len(unknown)} of {len(found.pages)} pages the samples cannot tell: "
            f"{_listed(unknown)}. Run this item again on a quieter machine, or give it a larger "
            "budget_seconds in the line."
        )
    if doubts:
        raise Inconclusive(" ".join(doubts))
    better = len(found.of(Change.BETTER))
    report.progress(
        f"{len(found.pages)} pages compared with rehearsal {number}, "
        f"revision {previous.rehearsal.revision[:12]}: none is worse, {better} better."
    )


def _listed(said: Iterable[str]) -> str:
    entries = [one if len(one) < 400 else f"{one[:399]}…" for one in said]
    more = len(entries) - NAMED
    return " | ".join(entries[:NAMED]) + (f" | and {more} more" if more > 0 else "")
