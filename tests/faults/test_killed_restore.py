"""1.1 and 1.2 are killed at every stage: staging is old or new, and the next start heals the rest.

A process performs both and kills itself, with SIGKILL, right before its nth step: a statement that
a database is asked or has answered, a program or a folder that is made, renamed or removed. It is
the fork of one that has imported all and opened nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from django.core.management import call_command

from rehearsal.databases import replacement, snapshots
from rehearsal.databases.address import Address
from tests.checks.environment.conftest import (
    allow_databases,
    held,
    no_worker_is_waited_for,
    pair,
    perform,
)
from tests.databases.test_replacement import databases, execute

__all__ = ["allow_databases", "no_worker_is_waited_for", "pair"]
ROOT = Path(__file__).parent.parent.parent
NUMBER = 7

KILLED = """
import json, os, signal, sys, threading
import django
from django.conf import settings
settings.REHEARSAL = json.loads(sys.argv[1])
settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
django.setup()
import datetime
from rehearsal.checks import base
from rehearsal.checks.environment import survey
from rehearsal.databases.address import Address

checks = [
    base.build(f"rehearsal.checks.environment.{check}", {}) for check in ("Snapshot", "Restore")
]
for line in sys.stdin:
    last, child = int(line), os.fork()
    if not child:
        break
    print(f"\\nexit {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}", flush=True)
else:
    sys.exit()
survey.CONTROL_SECONDS = 0.1
steps, lock = [], threading.Lock()

def step(name):
    with lock:
        steps.append(name)
        if len(steps) == last:
            os.write(1, f"killed before {name}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

def asked(execute, sql, params, many, context):
    step("asking " + sql)
    try:
        return execute(sql, params, many, context)
    finally:
        step("having asked " + sql)

def connected(self):
    connection = connect(self)
    connection.execute_wrappers.append(asked)
    return connection

def seen(event, arguments):
    if event == "subprocess.Popen":
        step(f"starting {arguments[1]}")
        amid(f"{arguments[1]}", 0.1)
    elif event in WATCHED and os.path.dirname(settings.REHEARSAL["FOLDER"]) in str(arguments):
        step(f"{event} {arguments}")
        if event == "sqlite3.connect":
            amid(f"{arguments}", 0.005)

def amid(name, seconds):
    if len(steps) + 1 == last:
        os.write(1, f"killed during {name}".encode())
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    steps.append("")

WATCHED = {"os.rename", "os.mkdir", "os.remove", "shutil.rmtree", "sqlite3.connect"}
connect, Address.connect = Address.connect, connected
sys.addaudithook(seen)
for check in checks:
    now = datetime.datetime.now(datetime.UTC)
    check.run(base.Report("a line", base.Rehearsed(7, "0" * 40, now)))
os.write(1, str(len(steps)).encode())
os._exit(0)
"""


PerformAndKill = Callable[[int], tuple[int, str]]


@pytest.fixture
def perform_and_kill(settings: object) -> Iterator[PerformAndKill]:
    """Performs both, killed before the step it is called with: the exit code, and what was said."""
    with ExitStack() as stack:

        @functools.cache
        def parent() -> subprocess.Popen[str]:
            setting = settings.REHEARSAL  # type: ignore[attr-defined]
            command = [sys.executable, "-c", KILLED, json.dumps(setting, default=str)]
            process = subprocess.Popen(
                command,
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            return stack.enter_context(process)

        def perform_and_kill(last: int) -> tuple[int, str]:
            process, said = parent(), ""
            assert process.stdin and process.stdout
            watch = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
            watch.start()
            try:
                print(last, file=process.stdin, flush=True)
                while not (end := re.search(r"\nexit (-?\d+)\n$", said)):
                    line = process.stdout.readline()
                    assert line, f"ended, having said {said!r}"
                    said += line
            finally:
                watch.cancel()
            return int(end[1]), said[: end.start()]

        yield perform_and_kill


def nobody_is_left() -> None:
    """No server process works for the killed one any more, two seconds later."""
    deadline = time.monotonic() + 2
    left = (
        "SELECT pid, query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND (application_name = 'rehearsal' OR datname LIKE 'office_%')"
    )
    while found := execute(left):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def another(last: int, said: str) -> int:
    """A step to be killed before instead of one that did not come: of waiting threads there are
    more steps at one time than at another. `said` ends with how many there were."""
    steps = re.search(r"\d+$", said)
    assert steps, said
    return random.Random(last).randint(1, int(steps[0]))


SAMPLE, STRIDE = 3, 8


@pytest.mark.parametrize(
    "share",
    ["sample", *(pytest.param(n, marks=pytest.mark.long) for n in range(STRIDE))],
)
@pytest.mark.fault(
    "snapshot and restore killed at any step, PostgreSQL",
    promised="staging is old or new, whole; the next run heals the rest",
)
def test_killed_at_every_stage(
    pair: tuple[Address, Address], share: str | int, perform_and_kill: PerformAndKill
) -> None:
    source, target = pair
    old, production = held(target), held(source)
    code, said = perform_and_kill(0)
    assert code == 0, said
    total, new = int(said), held(target)
    assert len({old, new}) == 2
    replacement.configured(NUMBER).roll_back()
    assert held(target) == old
    steps: list[int] = list(range(1, total + 1))
    chosen = (
        random.Random(7).sample(steps, SAMPLE) if share == "sample" else steps[int(share) :: STRIDE]
    )
    killed, seen = 0, set()
    tried = list(chosen)
    for last in tried:
        code, said = perform_and_kill(last)
        assert code in (0, -signal.SIGKILL), said
        killed += code != 0
        if code == 0 and len(tried) < 2 * len(chosen):
            tried.append(another(last, said))
        nobody_is_left()
        stands = held(target)
        assert stands in (old, new), said
        assert held(source) == production, said
        swapped = "office_staging_before_7" in databases()
        assert stands == (new if swapped else old), said
        if code:
            seen.add(swapped)
        assert perform("Snapshot")[0] == "passed", said
        status, told, _ = perform("Restore")
        assert status == "passed", (said, told)
        assert held(target) == new, said
        way = replacement.configured(NUMBER)
        way.heal()
        assert {name for name in databases() if name.startswith("office_")} == {
            "office_production", "office_staging", "office_staging_before_7",
        }, said  # fmt: skip
        kept = snapshots.of_rehearsal(NUMBER)
        assert [path.name for path in kept.parent.iterdir()] == [kept.name], said
        way.roll_back()
        assert held(target) == old, said
    assert killed == len(chosen)
    assert share == "sample" or seen == {False, True}


# SQLite


def file(path: Path, content: str) -> str:
    """A database with accounts and enough pages to be killed amid."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            "CREATE TABLE auth_user (id integer PRIMARY KEY, username text, password text,"
            " is_active bool, is_staff bool, is_superuser bool);"
            "CREATE TABLE django_session (session_key text PRIMARY KEY, session_data text,"
            " expire_date text);"
            "CREATE TABLE content (line text, filling blob);"
            f"INSERT INTO auth_user VALUES (1, 'ana', '{content}', 1, 0, 0);"
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)"
            f" INSERT INTO content SELECT '{content}' || n, randomblob(4000) FROM n;"
        )
    return f"sqlite:///{path}"


def lines(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        told = hashlib.sha256(
            repr(connection.execute("SELECT * FROM auth_user").fetchall()).encode()
        )
        for line, filling in connection.execute("SELECT line, filling FROM content"):
            told.update(line.encode() + filling)
        return told.hexdigest()


@pytest.mark.parametrize("count", [2, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.fault(
    "snapshot and restore killed at any step, SQLite",
    promised="staging is old or new, whole; the next run heals the rest",
)
def test_sqlite_killed_at_every_stage(
    tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch, count: int,
    perform_and_kill: PerformAndKill, allow_databases: None, no_worker_is_waited_for: None,
) -> None:  # fmt: skip
    production, staging = tmp_path / "production.sqlite3", tmp_path / "staging.sqlite3"
    monkeypatch.setenv("OFFICE_PRODUCTION_URL", file(production, "new"))
    monkeypatch.setenv("OFFICE_STAGING_URL", file(staging, "old"))
    settings.REHEARSAL = {  # type: ignore[attr-defined]
        **settings.REHEARSAL,  # type: ignore[attr-defined]
        "FOLDER": str(tmp_path / "kept"),
        "SOURCE": "OFFICE_PRODUCTION_URL",
        "TARGET": "OFFICE_STAGING_URL",
    }
    call_command("rehearsal_enroll", yes=str(staging))
    old, new = lines(staging), lines(production)
    code, said = perform_and_kill(0)
    assert code == 0, said
    total = int(said)
    assert lines(staging) == new
    replacement.configured(NUMBER).roll_back()
    chosen = random.Random(7).sample(range(1, total + 1), min(count, total))
    killed, seen = 0, set()
    tried = list(chosen)
    for last in tried:
        code, said = perform_and_kill(last)
        assert code in (0, -signal.SIGKILL), said
        killed += code != 0
        if code == 0 and len(tried) < 2 * len(chosen):
            tried.append(another(last, said))
        stands = lines(staging)
        assert stands in (old, new), said
        if code:
            seen.add(stands)
        assert lines(production) == new, said
        assert perform("Snapshot")[0] == "passed", said
        status, told, _ = perform("Restore")
        assert status == "passed", (said, told)
        assert lines(staging) == new, said
        way = replacement.configured(NUMBER)
        way.heal()
        there = {
            path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))
        }
        assert there == {
            "kept", "production.sqlite3", "staging.sqlite3", "staging.sqlite3.rehearsal-enrolled",
            "staging.sqlite3.rehearsal-7-before",
        }, said  # fmt: skip
        way.roll_back()
        assert lines(staging) == old, said
    assert killed == len(chosen)
    assert count == 2 or seen == {old, new}
