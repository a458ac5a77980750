"""What is known of a pytest run: the plugin's events, the JUnit report, the databases it left."""

from __future__ import annotations

import glob
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from django.db import DatabaseError, connections

from rehearsal.checks.base import Report
from rehearsal.command import Finished

LOOK_SECONDS = 0.5
"""Between two looks at what the plugin has told."""
MAX_JUNIT = 256_000_000
"""Bytes of a JUnit report; it is read as a stream."""
ERROR = re.compile(r"ERROR: (?!usage:)|python -m pytest: error: |__main__\.py: error: |\w*Error: ")
"""How a line begins in which pytest says why it cannot begin."""
NAMED = 3
"""How many tests, errors or reasons a sentence names before it only counts."""


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
    returned: list[str] = field(default_factory=list)
    """Tests that returned something: a coroutine or a generator in which nothing has run yet."""
    skips: Counter[str] = field(default_factory=Counter)
    databases: list[dict[str, str]] = field(default_factory=list)
    at: str = ""
    finished: bool = False
    errors: list[str] = field(default_factory=list)
    last: str = ""
    _offset: int = 0

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
                if event not in self.databases:  # each worker of pytest-xdist tells it
                    self.databases.append(event)
            case "not collected":
                if why not in self.not_collected:
                    self.not_collected.append(why)
            case "module skipped":
                self.skips[event["reason"]] += 1
            case "returned":
                if node not in self.returned:
                    self.returned.append(node)
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

    Raises ValueError when it is too large or declares a document type (which could hold an entity
    bomb), ExpatError when it is no XML, OSError when it is not there.
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
    with junit.open("rb") as stream:
        parser.ParseFile(stream)
    return passed


# What a killed run leaves behind


def drop_left_over(
    databases: list[dict[str, str]], token: str, lifetime: float, report: Report
) -> None:
    """Drop the test databases that this run left, and those of runs begun `lifetime` seconds ago.

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
            report.write(
                f"No connection here leads to {host}:{port}: a test database whose name ends in "
                f"{token} may be left there; drop it."
            )
            continue
        own = here[0].copy()
        own.settings_dict["OPTIONS"] = {**own.settings_dict["OPTIONS"], "connect_timeout": 5}
        try:
            with own._nodb_cursor() as cursor:
                cursor.execute("SET statement_timeout = '20s'")
                cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%%'")
                for (name,) in cursor.fetchall():
                    if _is_left_over(name, token, lifetime):
                        quoted = own.ops.quote_name(name)
                        cursor.execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
                        report.write(f"The test database {name} was left over and is dropped.")
        except DatabaseError as error:
            report.write(f"Test databases named like *{token} may be left: {error}; drop them.")
    for one in databases:
        if one["vendor"] == "sqlite" and token in one["name"]:
            path = Path(one["name"])  # with it go its journal and what pytest-xdist appended
            for left in path.parent.glob(f"{glob.escape(path.name)}*"):
                left.unlink(missing_ok=True)


def _is_left_over(name: str, token: str, lifetime: float) -> bool:
    if token in name:
        return True
    ours = re.fullmatch(r"test_.*_rehearsal_([0-9a-f]{8})[0-9a-f]{6}(_gw\d+)?", name)
    return ours is not None and time.time() - int(ours[1], 16) > lifetime
