"""Tells what pytest looks at and what becomes of the tests."""

from __future__ import annotations

import os
import platform
import re
import sys
import warnings
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from .events import LONGEST_TEXT, XDIST_WORKER, tell

CHOSEN_SETTINGS = os.environ.get("DJANGO_SETTINGS_MODULE", "")
"""The settings that somebody chose for these tests."""
INHERITED_SETTINGS = os.environ.pop("REHEARSAL_PYTEST_SETTINGS", "")
"""Those the worker was started with: they count where neither the line nor pytest names any."""
MAX_TAIL = 3000
"""Characters of what pytest says of a failed test."""

told_eager: list[bool] = []
RETURNED = r".*(?:should return None|Expected None, but|not None from a test case)"
"""Pytest's own words, since 8.4 and before, and those of unittest since Python 3.11."""

collected: list[str] = []
running: dict[object, dict[str, Any]] = {}
"""The tests that have begun and not ended, and what is known of them."""


# What pytest looks at


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if CHOSEN_SETTINGS or not INHERITED_SETTINGS:
        return
    try:
        configured = early_config.getini("DJANGO_SETTINGS_MODULE")
    except ValueError:  # without pytest-django there is no such option
        configured = ""
    if not configured:
        os.environ["DJANGO_SETTINGS_MODULE"] = INHERITED_SETTINGS


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
            maxfail=int(getattr(option, "maxfail", 0) or 0),
            nomigrations=bool(getattr(option, "nomigrations", False)),
            only_failed=only_what_failed(config),
        )


def only_what_failed(config: pytest.Config) -> bool:
    """Whether what an earlier run left decides which tests run: --last-failed or --stepwise."""
    cache = getattr(config, "cache", None)
    if cache is None:
        return False
    option = config.option
    failed = getattr(option, "lf", False) and cache.get("cache/lastfailed", {})
    stopped = getattr(option, "stepwise", False) and cache.get("cache/stepwise", None)
    if isinstance(stopped, dict):
        stopped = stopped.get("last_failed")
    return bool(failed or stopped)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        tell(event="session", settings=settings_module(session.config))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        tell(event="not collected", node=report.nodeid, reason=reason(report))
    elif report.skipped:
        tell(event="module skipped", node=report.nodeid, reason=reason(report))


def pytest_itemcollected(item: pytest.Item) -> None:
    collected.append(item.nodeid)


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and speaks_for_all(items[0].config):
        tell(event="deselected", count=len(items))


def speaks_for_all(config: pytest.Config) -> bool:
    """Whether this process collects, and no other tells the same."""
    return bool(getattr(config, "workerinput", {}).get("workerid", "gw0") == "gw0")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        tell(event="selected", count=len(session.items))
    if session.items and speaks_for_all(session.config):
        tell(event="collected", count=len(collected), kept=len(session.items))
        tell_named(session)


def tell_named(session: pytest.Session) -> None:
    """Tell of several files or tests named in the command which of the tests are whose."""
    config = session.config
    named = str(getattr(config, "args_source", "")).endswith(".ARGS")
    if not named or getattr(config.option, "pyargs", False) or len(config.args) < 2:
        return
    for argument in config.args:
        name, _, inside = argument.partition("::")
        path = os.path.realpath(config.invocation_params.dir / name)
        of_it = [one.nodeid for one in session.items if is_of(one, path, inside)]
        tell(event="named", argument=argument, nodes=of_it)


def is_of(item: pytest.Item, path: str, inside: str) -> bool:
    """Whether a test is in a file or folder and, where there is something `inside`, in that."""
    here = os.path.realpath(item.path)
    own = item.nodeid.partition("::")[2]
    of_part = not inside or own == inside or own.startswith((f"{inside}::", f"{inside}["))
    return of_part and (here == path or here.startswith(os.path.join(path, "")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    tell(event="selected", count=len(ids))


# What becomes of the tests


def pytest_runtest_logstart(nodeid: str) -> None:
    tell(event="started", node=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if XDIST_WORKER:
        return  # the controller gets this report too
    key = (report.nodeid, getattr(report, "node", None))
    if report.when == "setup" or key not in running:
        running[key] = {
            "outcome": "",
            "called": False,
            "skipped_parts": False,
            "reason": "",
            "seconds": 0.0,
            "tail": "",
        }
    test = running[key]
    part_only = hasattr(report, "context")  # a subtest
    if report.when == "call" and not part_only:
        test["seconds"] = round(report.duration, 4)
    expected_to_fail = hasattr(report, "wasxfail")
    if report.failed:
        test["called"] |= report.when == "call"
        if test["outcome"] != "failed":
            test["outcome"] = "failed" if report.when == "call" else "error"
            test["reason"] = reason(report)
            test["tail"] = report.longreprtext[-MAX_TAIL:]
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


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    # Heard here, whatever the project's filters let pytest hear of it.
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=RETURNED)
        shown = warnings.showwarning

        def show(message: Warning | str, *about: Any, **more: Any) -> None:
            if re.match(RETURNED, str(message), re.DOTALL):
                tell(event="returned", node=item.nodeid)
            shown(message, *about, **more)

        warnings.showwarning = show
        yield


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, Any, None]:
    outcome = yield
    if outcome.excinfo is None and outcome.get_result().passed and call.excinfo is not None:
        tell(event="excused", node=item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if "celery" in sys.modules:
        from celery.signals import task_prerun

        # Harmless to do for each test.
        task_prerun.connect(tell_eager, weak=False, dispatch_uid="rehearsal")


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
    if module == CHOSEN_SETTINGS:
        return f"{module} (chosen for tests)"
    return f"{module} (from {'the environment' if module == INHERITED_SETTINGS else 'pytest'})"


def tell_eager(task: Any, **_: Any) -> None:
    """Celery runs a task: tell the first time that it does so where it was called."""
    if not told_eager and task.request.is_eager and task.app.conf.task_always_eager:
        told_eager.append(True)
        tell(event="eager")
