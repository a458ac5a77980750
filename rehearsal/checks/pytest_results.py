"""Results test by test, for the item's detail, and what makes a run weaker than it looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from rehearsal.checks.base import Report

NAMED = 5
"""How many tests and queries the evidence names."""
MEASURED = 50
"""Up to so many tests, each is measured for itself."""
REPEATED = 5
"""From how often on a query that a test repeats is worth naming."""
TAILS = 10
"""Of how many failed tests the last words are shown."""
LONGEST_SERIES = 200
"""Characters that a measurement's name may have."""


@dataclass
class Test:
    """One test: its own time and queries, without what its fixtures took."""

    node: str
    outcome: str
    seconds: float
    tail: str = ""
    queries: int = 0
    query_seconds: float = 0.0
    slowest: list[tuple[float, str]] = field(default_factory=list)
    repeated: list[tuple[int, str]] = field(default_factory=list)


def record(tests: Iterable[Test], report: Report) -> None:
    """Write a line for each test and the last words of those that failed; record the extremes."""
    tests = list(tests)
    if not tests:
        return
    report.write("")
    report.write("Results, with each test's own seconds and queries, its fixtures left out:")
    for one in tests:
        report.write(f"{one.outcome:<8}{one.seconds:>9.3f} s{one.queries:>6} queries  {one.node}")
    failed = [one for one in tests if one.tail]
    for one in failed[:TAILS]:
        report.write("")
        report.write(f"{one.node} {one.outcome}:")
        for line in one.tail.splitlines():
            report.write(line)
    if failed[TAILS:]:
        report.write(f"… and {len(failed) - TAILS} more, see above …")
    slow = sorted(tests, key=lambda one: -one.seconds)[:NAMED]
    report.evidence("slowest tests", [f"{one.seconds:.3f} s {one.node}" for one in slow])
    asked = sum(one.queries for one in tests)
    report.measure("tests.queries", asked, "queries")
    if asked:
        _record_queries(tests, report)
    if len(tests) <= MEASURED:
        for one in tests:
            for name, value, unit in (
                ("seconds", one.seconds, "s"),
                ("queries", one.queries, "queries"),
            ):
                series = f"test.{name} {one.node}"
                if len(series) <= LONGEST_SERIES:
                    report.measure(series, value, unit)


def _record_queries(tests: list[Test], report: Report) -> None:
    many = sorted(tests, key=lambda one: -one.queries)[:NAMED]
    report.evidence(
        "most queries", [f"{one.queries} queries {one.node}" for one in many if one.queries]
    )
    slowest = sorted(
        ((took, query, one.node) for one in tests for took, query in one.slowest), reverse=True
    )
    report.evidence(
        "slowest queries",
        [f"{took:.4f} s {query} ({node})" for took, query, node in slowest[:NAMED]],
    )
    repeated = sorted(
        ((count, query, one.node) for one in tests for count, query in one.repeated), reverse=True
    )
    worth = [one for one in repeated if one[0] >= REPEATED]
    if worth:
        report.evidence(
            "most repeated queries",
            [f"{count} times {query} ({node})" for count, query, node in worth[:NAMED]],
        )


def findings(
    about: dict[str, Any],
    databases: list[dict[str, str]],
    *,
    eager: bool,
    schemas: list[str],
    ran: int,
    selected: int | None,
    dropped: int,
) -> list[str]:
    """What makes this run weaker than it looks, in sentences, each with its remedy."""
    found = []
    if eager:
        found.append(
            "Celery ran tasks eagerly, inside the test and without broker or worker "
            "(task_always_eager): prove one task by a real worker."
        )
    here = connections[DEFAULT_DB_ALIAS].vendor
    for one in databases:
        if one["alias"] == DEFAULT_DB_ALIAS and one["vendor"] != here:
            found.append(
                f"The tests ran on {one['vendor']}, while this environment runs on {here}: give "
                "the tests settings with the same engine."
            )
    if about.get("nomigrations"):
        found.append(
            "The tests' tables came from the models and not from migrations (--nomigrations): "
            "take it out, so that what will be deployed is what is tested."
        )
    for source in dict.fromkeys(schemas):
        found.append(
            f"The tests ran on the schema of {source}, without the rows that migrations seed: set "
            "REHEARSAL['TEST_DATABASE'] to 'migrations' where tests need them."
        )
    if dropped > 0:
        found.append(
            f"{dropped} collected tests were taken out of the run in silence, as by a "
            "pytest_collection_modifyitems in conftest.py: mark and deselect them instead."
        )
    limit = about.get("maxfail")
    if limit and selected is not None and ran < selected:
        found.append(
            f"The run ended at {limit} failures (--maxfail or -x) after {ran} of {selected} tests: "
            "take the limit out to learn about the rest."
        )
    return found
