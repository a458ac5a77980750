"""Database time of the pages over a history of 10,000 rehearsals, on PostgreSQL and SQLite.

Beside the same pages over 1,000 in the same run: what looks at all of the history would take ten
times as long, and what looks at a page of it as long as before.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._ratios import spread

SIZES = (1_000, 10_000)
"""How many rehearsals the pages are asked over, one after the other."""
ITEMS = 24
PAGES = ("common:dashboard", "common:oobc_calendar", "project_central:project_list")
BATCH = 500
ROUNDS = 9
LIMIT_MS = 100
ROOT = Path(__file__).parent.parent
Times = dict[str, dict[str, list[float]]]
"""By the size of the history and the address: milliseconds of each round."""
ADDRESSES = {
    "list": ("/rehearsal/", "/rehearsal/?page={last}"),
    "trend": ("/rehearsal/trends/", "/admin/rehearsal/rehearsal/trends/"),
    "admin_list": ("/admin/rehearsal/rehearsal/",),
}


def main() -> None:
    from demo import servers

    found: dict[str, Times] = {}
    with (
        servers.postgresql() as postgresql,
        servers.redis() as redis,
        tempfile.TemporaryDirectory(prefix="rehearsal-bench-") as folder,
    ):
        postgresql.create("project")
        postgresql.create("records")
        environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_POSTGRESQL_URL": postgresql.url("postgres"),
            "TEST_REDIS_URL": redis.url(),
            "TEST_SQLITE_DIRECTORY": folder,
        }
        for database in ("postgresql", "sqlite"):
            answer = subprocess.run(
                [sys.executable, "-m", "benchmarks.history", "--measure"],
                env=environ | {"TEST_DATABASE": database},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                timeout=3600,
                check=True,
            )
            found[database] = json.loads(answer.stdout.splitlines()[-1])
    show(found)


def show(found: dict[str, Times]) -> None:
    small, large = map(str, SIZES)
    print(
        f"{'milliseconds in the database':<52}{'median':>9}{'lowest':>9}{'highest':>9}{'growth':>9}"
    )
    slowest: dict[str, list[float]] = {}
    fastest_growing: dict[str, list[float]] = {}
    for database, times in found.items():
        for name, addresses in ADDRESSES.items():
            for address in addresses:
                taken, before = times[large][address], median(times[small][address])
                growth = [one / before for one in taken]
                print(
                    f"{database + ' ' + address:<52}{median(taken):>9.1f}"
                    f"{min(taken):>9.1f}{max(taken):>9.1f}{median(growth):>9.2f}"
                )
                slowest[name] = max(slowest.get(name, [0]), taken, key=median)
                fastest_growing[name] = max(fastest_growing.get(name, [0]), growth, key=median)
    print(f"At most {LIMIT_MS} were aimed at. Below, the page of each kind that is worst.")
    line: dict[str, float] = {}
    for name in ADDRESSES:
        line[f"{name}_ms"] = round(median(slowest[name]), 1)
        line |= spread(f"{name}_over_limit", [one / LIMIT_MS for one in slowest[name]])
        line |= spread(f"{name}_growth", fastest_growing[name])
    print(json.dumps(line))


# In a process of its own for each database


def measure() -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    from rehearsal import views

    settings.REHEARSAL = {**settings.REHEARSAL, "PAGES": list(PAGES)}
    call_command("migrate", verbosity=0)
    call_command("migrate", database="rehearsal", verbosity=0)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("staff"))
    found: Times = {}
    there = 0
    for size in SIZES:
        fill(there, size)
        there = size
        found[str(size)] = {
            address: asked(client, address.format(last=size // views.HISTORY))
            for addresses in ADDRESSES.values()
            for address in addresses
        }
    print(json.dumps(found))


def asked(client: Any, address: str) -> list[float]:
    times = []
    for _ in range(ROUNDS + 1):
        with counted() as seconds:
            response = client.get(address)
        assert response.status_code == 200, address
        times.append(1000 * seconds[0])
    return times[1:]  # the first fills the database's memory


def fill(there: int, wanted: int) -> None:
    """Rehearsals of staging and of a second environment, with all that belongs to them."""
    from django.db import connections

    from rehearsal.checks.performance.timings import series
    from rehearsal.models import CheckItem, Measurement, Rehearsal, Section, Status

    text = (ROOT / "rehearsal" / "checklists" / "staging.md").read_text()
    begun = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    names = ["snapshot.archive_bytes", "migrations.seconds", "restore.seconds", "tests.seconds"]
    names += [series(kind, page) for page in PAGES for kind in ("seconds", "queries", "bytes")]
    for first in range(there, wanted, BATCH):
        times = [begun + datetime.timedelta(hours=6 * (first + n)) for n in range(BATCH)]
        made = Rehearsal.objects.bulk_create(
            Rehearsal(
                environment="staging" if number % 4 else "other",
                revision=f"{first + number:040x}",
                checklist_text=text,
                checklist_sha256="0" * 64,
                started_by="Staff Member 1",
                started_at=at,
                closed_at=at + datetime.timedelta(minutes=9),
            )
            for number, at in enumerate(times)
        )
        sections = Section.objects.bulk_create(
            Section(rehearsal=one, number=1, title="Section") for one in made
        )
        items = CheckItem.objects.bulk_create(
            [
                CheckItem(
                    rehearsal=one, section=section, position=position, number=position + 1,
                    text=f"Line {position}", check_path="rehearsal.checks.smoke.Pytest",
                    status=Status.PASSED, summary="7 passed in 16.5 s", output="line\n" * 40,
                    started_at=one.started_at,
                    finished_at=one.started_at + datetime.timedelta(seconds=20 * position),
                )
                for one, section in zip(made, sections, strict=True)
                for position in range(ITEMS)
            ],
            batch_size=BATCH,
        )  # fmt: skip
        Measurement.objects.bulk_create(
            [
                Measurement(
                    rehearsal_id=item.rehearsal_id, item=item, name=name, value=position, unit="s"
                )
                for item in items[::ITEMS]
                for position, name in enumerate(names)
            ],
            batch_size=BATCH,
        )
        print(f"{first + BATCH} rehearsals", file=sys.stderr)
    with connections["rehearsal"].cursor() as cursor:
        cursor.execute("ANALYZE")


@contextmanager
def counted() -> Iterator[list[float]]:
    """The seconds spent in the database: asking, and fetching what it answers."""
    from django.db.backends.utils import CursorWrapper

    seconds = [0.0]

    execute, attribute = CursorWrapper._execute, CursorWrapper.__getattr__

    def fetched(self: Any, name: str) -> Any:
        found = attribute(self, name)
        return timed(found, seconds) if name.startswith("fetch") else found

    CursorWrapper._execute = timed(execute, seconds)
    CursorWrapper.__getattr__ = fetched
    try:
        yield seconds
    finally:
        CursorWrapper._execute, CursorWrapper.__getattr__ = execute, attribute


def timed(call: Any, seconds: list[float]) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            seconds[0] += time.perf_counter() - began

    return run


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else main()
