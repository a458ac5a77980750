"""Rehearsals under faults drawn by chance: `make bench NAME=chaos SEEDS=3`.

On PostgreSQL and on SQLite, per seed: at least 600 checks on two groups of real workers, and at
least 100 faults that took effect. What the checks did is read from the file they wrote, and
compared with the records. Ends with 1 when a number that must be 0 is not, or when there were too
few of either. Writes its part of docs/proof.md.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rehearsal.models import CheckItem

ROOT = Path(__file__).parent.parent
CHECKS, FAULTS = 600, 100
ITEMS = 60
"""Lines of each rehearsal."""
EVERY = 0.7
"""Seconds between two faults, about."""
LEASE = 3
"""Seconds after which a worker that is silent has lost its item."""
LONGEST = 200.0
"""Seconds after which nothing more is done to a run, whatever it came to."""
SETTLES_WITHIN = 60.0
"""Seconds after the last fault within which a rehearsal must be decided."""
MUST_BE_0 = (
    "undecided",
    "doubled",
    "unsafe repeated",
    "orphans",
    "wrong greens",
    "broken journals",
)


def main() -> None:
    from demo import servers
    from tests import proof

    seeds = range(1, int(sys.argv[1] if len(sys.argv) > 1 else 1) + 1)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for database in os.environ.get("DATABASES", "postgresql,sqlite").split(","):
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
                    "TEST_LEASE_SECONDS": str(LEASE),
                    "TEST_DATABASE": database,
                    "TEST_SQLITE_DIRECTORY": folder,
                    "CHAOS_LOG": str(Path(folder, "log")),
                    "CHAOS_MARK": f"{os.getpid()}{seed}",
                }
                process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.chaos", "--run", str(seed)],
                    env=environ,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                assert process.stdin and process.stdout
                # The servers can be started by who made them alone.
                for line in process.stdout:
                    if line == "restart redis\n":
                        redis.stop()
                        redis.start()
                        process.stdin.write("done\n")
                        process.stdin.flush()
                    elif line.startswith("{"):
                        rows.append({"seed": seed, "database": database, **json.loads(line)})
                    else:
                        print(line, end="", file=sys.stderr)
                if process.wait() != 0:
                    sys.exit(f"The run of seed {seed} on {database} broke: see above.")
    columns = [name for name in rows[0] if name != "by kind"]
    table = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    table += [f"| {' | '.join(str(row[name]) for name in columns)} |" for row in rows]
    kinds: Counter[str] = Counter()
    for row in rows:
        kinds.update(row["by kind"])
    said = ", ".join(f"{name} {count}" for name, count in sorted(kinds.items()))
    body = "\n".join(
        [f"Seeds: {len(seeds)}. {proof.when()}", "", *table, "", f"The faults: {said}."]
    )
    print(body)
    proof.write("chaos", body)
    totals = {name: sum(row[name] for row in rows) for name in ("checks", "faults", *MUST_BE_0)}
    print(json.dumps(totals))
    few = any(row["checks"] < CHECKS or row["faults"] < FAULTS for row in rows)
    sys.exit(1 if few or any(totals[name] for name in MUST_BE_0) else 0)


class Worker:
    """Four children that take checks, in a process group of their own."""

    def __init__(self, number: int) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker", "-c", "4"),
                *("-Q", "rehearsal", "--prefetch-multiplier", "1", "-n", f"chaos{number}@%h"),
                *("--without-gossip", "--without-mingle", "-l", "CRITICAL"),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def children(self) -> list[int]:
        """Their process ids; while it starts there are none."""
        with suppress(OSError):
            file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            return [int(pid) for pid in file.read_text().split()]
        return []

    def kill(self) -> None:
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Chaos:
    """One seed on one database; made with the database in the environment."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.made: Counter[str] = Counter()
        self.started = 0
        self.workers = [self.worker(), self.worker()]
        self.later: list[tuple[float, Any]] = []
        self.numbers: list[int] = []

    def worker(self) -> Worker:
        self.started += 1
        return Worker(self.started)

    # Faults; each returns whether it took effect on the rehearsal that is open.

    def kill_child(self) -> bool:
        return bool(self.signal_child(signal.SIGKILL))

    def kill_group(self) -> bool:
        at = self.dice.randrange(2)
        if not self.workers[at].children():
            return False
        self.workers[at].kill()
        self.workers[at] = self.worker()
        return True

    def kill_main(self) -> bool:
        at = self.dice.randrange(2)
        if not (children := self.workers[at].children()):
            return False
        self.workers[at].process.kill()
        self.workers[at].process.wait()
        self.workers[at] = self.worker()
        for child in children:  # what is left of it goes a little later
            self.later.append((time.monotonic() + 2, lambda child=child: end(child)))
        return True

    def stop_and_continue(self) -> bool:
        if pid := self.signal_child(signal.SIGSTOP):
            # By a thread: what is stopped may hold the very lock that this one waits for.
            seconds = self.dice.choice([0.5, 2, 5])
            threading.Timer(seconds, self.go_on, [pid]).start()
        return bool(pid)

    @staticmethod
    def go_on(pid: int) -> None:
        with suppress(OSError):  # killed meanwhile
            os.kill(pid, signal.SIGCONT)

    def signal_child(self, number: signal.Signals) -> int | None:
        """The child that the signal reached, if there was one."""
        children = list(filter(goes, self.dice.choice(self.workers).children()))
        with suppress(OSError):
            if children:
                os.kill(pid := self.dice.choice(children), number)
                return pid
        return None

    def restart_redis(self) -> bool:
        print("restart redis", flush=True)
        return sys.stdin.readline() == "done\n"

    def flush_redis(self) -> bool:
        with self.redis() as client:
            lost, _ = client.pipeline().llen("rehearsal").flushall().execute()
        return bool(lost)

    def freeze_redis(self) -> bool:
        with self.redis() as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.2, 1.5))
        os.kill(pid, signal.SIGCONT)
        return True

    def cut_off_from_redis(self) -> bool:
        with self.redis() as client:
            ended = client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return bool(ended)

    def redis(self) -> Any:
        from redis import Redis

        return Redis.from_url(os.environ["TEST_REDIS_URL"])

    def cut_off_from_records(self) -> bool:
        """PostgreSQL: all sessions are ended. SQLite: somebody holds the file for a while."""
        from django.db import connections

        connection = connections["rehearsal"]
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = 'records' AND pid <> pg_backend_pid()"
                )
                return (True,) in cursor.fetchall()
        import sqlite3

        with sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None) as held:
            held.execute("BEGIN IMMEDIATE")
            time.sleep(self.dice.uniform(0.2, 1.0))
            held.execute("ROLLBACK")
        held.close()
        return True

    def cancel(self) -> bool:
        from rehearsal import tasks

        return tasks.cancel(self.numbers[-1], by="chaos")

    def run_again(self) -> bool:
        from rehearsal import plan, tasks

        number = self.numbers[-1]
        items = tasks.items_of(number)
        ended = [item for item in items if item.status in {"passed", "failed"}]
        if ended:
            item: CheckItem = self.dice.choice(ended)
            with suppress(plan.StartError, plan.AlreadyOpen):
                return tasks.rerun(number, by="chaos", ref=item.ref) > 0
        return False

    def double_messages(self) -> bool:
        from rehearsal import tasks
        from rehearsal.models import CheckItem

        items = CheckItem.objects.filter(
            rehearsal=self.numbers[-1], status__in=["queued", "running"]
        )
        messages = [(item.pk, item.attempt, 60) for item in items[:20]]
        tasks._ring(messages * 2)
        return bool(messages)

    def sweep_at_once(self) -> bool:
        """Four see at the same time that a worker was lost."""
        from django.db import connections

        from rehearsal import tasks
        from rehearsal.models import Event

        def sweep() -> None:
            try:
                tasks.sweep(self.numbers[-1])
            finally:
                connections.close_all()

        self.signal_child(signal.SIGKILL)
        time.sleep(LEASE + 0.5)
        swept = Event.objects.filter(rehearsal=self.numbers[-1], actor="sweep")
        before = swept.count()
        threads = [threading.Thread(target=sweep) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return swept.count() > before

    KINDS = (
        *([kill_child] * 4), *([stop_and_continue] * 3), *([double_messages] * 2),
        *([sweep_at_once] * 2), *([cut_off_from_records] * 2), kill_group, kill_main,
        restart_redis, flush_redis, freeze_redis, cut_off_from_redis, run_again, run_again, cancel,
    )  # fmt: skip

    # The run.

    def perform(self) -> dict[str, Any]:
        from django.core.management import call_command
        from django.db import DatabaseError, connections

        from rehearsal import tasks
        from rehearsal.models import CheckItem, Rehearsal

        call_command("migrate", database="rehearsal", verbosity=0)
        began = time.monotonic()
        next_fault = began + 5  # when the workers are up
        open_number: int | None = None
        due = told = 0.0
        while True:
            now = time.monotonic()
            if now - began > LONGEST + SETTLES_WITHIN:
                break  # what is undecided, or was too little, is counted
            done = CheckItem.objects.filter(started_at__isnull=False).count() >= CHECKS
            enough = (done and sum(self.made.values()) >= FAULTS) or now - began > LONGEST
            try:
                if open_number is not None:
                    tasks.sweep(open_number)
                    if Rehearsal.objects.filter(pk=open_number, closed_at=None).exists():
                        if now > due and enough:
                            break  # undecided: it is counted
                    else:
                        open_number = None
                elif enough:
                    break
                else:
                    open_number = tasks.start(self.document(), by="chaos", revision="abc").number
                    self.numbers.append(open_number)
                for entry in [one for one in self.later if one[0] <= now]:
                    self.later.remove(entry)
                    with suppress(OSError):
                        entry[1]()
                if now >= next_fault and not enough and open_number is not None:
                    fault = self.dice.choice(self.KINDS)
                    # Another is tried soon after one that did nothing.
                    if fault(self):
                        self.made[fault.__name__.replace("_", " ")] += 1
                        next_fault = time.monotonic() + self.dice.uniform(0.5, 1.5) * EVERY
                    due = time.monotonic() + SETTLES_WITHIN
            except DatabaseError:
                connections.close_all()
            if now - told > 10:
                told = now
                made, count = sum(self.made.values()), len(self.numbers)
                print(f"{now - began:.0f} s: {made} faults, {count} rehearsals", flush=True)
            for at, worker in enumerate(self.workers):
                if worker.process.poll() is not None:
                    self.workers[at] = self.worker()
            time.sleep(0.05)
        return self.report(time.monotonic() - began)

    def document(self) -> str:
        lines = []
        for number in range(1, ITEMS + 1):
            kind = self.dice.choice(["Marks", "Marks", "MarksSafely"])
            if number % 20 == 0:
                kind = "MarksAfterAll"
            well = "true" if self.dice.random() < 0.9 else "false"
            seconds = round(self.dice.uniform(0.05, 0.6), 2)
            check = f"benchmarks._marks.{kind} seconds={seconds} well={well}"
            lines.append(f"- [ ] Line {number}. <!-- check: {check} -->\n")
        return "## Chaos\n" + "".join(lines)

    def report(self, seconds: float) -> dict[str, Any]:
        """Compare what the checks wrote with what the records say."""
        from benchmarks import _marks
        from rehearsal.journal import unjournaled
        from rehearsal.models import CheckItem, Event, Rehearsal, Status, Verdict

        for _until, work in self.later:
            with suppress(OSError):
                work()
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=20)
            worker.kill()
        time.sleep(4)  # the grace of a guard, and a little
        wrote = _marks.read(Path(os.environ["CHAOS_LOG"]).read_text())
        found: Counter[str] = Counter()
        for rehearsal in Rehearsal.objects.all():
            items = list(CheckItem.objects.filter(rehearsal=rehearsal).select_related("section"))
            again = Event.objects.filter(rehearsal=rehearsal, actor="chaos", after=Status.PENDING)
            asked = Counter(again.values_list("ref", flat=True))
            found["broken journals"] += bool(unjournaled(rehearsal, items))
            found.update(compared(wrote, items, asked, green=rehearsal.verdict == Verdict.GREEN))
        return {
            "rehearsals": len(self.numbers),
            "checks": found["checks"],
            "faults": sum(self.made.values()),
            **{name: found[name] for name in MUST_BE_0},
            "orphans": len(orphans()),
            "seconds": round(seconds),
            "by kind": dict(self.made),
        }


def compared(
    wrote: Mapping[tuple[str, int, str], Counter[int]],
    items: Iterable[CheckItem],
    asked: Mapping[str, int],
    *,
    green: bool,
) -> Counter[str]:
    """What the checks of one rehearsal wrote, against how its items stand.

    `asked` says how often a person had each item run again.
    """
    from rehearsal.checks import base

    found: Counter[str] = Counter()
    for item in items:
        began, saw = (wrote[what, item.rehearsal_id, item.text] for what in ("began", "saw"))
        safe = base.load(item.check_path).safe_to_repeat
        passed = item.status == "passed"
        # What an earlier attempt saw is no reason for the tick of a later one.
        ticked = passed and not (saw[item.attempt] and item.options.get("well", True))
        found["checks"] += began.total()
        found["undecided"] += item.status in {"pending", "queued", "running"}
        found["doubled"] += sum(count > 1 for count in began.values())
        found["unsafe repeated"] += not safe and len(began) > 1 + asked.get(item.ref, 0)
        found["wrong greens"] += ticked or (green and not passed)
    return found


def goes(pid: int) -> bool:
    """Whether the process is there and neither stopped nor dead."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ"
    return False


def end(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def orphans() -> list[int]:
    """Processes that a check started and that still are: they bear the run's mark."""
    mark = f"600.{os.environ['CHAOS_MARK']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def run(seed: int) -> None:
    import django

    django.setup()
    chaos = Chaos(seed)
    try:
        print(json.dumps(chaos.perform()), flush=True)
    finally:
        for worker in chaos.workers:
            worker.kill()


if __name__ == "__main__":
    run(int(sys.argv[-1])) if "--run" in sys.argv else main()
