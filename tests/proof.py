"""The page of what was shown, `docs/proof.md`: its parts are written by the runs that show them.

Loaded by `-p tests.proof`. With `--proof`, a run of the tests that bear one of the markers in PARTS
(`pytest -m fault --proof`) writes their table.
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "proof.md"


def read(part: str) -> str:
    """What the page says between the comments that begin and end `part`.

    Raises ValueError when the page does not have one such part.
    """
    return _around(part)[1]


def write(part: str, body: str) -> None:
    """Put `body` in the place of what the page says there; ValueError as for `read`."""
    before, _, after = _around(part)
    PAGE.write_text(f"{before}{body.strip()}\n{after}")


def _around(part: str) -> tuple[str, str, str]:
    begin, end = f"<!-- begin {part} -->\n", f"<!-- end {part} -->"
    page = PAGE.read_text()
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"{PAGE} was expected to have one part {part!r}, between {begin}and {end}")
    before, _, rest = page.partition(begin)
    body, _, after = rest.partition(end)
    return before + begin, body, end + after


def when() -> str:
    """The commit that is looked at and today's date, as the page tells them."""
    commit = _git("describe", "--always", "--exclude", "*").strip()
    # What an earlier run wrote into the page changes nothing that is looked at.
    if _git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{PAGE.relative_to(ROOT)}"
    ):
        commit += "-dirty"
    return f"Commit `{commit}`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}."


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", action="store_true", help=f"write what was shown into {PAGE.name}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--proof") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Shown(config.getoption("-m")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for part, columns in PARTS.items():
            if marker := item.get_closest_marker(part):
                # Reports carry these to the process that writes the table.
                said = [*marker.args, *marker.kwargs.values()]
                long = item.get_closest_marker("long") is not None
                item.user_properties.append(("shown", [part, said[: len(columns)], long]))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Count the cases that a property was really tried on."""
    property_ = getattr(pyfuncitem.obj, "hypothesis", None)
    if property_ is None or not pyfuncitem.get_closest_marker("fuzz"):
        return (yield)
    inner, tried = property_.inner_test, 0

    @wraps(inner)
    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal tried
        tried += 1
        inner(*args, **kwargs)

    property_.inner_test = counted
    try:
        return (yield)
    finally:
        property_.inner_test = inner
        pyfuncitem.user_properties.append(("tried", tried))


PARTS = {
    "fault": ("fault", "what is promised"),
    "security": ("what is tried", "what is promised"),
    "fuzz": (),
}
"""The marker of each part's tests, and what it says of them."""


class Shown:
    """Collects what was seen in the tests of one marker, and writes it at the end of the run."""

    def __init__(self, marker: str) -> None:
        self.part = marker
        self.seen: dict[tuple[str, ...], dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = [value for name, value in report.user_properties if name == "shown"]
        tried = sum(value for name, value in report.user_properties if name == "tried")
        for part, words, long in said:
            if part != self.part or (report.when != "call" and report.passed):
                continue
            test = report.nodeid.partition("[")[0]
            row = self.seen.setdefault((test, *words), {"counts": {}, "tried": 0, "long": True})
            row["counts"][report.outcome] = row["counts"].get(report.outcome, 0) + 1
            row["tried"] += tried or 1
            row["long"] &= long

    def pytest_sessionfinish(self) -> None:
        counted = self.part != "fault"
        heads = [*PARTS[self.part], *(["cases"] if counted else []), "seen", "test"]
        lines = [_line(heads), _line(["---"] * len(heads))]
        for (test, *words), row in sorted(self.seen.items()):
            counts = ", ".join(
                outcome if count == 1 else f"{outcome} × {count}"
                for outcome, count in row["counts"].items()
            )
            path, _, name = test.partition("::")
            shown = f"`{path.removeprefix('tests/')}` `{name}`{' (long)' if row['long'] else ''}"
            cases = [f"{row['tried']:,}"] if counted else []
            lines.append(_line([*words, *cases, counts, shown]))
        well = sum(set(row["counts"]) == {"passed"} for row in self.seen.values())
        total = f"{well} of {len(self.seen)} as promised. {when()}"
        write(self.part, "\n".join([total, "", *lines]))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
