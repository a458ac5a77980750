"""What is written without Django's queries is what they would write."""

from __future__ import annotations

import datetime
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.models.functions import Now
from django.utils import timezone

from rehearsal import statements, tasks
from rehearsal.models import CheckItem, Event, Rehearsal, Status
from rehearsal.statements import InSeconds, in_turn, insert, update
from tests.conftest import document

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])


def row(item: CheckItem) -> dict[str, object]:
    return CheckItem.objects.filter(pk=item.pk).values().get()


def test_an_update_writes_what_djangos_own_would() -> None:
    item = tasks.start(document("Passes", "Passes"), by="tester", revision="abc").items.first()
    other = row(CheckItem.objects.exclude(pk=item.pk).get())
    values = {
        "status": Status.FAILED,
        "evidence": {"key": ["é", 1, None], "%s": "100 %"},
        "options": {},
        "summary": 'it\'s "odd" %s; DROP',
        "started_at": datetime.datetime(2026, 11, 27, 12, 0, 0, 5, tzinfo=datetime.UTC),
        "finished_at": None,
        "sign_off": True,
        "changed_in": 2**40,
    }
    assert update(CheckItem, values, pk=item.pk, attempt=item.attempt) == 1
    ours = row(item)
    CheckItem.objects.filter(pk=item.pk).update(**values)
    assert ours == row(item)
    assert row(CheckItem(pk=other["id"])) == other


def test_it_changes_nothing_that_does_not_stand_as_told() -> None:
    item = tasks.start(document("Passes"), by="tester", revision="abc").items.get()
    before = row(item)
    for told in ({"status": Status.PASSED}, {"attempt": 7}, {"token": "x"}, {"rehearsal": 0}):
        assert update(CheckItem, {"status": Status.FAILED}, pk=item.pk, **told) == 0
    assert row(item) == before


@pytest.mark.parametrize("seconds", [-3600, 0.5, 90])
def test_the_databases_clock_is_meant(seconds: float) -> None:
    item = tasks.start(document("Passes"), by="tester", revision="abc").items.get()
    update(CheckItem, {"started_at": Now(), "lease_expires_at": InSeconds(seconds)}, pk=item.pk)
    item.refresh_from_db()
    assert abs((timezone.now() - item.started_at).total_seconds()) < 60
    apart = (item.lease_expires_at - item.started_at).total_seconds()
    assert apart == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize("count", [0, 1, 2, 400])
def test_rows_are_inserted_as_bulk_create_would(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal = Rehearsal.objects.create(environment="a", started_by="b")
    ops = connections["rehearsal"].ops
    monkeypatch.setattr(ops, "bulk_batch_size", lambda _fields, _rows: 150)
    told = [
        Event(
            rehearsal=rehearsal,
            sequence=number,
            at=timezone.now(),
            actor="é %s",
            message='it\'s "odd"',
            hash="0" * 64,
        )
        for number in range(count)
    ]
    insert(told)
    columns = [field.attname for field in Event._meta.concrete_fields if field.attname != "id"]
    expected = [tuple(getattr(one, name) for name in columns) for one in told]
    assert list(rehearsal.events.values_list(*columns)) == expected


def test_a_row_that_may_not_be_is_djangos_error() -> None:
    rehearsal = Rehearsal.objects.create(environment="a", started_by="b")
    twice = [Event(rehearsal=rehearsal, sequence=1, at=timezone.now(), hash="0")] * 2
    with pytest.raises(IntegrityError), transaction.atomic(using="rehearsal"):
        insert(twice)
    assert not rehearsal.events.exists()


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another's connection to a database that is SHARED for Django, whose time-out is a second."""
    path = tmp_path / "shared.sqlite3"
    here = {**connections["rehearsal"].settings_dict, "NAME": path, "OPTIONS": {"timeout": 1}}
    shared = DatabaseWrapper(here, "rehearsal")
    monkeypatch.setattr(statements, "connections", {SHARED: shared})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE count (number integer)")
        other.execute("INSERT INTO count VALUES (0)")
        yield other
    shared.close()


SHARED = "shared"


def counted() -> int:
    with statements.connections[SHARED].cursor() as cursor:
        cursor.execute("UPDATE count SET number = number + 1")
        return int(cursor.rowcount)


def timeout() -> object:
    return statements.connections[SHARED].connection.execute("PRAGMA busy_timeout").fetchone()[0]


def test_the_lock_is_taken_when_the_other_gives_it_back(other: sqlite3.Connection) -> None:
    looked = []

    def look() -> int:
        looked.append(1)
        if len(looked) == 20:
            other.execute("COMMIT")
        return counted()

    other.execute("BEGIN IMMEDIATE")
    assert in_turn(SHARED, look) == 1
    assert len(looked) == 20
    assert timeout() == 1000
    assert other.execute("SELECT number FROM count").fetchone() == (1,)


def test_the_lock_is_waited_for_as_long_as_the_database_says(other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        in_turn(SHARED, counted)
    assert timeout() == 1000
    other.execute("ROLLBACK")
    assert in_turn(SHARED, counted) == 1


def test_another_error_is_raised_at_once(other: sqlite3.Connection) -> None:
    looked = []

    def wrong() -> None:
        looked.append(1)
        with statements.connections[SHARED].cursor() as cursor:
            cursor.execute("UPDATE missing SET number = 1")

    with pytest.raises(OperationalError, match="no such table"):
        in_turn(SHARED, wrong)
    assert len(looked) == 1


def test_a_log_that_another_recovers_is_waited_for(
    other: sqlite3.Connection, tmp_path: Path
) -> None:
    """As after a crash: whoever opens the database first reads its write-ahead log anew."""
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("UPDATE count SET number = 7")
    looked = []

    def look() -> int:
        looked.append(1)
        if len(looked) == 20:
            recovers.communicate("\n", timeout=10)
        return counted()

    counted()
    with subprocess.Popen(
        [sys.executable, "-c", RECOVERS, tmp_path / "shared.sqlite3-shm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as recovers:
        assert recovers.stdout and recovers.stdout.readline() == "recovers\n"
        assert in_turn(SHARED, look) == 1
    assert len(looked) == 20
    assert other.execute("SELECT number FROM count").fetchone() == (9,)


RECOVERS = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    for lock in (120, 122):  # WAL_WRITE_LOCK and WAL_RECOVER_LOCK of SQLite's file format
        fcntl.lockf(index, fcntl.LOCK_EX, 1, lock)
    index.write(bytes(96))  # both copies of its header
    index.flush()
    print("recovers", flush=True)
    sys.stdin.readline()
"""
