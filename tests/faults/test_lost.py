"""Workers, messages and the broker lost in the middle of a rehearsal: nothing stays undecided,
nothing runs twice, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rehearsal import tasks
from rehearsal.models import CheckItem, Event, Rehearsal, Verdict
from tests import servers
from tests.conftest import WorkerProcess, document, empty_broker, statuses, wait_for

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])


def begin(*checks: str) -> Rehearsal:
    return tasks.start(document(*checks), by="tester", revision="abc")


def decided(rehearsal: Rehearsal) -> None:
    """Wait as `start_rehearsal --wait` does, sweeping, until the rehearsal is decided."""

    def look() -> bool:
        tasks.sweep(rehearsal.number)
        return Rehearsal.objects.get(pk=rehearsal.pk).verdict != Verdict.RUNNING

    wait_for(look, within=60)


def running(marker: Path) -> bool:
    """Whether any process has the marker in its command line."""
    found = subprocess.run(["pgrep", "-f", str(marker)], capture_output=True, check=False)
    return found.returncode == 0


def begun(log: Path, lines: int = 1) -> Callable[[], bool]:
    return lambda: log.exists() and len(log.read_text().splitlines()) >= lines


@pytest.mark.fault(
    "worker child killed", promised="an unsafe check fails, runs once, and no process of it is left"
)
def test_a_worker_child_killed_fails_an_unsafe_check_and_leaves_no_process(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    rehearsal = begin(f"Runs log={log} line='sleep 300; : {marker}'", "Passes")
    wait_for(begun(log))
    wait_for(lambda: running(marker))
    wait_for(lambda: statuses(rehearsal) == ["running", "passed"])
    for child in own_worker.children():
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: not running(marker))
    decided(rehearsal)
    assert statuses(rehearsal) == ["failed", "passed"]
    assert "The worker that ran this was lost" in rehearsal.items.get(number=1).summary
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.fault(
    "worker group killed", promised="a safe check gets another attempt, an unsafe one fails"
)
def test_a_whole_worker_killed_gives_a_safe_check_another_attempt(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    line = f"test $(wc -l < {log}) -gt 1 || sleep 300; : {marker}"
    rehearsal = begin(f"RunsSafely log={log} line='{line}'", f"Runs log={log} line='sleep 300'")
    wait_for(begun(log, 2))
    own_worker.kill()
    wait_for(lambda: not running(marker))
    next_worker = WorkerProcess()
    try:
        decided(rehearsal)
    finally:
        next_worker.kill()
    assert statuses(rehearsal) == ["passed", "failed"]
    assert [item.attempt for item in rehearsal.items.all()] == [2, 1]
    assert len(log.read_text().splitlines()) == 3


@pytest.mark.fault(
    "Redis flushed", promised="every check runs once, after its message is sent again"
)
def test_messages_flushed_from_redis_are_sent_again(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.5'"] * 8)
    wait_for(begun(log))
    empty_broker()
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 8
    assert len(log.read_text().splitlines()) == 8


@pytest.mark.fault("Redis restarted", promised="every check runs once")
def test_redis_restarted_in_the_middle_loses_nothing(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.5'"] * 8)
    wait_for(begun(log))
    servers.redis.stop()
    servers.redis.start()
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 8
    assert len(log.read_text().splitlines()) == 8


@pytest.mark.fault("broker refused at the start", promised="what is queued runs when it is back")
def test_a_start_without_a_broker_is_taken_up_when_it_is_back(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    servers.redis.stop()
    try:
        rehearsal = begin("Passes", "PassesAfterAll")
        assert statuses(rehearsal) == ["queued", "pending"]
    finally:
        servers.redis.start()
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed", "passed"]


def stands(rehearsal: Rehearsal) -> tuple[dict[str, object], int]:
    """Its only item, but for the lease, and how many events tell of it."""
    item = CheckItem.objects.filter(rehearsal=rehearsal).values().get()
    del item["lease_expires_at"]
    return item, Event.objects.filter(rehearsal=rehearsal).count()


@pytest.mark.fault(
    "worker child frozen beyond its lease",
    promised="decided without it; it settles nothing when it comes back",
)
def test_a_worker_that_comes_back_late_cannot_settle_what_was_given_up(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    rehearsal = begin(f"Runs log={log} line='sleep 300; : {marker}'")
    wait_for(begun(log))
    for child in own_worker.children():
        os.kill(child, signal.SIGSTOP)
    wait_for(lambda: (tasks.sweep(rehearsal.number), statuses(rehearsal) == ["failed"])[1])
    settled = stands(rehearsal)
    for child in own_worker.children():
        os.kill(child, signal.SIGCONT)
    # Its lease is what a worker gives up when it has tried to settle, and nobody else does.
    wait_for(lambda: CheckItem.objects.get(rehearsal=rehearsal).lease_expires_at is None)
    assert not running(marker)
    decided(rehearsal)
    assert stands(rehearsal) == settled


@pytest.mark.fault("records deleted under a running check", promised="its command is ended")
def test_a_command_whose_records_are_gone_is_ended(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    rehearsal = begin(f"Runs log={log} line='sleep 300; : {marker}'")
    wait_for(begun(log))
    wait_for(lambda: running(marker))
    rehearsal.delete()
    wait_for(lambda: not running(marker))
