"""A pytest plugin: tells what pytest does as JSON lines, and gives the run its own test database.

It runs inside the project's pytest, loaded from a copy by `-p`, so it needs pytest alone. Two
environment variables are for it: `REHEARSAL_PYTEST_PROGRESS` names the file it appends to, and
`REHEARSAL_PYTEST_TOKEN` is what makes the names of this run's test databases unique. Under
pytest-xdist the controller tells about the tests, and every worker about its databases.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import warnings
from typing import Any

import pytest

PATH = os.environ.get("REHEARSAL_PYTEST_PROGRESS", "")
TOKEN = os.environ.get("REHEARSAL_PYTEST_TOKEN", "")
INHERITED_SETTINGS = os.environ.get("DJANGO_SETTINGS_MODULE")
LONGEST_TEXT = 300
"""Characters of a reason that are told."""
NAME_BYTES = 63 - len("_gw999")
"""A longer name PostgreSQL would cut, and with it what pytest-xdist appends."""

running: dict[object, dict[str, Any]] = {}
"""The tests that have begun and not ended, and what is known of them."""


def tell(**event: Any) -> None:
    """Append one event; a single write, so that several processes can share the file."""
    if not PATH:
        return
    descriptor = os.open(PATH, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, json.dumps(event).encode() + b"\n")
    finally:
        os.close(descriptor)


# What pytest looks at


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        option = config.option
        tell(
            event="configured",
            pytest=pytest.__version__,
            python=f"{sys.executable} ({platform.python_version()})",
            markers=getattr(option, "markexpr", ""),
            keywords=getattr(option, "keyword", ""),
            collect_only=bool(getattr(option, "collectonly", False)),
            setup_only=bool(getattr(option, "setuponly", False)),
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    name_test_databases()
    if not hasattr(session.config, "workerinput"):
        tell(event="session", settings=settings_module(session.config))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        tell(event="not collected", node=report.nodeid, reason=reason(report))
    elif report.skipped:
        tell(event="module skipped", node=report.nodeid, reason=reason(report))


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and getattr(items[0].config, "workerinput", {}).get("workerid", "gw0") == "gw0":
        tell(event="deselected", count=len(items))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    # Again: settings may have been configured by a conftest.py that was only now imported.
    name_test_databases()
    if not hasattr(session.config, "workerinput"):
        tell(event="selected", count=len(session.items))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    tell(event="selected", count=len(ids))


# What becomes of the tests


def pytest_runtest_logstart(nodeid: str) -> None:
    tell(event="started", node=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return  # the controller gets this report too
    key = (report.nodeid, getattr(report, "node", None))
    if report.when == "setup" or key not in running:
        running[key] = {"outcome": "", "called": False, "skipped_parts": False, "reason": ""}
    test = running[key]
    part_only = hasattr(report, "context")  # a subtest
    expected_to_fail = hasattr(report, "wasxfail")
    if report.failed:
        test["called"] |= report.when == "call"
        if test["outcome"] != "failed":
            test["outcome"] = "failed" if report.when == "call" else "error"
            test["reason"] = reason(report)
    elif report.skipped:
        test["skipped_parts"] |= part_only
        if not part_only and not test["outcome"]:
            test["outcome"] = "xfailed" if expected_to_fail else "skipped"
            test["reason"] = reason(report)
    elif report.when == "call" and report.passed and not part_only:
        test["called"] = True
        test["outcome"] = test["outcome"] or ("xpassed" if expected_to_fail else "passed")
    # A worker of pytest-xdist that crashed leaves one report, whose phase is "???".
    if report.when not in ("setup", "call"):
        tell(event="test", node=report.nodeid, **running.pop(key))


def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    # pytest's own words, and those of unittest since Python 3.11.
    if re.search(r"should return None|not None from a test case", str(warning_message.message)):
        tell(event="returned", node=nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not hasattr(session.config, "workerinput"):
        tell(event="finished", code=int(exitstatus))


def reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why a test was skipped or failed: the first line of what pytest says of it."""
    if said := getattr(report, "wasxfail", ""):
        return str(said)[:LONGEST_TEXT]
    found = report.longrepr
    if isinstance(found, tuple):
        text = str(found[2]).removeprefix("Skipped: ")
    elif crash := getattr(found, "reprcrash", None):
        text = crash.message
        if text.startswith("SystemExit") and (errors := report.capstderr.strip()):
            text += f": {errors.splitlines()[-1]}"  # so Django ends without a database
    else:
        lines = [line for line in str(found).splitlines() if line.strip()]
        raised = [line[1:] for line in lines if line.startswith("E ")]
        text = (raised or lines or [""])[-1]
    return (text.strip().splitlines() or [""])[0][:LONGEST_TEXT]


# Django, where there is one


def settings_module(config: pytest.Config) -> str:
    """Which settings the tests run under and who said so; empty without Django."""
    if "django" not in sys.modules:
        return ""
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if not module:
        return ""
    if config.getoption("ds", None):
        return f"{module} (from --ds)"
    return f"{module} (from {'the environment' if module == INHERITED_SETTINGS else 'pytest'})"


def name_test_databases() -> None:
    """Make the names of the test databases this run's own; harmless to do twice."""
    if not TOKEN or "django" not in sys.modules:
        return
    from django.conf import settings

    if not settings.configured:
        return
    from django.db import connections

    for alias in connections:
        try:
            vendor = connections[alias].vendor
        except Exception:  # a database that cannot be used is the tests' to report
            continue
        database = connections[alias].settings_dict
        test = database.setdefault("TEST", {})
        if test.get("MIRROR") or TOKEN in str(test.get("NAME")):
            continue
        name = str(test.get("NAME") or "")
        if vendor != "sqlite":
            name = test["NAME"] = unique(name or str(database["NAME"]))
        elif not name or name == ":memory:" or "mode=memory" in name:
            name = "in memory"
        else:
            root, extension = os.path.splitext(os.path.abspath(name))
            name = test["NAME"] = f"{root}_{TOKEN}{extension}"
        tell(
            event="database",
            vendor=vendor,
            host=str(database.get("HOST") or ""),
            port=str(database.get("PORT") or ""),
            name=name,
        )


def unique(name: str) -> str:
    """The name with this run's token, short enough for a server's catalogue."""
    room = NAME_BYTES - len(f"test__{TOKEN}")
    kept = name.removeprefix("test_").encode()[:room].decode(errors="ignore")
    return f"test_{kept}_{TOKEN}"
