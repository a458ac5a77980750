"""Real PostgreSQL and Redis for the demo, the tests and the benchmarks, in throwaway folders.

    with postgresql() as database, redis() as broker:
        settings = {"default": database.create("staging"), "broker": broker.url()}

They listen on free ports of 127.0.0.1 alone, and are gone when the block is left or its process
ends, however it ends: each has a supervisor, in supervisor.py.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from demo import supervisor
from demo.supervisor import HOST, STOP_SECONDS, ServerError, binaries, missing, readable

__all__ = ["PostgreSQL", "Redis", "ServerError", "binaries", "missing", "postgresql", "redis"]

ANSWER_SECONDS = supervisor.PREPARE_SECONDS + supervisor.READY_SECONDS + STOP_SECONDS


@dataclass(frozen=True)
class _Server:
    host: str
    port: int
    _ask: Callable[[str], Any] = field(repr=False, compare=False)

    def stop(self) -> None:
        """End the server in its orderly way; its data waits for `start`."""
        self._ask("stop")

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self._ask("kill")

    def start(self) -> None:
        """Start it again on the same port, after `stop` or `kill`, and wait until it answers."""
        self._ask("start")


@dataclass(frozen=True)
class PostgreSQL(_Server):
    user: str
    password: str = field(repr=False)

    def url(self, database: str) -> str:
        """The URL of a database on this server, with the superuser's name and password."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(database, safe='')}"

    def create(self, database: str) -> str:
        """Create an empty database and return its URL; psycopg.Error when there is one already."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return self.url(database)


@dataclass(frozen=True)
class Redis(_Server):
    password: str | None = field(repr=False)

    def url(self, db: int = 0) -> str:
        """The URL of one of this server's numbered databases, with the password if it has one."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}{self.host}:{self.port}/{db}"


@contextmanager
def postgresql(directory: Path | None = None) -> Iterator[PostgreSQL]:
    """A PostgreSQL of one's own; its throwaway folder goes below `directory`.

    Raises ServerError when it cannot be started.
    """
    with _supervised({"kind": "postgresql", "parent": directory}) as (facts, ask):
        yield PostgreSQL(HOST, _ask=ask, **facts)


@contextmanager
def redis(
    directory: Path | None = None,
    *,
    password: str | None = None,
    maxmemory_policy: str = "noeviction",
) -> Iterator[Redis]:
    """A Redis of one's own, of at most 256 MB; its throwaway folder goes below `directory`.

    Raises ServerError when it cannot be started.
    """
    options = {"password": password, "maxmemory_policy": maxmemory_policy}
    with _supervised({"kind": "redis", "parent": directory, **options}) as (facts, ask):
        yield Redis(HOST, _ask=ask, password=password, **facts)


@contextmanager
def _supervised(order: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Callable[[str], Any]]]:
    process = subprocess.Popen(
        # -P: nothing beside this file may stand in for a library.
        [sys.executable, "-P", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        start_new_session=True,  # the terminal's Ctrl-C is for the owner
    )
    assert process.stdin and process.stdout
    to_supervisor, from_supervisor = process.stdin, process.stdout

    def ask(line: str) -> Any:
        with suppress(BrokenPipeError):
            to_supervisor.write(line.encode() + b"\n")
        answer = from_supervisor.readline() if readable(from_supervisor, ANSWER_SECONDS) else b""
        if not answer:
            raise ServerError(
                f"The supervisor of {order['kind']} gave no answer within {ANSWER_SECONDS} s "
                "or was killed: see the output above, or start again."
            )
        reply = json.loads(answer)
        if isinstance(reply, str):
            raise ServerError(reply)
        return reply

    try:
        yield ask(json.dumps(order, default=os.fspath)), ask
    finally:
        to_supervisor.close()
        try:
            process.wait(2 * STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # the server goes with it: see supervisor.py
            process.wait()
        from_supervisor.close()
