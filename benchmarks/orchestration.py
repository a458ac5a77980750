"""24 checks that do nothing, from `start` to decided, over a bare Celery group of 24 such tasks.

Both sides use the same broker, database, worker and result backend, and take turns in one run, so
that their ratio says what the orchestration costs and not how fast the machine is.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ITEMS = 24
ROUNDS = 15
WARM_UP = 3
LIMITS = {"postgresql": 3.5, "sqlite": 1.6, "sqlite-wal": None}
"""The ratios aimed at: on PostgreSQL, on SQLite as Django comes, and with a write-ahead log, where
the bare group hardly waits for the disk and there is no aim."""
ROOT = Path(__file__).parent.parent


def main() -> None:
    from demo import servers

    ratios: dict[str, list[float]] = {}
    with (
        servers.postgresql() as postgresql,
        servers.redis() as redis,
        tempfile.TemporaryDirectory() as folder,
    ):
        postgresql.create("project")
        postgresql.create("records")
        environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_POSTGRESQL_URL": postgresql.url("postgres"),
            "TEST_REDIS_URL": redis.url(),
            "TEST_LEASE_SECONDS": "30",
        }
        for database in LIMITS:
            kind, _, journal = database.partition("-")
            Path(folder, database).mkdir()
            side = {
                "TEST_DATABASE": kind,
                "TEST_SQLITE": "advised" if journal else "plain",
                "TEST_SQLITE_DIRECTORY": str(Path(folder, database)),
            }
            answer = subprocess.run(
                [sys.executable, "-m", "benchmarks.orchestration", "--measure"],
                env=environ | side,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                timeout=900,
                check=True,
            )
            sides = json.loads(answer.stdout.splitlines()[-1])
            pairs = zip(sides["ours"], sides["group"], strict=True)
            ratios[database] = [ours / group for ours, group in pairs]
    print(f"{'database':<12}{'median':>8}{'lowest':>8}{'highest':>9}{'at most':>9}")
    for database, found in ratios.items():
        print(
            f"{database:<12}{statistics.median(found):>8.2f}{min(found):>8.2f}{max(found):>9.2f}"
            f"{LIMITS[database] or '-':>9}"
        )
    print(
        json.dumps(
            {
                "ours_over_celery_group": round(statistics.median(ratios["postgresql"]), 3),
                "ours_over_celery_group_sqlite": round(statistics.median(ratios["sqlite"]), 3),
                "ours_over_celery_group_sqlite_wal": round(
                    statistics.median(ratios["sqlite-wal"]), 3
                ),
            }
        )
    )


def measure() -> None:
    """Take turns and print the seconds of both sides; runs with the database in the environment."""
    import django

    django.setup()
    from celery import group
    from django.core.management import call_command
    from django.db import connections

    from benchmarks import noop
    from rehearsal import broker, tasks
    from rehearsal.models import Status
    from tests.celery_app import app

    call_command("migrate", database="rehearsal", verbosity=0)
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker", "-c", "2"),
            *("-Q", "rehearsal", "--prefetch-multiplier", "1", "-I", "benchmarks.noop"),
            *("--without-gossip", "--without-mingle", "-l", "WARNING"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    lines = "".join(f"- [ ] {n} <!-- check: benchmarks.noop.Nothing -->\n" for n in range(ITEMS))
    document = f"## Nothing\n{lines}"

    def look(sql: str, values: list[int]) -> int | None:
        # Plain SQL, so that looking takes little from those who are measured.
        with connections["rehearsal"].cursor() as cursor:
            cursor.execute(sql, values)
            row = cursor.fetchone()
        return row[0] if row else None

    def ours() -> float:
        began = time.perf_counter()
        rehearsal = tasks.start(document, by="benchmark", revision="none")
        closed = "SELECT closed_at IS NOT NULL FROM rehearsal_rehearsal WHERE number = %s"
        until(lambda: look(closed, [rehearsal.pk]))
        took = time.perf_counter() - began
        passed = rehearsal.items.filter(status=Status.PASSED).count()
        assert passed == ITEMS, f"{ITEMS} items were to pass, {passed} did"
        return took

    stored = (
        "SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS' AND id > %s"
    )

    def bare() -> float:
        last = look("SELECT coalesce(max(id), 0) FROM django_celery_results_taskresult", [])
        began = time.perf_counter()
        group(noop.nothing.s() for _ in range(ITEMS)).apply_async(queue="rehearsal")
        until(lambda: look(stored, [last]) == ITEMS)
        return time.perf_counter() - began

    sides: dict[str, list[float]] = {"ours": [], "group": []}
    try:
        until(broker.consumers)
        for turn in range(WARM_UP + ROUNDS):
            # Who goes first changes each time, so that neither gains by it.
            for name, side in [("ours", ours), ("group", bare)][:: 1 if turn % 2 else -1]:
                took = side()
                if turn >= WARM_UP:
                    sides[name].append(took)
    finally:
        worker.terminate()
        worker.wait(timeout=30)
        app.close()
    print({name: statistics.median(each) for name, each in sides.items()}, file=sys.stderr)
    print(json.dumps(sides))


def until(look: Callable[[], object]) -> None:
    """Look every 5 ms, for at most a minute."""
    deadline = time.monotonic() + 60
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError("what the benchmark waits for did not come within a minute")
        time.sleep(0.005)


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else main()
