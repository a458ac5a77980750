"""The stand-in project brought up whole, and its checklist performed: what `make demo` runs.

Starts PostgreSQL and Redis, makes a production database and a staging copy of it, and starts the
web server, the project's worker, the worker of the checks, and beat. With `--once` it performs one
rehearsal, leaves `demo/var/rehearsal.json` and `demo/var/checklist.md`, and exits with the code of
start_rehearsal; otherwise it stays until Ctrl-C. The records stay in `demo/var/kept`, so that the
next run has a rehearsal to be compared with; `make clean` forgets them.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

DEMO = Path(__file__).resolve().parent
sys.path.insert(0, str(DEMO.parent))

from demo import servers  # noqa: E402
from rehearsal import command  # noqa: E402
from rehearsal.env_file import EnvFile  # noqa: E402
from rehearsal.redaction import Redactor  # noqa: E402

SOURCE = DEMO / "src"
VAR = DEMO / "var"
KEPT = VAR / "kept"
"""What a run leaves to the next: its records, and the key that they are sealed with."""
INTERRUPTED = 130


class DemoError(Exception):
    """The demo cannot be brought up; the sentence says what to do."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Project:
    """The stand-in project with its databases, as its processes see it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)
        self.redactor = Redactor.from_environment(environ)

    def run(self, *argv: str, write: Callable[[str], None] | None = None, **environ: str) -> int:
        """Run a program to its end in src/; without `write`, a failure of it is a DemoError."""
        lines: list[str] = []
        finished = command.run(
            argv,
            cwd=SOURCE,
            env={**self.environ, **environ},
            timeout=3600,
            write=write or lines.append,
            redactor=self.redactor,
        )
        if finished.code and not write:
            raise DemoError(
                f"{' '.join(argv[1:])} ended with {finished.code}:\n" + "\n".join(lines)
            )
        return INTERRUPTED if finished.code is None else finished.code

    def manage(self, *argv: str, **environ: str) -> None:
        self.run(sys.executable, "manage.py", *argv, **environ)

    def process(self, log: Path, *argv: str) -> command.Command:
        """Start a program that stays; what it says goes to a log file."""
        file = log.open("w", buffering=1)
        return command.Command(
            argv,
            cwd=SOURCE,
            env=self.environ,
            write=lambda line: print(line, file=file),
            redactor=self.redactor,
            max_output=100 * 1024 * 1024,
        )


@contextmanager
def first_here() -> Iterator[bool]:
    """Whether no other run is up in this clone: one beside it finds and leaves nothing."""
    KEPT.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def kept_key() -> str:
    """The key of the runs before, or a new one for those to come."""
    path = KEPT / "secret_key"
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
    return path.read_text()


class Records:
    """The rehearsals of earlier runs, which the next is compared with."""

    DATABASE = "obcms_rehearsal"
    DUMP = KEPT / "records.dump"

    def __init__(self, project: Project, postgresql: servers.PostgreSQL) -> None:
        self._project = project
        self._server = postgresql

    def find(self) -> None:
        """Fill the empty database with them; those that cannot be read are left out."""
        if not self.DUMP.exists():
            return
        if self._run("pg_restore", "--exit-on-error", "--single-transaction", str(self.DUMP)):
            say(f"{self.DUMP} cannot be restored: this run begins without earlier rehearsals.")

    def keep(self) -> None:
        """Leave them to the next run, unless one is open, which would stand in its way."""
        import psycopg

        with psycopg.connect(self._server.url(self.DATABASE)) as connection:
            opened = "SELECT FROM rehearsal_rehearsal WHERE closed_at IS NULL"
            if connection.execute(opened).fetchone() is not None:
                return
        part = self.DUMP.with_suffix(".part")
        if self._run("pg_dump", "--format=custom", f"--file={part}") == 0:
            part.replace(self.DUMP)

    def _run(self, program: str, *argv: str) -> int:
        at = self._server
        where = ("-h", at.host, "-p", str(at.port), "-U", at.user, "-d", self.DATABASE)
        path = str(servers.binaries() / program)
        return self._project.run(path, *where, *argv, write=say, PGPASSWORD=at.password)


def environment(
    postgresql: servers.PostgreSQL, redis: servers.Redis, folder: Path, key: str
) -> dict[str, str]:
    """What the processes of the staging environment are told."""
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        "DJANGO_SETTINGS_MODULE": "obc_management.settings.staging",
        "DATABASE_URL": postgresql.url("obcms_staging"),
        "REHEARSAL_DATABASE_URL": postgresql.url(Records.DATABASE),
        "REHEARSAL_FOLDER": str(folder / "kept"),
        "POSTGRESQL_BIN": str(servers.binaries()),
        "REDIS_URL": redis.url(0),
        "CELERY_BROKER_URL": redis.url(0),
        "SECRET_KEY": key,
        "DEMO_PASSWORD": os.environ.get("DEMO_PASSWORD") or secrets.token_urlsafe(9),
        "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
        "EMAIL_FILE_PATH": str(folder / "mail"),
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_HOST_USER": "obcms-staging",
        "EMAIL_HOST_PASSWORD": secrets.token_urlsafe(12),
        "GOOGLE_API_KEY": secrets.token_urlsafe(24),
        "GEMINI_API_KEY": secrets.token_urlsafe(24),
        "ENV_FILE": str(folder / ".env.staging"),
        "ENV_TEMPLATE": str(DEMO / ".env.staging.example"),
        "SECRETS_SOURCE": str(folder / "latest.env"),
        "PRODUCTION_ENV": str(folder / "production.env"),
        "WORKER_LOGS": str(folder / "worker.log"),
        "REQUEST_LOGS": str(folder / "web.log"),
        "OWNERS": "deployment-owner@obcms.example,release-manager@obcms.example",
        "OWNERS_MAIL_HOST": "127.0.0.1",
        "OWNERS_MAIL_PORT": str(free_port()),
        "TICKET": str(VAR / "release"),  # which stays
    }


CREDENTIALS = (
    *("REDIS_URL", "CELERY_BROKER_URL", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
    *("EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD"),
)


def write_secrets(environ: Mapping[str, str], redis: servers.Redis) -> None:
    """Leave staging's file with a key of last month, where the source has the latest of all.

    The processes were given the latest, as by a supervisor that asks the vault when it starts them.
    """
    template = EnvFile.read(DEMO / ".env.staging.example")
    latest = {key: environ[key] for key in CREDENTIALS}
    stale = {**environ, "GEMINI_API_KEY": secrets.token_urlsafe(24)}
    staging = template.with_values(
        {key: stale.get(key, said) for key, said in template.values.items()}
    )
    production = {key: secrets.token_urlsafe(24) for key in latest} | {
        "SECRET_KEY": secrets.token_urlsafe(50), "CELERY_BROKER_URL": redis.url(9)
    }  # fmt: skip
    for name, file in (
        ("ENV_FILE", staging),
        ("SECRETS_SOURCE", EnvFile.parse(b"").with_values(latest)),
        ("PRODUCTION_ENV", EnvFile.parse(b"").with_values(production)),
    ):
        path = Path(environ[name])
        path.touch(mode=0o600)
        path.write_bytes(file.data)


def prepare(project: Project, postgresql: servers.PostgreSQL, records: Records | None) -> None:
    """Make production at the release before this one, and staging as a copy of it."""
    import psycopg
    from psycopg import sql

    production = postgresql.create("obcms_production")
    project.manage("seed_production", DATABASE_URL=production)
    reader = secrets.token_urlsafe(24)
    with psycopg.connect(postgresql.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE obcms_staging TEMPLATE obcms_production")
        # Rehearsals reach production by a role that can only read.
        connection.execute(
            sql.SQL(
                "CREATE ROLE production_reader LOGIN PASSWORD {} IN ROLE pg_read_all_data"
            ).format(sql.Literal(reader))
        )
    at = urlsplit(production)
    project.environ["PRODUCTION_DATABASE_URL"] = (
        f"postgresql://production_reader:{reader}@{at.hostname}:{at.port}{at.path}"
    )
    postgresql.create(Records.DATABASE)
    if records:
        records.find()
    for app in ("rehearsal", "django_celery_results"):
        project.manage("migrate", "--database", "rehearsal", app)
    project.manage("rehearsal_enroll", "--yes", "obcms_staging")


def start_processes(project: Project, folder: Path, stack: ExitStack) -> str:
    """Start web, workers and beat; returns the address of the page once it answers."""
    port = free_port(8000)
    project.environ["SITE_URL"] = f"http://127.0.0.1:{port}"
    python = sys.executable
    celery = (python, "-m", "celery", "-A", "obc_management")
    processes: dict[str, Sequence[str]] = {
        "web": (
            *(python, "-m", "gunicorn", "obc_management.wsgi:application", "--workers", "3"),
            *("--bind", f"127.0.0.1:{port}", "--access-logfile", "-", "--no-control-socket"),
        ),
        "worker": (*celery, "worker", "--concurrency", "2", "-n", "obcms@%h", "-l", "INFO"),
        "rehearsal": (python, "manage.py", "rehearsal_worker", "-v", "2"),
        "beat": (*celery, "beat", "-l", "INFO", "-s", str(folder / "beat-schedule"), "--pidfile="),
    }
    started = {}
    for name, argv in processes.items():
        started[name] = stack.enter_context(project.process(folder / f"{name}.log", *argv))
    address = f"{project.environ['SITE_URL']}/rehearsal/"
    deadline = time.monotonic() + 60
    while not answers(address):
        for name, process in started.items():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (folder / f"{name}.log").read_text()[-2000:]
                raise DemoError(f"The process {name!r} did not come up. Its log ends:\n{log}")
        time.sleep(0.2)
    return address


def answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=10) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def free_port(wanted: int = 0) -> int:
    """The port that is wanted, or any that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("No port of 127.0.0.1 is free: end a program that listens, and try again.")


@contextmanager
def post_office(project: Project, folder: Path) -> Iterator[None]:
    """The owners' mail server: it takes what comes and keeps it in files."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Mailbox

    controller = Controller(
        Mailbox(folder / "owners-mail"),
        hostname=project.environ["OWNERS_MAIL_HOST"],
        port=int(project.environ["OWNERS_MAIL_PORT"]),
    )
    controller.start()
    try:
        yield
    finally:
        controller.stop()


REPORT = DEMO / "docs" / "testing" / "TEST_RESULTS_REPORT.md"


@contextmanager
def report_of_people() -> Iterator[None]:
    """Put the report back that the rehearsal writes into; what it made of it stays in var/."""
    before = REPORT.read_bytes()
    try:
        yield
    finally:
        (VAR / REPORT.name).write_bytes(REPORT.read_bytes())
        REPORT.write_bytes(before)


def rehearse(project: Project, folder: Path) -> int:
    """Perform the adopted checklist; returns the exit code of start_rehearsal."""
    result, ticked = folder / "rehearsal.json", folder / "checklist.md"
    code = project.run(
        *("sh", "-c", 'exec "$@" > "$RESULT"', "sh"),
        *(sys.executable, "manage.py", "start_rehearsal", "--by", "demo", "--json"),
        *("--output", str(ticked)),
        write=say,
        RESULT=str(result),
    )
    # A rehearsal of an earlier run is never left looking like this one's.
    for path in (result, ticked):
        target = VAR / path.name
        target.unlink(missing_ok=True)
        if path.is_file() and path.stat().st_size:
            part = VAR / f".{path.name}.{os.getpid()}"
            part.write_bytes(path.read_bytes())
            part.replace(target)
    (VAR / "exit_code").write_text(f"{code}\n")
    return code


def remember(project: Project) -> Path:
    """Let the manage.py beside demo/ find the servers of this run."""
    told = VAR / "demo.env"
    names = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REHEARSAL_DATABASE_URL", "REDIS_URL",
             "CELERY_BROKER_URL", "SECRET_KEY", "PRODUCTION_DATABASE_URL", "REHEARSAL_FOLDER",
             "POSTGRESQL_BIN", "ENV_FILE", "ENV_TEMPLATE", "SECRETS_SOURCE",
             "PRODUCTION_ENV", "SITE_URL", "WORKER_LOGS", "REQUEST_LOGS",
             "OWNERS", "OWNERS_MAIL_HOST", "OWNERS_MAIL_PORT", "TICKET")  # fmt: skip
    told.unlink(missing_ok=True)
    with open(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={project.environ[name]}\n" for name in names)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description="Bring up the stand-in project and rehearse it.")
    parser.add_argument("--once", action="store_true", help="one rehearsal, then end")
    once = parser.parse_args().once
    VAR.mkdir(exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-demo-")))
        say("Starting PostgreSQL and Redis …")
        postgresql = stack.enter_context(servers.postgresql())
        redis = stack.enter_context(servers.redis())
        first = stack.enter_context(first_here())
        key = kept_key() if first else secrets.token_urlsafe(50)
        project = Project(environment(postgresql, redis, folder, key))
        records = Records(project, postgresql) if first else None
        if once:
            project.environ["SIGN_OFF"] = "automatic"  # nobody is there to decide
        write_secrets(project.environ, redis)
        Path(project.environ["TICKET"]).mkdir(exist_ok=True)
        stack.enter_context(post_office(project, folder))
        stack.enter_context(report_of_people())
        say("Making a production database, and staging from it …")
        prepare(project, postgresql, records)
        if records:
            stack.callback(records.keep)  # once the processes below have ended
        say("Starting the web server, two workers and beat …")
        address = start_processes(project, folder, stack)
        if not once:
            told = remember(project)
            stack.callback(lambda: told.unlink(missing_ok=True))
        login = f"sign in as staff with the password {project.environ['DEMO_PASSWORD']}"
        say(f"The page: {address} ({login})")
        code = rehearse(project, folder)
        say(f"start_rehearsal ended with {code}.")
        if once:
            say("The result is in demo/var/rehearsal.json, the document in demo/var/checklist.md.")
            return code
        say(f"The page stays at {address} ({login}). Ctrl-C ends it.")
        while True:
            signal.pause()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("Ended.")
        sys.exit(INTERRUPTED)
    except (DemoError, servers.ServerError, command.CommandError) as error:
        say(str(error))
        sys.exit(1)
