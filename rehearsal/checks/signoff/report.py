"""7.1: the outcomes stand in the report that people keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rehearsal.checks.base import Check, Failed, Report
from rehearsal.checks.report_section import cell, markers, report_path, write_section
from rehearsal.checks.signoff.outcome import Outcome

SECTION = "outcomes"


@dataclass(frozen=True)
class OutcomesReported(Check):
    """Passes when the report that the line names holds the outcomes of this rehearsal."""

    sign_off: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    safe_to_repeat: ClassVar[bool] = True

    def run(self, report: Report) -> None:
        outcome = Outcome.of(report)
        path = report_path(report.line)
        body = _body(outcome)
        report.write(body)
        changed = write_section(report, path, SECTION, body)
        found = path.read_text(errors="replace")
        begin, end = markers(SECTION)
        ours = found.partition(begin)[2].partition(end)[0]
        lines = [line for line in ours.splitlines() if line.startswith("| ")]
        if f"Rehearsal {outcome.number} " not in ours or len(lines) < len(outcome.settled):
            raise Failed(
                f"{path.name} does not hold what was written: who else writes it? Run again."
            )
        report.evidence("report", str(path.name))
        report.evidence("lines reported", len(lines) - 1)
        report.progress(
            f"{path.name} {'now holds' if changed else 'holds already'} the outcomes of rehearsal "
            f"{outcome.number}; commit it with the release."
        )


def _body(outcome: Outcome) -> str:
    told = outcome.told
    started = told["started_at"][:16].replace("T", " ")
    lines = [
        f"## Rehearsal {outcome.number} of {cell(told['environment'])}: {outcome.colour}",
        "",
        f"Revision {cell(outcome.revision)}, started {started} UTC.",
        f"Decided: {cell(outcome.decided)}.",
        "",
        *[f"- {cell(reason)}" for reason in outcome.reasons],
        "",
        "| Line | Outcome | What was seen |",
        "|---|---|---|",
    ]
    for item in outcome.settled:
        standing = item["status"].replace("_", " ")
        if item["waiver"]:
            standing = f"waived ({standing})"
        seen = item["waiver"]["reason"] if item["waiver"] else item["summary"]
        lines.append(f"| {item['ref']} {cell(item['text'])} | {standing} | {cell(seen)[:300]} |")
    return "\n".join(lines)
