"""What many tests need: a document of sample checks, a worker process, a wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from rehearsal import tasks
from rehearsal.conf import configuration
from rehearsal.models import CheckItem, Rehearsal

T = TypeVar("T")
ROOT = Path(__file__).parent.parent


def document(*checks: str) -> str:
    """A checklist with one section and a line for each check of tests/sample_checks.py."""
    lines = [
        f"- [ ] Line {number}. <!-- check: tests.sample_checks.{check} -->\n"
        for number, check in enumerate(checks, start=1)
    ]
    return "# Sample\n\n## 1. Only section\n" + "".join(lines)


def wait_for(look: Callable[[], T], within: float = 30) -> T:
    """The first true answer of `look`; fails the test when there is none in time."""
    deadline = time.monotonic() + within
    while not (answer := look()):
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(0.05)
    return answer


def statuses(rehearsal: Rehearsal) -> list[str]:
    return [str(item.status) for item in CheckItem.objects.filter(rehearsal=rehearsal)]


class WorkerProcess:
    """A real Celery worker that consumes our queue, in a process group of its own."""

    def __init__(self, concurrency: int = 2, **environ: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker"),
                *("-Q", configuration().queue, "-c", str(concurrency), "-n", "tests@%h"),
                *("--prefetch-multiplier", "1", "--without-gossip", "--without-mingle"),
                *("--loglevel", "WARNING"),
            ],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **environ},
            start_new_session=True,
        )
        wait_for(tasks.consumers)

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in found.read_text().split()]

    def kill(self) -> None:
        """SIGKILL to the whole group, as when the machine goes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)


@pytest.fixture
def worker(transactional_db: None) -> Iterator[WorkerProcess]:
    """A worker with two children, for this test alone."""
    empty_broker()
    process = WorkerProcess()
    yield process
    process.kill()
    empty_broker()


def empty_broker() -> None:
    import redis

    with redis.Redis.from_url(os.environ["TEST_REDIS_URL"]) as broker:
        broker.flushall()
