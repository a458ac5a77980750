"""Section 3, smoke tests: the `pytest` command that a line names, run as it stands.

Two witnesses are heard: pytest's JUnit report, and the plugin in `pytest_plugin`, which also tells
how far the run has come. The terminal's output decides nothing: a test can print anything.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from xml.parsers import expat

from rehearsal import command
from rehearsal.checklist import first_code_span
from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.commands import other_command, prove_revision
from rehearsal.checks.pytest_account import (
    NAMED,
    Seen,
    followed,
    listed,
    passed_in,
)
from rehearsal.checks.pytest_databases import drop_left_over
from rehearsal.checks.pytest_environment import environment
from rehearsal.command import Ending, Finished
from rehearsal.conf import configuration, redactor

PLUGIN = Path(__file__).with_name("pytest_plugin")
PLUGIN_NAME = "rehearsal_pytest_plugin"
MAX_OUTPUT = 64_000_000
"""Bytes of output: the report keeps the beginning and the end, so let the end come."""
PACKAGES = {
    "--ds": "pytest-django",
    "--reuse-db": "pytest-django",
    "--create-db": "pytest-django",
    "--cov": "pytest-cov",
    "-n": "pytest-xdist",
}
"""Which package brings an option that pytest does not know."""


@dataclass(frozen=True)
class Pytest(Check):
    """The `pytest` command in the line's first code span passes, and some test really ran."""

    timeout: ClassVar[int] = 1800
    needs: ClassVar[tuple[str, ...]] = ()
    # Every run has test databases of its own name, so whatever a lost run left is in nobody's way.
    safe_to_repeat: ClassVar[bool] = True

    def run(self, report: Report) -> None:
        said = _command(report.line)
        prove_revision(report)
        root, python = configuration().root, configuration().python
        # A seconds' stamp in front, so that a later run knows which databases nobody uses any more.
        token = f"rehearsal_{int(time.time()):08x}{secrets.token_hex(3)}"
        with tempfile.TemporaryDirectory(prefix="rehearsal-pytest-") as folder:
            private = Path(folder)
            # From a copy under a name of its own: this directory on the path would shadow modules.
            shutil.copytree(PLUGIN, private / PLUGIN_NAME)
            (private / "progress").touch()
            ours = [f"--junitxml={private / 'junit.xml'}", "-p", PLUGIN_NAME, "--color=no"]
            end = said.arguments.index("--") if "--" in said.arguments else len(said.arguments)
            head = [python, *said.flags, "-m", "pytest"]
            report.evidence("command", shlex.join([*head, *said.arguments]))
            report.evidence("directory", str(root))
            seen = Seen()
            try:
                with followed(private / "progress", seen, report):
                    finished = command.run(
                        [*head, *said.arguments[:end], *ours, *said.arguments[end:]],
                        cwd=root,
                        env=environment(report, private, token),
                        timeout=self.timeout,
                        write=seen.output(report),
                        stop=report.stop,
                        redactor=redactor(),
                        max_output=MAX_OUTPUT,
                    )
            except command.CommandError as error:
                raise Inconclusive(f"Pytest could not be started: {error}") from error
            finally:
                drop_left_over(seen.databases, token, 2 * self.timeout, report)
            seen.record(report, finished)
            _judge(seen, finished, private / "junit.xml", python, self.timeout)
        weaker = f"; weaker than it looks: {' '.join(seen.findings)}" if seen.findings else ""
        report.progress(f"{seen.tally()} in {finished.seconds:.1f} s{weaker}")


# What the line says


@dataclass(frozen=True)
class Said:
    """A pytest command: the interpreter's flags that are like its head, and its arguments."""

    flags: list[str]
    arguments: list[str]


def _command(line: str) -> Said:
    span = first_code_span(line)
    remedy = "Put the command first in the line, between backticks, such as `pytest -m smoke`."
    if span is None:
        raise Inconclusive(f"A pytest command was expected in the line, found no code. {remedy}")
    if other := other_command(line):
        raise Inconclusive(
            f"One command was expected in the line, found {span!r} and {other!r}, so running the "
            "first would not prove the line. Give each a line of its own."
        )
    try:
        words = shlex.split(span)
    except ValueError as error:
        raise Inconclusive(f"The command {span!r} cannot be read: {error}. Close it.") from error
    # Typed as `pytest`, the working directory is not on Python's path; by `python -m` it is.
    if words[:1] == ["pytest"]:
        return Said(["-P"], words[1:])
    if words[:3] == ["python", "-m", "pytest"]:
        return Said([], words[3:])
    raise Inconclusive(f"A pytest command was expected in the line, found {span!r}. {remedy}")


# The verdict


def _judge(seen: Seen, finished: Finished, junit: Path, python: str, timeout: int) -> None:
    """Return when tests ran and all is well; raise Failed or Inconclusive when not."""
    code = finished.code
    at = f" It was at {seen.at}." if seen.at else ""
    if finished.ending is Ending.TIMED_OUT:
        raise Failed(
            f"The tests timed out after {timeout} s ({seen.tally()}).{at} Make them faster."
        )
    if finished.ending is Ending.STOPPED:
        raise Inconclusive(f"The tests were stopped ({seen.tally()}).{at} Run the item again.")
    if finished.ending is Ending.LOST or code is None:
        raise Failed(f"Pytest was lost: nobody knows how it ended.{at} Run the item again.")
    if seen.refused:
        raise Inconclusive(
            f"Tests asked for {listed(seen.refused)}, which is not a test database and was refused "
            f"({seen.tally()}). Let pytest-django make the test database: take out what overrides "
            "its fixture django_db_setup, or what uses the database outside of tests."
        )
    if seen.settings is not None and not seen.finished:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = f"Pytest ended ({how}) in the middle of its session, with {seen.tally()}.{at}"
        remedy = "Find out what ended it there: no test may end its process."
        raise (Failed if code else Inconclusive)(f"{said} {remedy}")
    if not seen.called:
        raise Inconclusive(_nothing(seen, python))
    # One witness is enough to fail; to pass takes both.
    if seen.failures or seen.not_collected or code:
        raise Failed(_failures(seen, code))
    if seen.unreadable or not (seen.about and seen.finished):
        why = seen.unreadable or "its first word or its last is missing"
        raise Inconclusive(
            f"What pytest's plugin tells of the run cannot be read ({why}), though it "
            f"told of {seen.tally()}: no test may write into the files of the run."
        )
    if len(seen.ended) != seen.selected:
        raise Inconclusive(
            f"Pytest ended after {len(seen.ended)} of {seen.selected} selected tests, though with "
            f"exit code 0.{at} Find what ended it early, such as pytest.exit(), and take it out."
        )
    _compare(seen, junit)
    if seen.returned:
        raise Inconclusive(
            f"{_count(seen.returned, 'test')} returned something, as an `async def` does that "
            f"nobody awaits, or a `yield`: {listed(seen.returned)}. What they look at is unknown: "
            "let them assert and return nothing, or run them as what they are."
        )
    if seen.excused:
        raise Inconclusive(
            f"{_count(seen.excused, 'test')} raised something and were reported as passed: "
            f"{listed(seen.excused)}. Find what excuses them, such as pytest_runtest_makereport "
            "in a conftest.py, and take it out."
        )
    if seen.about["only_failed"]:
        raise Inconclusive(
            f"Only what failed or stopped in an earlier run was asked for ({seen.tally()}): take "
            "--last-failed or --stepwise out of the line, or of pytest's addopts."
        )
    if without := seen.without_a_pass():
        reasons = "; ".join(why for why, _ in seen.skips.most_common(NAMED) if why)
        raise Inconclusive(
            f"No test passed of {listed(without)}, which the line names beside others"
            f"{f' ({reasons})' if reasons else ''}. Make them run, or take them out of the line."
        )
    if not seen.outcomes["passed"]:
        raise Inconclusive(
            f"No test passed that was expected to pass: {seen.tally()}. Take the xfail mark off."
        )


def _nothing(seen: Seen, python: str) -> str:
    """Why no test ran, in pytest's words, and what to do."""
    if seen.settings is None:
        quote = "; ".join(seen.errors) or seen.last or "it said nothing"
        quote = quote.removesuffix(".")
        if re.search(r"No module named '?pytest\b", quote):
            return f"pytest is not installed in {python} ({quote}). Install it there."
        remedy = "Correct the command in the line, or the options in pytest's configuration."
        lacking = {
            package
            for option, package in PACKAGES.items()
            if re.search(rf"unrecognized arguments:.* {option}\b", quote)
        }
        if lacking:
            remedy = f"Install {' and '.join(sorted(lacking))} in {python}."
        return f"Pytest ran no test: {quote}. {remedy}"
    about, remedy = seen.about, "Correct the command in the line."
    parts = [line for line in seen.errors if line.startswith("ERROR: ")]
    if seen.deselected:
        options = {"-m": about.get("markers"), "-k": about.get("keywords")}
        asked = " and ".join(f"{option} {what!r}" for option, what in options.items() if what)
        parts.append(f"{seen.deselected} deselected" + (f" by {asked}" if asked else ""))
        remedy = "Give some test the mark or name that is asked for, or correct the command."
    if seen.skips:
        reasons = "; ".join(why or "no reason given" for why, _ in seen.skips.most_common(NAMED))
        parts.append(f"{sum(seen.skips.values())} skipped or expected to fail ({reasons})")
        remedy = "Make what the tests are skipped for available here, or take the mark off."
    if seen.failures:
        errors = _count(seen.failures, "error")
        parts.append(f"{errors} before a test began: {listed(seen.failures)}")
        remedy = "Mend what the tests need before they can begin."
    if seen.not_collected:
        errors = _count(seen.not_collected, "error")
        parts.append(f"{errors} during collection: {listed(seen.not_collected)}")
        remedy = "Make these modules importable, or name in the line the files that count."
    if about.get("collect_only") or about.get("setup_only"):
        parts.append("the options ask pytest only to collect or to plan")
        remedy = "Take --collect-only, --setup-only or --setup-plan out."
    if not parts:
        parts.append(f"{seen.selected or 0} selected, none ran; its last words: {seen.last}")
    return f"Pytest ran no test: {', '.join(parts)}. {remedy}"


def _failures(seen: Seen, code: int) -> str:
    parts = []
    if seen.failures:
        parts.append(f"{len(seen.failures)} failed: {listed(seen.failures)}")
    if seen.not_collected:
        errors = _count(seen.not_collected, "error")
        parts.append(f"{errors} during collection: {listed(seen.not_collected)}")
    if seen.selected is not None and len(seen.ended) < seen.selected:
        parts.append(f"only {len(seen.ended)} of {seen.selected} tests ran")
    said = ", ".join(parts) or f"no test failed ({seen.tally()})"
    return f"Pytest ended with exit code {code}: {said}. Mend them; the output has the details."


def _count(entries: list[str], noun: str) -> str:
    return f"{len(entries)} {noun}" + "s" * (len(entries) != 1)


def _compare(seen: Seen, junit: Path) -> None:
    """Hold the plugin's account against pytest's own report; raise Inconclusive if they differ."""
    remedy = "Find what keeps pytest from writing --junitxml, such as a plugin or a conftest.py."
    try:
        passed = passed_in(junit)
    except (OSError, ValueError, expat.ExpatError) as error:
        raise Inconclusive(
            f"Pytest left no readable JUnit report ({error}), though it told of {seen.tally()}. "
            f"{remedy}"
        ) from error
    if passed != seen.plain:
        raise Inconclusive(
            f"Two accounts of the run differ: the JUnit report has {passed} tests that passed, "
            f"pytest's plugin heard of {seen.plain}. {remedy}"
        )
