"""What the pages that matter take, beside the pytest command that the line names."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from django.db import DEFAULT_DB_ALIAS, Error, connections

from rehearsal import conf
from rehearsal.checks.base import Inconclusive, Outcome, Report
from rehearsal.checks.performance.sides import CannotRun, Profile, Side, side
from rehearsal.checks.smoke import Pytest
from rehearsal.conf import configuration
from rehearsal.observed import PageName

SERIES = "page."
MEASURED = "pages.measured"
"""The series by which a rehearsal that measured pages is found."""
ROUNDS = 6
BLOCK = 5
KEPT = 20
"""Profiles of rehearsals that stay, the newest ones."""
RECORDED = ("server_version", "shared_buffers", "work_mem", "effective_cache_size",
            "random_page_cost", "jit", "max_parallel_workers_per_gather")  # fmt: skip


@dataclass(frozen=True)
class Timings(Pytest):
    """The line's pytest command passes, and the pages that matter were measured."""

    budget_seconds: float = 60
    """How long one page may be measured."""

    timeout: ClassVar[int] = 3600
    needs: ClassVar[tuple[str, ...]] = (
        "rehearsal.checks.environment.Restore",
        "rehearsal.checks.migrations.Apply",
    )
    exclusive: ClassVar[bool] = True

    def run(self, report: Report) -> None:
        outcome: Outcome | None = None
        try:
            super().run(report)
        except Outcome as error:  # the pages are measured all the same
            outcome = error
        tests = report.said
        record_circumstances(report)
        pages = configuration().pages
        if not pages:
            report.evidence("pages measured", "none: REHEARSAL['PAGES'] names none")
        elif not report.stop.is_set():
            try:
                _measure(pages, self.budget_seconds, report)
            except CannotRun as error:
                outcome = outcome or Inconclusive(
                    f"The tests passed ({tests}), but the pages could not be measured: {error}. "
                    "Correct REHEARSAL['PAGES'] or ROLES, or mend the page."
                )
        if outcome is not None:
            raise outcome
        measured = f"; {len(pages)} pages measured" if pages else ""
        report.progress(tests + measured)


def record_circumstances(report: Report) -> None:
    """The machine, its load, and the database: what times depend on, and counts do not."""
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    report.evidence(
        "machine",
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"load {load}",
    )
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor != "postgresql":
        report.evidence("database server", connection.vendor)
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT name, setting || coalesce(unit, '') FROM pg_settings WHERE name = ANY(%s)",
                [list(RECORDED)],
            )
            told = [f"{name} {value}" for name, value in sorted(cursor.fetchall())]
            cursor.execute(
                "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint,"
                " pg_database_size(current_database()) FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')"
            )
            rows, size = cursor.fetchone()
    except Error as error:
        report.write(f"The database's settings cannot be read: {error}")
        return
    report.evidence("database server", told)
    report.evidence("data", f"{rows} rows, {size} bytes")
    report.measure("data.rows", rows, "rows")


def _measure(pages: tuple[PageName, ...], budget: float, report: Report) -> None:
    """Counts of each page, and times taken in turns over all of them."""
    taken: dict[str, dict[str, list[float]]] = {}
    profiles: dict[str, Profile] = {}
    with side(configuration().root, "this", report) as this:
        for page in pages:
            report.progress(f"Measuring {page.name}.")
            profiles[page.name] = this.profile(page)
            taken[page.name] = this.block(page, 1)
        for _ in range(ROUNDS):
            for page in pages:
                _take(this, page, taken[page.name], budget)
                if report.stop.is_set():
                    raise Inconclusive("Stopped while pages were measured: run this item again.")
    for name, profile in profiles.items():
        times = taken[name]
        report.write(
            f"{name}: {1000 * median(times['wall']):.1f} ms (processor "
            f"{1000 * median(times['cpu']):.1f} ms, {len(times['wall'])} requests), "
            f"{profile.queries} queries, {profile.rows} rows, {profile.bytes} bytes, "
            f"{profile.calls} function calls; {profile.warm_queries} queries with warm caches"
        )
        record(report, name, "seconds", median(times["wall"]), "s")
        record(report, name, "cpu_seconds", median(times["cpu"]), "s")
        for count in ("queries", "warm_queries", "rows", "bytes", "calls"):
            record(report, name, count, getattr(profile, count), count.rpartition("_")[2])
    report.evidence("pages measured", sorted(profiles))
    report.measure(MEASURED, len(profiles), "pages")
    keep(report, profiles)


def _take(this: Side, page: PageName, times: dict[str, list[float]], budget: float) -> None:
    count = BLOCK if BLOCK * median(times["wall"]) * ROUNDS < budget else 1
    if sum(times["wall"]) < budget:
        for kind, seconds in this.block(page, count).items():
            times[kind].extend(seconds)


def record(report: Report, page: str, kind: str, value: float, unit: str) -> None:
    """Measure one number of a page, under a name that later rehearsals find."""
    report.measure(series(kind, page), value, unit)


def series(kind: str, page: str) -> str:
    return f"{SERIES}{kind} {page[:150]}"


# Profiles are kept as files: the text of queries is too much for the records


def keep(report: Report, profiles: dict[str, Profile]) -> None:
    folder = conf.folder("performance")
    path = folder / f"{report.rehearsal.number}.json"
    told = {name: profile.as_json() for name, profile in profiles.items()}
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"revision": report.rehearsal.revision, "pages": told}))
    part.replace(path)
    numbered = sorted(folder.glob("*.json"), key=lambda one: (len(one.name), one.name))
    for old in numbered[:-KEPT]:
        old.unlink(missing_ok=True)


def kept(number: int) -> dict[str, Profile]:
    """The profiles that rehearsal `number` left; none where the file is gone or unreadable."""
    try:
        told: dict[str, Any] = json.loads(
            (conf.folder("performance") / f"{number}.json").read_text()
        )
        return {name: Profile(**values) for name, values in told["pages"].items()}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
