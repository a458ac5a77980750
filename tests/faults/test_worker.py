"""What Celery's workers meet: ends of every kind, limits, revokes, clocks, and work of others."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from rehearsal import broker, tasks
from rehearsal.journal import unjournaled
from rehearsal.models import CheckItem, Event, Status
from tests.celery_app import app
from tests.conftest import WorkerProcess, empty_broker, statuses, together, wait_for
from tests.faults.test_lost import begin, begun, decided, running

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])


def lines(log: Path) -> int:
    return len(log.read_text().splitlines())


@pytest.fixture
def workers(no_worker: None) -> Iterator[list[WorkerProcess]]:
    """Workers for this test alone; those that it puts here are ended."""
    made: list[WorkerProcess] = []
    yield made
    for worker in made:
        worker.kill()
    empty_broker()


@pytest.mark.fault(
    "worker's main process killed", promised="decided, run once, and its children go with it"
)
def test_main_process_killed(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    rehearsal = begin(f"Runs log={log} line='sleep 2; : {marker}'")
    wait_for(begun(log))
    children = own_worker.children()
    own_worker.process.kill()
    decided(rehearsal)
    assert statuses(rehearsal)[0] in {"passed", "failed"}
    assert lines(log) == 1
    wait_for(lambda: not running(marker))
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children))


@pytest.mark.fault(
    "warm shutdown of a worker (SIGTERM)",
    promised="what runs ends and is settled, the rest waits for the next worker",
)
def test_warm_shutdown(workers: list[WorkerProcess], tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers.append(WorkerProcess(1))
    rehearsal = begin(*[f"Runs log={log} line='sleep 1'"] * 2)
    wait_for(begun(log))
    workers[0].process.terminate()
    workers[0].process.wait(timeout=30)
    wait_for(lambda: statuses(rehearsal) == ["passed", "queued"])
    workers.append(WorkerProcess(1))
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed", "passed"]
    assert lines(log) == 2


@pytest.mark.fault(
    "cold shutdown of a worker (SIGQUIT)",
    promised="a safe check gets another attempt, an unsafe one fails; no process is left",
)
def test_cold_shutdown(workers: list[WorkerProcess], tmp_path: Path) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    workers.append(WorkerProcess())
    line = f"test $(wc -l < {log}) -gt 2 || sleep 300; : {marker}"
    rehearsal = begin(f"RunsSafely log={log} line='{line}'", f"Runs log={log} line='{line}'")
    wait_for(begun(log, 2))
    wait_for(lambda: running(marker))
    workers[0].process.send_signal(signal.SIGQUIT)
    workers[0].process.wait(timeout=30)
    wait_for(lambda: not running(marker))
    workers.append(WorkerProcess())
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed", "failed"]
    assert lines(log) == 3


@pytest.mark.long  # it waits for ten seconds
@pytest.mark.fault(
    "soft shutdown of a worker (SIGQUIT, worker_soft_shutdown_timeout)",
    promised="what ends within that time is settled, what does not fails once",
)
def test_soft_shutdown(workers: list[WorkerProcess], tmp_path: Path) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    workers.append(WorkerProcess(TEST_SOFT_SHUTDOWN_SECONDS="3"))
    rehearsal = begin(
        f"Runs log={log} line='sleep 1'", f"Runs log={log} line='sleep 300; : {marker}'"
    )
    wait_for(begun(log, 2))
    workers[0].process.send_signal(signal.SIGQUIT)
    workers[0].process.wait(timeout=30)
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed", "failed"]
    assert lines(log) == 2
    wait_for(lambda: not running(marker))


@pytest.mark.long  # it waits for ten seconds
@pytest.mark.fault("a worker of concurrency one, swept all the time", promised="each runs once")
def test_concurrency_one(workers: list[WorkerProcess], tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers.append(WorkerProcess(1))
    check = f"Runs log={log} line='sleep 1.3'"
    rehearsal = begin(*[check] * 6, "PassesAfterAll")  # longer than until it is rung again
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 7
    assert lines(log) == 6


@pytest.mark.fault(
    "the project's own time limit shorter than a check", promised="the check's own limit counts"
)
def test_limits_of_the_project(workers: list[WorkerProcess]) -> None:
    workers.append(WorkerProcess(TEST_TIME_LIMIT="1"))
    rehearsal = begin("Runs line='sleep 2.5'")
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed"]


@pytest.mark.fault(
    "a running check revoked with terminate, by SIGKILL", promised="it fails and runs once"
)
def test_revoked_while_it_runs(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    rehearsal = begin(f"Runs log={log} line='sleep 300; : {marker}'", "Passes")
    wait_for(begun(log))
    task = rehearsal.items.get(number=1).task_id
    app.control.revoke(task, terminate=True, signal="SIGKILL")
    decided(rehearsal)
    assert statuses(rehearsal) == ["failed", "passed"]
    assert lines(log) == 1
    wait_for(lambda: not running(marker))


@pytest.mark.fault("every waiting message purged", promised="sent again; each check runs once")
def test_purged(workers: list[WorkerProcess], tmp_path: Path) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log}"] * 4)
    with app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge("rehearsal") == 4
    workers.append(WorkerProcess())
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 4
    assert lines(log) == 4


@pytest.mark.fault("each message sent ten times, to real workers", promised="each check runs once")
def test_ten_messages(worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.2'"] * 4)
    for item in rehearsal.items.all():
        tasks._ring([(item.pk, 1, 60)] * 10)
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 4
    wait_for(lambda: broker.queue_length() == 0)
    assert lines(log) == 4


@pytest.mark.fault(
    "worker's clock two hours ahead and behind (turned in its process)",
    promised="leases hold, each check runs once, its time is right",
)
@pytest.mark.long
@pytest.mark.parametrize("off", [7200, -7200])
def test_clock_is_off(workers: list[WorkerProcess], tmp_path: Path, off: int) -> None:
    log = tmp_path / "log"
    workers.append(WorkerProcess(program="tests.clock", TEST_CLOCK_OFF_SECONDS=str(off)))
    rehearsal = begin(
        "TellsTheTime", f"Runs log={log} line='sleep 6'", f"Runs log={log}", "PassesAfterAll"
    )
    decided(rehearsal)
    items, now = list(rehearsal.items.all()), timezone.now()
    told = items[0].evidence
    assert len(told) == 5 and all(abs(at - now.timestamp() - off) < 60 for at in told.values())
    assert statuses(rehearsal) == ["passed"] * 4
    assert lines(log) == 2
    for item in items:
        assert item.started_at and item.seconds is not None
        assert abs((now - item.started_at).total_seconds()) < 60
        assert 0 <= item.seconds < 60
    assert items[1].seconds and items[1].seconds >= 6


@pytest.mark.fault(
    "eight sweeps at once over a lost worker", promised="one more attempt, not eight"
)
def test_sweeps_at_once(no_worker: None) -> None:
    rehearsal = begin("RunsSafely", "Runs")
    for item in rehearsal.items.all():
        assert tasks._claim(item.pk, 1, worker="lost", task_id="t")
    CheckItem.objects.update(lease_expires_at="2020-01-01T00:00Z")
    together(*[lambda: tasks.sweep(rehearsal.number)] * 8)
    assert statuses(rehearsal) == ["queued", "failed"]
    assert [item.attempt for item in rehearsal.items.all()] == [2, 1]
    assert Event.objects.filter(rehearsal=rehearsal, ref="1.1", after="queued").count() == 2


@pytest.mark.fault(
    "finish, cancel and sweep at the same moment",
    promised="decided one way, and the journal tells the same",
)
def test_finish_cancel_and_sweep(no_worker: None) -> None:
    seen = set()
    for ahead in (-1, *(turn * 0.004 for turn in range(12)), 1):
        rehearsal = begin("Passes", "PassesAfterAll")
        first = rehearsal.items.get(number=1)

        def finish(ahead: float = ahead, pk: int = first.pk) -> None:
            time.sleep(max(0, -ahead))
            tasks.perform.apply((pk, 1), throw=True)

        def cancel(ahead: float = ahead, number: int = rehearsal.number) -> None:
            time.sleep(max(0, ahead))  # the moment is what the test varies
            tasks.cancel(number, by="tester")

        together(
            finish,
            cancel,
            lambda number=rehearsal.number: tasks.sweep(number),
        )
        rehearsal.refresh_from_db()
        items = tasks.items_of(rehearsal.number)
        assert rehearsal.cancelled_by == "tester" and rehearsal.closed_at is not None
        assert not any(item.status in {"pending", "queued", "running"} for item in items)
        assert unjournaled(rehearsal, items) == ""
        seen.add(items[0].status)
    assert {"passed", "skipped"} <= seen <= {"passed", "inconclusive", "skipped"}


@pytest.mark.fault(
    "cancel and start again, over a command deaf to SIGTERM",
    promised="the next rehearsal's checks wait until it is gone",
)
def test_cancel_and_start_again(own_worker: WorkerProcess, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    tell = f"date +%s.%N > {old}.part; mv {old}.part {old}"
    line = f'trap "" TERM; while true; do {tell}; sleep 0.05; done'
    first = begin(f"Runs line='{line}'")
    wait_for(old.exists)
    tasks.cancel(first.number, by="tester")
    second = begin(f"Runs line='date +%s.%N > {new}'")
    decided(second)
    assert statuses(second) == ["passed"]
    assert float(new.read_text()) > float(old.read_text())


@pytest.mark.long
@pytest.mark.fault(
    "500 MB of output", promised="the beginning is kept, and how much was cut is said"
)
def test_much_output(worker: WorkerProcess) -> None:
    rehearsal = begin("Runs line='yes 1234567 | head -c 500000000'")
    decided(rehearsal)
    item = rehearsal.items.get()
    assert item.status == Status.PASSED
    assert "499000000 bytes more were cut" in item.output
    assert len(item.output) < 300_000
