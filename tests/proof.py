"""The page of what was shown, `docs/proof.md`: its parts are written by the runs that show them.

Loaded by `-p tests.proof`. With `--proof`, a run of the tests that bear one of the markers in PARTS
(`pytest -m fault --proof`) writes their table: a whole run, of a state that can be checked out.
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


def commit() -> str:
    """The commit that is looked at, with `-dirty` when what is looked at differs from it."""
    name = _git("describe", "--always", "--exclude", "*").strip()
    # What an earlier run wrote into the page changes nothing that is looked at.
    changed = _git("status", "--porcelain", "--", ".", f":!{PAGE.relative_to(ROOT)}")
    return f"{name}-dirty" if changed else name


def when() -> str:
    """That commit and today's date, as the page tells them."""
    return f"Commit `{commit()}`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}."


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", action="store_true", help=f"write what was shown into {PAGE.name}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--proof") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Shown(config))


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
    """Collects what was seen in the tests of one marker; writes it at the end of a whole run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.part = config.getoption("-m")
        if self.part not in PARTS:
            raise pytest.UsageError(f"--proof is for -m with one of {', '.join(PARTS)}")
        self.commit = commit()
        self.seen: dict[tuple[str, ...], dict[str, Any]] = {}
        self.to_come: set[str] = set()
        self.reported: set[str] = set()
        self.unread: list[str] = []
        self.said = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.to_come.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.to_come.update(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.unread.append(report.nodeid)

    def partial(self) -> str:
        """Why a run that was asked for in this way shows a part only, or nothing for anybody."""
        if self.config.args_source != pytest.Config.ArgsSource.TESTPATHS:
            return "paths were given"
        for name in ("keyword", "deselect", "ignore", "ignore_glob", "lf", "stepwise"):
            if self.config.getoption(name, None):
                return f"tests were chosen by hand ({name})"
        if self.commit.endswith("-dirty"):
            return "the working tree is changed, and nobody can check that state out: commit first"
        return ""

    def cut_short(self, exitstatus: int) -> str:
        """Why the run that ends is not all that was to be seen."""
        if self.unread:
            return f"{self.unread[0]} cannot be read"
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return f"the run ended with exit status {int(exitstatus)}"
        if missing := sorted(self.to_come - self.reported):
            return f"{len(missing)} of {len(self.to_come)} tests did not report: {missing[0]}"
        if self.commit != commit():
            return f"the working tree was at {self.commit} first and is at {commit()} now"
        return ""

    def pytest_report_header(self) -> str:
        why = self.partial()
        return f"proof: {PAGE.name} will not be written, since {why}" if why else ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":  # who crashes has none
            self.reported.add(report.nodeid)
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

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if why := self.partial() or self.cut_short(exitstatus):
            self.said = f"{PAGE.name} was not written, since {why}."
            return
        self.said = f"{PAGE.name} was written."
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

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"proof: {self.said}")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
