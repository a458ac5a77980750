"""What many tests need: a document of sample checks, a worker process, a wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.db import connections
from django.db.models.functions import Now
from xdist.scheduler import LoadScopeScheduling

from rehearsal import broker, tasks
from rehearsal.conf import configuration
from rehearsal.models import CheckItem, Rehearsal
from tests import fuzzing
from tests.mailers import mail_by
from tests.standin import site
from tests.wheel import bare_python, wheel

__all__ = [
    "bare_python",
    "fuzzing",
    "mail_by",
    "site",
    "wheel",
]  # it registers the profile that --hypothesis-profile names

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in what a shell puts into the background; whatever we start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

T = TypeVar("T")
TOGETHER = {
    "tests/faults/test_placement.py": "placement",
    "tests/checks/test_migration_effects.py": "effects",
    "tests/checks/test_migration_plan.py": "plan",
    "tests/checks/test_migration_reverse.py": "reverse",
    "tests/contrib/oobc/": "oobc",
    "tests/checks/test_functional.py::test_a_round_trip": "oobc",
}
"""Tests that share what takes long to make: one process has all of a group."""


class Scheduling(LoadScopeScheduling):
    """Gives each process the next test, and the tests of a group to one process."""

    def _split_scope(self, nodeid: str) -> str:
        groups = (name for begin, name in TOGETHER.items() if nodeid.startswith(begin))
        return next(groups, nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share a worker come first: a test that wants none ends it."""
    items.sort(key=lambda item: "worker" not in getattr(item, "fixturenames", ()))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return Scheduling(config, log)


ROOT = Path(__file__).parent.parent


def document(*checks: str) -> str:
    """A checklist with one section and a line for each check of tests/sample_checks.py."""
    lines = [
        f"- [ ] Line {number}. <!-- check: tests.sample_checks.{check} -->\n"
        for number, check in enumerate(checks, start=1)
    ]
    return "# Sample\n\n## 1. Only section\n" + "".join(lines)


def wait_for(look: Callable[[], T], within: float = 30, pause: float = 0.05) -> T:
    """The first true answer of `look`; fails the test when there is none in time."""
    deadline = time.monotonic() + within
    while not (answer := look()):
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(pause)
    return answer


def together(*work: object, within: float = 60) -> None:
    """Do all of it at once, each in a thread of its own; raises what any of them raised, and fails
    the test when one is still at it then."""
    barrier, wrong = threading.Barrier(len(work), timeout=10), []

    def do(one: object) -> None:
        try:
            barrier.wait()
            one()  # type: ignore[operator]
        except BaseException as error:
            wrong.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=do, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    if wrong:
        raise wrong[0]
    assert not any(thread.is_alive() for thread in threads), "what was begun at once did not end"


def statuses(rehearsal: Rehearsal) -> list[str]:
    return [str(item.status) for item in CheckItem.objects.filter(rehearsal=rehearsal)]


class WorkerProcess:
    """A real Celery worker that consumes our queue, in a process group of its own."""

    def __init__(self, concurrency: int = 2, program: str = "celery", **environ: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", program, "-A", "tests.celery_app", "worker"),
                *("-Q", configuration().queue, "-c", str(concurrency), "-n", "tests@%h"),
                *("--prefetch-multiplier", "1", "--without-gossip", "--without-mingle"),
                *("--loglevel", "WARNING"),
            ],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **environ},
            start_new_session=True,
        )
        try:
            wait_for(broker.consumers)
        except BaseException:
            self.kill()
            raise

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in found.read_text().split()]

    def kill(self) -> None:
        """SIGKILL to the whole group, as when the machine goes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)


_shared: list[WorkerProcess] = []


def _end_shared() -> None:
    while _shared:
        _shared.pop().kill()
    empty_broker()


@pytest.fixture(scope="session")
def _no_worker_outlives_the_tests(django_db_setup: None) -> Iterator[None]:
    yield
    _end_shared()  # before the databases are removed that it is connected to


@pytest.fixture
def worker(_no_worker_outlives_the_tests: None, transactional_db: None) -> Iterator[WorkerProcess]:
    """A worker with two children; the next test may get the same one, so do not harm it."""
    if not _shared or _shared[0].process.poll() is not None:
        _end_shared()
        _shared.append(WorkerProcess())
    yield _shared[0]
    for rehearsal in Rehearsal.objects.filter(closed_at=None):
        tasks.cancel(rehearsal.number, by="the end of the test")
    # What a worker still writes would meet the emptying of the tables.
    wait_for(lambda: not CheckItem.objects.filter(lease_expires_at__gt=Now()).exists())


@pytest.fixture
def own_worker(no_worker: None) -> Iterator[WorkerProcess]:
    """A worker with two children for this test alone, to be killed and stopped at will."""
    process = WorkerProcess()
    yield process
    process.kill()
    empty_broker()


@pytest.fixture
def no_worker(transactional_db: None) -> None:
    """Nobody consumes the queue of the checks."""
    _end_shared()


@pytest.fixture(autouse=True)
def _nobody_else_performs(request: pytest.FixtureRequest) -> None:
    """Tests that perform items themselves ring a bell that no worker of another test hears."""
    if not {"worker", "own_worker", "no_worker"} & set(request.fixturenames):
        settings = request.getfixturevalue("settings")
        settings.REHEARSAL = {**settings.REHEARSAL, "QUEUE": "nobody-listens"}


def empty_broker() -> None:
    import redis

    with redis.Redis.from_url(os.environ["TEST_REDIS_URL"]) as broker:
        broker.flushall()


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """Keep the databases' names when tests run in parallel: each process has its own server."""
