"""What is known of a pytest run: the plugin's events and the JUnit report."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from rehearsal.checks.base import Report
from rehearsal.checks.options import fits
from rehearsal.checks.pytest_results import Test, findings
from rehearsal.checks.pytest_results import record as record_results
from rehearsal.command import Finished

LOOK_SECONDS = 0.5
"""Between two looks at what the plugin has told."""
MAX_JUNIT = 256_000_000
"""Bytes of a JUnit report; it is read as a stream."""
ERROR = re.compile(r"ERROR: (?!usage:)|python -m pytest: error: |__main__\.py: error: |\w*Error: ")
"""How a line begins in which pytest says why it cannot begin."""
ASKED = ("queries", "query_seconds", "slowest", "repeated")
"""What is told of a test's queries, in the order of the fields of `Test`."""
KINDS: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("alias", "argument", "host", "how", "name", "outcome", "port", "pytest", "python"),
            *("reason", "said", "schema", "settings", "tail", "template", "vendor"),
        ),
        str,
    ),
    **dict.fromkeys(("count", "kept", "queries"), int),
    **dict.fromkeys(("built_seconds", "query_seconds", "seconds"), float),
    **dict.fromkeys(("called", "skipped_parts"), bool | int),
    **dict.fromkeys(("repeated", "slowest"), list[list]),  # type: ignore[type-arg]
    "nodes": list[str],
    "only_failed": bool,
}
"""What the plugin tells under each name, whatever the event."""
ALWAYS = {
    "configured": {"pytest", "python", "only_failed"},
    "database": {"alias", "vendor", "host", "port", "name"},
}
"""What is looked for in these events once the run is over."""
MOST = 10**9
"""No count and no seconds of a run are more."""
NAMED = 3
"""How many tests, errors or reasons a sentence names before it only counts."""


# What the plugin tells

UNREADABLE = (ValueError, KeyError, TypeError)


def _prove(event: dict[str, Any]) -> None:
    """Raise one of UNREADABLE for what the plugin cannot have told."""
    for key in ALWAYS.get(event["event"], set()) - event.keys():
        raise KeyError(key)
    for key in KINDS.keys() & event.keys():
        value, kind = event[key], KINDS[key]
        if not fits(value, kind) or (isinstance(value, (int, float)) and not 0 <= value < MOST):
            raise TypeError(f"{key} is {value!r}")
        if kind == KINDS["slowest"]:
            for number, text in value:
                if not (fits(number, float) and 0 <= number < MOST and fits(text, str)):
                    raise TypeError(f"{key} holds {number!r}: {text!r}")


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
    returned: list[str] = field(default_factory=list)
    """Tests that returned something: a coroutine or a generator in which nothing has run yet."""
    excused: list[str] = field(default_factory=list)
    """Tests that raised something, and that the project's own code reports as passed."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """Which tests are of each file or test named in the command, where it names several."""
    dropped: int = 0
    """Tests that were collected, and taken out of the run without being deselected."""
    skips: Counter[str] = field(default_factory=Counter)
    databases: list[dict[str, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    """How the test databases were made."""
    schemas: list[str] = field(default_factory=list)
    """Databases whose schema served as a test database, without the rows that migrations seed."""
    refused: list[str] = field(default_factory=list)
    """Databases that are none to test on, and were asked for."""
    tests: dict[str, Test] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    preparing: str = ""
    eager: bool = False
    built_seconds: float = 0.0
    at: str = ""
    finished: bool = False
    unreadable: str = ""
    """Why something that the plugin told cannot be read; it was written by somebody else."""
    errors: list[str] = field(default_factory=list)
    last: str = ""
    _offset: int = 0
    _queries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def output(self, report: Report) -> Callable[[str], None]:
        """What takes the lines of output: they go to the report, and some are kept to quote."""

        def write(line: str) -> None:
            report.write(line)
            if line.strip():
                self.last = line.strip()
            if len(self.errors) < NAMED and ERROR.match(line):
                self.errors.append(line.strip()[:500])

        return write

    def read(self, path: Path) -> None:
        """Take the events that were told since the last time."""
        try:
            with path.open("rb") as stream:
                stream.seek(self._offset)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    try:
                        self._take(json.loads(line))
                    except (*UNREADABLE, AttributeError, RecursionError) as error:
                        self.unreadable = f"{type(error).__name__}: {error}"[:200]
        except OSError as error:  # a test may have removed it
            self.unreadable = f"its file is gone: {error.strerror}"

    def _take(self, event: dict[str, Any]) -> None:
        _prove(event)
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
                if event not in self.databases:  # each worker of pytest-xdist tells it
                    self.databases.append(event)
            case "preparing":
                self.preparing = event["said"]
            case "test database made":
                self.preparing = ""
                self.made.append(_made(event))
                self.schemas.extend(filter(None, [event.get("schema")]))
                if "built_seconds" in event:
                    self.built_seconds += event["built_seconds"]
            case "refused":
                self.refused.append(f"{event['name']} (alias {event['alias']!r})")
            case "eager":
                self.eager = True
            case "queries":
                self._queries[node] = event
            case "not collected":
                if why not in self.not_collected:
                    self.not_collected.append(why)
            case "module skipped":
                self.skips[event["reason"]] += 1
            case "returned":
                if node not in self.returned:
                    self.returned.append(node)
            case "excused":
                if node not in self.excused:
                    self.excused.append(node)
            case "named":
                self.named[event["argument"]] = event["nodes"]
            case "collected":
                self.dropped = event["count"] - event["kept"]
            case "started":
                self.at = node
            case "finished":
                self.finished = True
            case "test":
                outcome = event["outcome"] or "skipped"
                self.outcomes[outcome] += 1
                self.ended.add(node)
                asked = self._queries.pop(node, {})
                self.tests[node] = Test(
                    node,
                    outcome,
                    event["seconds"],
                    event["tail"],
                    *(asked[name] for name in ASKED if asked),
                )
                self.called += event["called"]
                self.plain += outcome in ("passed", "xpassed") and not event["skipped_parts"]
                if outcome in ("failed", "error"):
                    self.failures.append(why)
                elif outcome in ("skipped", "xfailed"):
                    self.skips[event["reason"]] += 1

    def progress(self) -> str:
        if self.selected is None:
            return "collecting tests"
        if self.preparing:
            return f"{self.selected} tests; {self.preparing}"
        said = f"{len(self.ended)} of {self.selected} tests"
        if self.failures:
            said += f", {len(self.failures)} failed: {self.failures[-1]}"
        return said

    def without_a_pass(self) -> list[str]:
        """What the command names and of which no test passed."""
        ended = ("passed", "xpassed")
        return [
            argument
            for argument, nodes in self.named.items()
            if not any(node in self.tests and self.tests[node].outcome in ended for node in nodes)
        ]

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
        if self.made:
            report.evidence("test databases made", self.made)
            report.measure("tests.building_seconds", round(self.built_seconds, 3), "s")
        if self.deselected:
            report.evidence("deselected", self.deselected)
        if (dropped := self.dropped - self.deselected) > 0:
            report.evidence("left out in silence", dropped)
        if self.skips:
            common = self.skips.most_common(10)
            report.evidence("reasons for skipping", [f"{count} x {why}" for why, count in common])
        if self.settings is not None:
            for name in ("passed", "failed", "skipped"):
                report.measure(f"tests.{name}", self.outcomes[name], "tests")
            report.measure("tests.seconds", round(finished.seconds, 3), "s")
        self.findings = findings(
            self.about,
            self.databases,
            eager=self.eager,
            schemas=self.schemas,
            ran=len(self.ended),
            selected=self.selected,
            dropped=self.dropped - self.deselected,
        )
        if self.findings:
            report.evidence("findings", self.findings)
        record_results(self.tests.values(), report)


def _made(event: dict[str, Any]) -> str:
    said = f"{event['alias']}: {event['how']} in {event['seconds']:.1f} s"
    if template := event.get("template"):
        built = f", made now in {event['built_seconds']:.1f} s" if "built_seconds" in event else ""
        said += f" ({template}{built})"
    return f"{said}; {event['reason']}" if event.get("reason") else said


@contextmanager
def followed(path: Path, seen: Seen, report: Report) -> Iterator[None]:
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


def listed(entries: list[str]) -> str:
    more = len(entries) - NAMED
    return ", ".join(entries[:NAMED]) + (f" and {more} more" if more > 0 else "")


# What pytest reports itself


def passed_in(junit: Path) -> int:
    """How many tests a JUnit report shows as passed.

    Raises ValueError when it is too large, declares a document type (which could hold an entity
    bomb) or is of no known encoding, ExpatError when it is no XML, OSError when it is not there.
    """
    if not junit.exists():
        raise ValueError("there is none")
    if junit.stat().st_size > MAX_JUNIT:
        raise ValueError(f"it is larger than {MAX_JUNIT} bytes")
    passed, marks = 0, 0

    def start(name: str, _attributes: dict[str, str]) -> None:
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
    try:
        with junit.open("rb") as stream:
            parser.ParseFile(stream)
    except LookupError as error:
        raise ValueError(str(error)) from None
    return passed
