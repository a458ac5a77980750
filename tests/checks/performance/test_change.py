"""5.1 to 5.3 on a real project: a baseline, a comparison, and what is written of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from rehearsal.checks import base
from rehearsal.checks.base import Measurement, Outcome, Past, Rehearsed, Report, Told
from rehearsal.checks.performance import (
    ChangeSincePrevious,
    RegressionsDocumented,
    Timings,
    sessions,
)
from rehearsal.checks.performance.counts import compare_counts
from rehearsal.checks.performance.sides import Profile
from rehearsal.checks.performance.statistics import Change
from rehearsal.checks.performance.timings import MEASURED, kept
from tests.checks.performance.shop import MORE_QUERIES, Shop
from tests.checks.projects import Result, started_with

pytestmark = pytest.mark.django_db
NOW = datetime.datetime(2025, 10, 3, tzinfo=datetime.UTC)
PYTEST = "Execute `pytest src/test_one.py` to capture timings."
RECORD = "Record query count and response time changes from previous rehearsal."
DOCUMENT = "Document any regressions in `docs/testing/TEST_RESULTS_REPORT.md`."
BUDGET = 60.0
"""Seconds for a page: more than its requests take on any machine."""


@dataclass
class History(base.History):
    """Rehearsals as the records would hold them."""

    pasts: list[Past] = field(default_factory=list)
    pinned: Past | None = None
    others: dict[str, Told] = field(default_factory=dict)

    def previous(self, series: str) -> Past | None:
        return next((one for one in self.pasts[::-1] if series in one.measurements), None)

    def baseline(self, series: str) -> Past | None:
        return self.pinned or next(iter(self.pasts), None)

    def told(self, check: str) -> Told | None:
        return self.others.get(check)


Rehearse = Callable[..., dict[str, Result]]


@pytest.fixture
def rehearse(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Rehearse:
    """Perform 5.1 to 5.3 as rehearsal after rehearsal of the project as it is committed."""
    started_with(monkeypatch)
    monkeypatch.setattr(sessions, "REQUESTS", 16)
    shop.write("pytest.ini", "[pytest]\naddopts = -p no:hypothesispytest -p no:django\n")
    shop.write("src/test_one.py", "def test_one():\n    assert True\n")
    shop.write("docs/testing/TEST_RESULTS_REPORT.md", "# Report\n\nBy hand.\n")
    history = History()

    def rehearse(**more: Any) -> dict[str, Result]:
        revision = shop.commit()
        number = len(history.pasts) + 1
        found: dict[str, Result] = {}
        setting = {**shop.setting("/items/", "/cached/"), "REVISION": revision, **more}
        checks = (Timings(), ChangeSincePrevious(BUDGET), RegressionsDocumented())
        for check, line in zip(checks, (PYTEST, RECORD, DOCUMENT), strict=True):
            report = Report(line, Rehearsed(number, revision, NOW), history=history)
            with override_settings(REHEARSAL=setting):
                try:
                    check.run(report)
                    outcome = None
                except Outcome as error:
                    outcome = error
            result = found[type(check).__name__] = Result(report, outcome)
            path = f"rehearsal.checks.performance.{type(check).__name__}"
            said = str(outcome) if outcome else report.said
            history.others[path] = Told(result.verdict, said, report.facts)
        measured = {one.name: one for one in found["Timings"].report.measurements}
        history.pasts.append(Past(Rehearsed(number, revision, NOW), measured))
        return found

    return rehearse


def test_a_first_rehearsal_is_a_baseline_and_the_second_is_compared_with_it(
    rehearse: Rehearse, shop: Shop
) -> None:
    report = shop.path / "docs" / "testing" / "TEST_RESULTS_REPORT.md"
    first = rehearse()
    assert first["Timings"].verdict == "passed", first["Timings"].why
    assert "2 pages measured" in first["Timings"].report.said
    numbers = {one.name: one.value for one in first["Timings"].report.measurements}
    assert numbers["page.queries /items/"] == 3
    assert numbers["page.seconds /items/"] > 0
    assert "load" in str(first["Timings"].report.facts["machine"])
    assert first["ChangeSincePrevious"].verdict == "skipped"
    assert "No baseline yet" in first["ChangeSincePrevious"].why
    assert first["RegressionsDocumented"].verdict == "skipped"
    assert first["RegressionsDocumented"].why.startswith("Nothing was compared")
    assert report.read_text() == "# Report\n\nBy hand.\n"

    shop.change(MORE_QUERIES)
    second = rehearse()
    change = second["ChangeSincePrevious"]
    assert change.verdict == "failed"
    assert "3 → 24 queries" in change.why
    assert "N+1" in change.why
    assert "waive" in change.why
    assert "rehearsal 1 of 2025-10-03" in str(change.report.facts["compared with"])
    documented = second["RegressionsDocumented"]
    assert documented.verdict == "passed", documented.why
    assert "1 regression documented" in documented.report.said
    text = report.read_text()
    assert text.startswith("# Report\n\nBy hand.\n")
    assert "goods\\_kind" in text
    assert "| worse | /items/" in text


@pytest.mark.long  # two whole runs
def test_where_the_earlier_revision_cannot_be_run_counts_decide(
    rehearse: Rehearse, shop: Shop
) -> None:
    settings = (shop.path / "src" / "shop" / "settings.py").read_text()
    # A package that nothing but this checkout has.
    shop.write(".gitignore", "legacy.py\n*.sqlite3\n.rehearsal\n__pycache__\n")
    shop.write("src/legacy.py", "")
    shop.write("src/shop/settings.py", f"import legacy\n{settings}")
    rehearse()
    shop.write("src/shop/settings.py", settings)
    shop.change(MORE_QUERIES)
    second = rehearse()
    change = second["ChangeSincePrevious"]
    assert change.verdict == "failed"
    assert "3 → 24 queries" in change.why
    assert "recorded counts" in change.why
    assert "Times are inconclusive" in change.why
    assert "No module named 'legacy'" in change.why
    # The counts of the other page are the same, and its times are not known.
    assert "/cached/" in str(change.report.facts["inconclusive"])
    assert second["RegressionsDocumented"].verdict == "passed"


def test_nothing_measured_is_no_baseline(rehearse: Rehearse) -> None:
    found = rehearse(PAGES=[])
    assert found["Timings"].verdict == "passed"
    assert found["ChangeSincePrevious"].verdict == "inconclusive"
    assert "REHEARSAL['PAGES']" in found["ChangeSincePrevious"].why
    assert found["RegressionsDocumented"].verdict == "inconclusive"
    found = rehearse(PAGES=["/broken/"])
    assert found["Timings"].verdict == "inconclusive"
    assert "answers 500" in found["Timings"].why
    assert found["ChangeSincePrevious"].verdict == "inconclusive"


def profile(**more: Any) -> Profile:
    numbers = {"queries": 3, "sql": {"SELECT a": 3}, "rows": 100, "bytes": 20_000, "calls": 9000}
    return Profile(**{**numbers, "warm_queries": 3, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "change", "said"),
    [
        ({}, Change.SAME, "the same queries"),
        ({"queries": 4, "sql": {"SELECT a": 3, "SELECT b": 1}}, Change.WORSE, "+1 × SELECT b"),
        ({"queries": 9, "sql": {"SELECT a": 9}}, Change.WORSE, "+6 × SELECT a (repeats: N+1)"),
        ({"queries": 2, "sql": {"SELECT a": 2}}, Change.BETTER, "-1 × SELECT a"),
        ({"sql": {"SELECT a": 2, "SELECT c": 1}}, Change.SAME, "+1 × SELECT c"),
        ({"rows": 1000}, Change.WORSE, "100 → 1000 rows read"),
        ({"rows": 110}, Change.SAME, "the same"),
        ({"bytes": 90_000}, Change.WORSE, "20000 → 90000 bytes"),
        ({"calls": 20_000}, Change.WORSE, "function calls"),
        ({"warm_queries": 5}, Change.WORSE, "warm caches"),
    ],
)
def test_counts_are_compared_exactly_and_named(
    more: dict[str, Any], change: Change, said: str
) -> None:
    found = compare_counts(profile(), profile(**more))
    assert found.change == change
    assert said in str(found)


def test_a_page_that_crept_is_held_against_the_accepted_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rehearsal.checks.performance import change as module

    numbers = {"calls": 9000.0, "queries": 3.0, "rows": 100.0}
    held = {f"page.{kind} /a/": Measurement("", value, "") for kind, value in numbers.items()}
    history = History(pinned=Past(Rehearsed(1, "a" * 40, NOW), held))
    report = Report("A line.", Rehearsed(9, "b" * 40, NOW), history=history)
    found = module.Found({"/a/": (Change.SAME, "the same queries")})
    module._creep(report, {"/a/": profile(calls=11_000)}, found)
    assert found.pages["/a/"][0] == Change.SAME
    module._creep(report, {"/a/": profile(calls=20_000, rows=900)}, found)
    assert found.pages["/a/"][0] == Change.SAME  # other data, so nothing is said
    module._creep(report, {"/a/": profile(calls=20_000)}, found)
    assert found.pages["/a/"][0] == Change.WORSE
    assert "9000 → 20000 function calls since the baseline, rehearsal 1" in found.pages["/a/"][1]


def test_profiles_that_are_gone_or_broken_are_none(tmp_path: Path) -> None:
    with override_settings(REHEARSAL={"ROOT": tmp_path}):
        assert kept(1) == {}
        (tmp_path / ".rehearsal" / "performance" / "1.json").write_text('{"pages": {"a": 1}}')
        assert kept(1) == {}
    assert MEASURED
