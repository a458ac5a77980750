"""The broker and the databases go, come back, fill up and freeze in the middle of a rehearsal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from django.db import connections
from redis import Redis
from redis.exceptions import OutOfMemoryError

from rehearsal import tasks
from rehearsal.broker import consumers, queue_length
from rehearsal.databases.snapshots import SnapshotError
from rehearsal.databases.snapshots import postgresql as dumps
from rehearsal.models import CheckItem
from tests import servers
from tests.conftest import ROOT, WorkerProcess, document, empty_broker, statuses, wait_for
from tests.databases.test_snapshots import programs, shop, small_disk, taken
from tests.faults.test_lost import begin, begun, decided
from tests.management.test_start_rehearsal import Script, _no_script_outlives_its_test

__all__ = ["_no_script_outlives_its_test", "programs", "shop", "small_disk"]
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])


def lines(log: Path) -> int:
    return len(log.read_text().splitlines())


def all_ran_once(rehearsal: object, log: Path, count: int = 8) -> None:
    decided(rehearsal)  # type: ignore[arg-type]
    assert statuses(rehearsal) == ["passed"] * count  # type: ignore[arg-type]
    assert lines(log) == count


@contextmanager
def broker() -> Iterator[Redis]:
    with Redis.from_url(os.environ["TEST_REDIS_URL"]) as client:
        yield client


@contextmanager
def frozen() -> Iterator[None]:
    """Redis is there and says nothing."""
    with broker() as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def full(policy: str) -> Iterator[Redis]:
    """Redis has more than it may have."""
    with broker() as client:
        before = client.config_get("maxmemory*")
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", 1)
        try:
            yield client
        finally:
            client.config_set("maxmemory", before["maxmemory"])
            client.config_set("maxmemory-policy", before["maxmemory-policy"])


@pytest.mark.long
@pytest.mark.fault("Redis killed for ten seconds", promised="every check runs once")
def test_redis_killed_for_ten_seconds(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.5'"] * 8)
    wait_for(begun(log))
    servers.redis.kill()
    time.sleep(10)
    servers.redis.start()
    all_ran_once(rehearsal, log)


@pytest.mark.fault("Redis frozen for four seconds (SIGSTOP)", promised="every check runs once")
def test_redis_frozen(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.5'"] * 8)
    wait_for(begun(log))
    with frozen():
        time.sleep(4)
    all_ran_once(rehearsal, log)


@pytest.mark.long  # it waits for ten seconds
@pytest.mark.fault(
    "Redis frozen for good under `--wait`", promised="`--timeout` holds all the same"
)
def test_wait_over_a_frozen_redis(own_worker: WorkerProcess, tmp_path: Path) -> None:
    text = document(*["Runs line='sleep 1'"] * 3, "Runs line='sleep 300'", *["Passes"] * 3)
    script = Script(tmp_path, "--timeout", "8", text=text)
    wait_for(lambda: CheckItem.objects.filter(status="running").exists())
    with frozen():
        began = time.monotonic()
        code, _out, _err = script.end()
    assert code == 7
    assert time.monotonic() - began < 25


@pytest.mark.fault(
    "Redis full, without eviction", promised="what it does not take is sent when it does again"
)
def test_redis_full(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with full("noeviction") as client:

        def refused() -> int:
            return int(client.info("errorstats").get("errorstat_OOM", {"count": 0})["count"])

        before = refused()
        rehearsal = begin(*[f"Runs log={log} line='sleep 0.2'"] * 8)
        first = refused()
        assert first > before
        wait_for(lambda: (tasks.sweep(rehearsal.number), refused() > first)[1])  # rung again
        assert queue_length() == 0
        assert statuses(rehearsal) == ["queued"] * 8
    all_ran_once(rehearsal, log)


@pytest.mark.long  # it waits for ten seconds
@pytest.mark.fault("Redis evicts what waits in it", promised="every check runs once")
def test_redis_evicts(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.5'"] * 8)
    wait_for(begun(log))
    with full("allkeys-random") as client:

        def emptied() -> bool:
            with suppress(OutOfMemoryError):  # when there is nothing more to evict
                client.set("one more", "x")
            return bool(client.dbsize() == 0)

        wait_for(emptied)
    all_ran_once(rehearsal, log)


@pytest.mark.fault("all connections to Redis killed, again and again", promised="each runs once")
def test_clients_of_redis_killed(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.5'"] * 8)
    wait_for(begun(log))
    cut = {"normal": 0, "pubsub": 0}
    with broker() as client:
        for _ in range(4):
            for kind in cut:
                cut[kind] += client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            time.sleep(0.4)
    assert all(cut.values()), cut
    all_ran_once(rehearsal, log)


@pytest.mark.fault(
    "all connections to the records terminated, again and again", promised="each runs once"
)
def test_connections_terminated(own_worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rehearsal = begin(*[f"Runs log={log} line='sleep 0.7'"] * 8)
    wait_for(begun(log))
    cut = 0
    for _ in range(4):
        cut += terminate("records")
        time.sleep(0.5)
    assert cut > 1  # one may be the tests' own
    decided(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 8
    assert lines(log) == 8


def terminate(name: str) -> int:
    """End every session of a database, of the tests' own process too, and say how many."""
    connections.close_all()
    with psycopg.connect(servers.postgresql.url("postgres"), autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        return ended.rowcount


@pytest.mark.long
@pytest.mark.fault(
    "the records renamed away for 12 seconds",
    promised="what ended meanwhile is settled; nothing twice",
)
def test_records_renamed_away(no_worker: None, tmp_path: Path, settings: object) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "LEASE_SECONDS": 30}  # type: ignore[attr-defined]
    log = tmp_path / "log"
    worker = WorkerProcess(TEST_LEASE_SECONDS="30")
    try:
        rehearsal = begin(f"Runs log={log} line='sleep 5'", f"Runs log={log} line='sleep 16'")
        wait_for(begun(log, 2))
        connections.close_all()
        with psycopg.connect(servers.postgresql.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER DATABASE records ALLOW_CONNECTIONS false")
            assert terminate("records") > 1  # one may be the tests' own
            connection.execute("ALTER DATABASE records RENAME TO records_away")
            time.sleep(12)
            connection.execute("ALTER DATABASE records_away RENAME TO records")
            connection.execute("ALTER DATABASE records ALLOW_CONNECTIONS true")
        all_ran_once(rehearsal, log, 2)
    finally:
        worker.kill()
        empty_broker()


WRITERS = """
import os, sys
import django
django.setup()
from django.core.management import call_command
from django.db import connections
from rehearsal import tasks
from rehearsal.journal import unjournaled
from rehearsal.models import CheckItem, Event, Rehearsal
from tests.conftest import document

call_command("migrate", database="rehearsal", verbosity=0)
rehearsal = tasks.start(document(*["Passes"] * 24, "PassesAfterAll"), by="tester", revision="abc")
connections.close_all()
children = []
for _ in range(8):
    if child := os.fork():
        children.append(child)
        continue
    code = 1
    try:
        while queued := list(CheckItem.objects.filter(status="queued").order_by("?")):
            for item in queued:
                tasks.perform.apply((item.pk, item.attempt), throw=True)
        code = 0
    finally:
        os._exit(code)
assert all(os.waitpid(child, 0)[1] == 0 for child in children), "a writer broke"
items = tasks.items_of(rehearsal.number)
assert {item.status for item in items} == {"passed"}, items
assert Event.objects.filter(after="running").count() == 25
rehearsal.refresh_from_db()
assert unjournaled(rehearsal, items) == ""
"""


@pytest.mark.fault(
    "eight writers on one SQLite file", promised="each runs once, and none is locked out"
)
@pytest.mark.parametrize("kind", ["advised", pytest.param("plain", marks=pytest.mark.long)])
def test_sqlite_with_eight_writers(tmp_path: Path, kind: str) -> None:
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": "sqlite",
        "TEST_SQLITE": kind,
        "TEST_SQLITE_DIRECTORY": str(tmp_path),
        "TEST_REDIS_URL": servers.redis.url(9),  # where no worker listens
    }
    command = [sys.executable, "-c", WRITERS]
    ran = subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.fault("`--output` on a full disk", promised="exit code 2 and a sentence, though green")
def test_output_on_a_full_disk(worker: WorkerProcess, tmp_path: Path) -> None:
    code, out, _err = Script(tmp_path, "--output", "/dev/full").end()
    assert code == 2
    assert "/dev/full could not be written: No space left on device" in out


@pytest.mark.fault(
    "standard output on a full disk, or closed", promised="no traceback; JSON is missed"
)
@pytest.mark.parametrize(("where", "argv", "code"), [
    ("> /dev/full", [], 0), ("> /dev/full", ["--json"], 2), (">&-", [], 0),
])  # fmt: skip
def test_standard_output_is_no_use(
    worker: WorkerProcess, tmp_path: Path, where: str, argv: list[str], code: int
) -> None:
    path = tmp_path / "checklist.md"
    path.write_text(document("Passes"))
    command = [sys.executable, "-m", "django", "start_rehearsal", "--checklist", str(path), *argv]
    ran = subprocess.run(
        ["sh", "-c", f'exec "$@" {where}', "sh", *command],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, "Traceback" in ran.stderr) == (code, False), ran.stderr


@pytest.mark.long  # it waits for ten seconds
@pytest.mark.fault(
    "a signal while `--worker` ends", promised="exit code 130, no traceback, no worker"
)
def test_signal_while_the_worker_ends(no_worker: None, tmp_path: Path) -> None:
    script = Script(tmp_path, "--worker")
    assert script.process.stdout
    for line in script.process.stdout:
        if "GREEN" in line:
            break
    script.process.send_signal(signal.SIGTERM)
    code, _out, _err = script.end()
    assert code == 130
    wait_for(lambda: not consumers())


@pytest.mark.long  # mounting a small disk takes a right that few containers have
@pytest.mark.fault(
    "disk full while the snapshot is written", promised="a sentence, and nothing is left"
)
def test_snapshot_on_a_full_disk(
    shop: object, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "room", lambda *_: None)  # it would have refused before
    with pytest.raises(SnapshotError, match="No space left|full"):
        taken(shop, small_disk / "rehearsal-1")  # type: ignore[arg-type]
    assert list(small_disk.iterdir()) == []
