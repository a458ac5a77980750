"""The page of what was shown, `docs/proof.md`: its parts are written by the runs that show them.

Loaded by `-p tests.proof`. With `--proof`, a run of the tests that bear the marker `fault` writes
their table.
"""

from __future__ import annotations

import datetime
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "proof.md"


def write(part: str, body: str) -> None:
    """Put `body` in the place of what the page says between the comments that begin and end `part`.

    Raises ValueError when the page has no such part.
    """
    page = PAGE.read_text()
    around = rf"(<!-- begin {re.escape(part)} -->\n).*?(<!-- end {re.escape(part)} -->)"
    made, count = re.subn(around, lambda m: m[1] + body.strip() + "\n" + m[2], page, flags=re.S)
    if count != 1:
        raise ValueError(f"{PAGE} has {count} parts {part!r}: one was expected.")
    PAGE.write_text(made)


def when() -> str:
    """The commit that is looked at and today's date, as the page tells them."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return f"Commit `{commit.strip()}`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}."


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", action="store_true", help=f"write the faults into {PAGE.name}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--proof") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Faults())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if fault := item.get_closest_marker("fault"):
            # Reports carry these to the process that writes the table.
            long = item.get_closest_marker("long") is not None
            item.user_properties.append(("fault", [*fault.args, fault.kwargs["promised"], long]))


class Faults:
    """Collects what was seen of each fault, and writes it at the end of the run."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str, str], dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, said in report.user_properties:
            if name != "fault" or (report.when != "call" and report.passed):
                continue
            fault, promised, long = said
            test = report.nodeid.partition("[")[0]
            row = self.seen.setdefault((fault, promised, test), {"counts": {}, "long": True})
            row["counts"][report.outcome] = row["counts"].get(report.outcome, 0) + 1
            row["long"] &= long

    def pytest_sessionfinish(self) -> None:
        lines = ["| fault | what is promised | seen | test |", "|---|---|---|---|"]
        for (fault, promised, test), row in sorted(self.seen.items(), key=lambda one: one[0][2]):
            counts = ", ".join(
                outcome if count == 1 else f"{outcome} × {count}"
                for outcome, count in row["counts"].items()
            )
            path, _, name = test.partition("::")
            shown = f"`{path.removeprefix('tests/')}` `{name}`{' (long)' if row['long'] else ''}"
            lines.append(f"| {fault} | {promised} | {counts} | {shown} |")
        well = sum(set(row["counts"]) == {"passed"} for row in self.seen.values())
        total = f"{well} of {len(self.seen)} as promised. {when()}"
        write("faults", "\n".join([total, "", *lines]))
