"""The adopted checklist through us over the same checklist's commands typed by hand, in order.

All on the demo, in turns. By hand are counted only the seconds in which the machine works: the
dump, the restore into a fresh database, the pings, the migrations and the five pytest commands.
What a person would look at, click, compare or write takes no time here. So ours is measured twice:
the whole document, and those of its lines alone that are typed.

Every rehearsal is a first one: in a later one line 5.2 compares pages with the earlier revision for
as long as it may, which is a setting and not a speed, and which nobody does by hand.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import live
from benchmarks._ratios import spread
from demo import run, servers

ROUNDS = int(os.environ.get("ROUNDS", "3"))
CHECKLIST = run.DEMO / "docs" / "testing" / "staging_rehearsal_checklist.md"
BY_HAND = "obcms_by_hand"
TYPED = ("1.1", "1.2", "1.4", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3", "3.4", "5.1")
"""The lines of the checklist that `typed` types."""
SIGN_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
client = Client()
client.force_login(get_user_model().objects.filter(is_superuser=True).earliest("pk"))
(cookie,) = client.cookies.values()
print(f"{cookie.key}={cookie.value}")
"""


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgresql = stack.enter_context(servers.postgresql())
        redis = stack.enter_context(servers.redis())
        project = run.Project(run.environment(postgresql, redis, folder, secrets.token_urlsafe(50)))
        project.environ["SIGN_OFF"] = "automatic"  # nobody is there to decide
        run.write_secrets(project.environ, redis)
        Path(project.environ["TICKET"]).mkdir(parents=True, exist_ok=True)
        stack.enter_context(run.post_office(project, folder))
        stack.enter_context(run.report_of_people())
        run.prepare(project, postgresql, records=None)
        run.start_processes(project, folder, stack)
        sides: dict[str, Callable[[], float]] = {
            "ours": lambda: rehearsed(project),
            "ours, the lines typed": lambda: rehearsed(project, "--only", *TYPED),
            "ours, watched": lambda: watched(project, postgresql),
            "by hand": lambda: typed(project, postgresql, folder),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(ROUNDS):
            # Who goes first changes each time, so that nobody gains by it.
            names = list(sides)[turn % len(sides) :] + list(sides)[: turn % len(sides)]
            for name in names:
                forget(postgresql)
                seconds[name].append(sides[name]())
                print(f"round {turn + 1}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
    print(f"{'':<40}{'median':>8}{'lowest':>8}{'highest':>9}")
    line: dict[str, float] = {}
    for name, other, key in (
        ("ours", "by hand", "ours_over_by_hand"),
        ("ours, the lines typed", "by hand", "ours_typed_over_by_hand"),
        ("ours, watched", "ours", "watched_over_unwatched"),
    ):
        ratios = [one / two for one, two in zip(seconds[name], seconds[other], strict=True)]
        line |= (found := spread(key, ratios))
        print(f"{f'{name} over {other}':<40}" + "".join(f"{one:>8.2f}" for one in found.values()))
    print(json.dumps(line))


def forget(postgresql: servers.PostgreSQL) -> None:
    """Take from earlier rehearsals what pages took, so that there is nothing to compare with."""
    import psycopg

    with psycopg.connect(postgresql.url(run.Records.DATABASE), autocommit=True) as connection:
        connection.execute("DELETE FROM rehearsal_measurement")


def rehearsed(project: run.Project, *options: str) -> float:
    """Seconds from the command to its end; all must be decided, TYPED passed."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "manage.py", "start_rehearsal", "--by", "benchmark", "--json", *options],
        cwd=run.SOURCE,
        env=project.environ,
        capture_output=True,
        timeout=1800,
        check=False,
    )
    took = time.monotonic() - began
    assert done.stdout, done.stderr[-2000:]
    items = [item for one in json.loads(done.stdout)["sections"] for item in one["items"]]
    stands = [item["ref"] for item in items if item["status"] in {"pending", "queued", "running"}]
    wrong = [
        f"{item['ref']} {item['status']}: {item['summary']}"
        for item in items
        if item["status"] not in {"passed", "skipped"}
    ]
    assert not stands, f"{', '.join(stands)} were not decided: {'; '.join(wrong)}"
    longest = sorted(items, key=lambda item: -(item["seconds"] or 0))[:5]
    said = ", ".join(f"{item['ref']} {item['seconds']:.1f} s" for item in longest)
    print(f"of {took:.1f} s the longest lines, which overlap, took: {said}", file=sys.stderr)
    if options:
        told = {item["ref"]: f"{item['status']}: {item['summary']}" for item in items}
        assert all(told[ref].startswith("passed") for ref in TYPED), told
    return took


def watched(project: run.Project, postgresql: servers.PostgreSQL) -> float:
    """As `rehearsed`, beside people who poll its page from before it begins until they are told
    that it has ended."""
    import psycopg

    signed_in = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", SIGN_IN],
        cwd=run.SOURCE,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    with psycopg.connect(postgresql.url(run.Records.DATABASE)) as connection:
        found = connection.execute("SELECT max(number) + 1 FROM rehearsal_rehearsal").fetchone()
    number = (found and found[0]) or 1
    people = live.POLLERS_BESIDE_CHECKS
    address, who = project.environ["SITE_URL"], signed_in.stdout.strip()
    crowd = live.crowd("polled", address, number, who, people, elsewhere=True)
    try:
        took, ended = rehearsed(project), time.time()
        said, _ = crowd.communicate(timeout=60)
    finally:
        crowd.kill()
    last = [max(float(at) for at in one.values()) for one in json.loads(said)]
    assert len(last) == people, f"{len(last)} of {people} watched"
    assert min(last) > ended - 5, f"somebody stopped watching {ended - min(last):.0f} s too early"
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
