"""Section 3, smoke tests: the `pytest` command that a line names, run as it stands.

Two witnesses are heard: pytest's JUnit report, and the plugin in `pytest_progress.py`, which also
tells how far the run has come. The terminal's output decides nothing: a test can print anything.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from xml.parsers import expat

from django.db import DatabaseError, connections

from rehearsal import command
from rehearsal.checklist import first_code_span
from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.command import Ending, Finished
from rehearsal.conf import configuration, redactor

PLUGIN = Path(__file__).with_name("pytest_progress.py")
PLUGIN_NAME = "rehearsal_pytest_progress"
LOOK_SECONDS = 0.5
"""Between two looks at what the plugin has told."""
MAX_OUTPUT = 64_000_000
"""Bytes of output: the report keeps the beginning and the end, so let the end come."""
MAX_JUNIT = 256_000_000
"""Bytes of a JUnit report; it is read as a stream."""
NAMED = 3
"""How many tests, errors or reasons a sentence names before it only counts."""
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
        root, python = configuration().root, configuration().python
        # A seconds' stamp in front, so that a later run knows which databases nobody uses any more.
        token = f"rehearsal_{int(time.time()):08x}{secrets.token_hex(3)}"
        with tempfile.TemporaryDirectory(prefix="rehearsal-pytest-") as folder:
            private = Path(folder)
            # From a copy under a name of its own: this directory on the path would shadow modules.
            shutil.copyfile(PLUGIN, private / f"{PLUGIN_NAME}.py")
            (private / "progress").touch()
            ours = [f"--junitxml={private / 'junit.xml'}", "-p", PLUGIN_NAME, "--color=no"]
            end = said.arguments.index("--") if "--" in said.arguments else len(said.arguments)
            head = [python, *said.flags, "-m", "pytest"]
            report.evidence("command", shlex.join([*head, *said.arguments]))
            report.evidence("directory", str(root))
            seen = Seen()
            try:
                with _followed(private / "progress", seen, report):
                    finished = command.run(
                        [*head, *said.arguments[:end], *ours, *said.arguments[end:]],
                        cwd=root,
                        env=_environment(private, token),
                        timeout=self.timeout,
                        write=seen.output(report),
                        stop=report.stop,
                        redactor=redactor(),
                        max_output=MAX_OUTPUT,
                    )
            except command.CommandError as error:
                raise Inconclusive(f"Pytest could not be started: {error}") from error
            finally:
                _drop(seen.databases, token, report)
            seen.record(report, finished)
            _judge(seen, finished, private / "junit.xml", python, self.timeout)
        report.progress(f"{seen.tally()} in {finished.seconds:.1f} s")


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


def _environment(private: Path, token: str) -> dict[str, str]:
    """Ours, without what would add to the line: PYTEST_ADDOPTS, PYTEST_PLUGINS and the like."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = [str(private), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path),
        "REHEARSAL_PYTEST_PROGRESS": str(private / "progress"),
        "REHEARSAL_PYTEST_TOKEN": token,
    }


# What the plugin tells


@dataclass
class Seen:
    """What is known of a run from the plugin's events; its output serves for quotes only."""

    about: dict[str, Any] = field(default_factory=dict)
    settings: str | None = None
    selected: int | None = None
    deselected: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    called: int = 0
    plain: int = 0
    """Tests that JUnit must show as passed and no more."""
    ended: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    not_collected: list[str] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)
    databases: list[dict[str, str]] = field(default_factory=list)
    at: str = ""
    finished: bool = False
    errors: list[str] = field(default_factory=list)
    last: str = ""
    _offset: int = 0

    def output(self, report: Report) -> Any:
        """What takes the lines of output: they go to the report, and some are kept to quote."""

        def write(line: str) -> None:
            report.write(line)
            if line.strip():
                self.last = line.strip()
            if len(self.errors) < NAMED and re.match(r"ERROR: (?!usage:)|\S*: error: ", line):
                self.errors.append(line.removeprefix("ERROR: ").strip()[:500])

        return write

    def read(self, path: Path) -> None:
        """Take the events that were told since the last time."""
        with path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        node = str(event.get("node", ""))
        why = f"{node} ({event['reason']})" if event.get("reason") else node
        match event.pop("event"):
            case "configured":
                self.about = event
            case "session":
                self.settings = event["settings"]
            case "selected":
                self.selected = event["count"]
            case "deselected":
                self.deselected += event["count"]
            case "database":
                if event not in self.databases:
                    self.databases.append(event)
            case "not collected":
                self.not_collected.append(why)
            case "module skipped":
                self.skips[event["reason"]] += 1
            case "started":
                self.at = node
            case "finished":
                self.finished = True
            case "test":
                outcome = event["outcome"] or "skipped"
                self.outcomes[outcome] += 1
                self.ended.add(node)
                self.called += event["called"]
                self.plain += outcome in ("passed", "xpassed") and not event["skipped_parts"]
                if outcome in ("failed", "error"):
                    self.failures.append(why)
                elif outcome in ("skipped", "xfailed"):
                    self.skips[event["reason"]] += 1

    def progress(self) -> str:
        if self.selected is None:
            return "collecting tests"
        said = f"{len(self.ended)} of {self.selected} tests"
        if self.failures:
            said += f", {len(self.failures)} failed: {self.failures[-1]}"
        return said

    def tally(self) -> str:
        """Such as "17 passed, 2 skipped"."""
        names = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
        said = [f"{self.outcomes[name]} {name}" for name in names if self.outcomes[name]]
        return ", ".join(said) or "no test"

    def record(self, report: Report, finished: Finished) -> None:
        """The evidence and the measurements."""
        if finished.code is not None:
            report.evidence("exit code", finished.code)
        if self.about:
            report.evidence("pytest", self.about["pytest"])
            report.evidence("interpreter", self.about["python"])
        if self.settings:
            report.evidence("settings", self.settings)
        if self.databases:
            names = [f"{one['vendor']}: {one['name']}" for one in self.databases]
            report.evidence("test databases", names)
        report.evidence("tests", self.tally())
        if self.deselected:
            report.evidence("deselected", self.deselected)
        if self.skips:
            common = self.skips.most_common(10)
            report.evidence("reasons for skipping", [f"{count} x {why}" for why, count in common])
        if self.settings is not None:
            for name in ("passed", "failed", "skipped"):
                report.measure(f"tests.{name}", self.outcomes[name], "tests")
            report.measure("tests.seconds", round(finished.seconds, 3), "s")


@contextmanager
def _followed(path: Path, seen: Seen, report: Report) -> Iterator[None]:
    """See what the plugin tells, and say how far the run has come, until the end of the block."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(LOOK_SECONDS):
            seen.read(path)
            report.progress(seen.progress())

    thread = threading.Thread(target=follow, name="pytest-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        seen.read(path)


# The verdict


def _judge(seen: Seen, finished: Finished, junit: Path, python: str, timeout: int) -> None:
    """Return when tests ran and all is well; raise Failed or Inconclusive when not."""
    code = finished.code
    at = f" It was at {seen.at}." if seen.at else ""
    if finished.ending is Ending.TIMED_OUT:
        raise Failed(f"The tests timed out after {timeout} s ({seen.tally()}).{at} Make them faster.")
    if finished.ending is Ending.STOPPED:
        raise Inconclusive(f"The tests were stopped ({seen.tally()}).{at} Run the item again.")
    if finished.ending is Ending.LOST or code is None:
        raise Failed(f"Pytest was lost: nobody knows how it ended.{at} Run the item again.")
    if seen.settings is not None and not seen.finished:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = f"Pytest ended ({how}) in the middle of its session, with {seen.tally()}.{at}"
        remedy = "Find out what ended it there: no test may end its process."
        raise (Failed if code else Inconclusive)(f"{said} {remedy}")
    if not seen.called:
        raise Inconclusive(_nothing(seen, python))
    _compare(seen, junit)
    if seen.failures or seen.not_collected or code:
        raise Failed(_failures(seen, code))
    if len(seen.ended) != seen.selected:
        raise Inconclusive(
            f"Pytest ended after {len(seen.ended)} of {seen.selected} selected tests, though with "
            f"exit code 0.{at} Find what ended it early, such as pytest.exit(), and take it out."
        )
    if not seen.outcomes["passed"]:
        raise Inconclusive(
            f"No test passed that was expected to pass: {seen.tally()}. Take the xfail mark off."
        )


def _nothing(seen: Seen, python: str) -> str:
    """Why no test ran, in pytest's words, and what to do."""
    if seen.settings is None:
        quote = "; ".join(seen.errors) or seen.last or "it said nothing"
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
    about, parts, remedy = seen.about, list(seen.errors), "Correct the command in the line."
    if seen.deselected:
        asked = [f"{option} {about[key]!r}" for option, key in (("-m", "markers"), ("-k", "keywords")) if about[key]]  # fmt: skip
        parts.append(f"{seen.deselected} deselected" + f" by {' and '.join(asked)}" * bool(asked))
        remedy = "Give some test the mark or name that is asked for, or correct the command."
    if seen.skips:
        reasons = "; ".join(why or "no reason given" for why, _ in seen.skips.most_common(NAMED))
        parts.append(f"{sum(seen.skips.values())} skipped or expected to fail ({reasons})")
        remedy = "Make what the tests are skipped for available here, or take the mark off."
    if seen.failures:
        parts.append(f"{len(seen.failures)} errors before a test began: {_listed(seen.failures)}")
        remedy = "Mend what the tests need before they can begin."
    if seen.not_collected:
        many = len(seen.not_collected)
        parts.append(f"{many} errors during collection: {_listed(seen.not_collected)}")
        remedy = "Make these modules importable, or name in the line the files that count."
    if about["collect_only"] or about["setup_only"]:
        parts.append("the options ask pytest only to collect or to plan")
        remedy = "Take --collect-only, --setup-only or --setup-plan out."
    if not parts:
        parts.append(f"{seen.selected or 0} selected, none ran; its last words: {seen.last}")
    return f"Pytest ran no test: {', '.join(parts)}. {remedy}"


def _failures(seen: Seen, code: int) -> str:
    parts = []
    if seen.failures:
        parts.append(f"{len(seen.failures)} failed: {_listed(seen.failures)}")
    if seen.not_collected:
        many = len(seen.not_collected)
        parts.append(f"{many} errors during collection: {_listed(seen.not_collected)}")
    if seen.selected is not None and len(seen.ended) < seen.selected:
        parts.append(f"only {len(seen.ended)} of {seen.selected} tests ran")
    said = ", ".join(parts) or f"no test failed ({seen.tally()})"
    return f"Pytest ended with exit code {code}: {said}. Mend them; the output has the details."


def _listed(entries: list[str]) -> str:
    more = len(entries) - NAMED
    return ", ".join(entries[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _compare(seen: Seen, junit: Path) -> None:
    """Hold the plugin's account against pytest's own report; raise Inconclusive if they differ."""
    remedy = "Find what keeps pytest from writing --junitxml, such as a plugin or a conftest.py."
    try:
        passed = _passed_in(junit)
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


def _passed_in(junit: Path) -> int:
    """How many tests a JUnit report shows as passed.

    Raises ValueError when it is too large or declares a document type (which could hold an entity
    bomb), ExpatError when it is no XML, OSError when it is not there.
    """
    if not junit.exists():
        raise ValueError("there is none")
    if junit.stat().st_size > MAX_JUNIT:
        raise ValueError(f"it is larger than {MAX_JUNIT} bytes")
    passed, marks = 0, 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal marks
        if name == "testcase":
            marks = 0
        marks += name in ("failure", "error", "skipped")

    def end(name: str) -> None:
        nonlocal passed
        passed += name == "testcase" and not marks

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = refuse
    with junit.open("rb") as stream:
        parser.ParseFile(stream)
    return passed


# What a killed run leaves behind


def _drop(databases: list[dict[str, str]], token: str, report: Report) -> None:
    """Drop the test databases that this run left, and older ones of runs that nobody awaits.

    pytest drops them itself unless it was killed or told to keep them. Only names that carry our
    token are touched; whatever cannot be dropped is said in the output.
    """
    servers = {(one["host"], one["port"]) for one in databases if one["vendor"] == "postgresql"}
    for host, port in servers:
        here = [
            one
            for one in connections.all()
            if one.vendor == "postgresql"
            and (str(one.settings_dict["HOST"] or ""), str(one.settings_dict["PORT"] or ""))
            == (host, port)
        ]
        if not here:
            report.write(f"No connection here leads to {host}:{port}: a test database whose name "
                         f"ends in {token} may be left there; drop it.")  # fmt: skip
            continue
        own = here[0].copy()
        own.settings_dict["OPTIONS"] = {**own.settings_dict["OPTIONS"], "connect_timeout": 5}
        try:
            with own._nodb_cursor() as cursor:
                cursor.execute("SET statement_timeout = '20s'")
                cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%%'")
                for (name,) in cursor.fetchall():
                    if _is_left_over(name, token):
                        quoted = own.ops.quote_name(name)
                        cursor.execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
                        report.write(f"The test database {name} was left over and is dropped.")
        except DatabaseError as error:
            report.write(f"Test databases named like *{token} may be left: {error}; drop them.")
    for one in databases:
        if one["vendor"] == "sqlite" and token in one["name"]:
            Path(one["name"]).unlink(missing_ok=True)


def _is_left_over(name: str, token: str) -> bool:
    if token in name:
        return True
    ours = re.fullmatch(r"test_.*_rehearsal_([0-9a-f]{8})[0-9a-f]{6}(_gw\d+)?", name)
    return bool(ours) and time.time() - int(ours[1], 16) > 2 * Pytest.timeout  # type: ignore[index]
