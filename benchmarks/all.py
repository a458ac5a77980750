"""All that is compared with peers and limits, and the table of it in docs/proof.md.

`make bench NAME=all` runs one benchmark after the other; `make bench NAME=all ONLY="live history"`
runs these, and leaves the rows of the others as they were measured. A row is taken from the last
line of its benchmark, and says whether we are ahead; where not, why, and what is next.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests import proof

LONGEST = 3600
SETTINGS = "DJANGO_SETTINGS_MODULE"
PART = "benchmarks"
COLUMNS = ("benchmark", "what", "beside", "ratio", "lowest to highest", "aim", "so", "measured")


@dataclass(frozen=True)
class Row:
    """A ratio that a benchmark's last line has as `key`, of which less is better."""

    benchmark: str
    key: str
    what: str
    beside: str
    aim: float | None = None
    """At most this much, by the design."""
    scale: float = 1
    """What the benchmark tells is divided by this."""
    note: str = ""
    """What is not equal, or what else has to be known."""
    behind: str = ""
    """Why it is behind, and the next step; said only where it is not ahead."""


CLAIMED = (
    "each check is claimed, journalled and settled in rows that outlive the worker and the broker;"
    " each is two commits and a look at what follows; next: settle together what ends together"
)
POLLED = (
    "where processors are short a crowd is told to ask more rarely, and what it still asks the"
    " checks of one machine do without; next: an asynchronous server, which pushes"
)
ELSEWHERE = (
    "the viewers take only processor time that nobody else wants (nice 19), as if on other machines"
)
JOBS = "ours has two jobs and pg_dump's lightest compression; the peers come with one, and gzip"
GENERATED = (
    "a generated project of 180 migrations and few tests, so most of it is making the database"
)
DATABASE = "time in the database, without Python and templates"
ROWS = (
    Row(
        "orchestration", "ours_over_celery_group",
        "24 checks that do nothing, start to decided", "a bare Celery group, PostgreSQL", 3.5,
        note="a group has one row of result a task, and loses what its worker held", behind=CLAIMED,
    ),
    Row(
        "orchestration", "ours_over_celery_group_sqlite",
        "the same", "a bare Celery group, SQLite as Django comes", 1.6,
        behind=f"{CLAIMED}; several processes belong on PostgreSQL",
    ),
    Row(
        "orchestration", "ours_over_celery_group_sqlite_wal",
        "the same", "a bare Celery group, SQLite with a write-ahead log",
        note="no aim: the group hardly waits for the disk", behind=CLAIMED,
    ),
    Row(
        "orchestration", "ours_over_celery_director",
        "the same", "celery-director 0.10.0, as it comes", 1,
        note="same Redis, PostgreSQL and two worker processes; its results stay in Redis, and its"
        " last task sleeps for half a second",
    ),
    Row(
        "orchestration", "ours_over_celery_director_without_pause",
        "the same", "celery-director less its half second",
        note="that sleep keeps it from recording success over a failure, so this is not how it can"
        " be used", behind=CLAIMED,
    ),
    Row(
        "orchestration", "ours_over_prefect",
        "the same", "Prefect 3.9.1, its server on PostgreSQL", 1,
        note="two threads of the flow's own process: no broker and no worker, which is less than"
        " we do; until its flow and 24 task runs are recorded", behind=CLAIMED,
    ),
    Row(
        "snapshot_restore", "ours_over_fastest_peer",
        "300 MB in 110 tables dumped and restored, counted and digested",
        "the faster of pg_dump -Fc with pg_restore, and django-dbbackup", 0.7, note=JOBS,
    ),
    Row(
        "snapshot_restore", "ours_verified_over_fastest_peer",
        "the same, and every table compared afterwards", "the same, which compare nothing", 1,
        behind="each table is read once more after it was restored, which the peers do not; next:"
        " take its digest on its way in",
    ),
    Row(
        "snapshot_restore", "ours_over_django_dbbackup",
        "300 MB in 110 tables dumped and restored, counted and digested", "django-dbbackup", 0.7,
        note=JOBS,
    ),
    Row(
        "snapshot_restore", "ours_over_pg_dump_as_ours",
        "the same", "pg_dump and pg_restore with our jobs, compression and settings",
        behind="every table is counted and digested while it is dumped, which that peer does not;"
        " next: fewer passes over what is counted",
    ),
    Row(
        "pytest", "ours_cold_over_by_hand",
        "the checklist's five pytest commands, the first with no template there",
        "the same typed by hand", 0.45, note="equal outcomes of every test, or there is no ratio; "
        + GENERATED,
    ),
    Row(
        "pytest", "ours_warm_over_by_hand",
        "the same, with the template there", "the same typed by hand", 0.25, note=GENERATED,
    ),
    Row(
        "live", "sse_p95_seconds_300_viewers",
        "a tick pushed to 300 viewers, 95th percentile", "the limit of 0.3 s", 1, 0.3,
        behind="most of it is the server's own, who writes to 300 connections one after the other;"
        " next: more than one process",
    ),
    Row(
        "live", "polling_p95_seconds_50_viewers",
        "a tick asked for by 50 viewers, 95th percentile", "the limit of 1.3 s", 1, 1.3,
    ),
    Row(
        "live", "polling_p95_seconds_300_viewers",
        "the same by 300 viewers", "the limit of 1.3 s", 1, 1.3,
    ),
    Row(
        "live", "cpu_pushed_300_over_polled_50",
        "processor time a viewer and second of the web server, 300 pushed to", "50 who poll",
    ),
    Row(
        "live", "checks_beside_200_pollers_over_alone",
        "16 checks that do nothing beside 200 who poll for what waits",
        "the same with nobody there", note=ELSEWHERE, behind=POLLED,
    ),
    Row(
        "live", "checks_beside_200_pollers_each_second_over_alone",
        "the same beside 200 who poll for what runs, on the same two processors",
        "the same with nobody there", note=ELSEWHERE, behind=POLLED,
    ),
    Row(
        "rehearsal", "watched_over_unwatched",
        "the whole checklist on the demo beside 200 who watch it by polling",
        "the same with nobody there", note=ELSEWHERE, behind=POLLED,
    ),
    Row(
        "rehearsal", "ours_over_by_hand",
        "the whole checklist on the demo, signed off by policy",
        "its commands typed in order, at once one after the other", 1,
        note="typed are 11 of the 24 lines; looking, clicking, comparing and writing take no time;"
        " each is a first rehearsal, so 5.2 and 5.3 have nothing to compare, and the demo has no"
        " monitoring for 6.3",
        behind="ours performs 10 more lines, which a person does by looking, and proves more in"
        " the typed ones, see below; next: measure pages while 1.4 waits for beat",
    ),
    Row(
        "rehearsal", "ours_typed_over_by_hand",
        "those 11 lines alone", "the same", 1,
        note="ours proves in them each queue and that beat ticked, and measures pages",
        behind="1.4 waits for beat to tick and 5.1 measures pages, which nobody types; next:"
        " measure pages while 1.4 waits",
    ),
    Row(
        "history", "list_growth",
        "time in the database of the slowest list, 1,000 to 10,000 rehearsals",
        "growth of the history, tenfold", scale=10,
        note="it would be 0.1 if nothing grew; next: find the last pages by their keys",
    ),
    Row(
        "history", "trend_growth", "the same of the trends", "growth of the history, tenfold",
        scale=10,
    ),
    Row(
        "history", "admin_list_growth",
        "the same of the list in the admin", "growth of the history, tenfold", scale=10,
        behind="the admin counts all of it; next: a count that is kept",
    ),
    Row(
        "history", "list_over_limit",
        "the slowest list at 10,000 rehearsals", "the limit of 100 ms", 1, note=DATABASE,
    ),
    Row(
        "history", "trend_over_limit",
        "the slowest trends at 10,000 rehearsals", "the limit of 100 ms", 1, note=DATABASE,
    ),
    Row(
        "history", "admin_list_over_limit",
        "the slowest list in the admin at 10,000 rehearsals", "the limit of 100 ms", 1,
        note=DATABASE,
        behind="the admin counts all rehearsals, and their items, for its pages; next: a count that"
        " is kept",
    ),
)  # fmt: skip
NAMES = tuple(dict.fromkeys(row.benchmark for row in ROWS))


def line(row: Row, answer: dict[str, Any], measured: str) -> str:
    """The row of the table for what its benchmark answered; KeyError when that lacks the ratio."""
    median = answer[row.key]
    if median is None:
        cells = ["–", "–", f"not measured: {answer[f'{row.key}_missing']}"]
    else:
        median /= row.scale
        around = [answer.get(f"{row.key}_{end}") for end in ("lowest", "highest")]
        lowest, highest = [median if one is None else one / row.scale for one in around]
        if highest < 1:
            said = "ahead"
        else:
            said = f"{'level' if lowest <= 1 else 'behind'}: {row.behind or 'why is not known yet'}"
        if row.aim is not None and median > row.aim:
            said += "; the aim is missed"
        spread = "–" if None in around else f"{lowest:.2f} to {highest:.2f}"
        cells = [f"{median:.2f}", spread, said]
    ratio, spread, said = cells
    so = f"{said}. {row.note[:1].upper()}{row.note[1:]}." if row.note else f"{said}."
    aim = "–" if row.aim is None else f"{row.aim:g}"
    told = (row.benchmark, row.what, row.beside, ratio, spread, aim, so, measured)
    return f"| {' | '.join(one.replace('|', '/') for one in told)} |"


def table(before: str, answers: dict[str, dict[str, Any]], measured: str) -> str:
    """The table with rows of `answers`, and those of other benchmarks as they were in `before`."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for name in NAMES:
        if name in answers:
            lines += [line(row, answers[name], measured) for row in ROWS if row.benchmark == name]
        else:
            lines += [kept for kept in before.splitlines() if kept.startswith(f"| {name} |")]
    return "\n".join(lines)


def main() -> None:
    wanted = sys.argv[1:] or NAMES
    if unknown := [name for name in wanted if name not in NAMES]:
        sys.exit(f"ONLY was expected to name some of: {', '.join(NAMES)}; found: {unknown[0]}.")
    measured = proof.when().rstrip(".").removeprefix("Commit ")  # before the table changes
    answers: dict[str, dict[str, Any]] = {}
    broken = []
    # The page's module is of the tests, which name their own settings: a benchmark has others.
    environ = {name: value for name, value in os.environ.items() if name != SETTINGS}
    for name in wanted:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            cwd=proof.ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=LONGEST,
        )
        print(done.stdout, flush=True)
        if done.returncode:
            broken.append(name)
            continue
        answers[name] = json.loads(done.stdout.splitlines()[-1])
        # At once: who ends this early keeps what was measured.
        proof.write(PART, table(proof.read(PART), answers, measured))
    print(json.dumps(answers))
    if broken:
        sys.exit(f"These broke, see above, and their rows are as they were: {', '.join(broken)}.")


if __name__ == "__main__":
    main()
