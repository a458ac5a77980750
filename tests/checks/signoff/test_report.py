"""7.1: what was decided stands in the report of people, and theirs stays as it was."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from rehearsal.checks.base import Exports, Failed, Inconclusive, Rehearsed, Report
from rehearsal.checks.signoff import OutcomesReported
from tests.checks.signoff.test_owners import PASSED, WAIVED, told

LINE = "Update `docs/REPORT.md` with outcomes."
HUMAN = "# Report\n\nKept by hand.\n"


@pytest.fixture(autouse=True)
def report_of_people(settings: Any, tmp_path: Path) -> Path:
    settings.REHEARSAL = {**settings.REHEARSAL, "ROOT": tmp_path}
    path = tmp_path / "docs" / "REPORT.md"
    path.parent.mkdir()
    path.write_text(HUMAN)
    return path


def run(rehearsed: dict[str, Any], line: str = LINE) -> Report:
    now = datetime.datetime(2025, 10, 3, tzinfo=datetime.UTC)
    rehearsed["started_at"] = now.isoformat()
    report = Report(line, Rehearsed(7, "f", now), exports=lambda: Exports(rehearsed, {}))
    OutcomesReported().run(report)
    return report


def test_the_outcomes_of_the_last_rehearsal_take_the_place_of_the_former(
    report_of_people: Path,
) -> None:
    said = run(told("go", PASSED, WAIVED)).said
    assert said.startswith("REPORT.md now holds the outcomes of rehearsal 7")
    text = report_of_people.read_text()
    assert text.startswith(HUMAN)
    assert "## Rehearsal 7 of staging: green, with 1 line waived" in text
    assert "| 1.2 Two. | waived (failed) | known |" in text
    assert "holds already" in run(told("go", PASSED, WAIVED)).said
    run(told("no-go", PASSED))
    text = report_of_people.read_text()
    assert text.count("## Rehearsal 7") == 1
    assert "not green" in text


def test_what_a_check_said_cannot_forge_a_row(report_of_people: Path) -> None:
    run(told("go", PASSED | {"summary": "a | b |\n| 9.9 forged | passed | x |"}))
    rows = [line for line in report_of_people.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 2


@pytest.mark.parametrize("line", ["Update the report.", "Update `docs/MISSING.md`."])
def test_a_report_that_is_not_there_is_not_made_up(line: str) -> None:
    with pytest.raises(Failed):
        run(told(), line)


def test_nothing_is_reported_before_the_decision() -> None:
    with pytest.raises(Inconclusive, match="Nobody has decided"):
        run(told() | {"decision": None})
