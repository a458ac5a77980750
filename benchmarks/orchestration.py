"""24 checks that do nothing, from `start` to decided, over the same number of tasks of peers.

Beside a bare Celery group all is the same: broker, database, worker and result backend. Beside
celery-director and Prefect the servers, the machine and the width of two are; each has its own
records in the same PostgreSQL, and is finished when these say so. Ours and each peer take turns in
one run, so that their ratio says what the orchestration costs and not how fast the machine is.
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
from types import ModuleType

from benchmarks._ratios import spread
from benchmarks.peers import Missing, celery_director, prefect, until

ITEMS = 24
ROUNDS = 15
WARM_UP = 3
PEERS: dict[str, ModuleType] = {"celery-director": celery_director, "prefect": prefect}
LIMITS = {"postgresql": 3.5, "sqlite": 1.6, "sqlite-wal": None}
"""The ratios aimed at: on PostgreSQL, on SQLite as Django comes, and with a write-ahead log, where
the bare group hardly waits for the disk and there is no aim."""
ROOT = Path(__file__).parent.parent


def main() -> None:
    from demo import servers

    found: dict[str, dict[str, dict[str, list[float]] | str]] = {}
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
            "PEER_REDIS_URL": redis.url(1),
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
            found[database] = json.loads(answer.stdout.splitlines()[-1])
    show(found)


def show(found: dict[str, dict[str, dict[str, list[float]] | str]]) -> None:
    """The table, and the last line with each ratio by its name; a peer that is missing says why."""
    print(f"{'beside':<34}{'median':>8}{'lowest':>8}{'highest':>9}{'at most':>9}")
    line: dict[str, float | str | None] = {}
    for database, beside in found.items():
        for name, sides in beside.items():
            key = "ours_over_" + "_".join([name, *database.split("-")]).replace("-", "_")
            key = key.removesuffix("_postgresql")
            if isinstance(sides, str):
                line |= {key: None, f"{key}_missing": sides}
                print(f"{name:<34}not measured: {sides}")
                continue
            limit = LIMITS[database] if name == "celery_group" else None
            for label, pause in [("", 0.0), ("_without_pause", celery_director.SLEEPS)]:
                if pause and name != "celery-director":
                    continue
                pairs = zip(sides["ours"], sides["peer"], strict=True)
                ratios = [ours / (peer - pause) for ours, peer in pairs]
                line |= spread(key + label, ratios)
                said = f"{name}{label.replace('_', ' ')}, {database}"
                median = statistics.median(ratios)
                print(
                    f"{said:<34}{median:>8.2f}{min(ratios):>8.2f}{max(ratios):>9.2f}"
                    f"{limit or '-':>9}"
                )
    print(json.dumps(line))


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

    def turns(peer: Callable[[], float]) -> dict[str, list[float]]:
        sides: dict[str, list[float]] = {"ours": [], "peer": []}
        for turn in range(WARM_UP + ROUNDS):
            # Who goes first changes each time, so that neither gains by it.
            for name, side in [("ours", ours), ("peer", peer)][:: 1 if turn % 2 else -1]:
                took = side()
                if turn >= WARM_UP:
                    sides[name].append(took)
        print({name: statistics.median(each) for name, each in sides.items()}, file=sys.stderr)
        return sides

    found: dict[str, dict[str, list[float]] | str] = {}
    try:
        until(broker.consumers)
        found["celery_group"] = turns(bare)
        for name, peer in PEERS.items() if os.environ["TEST_DATABASE"] == "postgresql" else ():
            try:
                found[name] = beside(peer, turns)
            except Missing as reason:
                found[name] = str(reason)
    finally:
        worker.terminate()
        worker.wait(timeout=30)
        app.close()
    print(json.dumps(found))


def beside(
    peer: ModuleType, turns: Callable[[Callable[[], float]], dict[str, list[float]]]
) -> dict[str, list[float]]:
    """Bring a peer up with a database of its own, and take turns with it."""
    import psycopg

    server, name = os.environ["TEST_POSTGRESQL_URL"], peer.__name__.rpartition(".")[2]
    url = f"{server.removesuffix('postgres')}{name}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    with (
        tempfile.TemporaryDirectory(prefix="rehearsal-bench-") as folder,
        peer.ready(ITEMS, Path(folder), url, os.environ["PEER_REDIS_URL"]) as (perform, finished),
        psycopg.connect(url, autocommit=True) as connection,
    ):

        def once() -> float:
            began = time.perf_counter()
            key = perform()
            until(lambda: connection.execute(finished, [key]).fetchone() == (1,))
            return time.perf_counter() - began

        return turns(once)


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else main()
