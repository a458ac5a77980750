"""The adopted checklist through us over the same checklist's commands typed by hand, in order.

Both on the demo, in turns. By hand are counted only the seconds in which the machine works: the
dump, the restore into a fresh database, the pings, the migrations and the five pytest commands.
What a person would look at, click or write takes no time here, so the other side does more.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks._ratios import spread
from demo import run, servers

ROUNDS = int(os.environ.get("ROUNDS", "3"))
CHECKLIST = run.DEMO / "docs" / "testing" / "staging_rehearsal_checklist.md"
BY_HAND = "obcms_by_hand"


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgresql = stack.enter_context(servers.postgresql())
        redis = stack.enter_context(servers.redis())
        project = run.Project(run.environment(postgresql, redis, folder, secrets.token_urlsafe(50)))
        run.write_secrets(project.environ, redis)
        run.prepare(project, postgresql, records=None)
        run.start_processes(project, folder, stack)
        ratios, ours, by_hand = [], [], []
        for turn in range(ROUNDS):
            # Who goes first changes each time, so that neither gains by it.
            sides = [
                (ours, lambda: rehearsed(project)),
                (by_hand, lambda: typed(project, postgresql, folder)),
            ]
            for seconds, side in sides[:: 1 if turn % 2 else -1]:
                seconds.append(side())
            ratios.append(ours[-1] / by_hand[-1])
    print(f"{'':<12}{'median':>8}{'lowest':>8}{'highest':>9}")
    for name, found in (("ours, s", ours), ("by hand, s", by_hand), ("ratio", ratios)):
        print(f"{name:<12}{statistics.median(found):>8.2f}{min(found):>8.2f}{max(found):>9.2f}")
    print(json.dumps(spread("ours_over_by_hand", ratios)))


def rehearsed(project: run.Project) -> float:
    """Seconds from the command to its end; every item before the sign-off must be decided."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "manage.py", "start_rehearsal", "--by", "benchmark", "--json"],
        cwd=run.SOURCE,
        env=project.environ,
        capture_output=True,
        timeout=1800,
        check=False,
    )
    took = time.monotonic() - began
    sections = json.loads(done.stdout)["sections"]
    items = [item for section in sections[:-1] for item in section["items"]]
    stands = [item["ref"] for item in items if item["status"] in {"pending", "queued", "running"}]
    assert not stands, f"{', '.join(stands)} were not decided"
    return took


def typed(project: run.Project, postgresql: servers.PostgreSQL, folder: Path) -> float:
    """Seconds that the commands take one after the other; each must end as it should."""
    archive = folder / "by-hand.dump"
    archive.unlink(missing_ok=True)
    admin = postgresql.url("postgres")
    binaries = servers.binaries()
    environ = {**project.environ, "DATABASE_URL": postgresql.url(BY_HAND)}
    psql = (str(binaries / "psql"), admin, "-q", "-c")
    manage = (sys.executable, "manage.py")
    before: list[Sequence[str]] = [
        (str(binaries / "pg_dump"), "-Fc", "-f", str(archive), postgresql.url("obcms_production")),
        (*psql, f"DROP DATABASE IF EXISTS {BY_HAND}"),
        (*psql, f"CREATE DATABASE {BY_HAND}"),
        (str(binaries / "pg_restore"), "-d", postgresql.url(BY_HAND), str(archive)),
        (sys.executable, "-m", "celery", "-A", "obc_management", "inspect", "ping"),
        (*manage, "showmigrations", "--plan"),
        (*manage, "migrate"),
        (*manage, "migrate", "--check"),
        (*manage, "makemigrations", "--check", "--dry-run"),
    ]
    began = time.monotonic()
    for argv in before:
        type_in(argv, run.SOURCE, environ)
    for line in re.findall(r"`(pytest [^`]+)`", CHECKLIST.read_text()):
        type_in((sys.executable, "-m", *line.split()), run.DEMO, environ)
    return time.monotonic() - began


def type_in(argv: Sequence[str], folder: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=900, check=False
    )
    said = (done.stdout + done.stderr)[-2000:]
    assert done.returncode == 0, f"{' '.join(argv[1:])} ended with {done.returncode}:\n{said}"


if __name__ == "__main__":
    os.environ.pop("PYTEST_ADDOPTS", None)
    main()
