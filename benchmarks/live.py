"""How long a tick takes from the worker's commit to those who watch, pushed and polled, and what a
viewer costs.

Real servers (uvicorn pushes, gunicorn is asked every second), real connections, and for one viewer
a real browser up to the painted frame. A tick begins with the statement that settles an item, so
that what is measured is a little more than what is asked for, which begins with its commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks._ratios import spread

ROOT = Path(__file__).parent.parent
TICKS = 16
LIMITS = {"pushed": 0.3, "polled": 1.3}
"""Seconds aimed at, 95th percentile."""
POLLERS_BESIDE_CHECKS = 200
SETTLES_SECONDS = 25
"""Until the web server has told a crowd how often to ask beside checks that run."""
BESIDE_SECONDS = 20
"""As long as the longest pause that a crowd may be told."""
ROUNDS = 3
IDLE_SECONDS, IDLE_TIMES = 2, 3


def main() -> None:
    from demo import servers

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgresql = stack.enter_context(servers.postgresql())
        redis = stack.enter_context(servers.redis())
        for name in ("project", "records"):
            postgresql.create(name)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "benchmarks._live_settings",
            "TEST_POSTGRESQL_URL": postgresql.url("postgres"),
            "TEST_REDIS_URL": redis.url(),
            "TEST_LEASE_SECONDS": "30",
        }
        measure(folder)


def measure(folder: Path) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    for app in ("rehearsal", "django_celery_results"):
        call_command("migrate", app, database="rehearsal", verbosity=0)
    who = cookie()
    found: dict[tuple[str, int], list[float]] = {}
    cost: dict[tuple[str, int], Cost] = {}
    with server("pushed", folder) as (address, pid):
        found["pushed to the painted frame", 1] = painted(address, who)
        for viewers in (1, 50, 300):
            found["pushed", viewers], cost["pushed", viewers] = watched(
                "pushed", address, pid, who, viewers
            )
    with server("polled", folder) as (address, pid):
        for viewers in (1, 50, 300):
            found["polled", viewers], cost["polled", viewers] = watched(
                "polled", address, pid, who, viewers
            )
        slower = beside_checks(address, who)
    print(
        f"{'':<30}{'viewers':>8}{'median':>9}{'95th':>8}{'at most':>9}"
        f"{'CPU ms':>9}{'its own':>9}{'queries':>9}{'connections':>13}"
        "   a viewer and second, the last in all"
    )
    for (way, viewers), seconds in found.items():
        limit = LIMITS[way.split()[0]]
        spent = str(cost.get((way, viewers), ""))
        print(
            f"{way:<30}{viewers:>8}{statistics.median(seconds):>9.3f}{worst(seconds):>8.3f}"
            f"{limit:>9}{spent}"
        )
    for often, ratios in slower.items():
        print(
            f"{TICKS} checks that do nothing, beside {POLLERS_BESIDE_CHECKS} pollers"
            f"{often.replace('_', ' ')}, take {statistics.median(ratios):.2f} times as long"
            " as alone"
        )
    result = {
        f"{'sse' if way == 'pushed' else 'polling'}_p95_seconds_{n}_viewers": round(worst(s), 3)
        for (way, n), s in found.items()
        if way in LIMITS
    }
    result["painted_p95_seconds"] = round(worst(found["pushed to the painted frame", 1]), 3)
    for (way, n), seconds in found.items():
        if way in LIMITS:
            # All viewers of one tick, and then of the next.
            ticks = [worst(seconds[tick::TICKS]) for tick in range(TICKS)]
            name = f"{'sse' if way == 'pushed' else 'polling'}_p95_seconds_{n}_viewers"
            result |= {
                f"{name}_lowest": round(min(ticks), 3),
                f"{name}_highest": round(max(ticks), 3),
            }
    each = zip(cost["pushed", 300].each, cost["polled", 50].each, strict=True)
    result |= spread("cpu_pushed_300_over_polled_50", [pushed / polled for pushed, polled in each])
    for often, ratios in slower.items():
        result |= spread(f"checks_beside_200_pollers{often}_over_alone", ratios)
    print(json.dumps(result))


def worst(seconds: list[float]) -> float:
    """The 95th percentile."""
    return sorted(seconds)[max(0, round(0.95 * len(seconds)) - 1)]


def cookie() -> str:
    """A session of somebody who may look."""
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Permission
    from django.test import Client

    person = get_user_model().objects.create_user("viewer")
    person.user_permissions.add(Permission.objects.get(codename="view_rehearsal"))
    client = Client()
    client.force_login(person)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


@contextmanager
def server(way: str, folder: Path) -> Iterator[tuple[str, int]]:
    """A web server that pushes or one that is polled: its address and its process."""
    asynchronous = (
        *("uvicorn", "tests.browser.asgi:application", "--lifespan", "off"),
        *("--host", "127.0.0.1", "--port", "0"),
    )
    synchronous = (
        *("gunicorn", "django.core.wsgi:get_wsgi_application()", "--workers", "3"),
        *("--bind", "127.0.0.1:0", "--no-control-socket"),
    )
    log = folder / f"{way}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *(asynchronous if way == "pushed" else synchronous)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        said = re.compile(r"(?:running on|Listening at:) (http://[\d.:]+)")
        while not (found := said.search(log.read_text())):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"the server did not come up:\n{log.read_text()}")
            time.sleep(0.05)
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def begin() -> object:
    from rehearsal import tasks

    lines = "".join(f"- [ ] {n} <!-- check: benchmarks.noop.Nothing -->\n" for n in range(TICKS))
    return tasks.start(f"## Nothing\n{lines}", by="benchmark", revision="none")


def tick(rehearsal: object) -> Iterator[tuple[int, float]]:
    """Perform one item after the other at uneven times: the version reached, and when it was
    settled, by the database's clock, which is this machine's."""
    from rehearsal import tasks
    from rehearsal.models import CheckItem

    for item in CheckItem.objects.filter(rehearsal=rehearsal):
        time.sleep(random.uniform(0.4, 1.4))
        tasks.perform.apply((item.pk, item.attempt))
        item.refresh_from_db()
        yield item.changed_in, item.finished_at.timestamp()  # type: ignore[union-attr]


def painted(address: str, who: str) -> list[float]:
    """Seconds from each tick to the frame of a real browser that shows it."""
    from playwright.sync_api import sync_playwright

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # playwright runs a loop in this thread
    rehearsal = begin()
    name, _, value = who.partition("=")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
            ],
        )
        context = browser.new_context(base_url=address)
        context.add_cookies([{"name": name, "value": value, "url": address}])
        opened = context.new_page()
        opened.goto(f"/rehearsal/{rehearsal.number}/")  # type: ignore[attr-defined]
        opened.evaluate("""() => {
            window.seen = {};
            new MutationObserver(() => {
                const version = document.querySelector('#rehearsal-cursor [name=seen]').value;
                if (!(version in window.seen)) {
                    window.seen[version] = 0;
                    requestAnimationFrame(() => { window.seen[version] = Date.now() / 1000; });
                }
            }).observe(document.body, {subtree: true, childList: true});
        }""")
        opened.wait_for_timeout(1000)
        ticks = list(tick(rehearsal))
        opened.wait_for_timeout(3000)
        seen = {int(version): at for version, at in opened.evaluate("window.seen").items()}
        browser.close()
    return latencies([seen], ticks)


def latencies(viewers: list[dict[int, float]], ticks: list[tuple[int, float]]) -> list[float]:
    """For each viewer and tick, the seconds until a version as late as the tick's was there."""
    found = []
    for arrivals in viewers:
        for version, began in ticks:
            later = [at for reached, at in arrivals.items() if reached >= version and at]
            assert later, f"a viewer never heard of version {version}"
            found.append(min(later) - began)
    return found


def watched(way: str, address: str, pid: int, who: str, viewers: int) -> tuple[list[float], Cost]:
    """The seconds from each tick to each viewer, and what one viewer costs while nothing ticks."""
    rehearsal = begin()
    number = rehearsal.number  # type: ignore[attr-defined]
    process = crowd(way, address, number, who, viewers)
    time.sleep(3 + viewers / 100)
    cost = idle(pid, process.pid, viewers)
    ticks = list(tick(rehearsal))
    said, _ = process.communicate(timeout=60)
    arrivals = [{int(k): v for k, v in one.items()} for one in json.loads(said)]
    return latencies(arrivals, ticks), cost


def crowd(
    way: str, address: str, number: int, who: str, viewers: int, *, elsewhere: bool = False
) -> subprocess.Popen[str]:
    """The viewers. Those `elsewhere` take only the processor time that nobody else here wants."""
    return subprocess.Popen(
        [
            *(("nice", "-n", "19") if elsewhere else ()),
            *(sys.executable, "-m", "benchmarks.live", "--viewers"),
            *(way, address, str(number), str(viewers)),
        ],
        cwd=ROOT,
        env={**os.environ, "VIEWER_COOKIE": who},
        stdout=subprocess.PIPE,
        text=True,
    )


@dataclass
class Cost:
    """What a viewer takes while nothing changes, in a second."""

    milliseconds: float
    """Of the web server's processor time."""
    each: list[float]
    """The same, of each time that it was measured."""
    own: float
    """Milliseconds of the viewer's own processor time, on the same processors."""
    queries: float
    connections: int
    """To the database, by all of the web server."""

    def __str__(self) -> str:
        return (
            f"{self.milliseconds:>9.2f}{self.own:>9.2f}{self.queries:>9.2f}{self.connections:>13}"
        )


def transactions() -> tuple[int, int]:
    """Committed so far in all databases, where each query is one; and the open connections."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(xact_commit)::int, (SELECT count(*)::int FROM pg_stat_activity WHERE"
            " backend_type = 'client backend' AND datname IN ('project', 'records'))"
            " FROM pg_stat_database WHERE datname IN ('project', 'records')"
        )
        committed, opened = cursor.fetchone()
    return committed, opened - 2  # this process has two of its own


def idle(server: int, client: int, viewers: int) -> Cost:
    since, own, (committed, _) = time.monotonic(), spent(client), transactions()
    each = []
    for _ in range(IDLE_TIMES):
        before, began = spent(server), time.monotonic()
        time.sleep(IDLE_SECONDS)
        each.append((spent(server) - before) / viewers / (time.monotonic() - began) * 1000)
    own = (spent(client) - own) / viewers / (time.monotonic() - since) * 1000
    later, opened = transactions()
    queries = (later - committed) / viewers / (time.monotonic() - since)
    return Cost(statistics.mean(each), each, own, queries, opened)


def spent(pid: int) -> float:
    """Processor seconds of a process and its children so far."""
    ticks = 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in (str(pid), *children):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def beside_checks(address: str, who: str) -> dict[str, list[float]]:
    """How many times as long checks that do nothing take on a worker while pollers watch: what
    waits for somebody, which is asked for every five seconds, and what runs, each second."""
    from rehearsal import broker
    from rehearsal.models import Rehearsal

    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker", "-c", "2"),
            *("-Q", "rehearsal", "--prefetch-multiplier", "1", "-l", "ERROR"),
            *("--without-gossip", "--without-mingle"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )

    def once() -> float:
        began = time.perf_counter()
        rehearsal = begin()
        while Rehearsal.objects.filter(pk=rehearsal.number, closed_at=None).exists():  # type: ignore[attr-defined]
            time.sleep(0.01)
        return time.perf_counter() - began

    def took(seconds: float) -> float:
        """The mean of those that begin within `seconds`."""
        ends, each = time.monotonic() + seconds, []
        while time.monotonic() < ends:
            each.append(once())
        return statistics.mean(each)

    try:
        while not broker.consumers():
            time.sleep(0.1)
        endless = {"": waiting(), "_each_second": running()}
        took(SETTLES_SECONDS)
        ratios: dict[str, list[float]] = {name: [] for name in endless}
        alone = took(BESIDE_SECONDS)
        for _ in range(ROUNDS):
            for name, number in endless.items():
                process = crowd(
                    "polled", address, number, who, POLLERS_BESIDE_CHECKS, elsewhere=True
                )
                took(SETTLES_SECONDS)
                beside = took(BESIDE_SECONDS)
                process.kill()
                process.communicate()
                before, alone = alone, took(BESIDE_SECONDS)
                ratios[name].append(beside / statistics.mean((before, alone)))
        return ratios
    finally:
        worker.terminate()
        worker.wait(timeout=30)


def waiting() -> int:
    """A rehearsal that waits for somebody, and for ever, in an environment of its own."""
    from rehearsal import tasks
    from rehearsal.models import CheckItem, Rehearsal, Status

    number = tasks.start(
        "## One\n- [ ] Waits <!-- check: rehearsal.checks.base.PersonConfirms -->\n",
        by="benchmark",
        revision="none",
    ).number
    while CheckItem.objects.get(rehearsal=number).status != Status.ACTION_REQUIRED:
        time.sleep(0.05)
    Rehearsal.objects.filter(pk=number).update(environment=f"beside-{number}")
    return number


def running() -> int:
    """A rehearsal that runs, and never gets anywhere."""
    from rehearsal.models import CheckItem, Status
    from rehearsal.statements import InSeconds

    number = waiting()
    CheckItem.objects.filter(rehearsal=number).update(
        status=Status.RUNNING, lease_expires_at=InSeconds(3600)
    )
    return number


# The viewers, in a process of their own.


async def viewers(way: str, address: str, number: int, count: int) -> list[dict[int, float]]:
    one = pushed if way == "pushed" else polled
    return await asyncio.gather(*(one(address, number) for _ in range(count)))


def request(path: str, more: str = "") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nHX-Request: true\r\n"
        f"Cookie: {os.environ['VIEWER_COOKIE']}{more}\r\n\r\n"
    ).encode()


async def pushed(address: str, number: int) -> dict[int, float]:
    at = urlsplit(address)
    await asyncio.sleep(random.uniform(0, 1.5))
    reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=2**20)
    writer.write(request(f"/rehearsal/{number}/stream/?seen=0"))
    arrivals: dict[int, float] = {}
    unread = b""
    # In large pieces, so that the viewers take little of the processors that the server needs.
    while piece := await reader.read(2**18):
        *events, unread = (unread + piece).split(b"\n\n")
        for event in events:
            if found := re.search(rb"^id: (\d+)$", event, re.MULTILINE):
                arrivals.setdefault(int(found[1]), time.time())
            if b"event: end" in event:
                writer.close()
                return arrivals
    writer.close()
    return arrivals


async def polled(address: str, number: int) -> dict[int, float]:
    at = urlsplit(address)
    await asyncio.sleep(random.uniform(0, 1))
    arrivals: dict[int, float] = {}
    seen, elapsed, pause, given = 0, 0, 1.0, ""
    while True:
        began = time.monotonic()
        asked = request(
            f"/rehearsal/{number}/rows/?seen={seen}&elapsed={elapsed}&pause={pause:.0f}", given
        )
        answer = await answered(str(at.hostname), int(at.port or 80), asked)
        status = answer[9:12]
        if cookie := re.search(rb"\r\nSet-Cookie: ([^;]+);", answer):
            given = f"; {cookie[1].decode()}"
        if status in {b"200", b"286"}:
            seen = int(re.search(rb'name="seen" value="(\d+)"', answer)[1])  # type: ignore[index]
            elapsed = int(re.search(rb'name="elapsed" value="(\d+)"', answer)[1])  # type: ignore[index]
            arrivals.setdefault(seen, time.time())
        if again := re.search(rb'hx-trigger="every (\d+)s"', answer):
            pause = float(again[1])
        if status == b"286":
            return arrivals
        await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))


async def answered(host: str, port: int, asked: bytes) -> bytes:
    """The whole answer. By the bare socket: hundreds ask each second, on the processors that the
    server needs."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (host, port))
        await loop.sock_sendall(connection, asked)
        answer = b""
        while piece := await loop.sock_recv(connection, 2**18):
            answer += piece
        return answer


if __name__ == "__main__":
    if "--viewers" in sys.argv:
        way, address, number, count = sys.argv[2:]
        print(json.dumps(asyncio.run(viewers(way, address, int(number), int(count)))))
    else:
        main()
