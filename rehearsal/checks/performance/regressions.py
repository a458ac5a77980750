"""What line 5.2 found, written into the report that people keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from django.urls import NoReverseMatch, reverse

from rehearsal.checks.base import Check, Inconclusive, Report, Skipped, Told
from rehearsal.checks.performance.statistics import Change
from rehearsal.checks.report_section import cell, report_path, write_section
from rehearsal.conf import configuration

CHANGE = "rehearsal.checks.performance.ChangeSincePrevious"
SECTION = "performance regressions"
SHOWN = (Change.WORSE, Change.INCONCLUSIVE, Change.BETTER, Change.SAME)


@dataclass(frozen=True)
class RegressionsDocumented(Check):
    """The report that the line names holds what became worse, or that nothing did."""

    needs: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = (CHANGE,)
    safe_to_repeat: ClassVar[bool] = True

    def run(self, report: Report) -> None:
        path = report_path(report.line)
        told = report.history.told(CHANGE)
        if told is None:
            raise Inconclusive(
                "No line of this checklist compares pages with the previous rehearsal, so no "
                f"regression can be known: bind one to {CHANGE}."
            )
        if told.status == "skipped":
            raise Skipped(f"Nothing was compared, so nothing is to document. {told.summary}")
        if "result" not in told.facts:
            raise Inconclusive(
                f"Nothing was compared, so no regression can be known: {told.summary}"
            )
        changed = write_section(report, path, SECTION, _section(report, told))
        worse = told.facts.get(Change.WORSE)
        count = len(worse) if isinstance(worse, list) else 0
        report.evidence("report", str(path))
        report.evidence("section", "written" if changed else "unchanged")
        if told.status == "inconclusive":
            raise Inconclusive(
                f"What is known is in {path.name}, but the comparison was inconclusive, so there "
                f"may be regressions that are not: {told.summary}"
            )
        report.progress(
            f"{count or 'No'} regression{'s' * (count != 1)} documented in {path.name}, "
            f"{'written now' if changed else 'which said so already'}."
        )


def _section(report: Report, told: Told) -> str:
    """The same words for the same rehearsal, however often they are written."""
    at = report.rehearsal
    lines = [
        "## Performance since the previous rehearsal",
        "",
        f"{_link(at.number)} of {at.started_at:%Y-%m-%d}, revision `{cell(at.revision[:12])}`, "
        f"compared with {cell(str(told.facts.get('compared with', 'the one before')))}.",
        "",
        "| Change | Page and what it is made of |",
        "|---|---|",
    ]
    for change in SHOWN:
        found = told.facts.get(change)
        for said in found if isinstance(found, list) else ():
            lines.append(f"| {change} | {cell(str(said))} |")
    return "\n".join(lines)


def _link(number: int) -> str:
    try:
        path = reverse("rehearsal:rehearsal", args=[number])
    except NoReverseMatch:
        return f"Rehearsal {number}"
    site = configuration().site_url
    return f"[Rehearsal {number}]({site}{path})" if site else f"Rehearsal {number} (`{path}`)"
