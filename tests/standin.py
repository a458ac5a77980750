"""The stand-in project at the release that is rehearsed, with its web server and its worker."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from psycopg import sql

from tests import servers

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "demo" / "src"
PERFORM = Path(__file__).with_name("standin_perform.py")  # the project has a package `tests` too


@dataclass
class Site:
    """The stand-in project as it runs; its checks are performed in a process of their own."""

    folder: Path
    database: str
    environ: dict[str, str]
    _performer: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """A process of the project, in a group of its own; what it says is in NAME.log."""
        with (self.folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                arguments,
                cwd=SOURCE,
                env=self.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if name == "perform" else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def perform(self, check: str, **order: Any) -> dict[str, Any]:
        """What a check of this package says; nothing when it is killed on the way."""
        if not self._performer or self._performer[-1].poll() is not None:
            self._performer.append(self.start("perform", sys.executable, str(PERFORM)))
        process = self._performer[-1]
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps({"check": f"rehearsal.{check}", **order}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            process.wait(timeout=10)
            return {}
        answer: dict[str, Any] = json.loads(line)
        assert answer["status"] != "broke", answer["message"]
        return answer

    def plant(self, *faults: str) -> None:
        """Plant these faults, and take away those that were planted before."""
        Path(self.environ["PLANTED_FAULTS"]).write_text("\n".join(faults))

    def rows(self) -> dict[str, int]:
        """How many rows each table has, counted by nobody's models."""
        with psycopg.connect(self.database) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            counts = {}
            for (table,) in tables:
                count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
                counts[table] = connection.execute(count).fetchone()[0]  # type: ignore[index]
        return counts

    def end(self) -> None:
        for process in self._performer:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The running project; its rows are those of production's stand-in."""
    from tests.conftest import wait_for  # which imports this module

    folder = tmp_path_factory.mktemp("site")
    database = servers.postgresql.create(f"oobc_staging_{uuid.uuid4().hex[:8]}")
    address = f"http://127.0.0.1:{free_port()}"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")}
    environ = {
        **inherited,
        "DJANGO_SETTINGS_MODULE": "obc_management.settings.staging",
        "PYTHONPATH": f"{SOURCE}:{ROOT}",
        "DATABASE_URL": database,
        "REHEARSAL_DATABASE_URL": f"sqlite:///{folder}/records.sqlite3",
        "REHEARSAL_FOLDER": str(folder / "kept"),
        # A numbered database of its own: other workers of these tests listen in the first.
        "CELERY_BROKER_URL": servers.redis.url(7),
        "SECRET_KEY": secrets.token_urlsafe(50),
        "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
        "EMAIL_FILE_PATH": str(folder / "mail"),
        "SITE_URL": address,
        "PLANTED_FAULTS": str(folder / "faults"),
    }
    made = Site(folder, database, environ)
    made.plant()
    python = sys.executable
    with ExitStack() as stack:
        stack.callback(made.end)
        for arguments in (
            ["seed_production", "--release", "current"],
            ["migrate", "-v", "0", "--database", "rehearsal", "django_celery_results"],
        ):
            command = [python, "manage.py", *arguments]
            ran = subprocess.run(
                command, cwd=SOURCE, env=environ, capture_output=True, text=True, timeout=120
            )
            assert ran.returncode == 0, ran.stderr
        for name, command in {
            "web": [
                *(python, "-m", "gunicorn", "obc_management.wsgi:application", "--workers", "2"),
                *("--preload", "--bind", address.removeprefix("http://"), "--no-control-socket"),
            ],
            "worker": [
                *(python, "-m", "celery", "-A", "obc_management", "worker", "--concurrency", "2"),
                *("-n", "obcms@here", "--without-gossip", "--without-mingle", "-l", "INFO"),
            ],
        }.items():
            stack.callback(end, made.start(name, *command))

        def is_up() -> bool:
            try:
                with urlopen(f"{address}/health/", timeout=10) as response:
                    return bool(response.status == 200)
            except OSError:
                return False

        wait_for(is_up)
        wait_for(lambda: "ready." in (folder / "worker.log").read_text())
        yield made
