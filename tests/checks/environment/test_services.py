"""The services of section 1: real Redis servers, real workers, a real beat."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis as Client

from demo import servers
from rehearsal.checks.environment.beat import Tick, several
from tests.checks.host import PERFORM, SETTINGS, Answer, Host

CHECK = "environment.ServicesOnline"
LINE = "Verify Redis, Celery workers, and beat processes are online."
REVISION = "0123456789abcdef0123456789abcdef01234567"


def wait_for(look: Callable[[], object], within: float = 90) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of records with one open rehearsal, to be copied."""
    host = Host(tmp_path_factory.mktemp("records"))
    host.prepare("rehearsal")
    host.manage(
        "shell",
        "-c",
        "from rehearsal.models import Rehearsal;"
        "Rehearsal.objects.create(environment='staging', started_by='Staff Member 1')",
    )
    return host.path / "records.sqlite3"


@pytest.fixture(scope="session")
def server() -> Iterator[servers.Redis]:
    with servers.redis() as started:
        yield started


@pytest.fixture
def host(tmp_path: Path, records: Path, server: servers.Redis) -> Host:
    with Client.from_url(server.url()) as client:
        client.flushall()
    host = Host(tmp_path, {"HOST_BROKER": server.url()})
    shutil.copy(records, tmp_path / "records.sqlite3")
    return host


@contextmanager
def celery(
    host: Host, *arguments: str, app: str = "host.celery", ready: str = " ready.", **environ: str
) -> Iterator[int]:
    """A process of Celery that has started, by its process id; killed at the end."""
    log = host.path / f"{time.monotonic_ns()}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", app, *arguments],
            cwd=host.path,
            env=host.variables(**environ),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: ready in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def worker(
    host: Host, name: str, queues: str, app: str = "host.celery", **environ: str
) -> AbstractContextManager[int]:
    arguments = ["worker", "-Q", queues, "-c", "1", "-n", f"{name}@here", "--loglevel", "INFO"]
    return celery(host, *arguments, "--without-mingle", "--without-gossip", app=app, **environ)


def beat(host: Host, **environ: str) -> AbstractContextManager[int]:
    arguments = ["beat", "--schedule", str(host.path / "schedule"), "--loglevel", "INFO"]
    return celery(host, *arguments, ready="beat: Starting", **environ)


@contextmanager
def staging(host: Host, **environ: str) -> Iterator[int]:
    """One worker for all declared queues, and beat; gives the worker's process id."""
    with worker(host, "staging", "celery,rehearsal", **environ) as pid, beat(host, **environ):
        yield pid


def leftovers(url: str) -> list[str]:
    with Client.from_url(url, decode_responses=True) as client:
        return [key for key in client.scan_iter() if "rehearsal-" in key or "rehearsal:" in key]


def perform(host: Host, **environ: str) -> Answer:
    return host.perform(CHECK, LINE, **environ)


def test_all_well(host: Host, server: servers.Redis) -> None:
    with worker(host, "checks", "rehearsal"), staging(host):
        found = perform(host, HOST_CACHE=server.url(1))
    assert found.status == "passed", found.message
    assert "2 workers on 2 queues serve SQLite file" in found.message
    assert "beat ticked" in found.message
    assert found.message.startswith("Redis ")
    assert found.numbers["redis.memory"] > 0
    assert found.numbers["redis.cache_default.memory"] > 0
    assert "default.sqlite3" in found.facts["worker staging@here"]
    assert REVISION in found.facts["worker checks@here"]
    assert leftovers(server.url()) == []


def test_the_one_process_that_performs_the_check_is_not_waited_for(
    host: Host, server: servers.Redis
) -> None:
    with worker(host, "checks", "rehearsal"), worker(host, "staging", "celery"), beat(host):
        answer = host.path / "answer.json"
        arguments = [f"rehearsal.checks.{CHECK}", LINE, str(answer)]
        host.manage(
            "shell",
            "-c",
            "import host.celery as c;"
            f"c.app.send_task('host.perform', args={arguments!r}, queue='rehearsal')",
        )
        wait_for(answer.exists)
    found = host.answer()
    assert found.status == "passed", found.message
    assert "runs this check" in found.facts["worker checks@here"]
    assert found.facts["queue rehearsal"] == "our task was executed by checks@here"
    assert found.facts["queue celery"] == "our task was executed by staging@here"


def test_nothing_runs(host: Host, server: servers.Redis) -> None:
    found = perform(host, HOST_ANSWER_SECONDS="1")
    assert found.status == "failed"
    assert "No Celery worker is on the broker" in found.message
    assert "`celery -A host worker -Q celery`" in found.message
    assert "`python manage.py rehearsal_worker`" in found.message
    assert "Whether beat runs could not be seen" in found.message
    assert leftovers(server.url()) == []


def test_a_queue_without_a_worker_and_no_beat(host: Host) -> None:
    with worker(host, "staging", "celery"):
        found = perform(host, HOST_ANSWER_SECONDS="5")
    assert found.status == "failed"
    assert "from the queue rehearsal, which nobody consumes" in found.message
    assert "Beat did not tick within 8 s: start `celery -A host beat`" in found.message


def test_a_worker_on_another_database_is_found_on_whatever_queue_it_sits(
    host: Host, server: servers.Redis
) -> None:
    with staging(host), worker(host, "stray", "other", HOST_DATABASE="production.sqlite3"):
        found = perform(host)
    assert found.status == "failed"
    assert "stray@here serves SQLite file" in found.message
    assert "production.sqlite3" in found.message
    assert "default.sqlite3" in found.message
    assert "staging@here serves" not in found.message
    assert leftovers(server.url()) == []


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"HOST_DATABASE": "production.sqlite3"}, "serves SQLite file .*production.sqlite3"),
        pytest.param(
            {"HOST_REVISION": "f" * 40},
            f"runs release {'f' * 40}, expected {REVISION}: restart it",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_beat_of_another_place_or_release_is_not_this_ones(
    host: Host, environ: dict[str, str], says: str
) -> None:
    with worker(host, "staging", "celery,rehearsal"), beat(host, **environ):
        found = perform(host)
    assert found.status == "failed"
    assert re.search(f"The beat .* {says}", found.message), found.message


def test_a_worker_of_another_release(host: Host) -> None:
    with staging(host), worker(host, "old", "other", HOST_REVISION="f" * 40):
        found = perform(host)
    assert found.status == "failed"
    assert f"old@here runs release {'f' * 40}, expected {REVISION}: restart it." in found.message


def test_a_worker_without_the_app(host: Host) -> None:
    host.write(
        "foreign.py",
        "import os\n"
        "from celery import Celery\n"
        "app = Celery('foreign', broker=os.environ['HOST_BROKER'])\n",
    )
    with staging(host), worker(host, "foreign", "foreign", app="foreign"):
        found = perform(host, HOST_ANSWER_SECONDS="5")
    assert found.status == "failed"
    assert "foreign@here did not execute our task: it does not know" in found.message
    assert "another project" in found.message


@pytest.mark.fault(
    "frozen child behind a main process that answers pings", promised="1.4 fails and names it"
)
def test_a_worker_whose_process_is_frozen(host: Host, server: servers.Redis) -> None:
    with staging(host), worker(host, "frozen", "other") as pid:
        child = int(children_of(pid)[0])
        os.kill(child, signal.SIGSTOP)
        found = perform(host, HOST_ANSWER_SECONDS="5")
    assert found.status == "failed"
    assert "frozen@here did not execute our task: its processes are stuck" in found.message
    assert leftovers(server.url()) == []


def test_two_workers_of_one_name(host: Host) -> None:
    with staging(host), worker(host, "staging", "other", HOST_DATABASE="production.sqlite3"):
        found = perform(host)
    assert found.status == "failed"
    assert "Several workers call themselves staging@here" in found.message


@pytest.mark.fault("Redis that may evict messages", promised="1.4 fails")
def test_a_broker_that_may_throw_tasks_away(host: Host) -> None:
    with servers.redis(maxmemory_policy="allkeys-lru") as evicting:
        host.environ["HOST_BROKER"] = evicting.url()
        with staging(host):
            found = perform(host)
            with Client.from_url(evicting.url()) as client:
                client.config_set("maxmemory", 0)
            unbounded = perform(host)
    assert found.status == "failed"
    assert "maxmemory-policy is allkeys-lru, expected noeviction" in found.message
    assert unbounded.status == "passed", unbounded.message
    named = next(key for key in unbounded.facts if key.startswith("Redis "))
    assert "without a limit; when full: allkeys-lru" in unbounded.facts[named]


@pytest.mark.long  # workers of its own; its like is in the default suite
def test_a_broker_that_does_not_say_whether_it_throws_tasks_away(
    host: Host, server: servers.Redis
) -> None:
    with Client.from_url(server.url()) as client:
        client.execute_command(
            *("ACL", "SETUSER", "mute", "on", ">a-password-of-mute", "~*", "&*", "+@all", "-info")
        )
    host.environ["HOST_BROKER"] = server.url().replace("://", "://mute:a-password-of-mute@")
    with staging(host):
        found = perform(host)
    assert found.status == "inconclusive", found.message
    assert "INFO cannot be read" in found.message


def test_passwords_are_never_shown(host: Host) -> None:
    password = "wrzlbrmft/@:42"
    with servers.redis(password=password) as guarded:
        host.environ["HOST_BROKER"] = guarded.url()
        with staging(host):
            well = perform(host, HOST_CACHE=guarded.url(1))
        wrong_cache = guarded.url(1).replace("wrzl", "lzrw")
        wrong = perform(host, HOST_CACHE=wrong_cache, HOST_ANSWER_SECONDS="1")
    assert well.status == "passed", well.message
    assert wrong.status == "failed"
    assert "(cache default) does not work" in wrong.message
    for secret in (password, "wrzlbrmft", "lzrwbrmft"):
        assert secret not in f"{well} {wrong}"


@pytest.mark.fault("Redis frozen under 1.4", promised="1.4 fails within a minute")
def test_a_frozen_redis_is_not_waited_for(host: Host) -> None:
    with servers.redis() as frozen:
        with Client.from_url(frozen.url()) as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            found = perform(host, HOST_BROKER=frozen.url())
            took = time.monotonic() - began
        finally:
            os.kill(pid, signal.SIGCONT)
    assert found.status == "failed"
    assert "(broker) does not work" in found.message
    assert took < 60


def test_a_broker_that_is_not_there(host: Host) -> None:
    found = perform(host, HOST_BROKER="redis://:a-long-password@127.0.0.1:1/0")
    assert found.status == "failed"
    assert "Redis redis://127.0.0.1:1/0 (broker) does not work" in found.message
    assert "The broker cannot be used" in found.message
    assert "a-long-password" not in str(found)


@pytest.mark.parametrize("environ", [{"HOST_BROKER": "memory://"}, {"HOST_EAGER": "1"}])
def test_tasks_that_never_leave_the_process_prove_nothing(
    host: Host, environ: dict[str, str]
) -> None:
    found = perform(host, **environ)
    assert found.status == "inconclusive"
    assert "set CELERY_BROKER_URL" in found.message
    assert ("No Redis was looked at" in found.message) == ("HOST_BROKER" in environ)


PRODUCTION = '\nREHEARSAL["PRODUCTION_ENV"] = HERE / "production.env"\n'


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("redis://:of-production@localhost:{port}/0", "The broker is production's"),
        ("redis://queue.example,redis://localhost:{port}", "The broker is production's"),
        ("rediss://127.0.0.1:{port}/1", "The cache default is production's"),
        ("redis://localhost:{port}/2", ""),
        ("redis://localhost:1/0", ""),
        ("amqp://guest:guest@queue.example//", ""),
    ],
)
def test_productions_broker_by_whatever_name(
    host: Host, server: servers.Redis, other: str, said: str
) -> None:
    host.write("host/settings.py", SETTINGS + PRODUCTION)
    host.write("production.env", f"QUEUE='{other.format(port=server.port)}'\n")
    # Without a worker it is the addresses alone that are judged, and at once.
    found = perform(host, HOST_CACHE=server.url(1), HOST_EAGER="1")
    assert found.status == ("failed" if said else "inconclusive")
    if said:
        assert f"{said}: it has the address of QUEUE in production.env." in found.message
    else:
        assert "production" not in found.message
        assert found.facts["production"] == "0 of its 1 queue addresses are used here"
    assert "of-production" not in str(found)


@pytest.mark.parametrize(
    ("text", "said"), [("A=1", "names no queue"), (None, "production.env does not exist")]
)
def test_production_that_cannot_be_compared_is_a_doubt(
    host: Host, text: str | None, said: str
) -> None:
    host.write("host/settings.py", SETTINGS + PRODUCTION)
    if text:
        host.write("production.env", text)
    found = perform(host, HOST_EAGER="1")
    assert found.status == "inconclusive"
    assert said in found.message


@pytest.mark.fault("one frozen child of three", promised="1.4 fails and names the process")
def test_one_frozen_process_of_several(host: Host, server: servers.Redis) -> None:
    several = ["worker", "-Q", "celery,rehearsal", "-c", "3", "-n", "several@here"]
    options = ["--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    with celery(host, *several, *options) as pid, beat(host):
        children = [int(one) for one in children_of(pid)]
        well = perform(host)
        os.kill(children[1], signal.SIGSTOP)
        found = perform(host)
    assert well.status == "passed", well.message
    assert found.status == "failed"
    assert f"Of the worker several@here the process {children[1]} is stuck" in found.message
    assert leftovers(server.url()) == []


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_busy_process_is_not_stuck(host: Host) -> None:
    host.write("host/slow.py", SLOW)
    several = ["worker", "-Q", "celery,rehearsal", "-c", "2", "-n", "several@here"]
    with celery(host, *several, "--loglevel", "INFO", app="host.slow"), beat(host):
        host.manage("shell", "-c", "import host.slow as s; s.app.send_task('host.slow')")
        wait_for((host.path / "slow").exists)
        found = perform(host)
        (host.path / "done").touch()
    assert found.status == "passed", found.message


@pytest.mark.long  # workers of its own; its like is in the default suite
def test_a_process_that_was_busy_while_the_others_answered_is_not_stuck(host: Host) -> None:
    """It has a task of its own just as long as ours go round, and nothing to do when looked at."""
    host.write("host/slow.py", SLOW)
    host.write("host/perform.py", AT_THE_WRONG_MOMENT + PERFORM)
    several = ["worker", "-Q", "celery,rehearsal", "-c", "2", "-n", "several@here"]
    with celery(host, *several, "--loglevel", "INFO", app="host.slow"), beat(host):
        found = perform(host)
    assert (host.path / "over").exists()
    assert found.status == "passed", found.message


AT_THE_WRONG_MOMENT = """
import time
from pathlib import Path
from rehearsal.checks.environment import survey

def until(look):
    while not look():
        time.sleep(0.02)

ask = survey._Question.ask

def asked(self, *arguments):
    if not Path("slow").exists():
        self.app.send_task("host.slow")
        until(Path("slow").exists)
    ask(self, *arguments)
    Path("done").touch()
    until(Path("over").exists)
    until(lambda: not any(self.app.control.inspect(timeout=1).active().values()))

survey._Question.ask = asked
"""
SLOW = """
import time
from pathlib import Path
from host.celery import app

@app.task(name="host.slow", ignore_result=True)
def slow():
    Path("slow").touch()
    while not Path("done").exists():
        time.sleep(0.1)
    Path("over").touch()
"""


def test_two_beats_on_one_broker(host: Host, server: servers.Redis) -> None:
    other = Host(host.path / "elsewhere", host.environ)
    with staging(host), beat(other):
        found = perform(host)
    assert found.status == "failed"
    assert "More than one beat ticks on this broker (" in found.message
    node = re.escape(os.uname().nodename)
    assert re.search(rf"broker \({node}:\d+ and {node}:\d+\)", found.message), found.message
    assert leftovers(server.url()) == []


@pytest.mark.long  # workers of its own; its like is in the default suite
def test_a_beat_that_was_restarted_is_one_beat(host: Host) -> None:
    with worker(host, "staging", "celery,rehearsal"):
        with beat(host):
            pass
        with beat(host):
            found = perform(host)
    assert found.status == "passed", found.message


START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@given(
    st.lists(st.integers(0, 9000), min_size=1, max_size=3, unique=True),
    st.booleans(),
    st.integers(1, 3),
)
def test_beats_are_told_apart_by_their_ticks(
    milliseconds: list[int], one_name: bool, rounds: int
) -> None:
    ticks = [
        Tick(
            "shared" if one_name else f"host:{number}",
            START + datetime.timedelta(milliseconds=phase, seconds=10 * turn),
        )
        for number, phase in enumerate(milliseconds)
        for turn in range(rounds + 1)
    ]
    ticks.sort(key=lambda tick: tick.fired)
    assert bool(several(ticks, 10)) == (len(milliseconds) > 1)


def test_a_worker_started_before_the_last_commit(host: Host) -> None:
    host.environ["HOST_REVISION"] = ""
    git(host, "init", "-q")
    git(host, "commit", "-q", "--allow-empty", "-m", "The release before")
    with staging(host):
        before = perform(host)
        git(host, "commit", "-q", "--allow-empty", "-m", "The release that is rehearsed")
        found = perform(host)
    assert before.status == "passed", before.message
    assert found.status == "failed"
    assert "staging@here runs release" in found.message
    assert "restart it" in found.message


@pytest.mark.long  # workers of its own; its like is in the default suite
def test_a_worker_that_does_not_know_its_release(host: Host) -> None:
    host.environ["HOST_REVISION"] = ""
    with staging(host):
        found = perform(host)
    assert found.status == "inconclusive"
    assert "Whether staging@here runs the release that is rehearsed is unknown" in found.message


def git(host: Host, *arguments: str) -> None:
    who = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=host.path, check=True, timeout=30)
