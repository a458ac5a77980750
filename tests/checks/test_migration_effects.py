"""What migrations lock, write anew and take, on a real PostgreSQL with something in its tables.

Writers beside them measure how long they really waited.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.checks.host import Answer, Host
from tests.checks.planted import (
    APPLY,
    NAME,
    PLANTED,
    Planted,
    chosen,
    named,
    on_postgresql,
    plant,
    sql,
)
from tests.databases.test_replacement import execute

SHORTEST = 0.3
"""Seconds of a wait from which on what was said is compared with what was measured."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with on_postgresql(tmp_path_factory.mktemp("host")) as host:
        yield host


class Writer:
    """Writes a row of stock_item again and again, and remembers the longest wait by migration."""

    def __init__(self) -> None:
        self.waits: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        url = f"{os.environ['TEST_POSTGRESQL_URL'].rpartition('/')[0]}/{NAME}"
        last = "SELECT app || '.' || name FROM django_migrations ORDER BY id DESC LIMIT 1"
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            while not self._done.is_set():
                began = time.monotonic()
                connection.execute("UPDATE stock_item SET name = name WHERE id = 1")
                waited = time.monotonic() - began
                if waited > SHORTEST / 2:
                    # Whoever made it wait has just been recorded, in the same transaction.
                    row = connection.execute(last).fetchone()
                    assert row
                    self.waits[row[0]] = max(waited, self.waits.get(row[0], 0))
                time.sleep(0.002)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def seen(answer: Answer, name: str) -> dict[str, float]:
    """How long which lock on stock_item made others wait, as the evidence of a migration has it."""
    pattern = r"writers of stock_item wait (?:about ([\d.]+) s|a moment) \((\w+)\)"
    found = re.findall(pattern, str(answer.facts[name]))
    return {mode: float(seconds or 0) for seconds, mode in found}


def check(answer: Answer, each: tuple[Planted, ...]) -> dict[str, float]:
    """Every lock and rewrite is as it must be; returns the seconds of the strongest locks."""
    waits = {}
    for place, one in enumerate(each, start=2):
        name = named(place, one)
        said = str(answer.facts[name])
        locks = seen(answer, name)
        assert set(locks) == {one.mode, *one.besides} - {""}, (name, said)
        if one.long:
            waits[name] = locks[one.mode]
        assert ("written anew: stock_item" in said) is one.rewrites, (name, said)
    return waits


def test_what_is_locked_is_seen(host: Host) -> None:
    """On a table that is just large enough for a wait to be noticed."""
    each = tuple(one for one in PLANTED if one.name != "non_atomic")
    plant(host, each, 300_000)
    answer = host.perform("migrations.Apply", APPLY)
    assert answer.status == "passed", answer.message
    waits = check(answer, each)
    assert waits[named(2, each[0])] and waits[named(7, each[5])], answer.facts
    assert " wait about " in answer.message.partition("In production ")[2]
    assert answer.facts["lock timeout"] == "30 s"
    assert any("CREATE INDEX" in line for line in answer.facts["slowest statements seen"])
    # What stands in quotes may be a secret.
    assert "'!'" not in str(answer.facts)
    assert any(line.startswith("stock_item: ") for line in answer.facts["rows written"])


TALKS = """migrations.RunPython(lambda apps, editor: print("moving"), migrations.RunPython.noop),
    migrations.AddIndex("item", models.Index(fields=["name"], name="by_name"))"""


def test_no_lock_is_missed_of_what_prints_or_asks_a_function(host: Host) -> None:
    """Each too short to be seen from beside; of the first, migrate's line is torn by its words."""
    calls = sql("SELECT add_hidden()")
    each = (Planted("talks", TALKS, "ShareLock"), Planted("calls", calls, "AccessExclusiveLock"))
    plant(host, each, 10)
    execute(
        "CREATE FUNCTION add_hidden() RETURNS void LANGUAGE sql AS"
        " 'ALTER TABLE stock_item ADD hidden integer'",
        NAME,
    )
    answer = host.perform("migrations.Apply", APPLY)
    assert answer.status == "passed", answer.message
    check(answer, each)


@pytest.mark.long
def test_every_planted_migration_on_a_million_rows(host: Host) -> None:
    plant(host, PLANTED, 1_000_000)
    with Writer() as writer:
        answer = host.perform("migrations.Apply", APPLY)
    assert answer.status == "failed", answer.message  # as the last one is planted
    assert "after 15 of 16 migrations" in answer.message
    waits = check(answer, PLANTED[:-1])
    for name, said in waits.items():
        measured = writer.waits.get(name, 0)
        print(f"{name}: said {said:.2f} s, measured {measured:.2f} s")
        if max(said, measured) >= SHORTEST:
            assert abs(said - measured) <= 0.2 * measured, (name, said, measured)
    assert sum(said >= SHORTEST for said in waits.values()) >= 3, waits


@pytest.mark.fault("migration fails halfway, without a transaction", promised="what stays is said")
def test_what_fails_halfway_is_said_to_stay(host: Host) -> None:
    """Nothing is tried again, and the item says which migration stood where."""
    each = chosen("foreign_key", "non_atomic")
    plant(host, each, 10)
    answer = host.perform("migrations.Apply", APPLY)
    assert answer.status == "failed"
    assert (
        "failed at stock.0003_non_atomic, which is no transaction: what it did by then stays, "
        "after 1 of 2 migrations"
    ) in answer.message
    assert 'column "half" of relation "stock_item" already exists' in answer.message
    assert answer.facts["applied"] == [named(2, each[0])]
    assert answer.facts["unapplied"] == [named(3, each[1])]
    half = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'half'"
    assert execute(half, NAME) == [(1,)]


def test_a_long_wait_is_acknowledged_by_name(host: Host) -> None:
    plant(host, (Planted("hold", sql("LOCK TABLE stock_item; SELECT pg_sleep(1.1)")),), 10)
    answer = host.perform("migrations.Apply", APPLY, {"blocked_seconds": 1.0})
    assert answer.status == "action_required"
    assert "At most 1 s is accepted by itself" in answer.message
    (name,) = answer.acknowledge
    assert re.fullmatch(
        r"stock.0002_hold: readers and writers of stock_item wait about 1\.[0-4]\d s", name
    )


@pytest.mark.long  # several processes of manage.py
def test_two_holds_with_hardly_a_moment_between_are_two(host: Host) -> None:
    held = sql("LOCK TABLE stock_item; SELECT pg_sleep(0.4)")
    each = tuple(Planted(f"hold{number}", held) for number in range(3))
    plant(host, each, 10)
    answer = host.perform("migrations.Apply", APPLY)
    for place, one in enumerate(each, start=2):
        assert 0.3 < seen(answer, named(place, one))["AccessExclusiveLock"] < 0.6, answer.facts


def test_the_locks_of_others_are_not_taken_for_the_migrations(host: Host) -> None:
    plant(host, (Planted("quick", sql("SELECT pg_sleep(0.3)")),), 10)
    url = f"{os.environ['TEST_POSTGRESQL_URL'].rpartition('/')[0]}/{NAME}"
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE stock_item")
        other.execute("SELECT 'the secret of somebody else'")
        answer = host.perform("migrations.Apply", APPLY)
    assert answer.status == "passed", answer.message
    assert seen(answer, "stock.0002_quick") == {}
    assert "secret" not in str(answer.facts)


@pytest.mark.fault("migration waits for a lock of others", promised="it gives up after its time")
def test_who_waits_too_long_for_others_gives_up(host: Host) -> None:
    plant(host, chosen("trigger"), 10)
    url = f"{os.environ['TEST_POSTGRESQL_URL'].rpartition('/')[0]}/{NAME}"
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE stock_item")
        answer = host.perform("migrations.Apply", APPLY, {"lock_timeout_seconds": 1})
    assert answer.status == "failed"
    assert "lock timeout" in answer.message
    assert "which was rolled back, after 0 of 1 migration" in answer.message


@pytest.mark.fault(
    "migrate killed in the middle",
    promised="the line says which migration stands where; no session goes on",
)
def test_killed_in_the_middle(host: Host) -> None:
    """Migrate is killed: the item says which stood where, and no session goes on."""
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"
    plant(
        host,
        (Planted("quick", sql("SELECT 1")), Planted("slow", sql("SELECT pg_sleep(60)"))),
        10,
    )
    done: list[Answer] = []
    thread = threading.Thread(target=lambda: done.append(host.perform("migrations.Apply", APPLY)))
    thread.start()
    deadline = time.monotonic() + 90
    while execute(asleep) != [(1,)]:
        assert time.monotonic() < deadline, "the slow migration did not begin"
        time.sleep(0.05)
    (migrate,) = migrating(host.path)
    os.kill(migrate, signal.SIGKILL)
    killed = time.monotonic()
    while execute(asleep) != [(0,)]:
        assert time.monotonic() < killed + 2, "the session of the killed migrate goes on"
        time.sleep(0.05)
    thread.join()
    (answer,) = done
    assert answer.status == "failed"
    assert (
        "failed at stock.0003_slow, which was rolled back, after 1 of 2 migrations: it ended with "
        "exit code -9"
    ) in answer.message
    assert answer.facts["applied"] == ["stock.0002_quick"]
    assert answer.facts["unapplied"] == ["stock.0003_slow"]
    assert "1 of 2 applied, stock.0003_slow is running." in answer.said


def migrating(path: Path) -> list[int]:
    """The processes that migrate the project at `path`, and no other's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:3] == [b"manage.py", b"migrate"] and (process / "cwd").readlink() == path:
                found.append(int(process.name))
    return found
