"""Start a rehearsal and, unless told otherwise, wait for its verdict."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import sys
import time
from argparse import BooleanOptionalAction
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    SystemCheckError,
)
from django.db import DatabaseError, connections
from kombu.exceptions import OperationalError

from rehearsal import broker, command, conf, plan, records, tasks
from rehearsal.management.console import Console, put, reopen
from rehearsal.models import Rehearsal, Verdict, verdict

USAGE, ALREADY_OPEN, NO_WORKER, TIMED_OUT, INTERRUPTED = 2, 4, 5, 7, 130
EXIT_CODES = {
    Verdict.GREEN: 0,
    Verdict.RED: 1,
    Verdict.ACTION_REQUIRED: 3,
    Verdict.CANCELLED: 6,
}
LOOK_EVERY = 0.3
"""Seconds between two looks at a rehearsal that is waited for."""
SWEEP_EVERY = 2.0
WORKER_READY_WITHIN = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal asked this command to stop."""


class Command(BaseCommand):
    """The door for deploy scripts: exit code 0 only when everything is green."""

    help = (
        "Perform the checklist. Exits with 0 green, 1 red, 2 usage or configuration, 3 waits for "
        "a person, 4 another rehearsal is open, 5 no worker or broker, 6 cancelled, 7 timed out, "
        "130 interrupted."
    )
    requires_system_checks = ()  # Run in handle(), so that what they find exits with 2.

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--checklist", type=Path, metavar="FILE", help="the Markdown document to perform")
        add("--revision", metavar="SHA", help="the commit rehearsed (default: the one checked out)")
        add("--by", metavar="NAME", help="who starts it (default: you)")
        add("--only", nargs="+", default=[], metavar="REF", help="perform only these items")
        add("--wait", action=BooleanOptionalAction, default=True, help="wait for the verdict")
        add("--timeout", type=float, default=7200, metavar="SECONDS",
            help="cancel the rehearsal after this long (default: 7200)")  # fmt: skip
        add("--worker", action="store_true", help="run a worker for the duration of the rehearsal")
        add("--json", action="store_true", help="write the result to stdout as JSON")
        add("--output", type=Path, metavar="FILE.md", help="write the ticked checklist here")
        add("--junit", type=Path, metavar="FILE.xml", help="write the result here as JUnit XML")

    def handle(self, *args: Any, **options: Any) -> None:
        if not reopen(self) and options["json"]:
            raise CommandError(
                "--json writes to stdout, which is closed: open it, or leave out --json.",
                returncode=USAGE,
            )
        try:
            self.check(app_configs=None, tags=["rehearsal"])
            with _signals():
                self._handle(options)
        except Interrupted as error:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from error
        except (SystemCheckError, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=USAGE) from error
        except plan.StartError as error:
            raise CommandError(str(error), returncode=USAGE) from error
        except plan.AlreadyOpen as error:
            raise CommandError(str(error), returncode=ALREADY_OPEN) from error
        except DatabaseError as error:
            alias = conf.configuration().database
            raise CommandError(
                f"The records in the database {alias!r} cannot be used: {_first_line(error)}. Is "
                f"it running, and was `migrate --database {alias}` applied?",
                returncode=USAGE,
            ) from error

    def _handle(self, options: dict[str, Any]) -> None:
        console = Console(sys.stderr if options["json"] else sys.stdout)
        text = _read(options["checklist"] or conf.configuration().checklist)
        for path in (options["output"], options["junit"]):
            _writable(path)
        if options["worker"] and not options["wait"]:
            raise plan.StartError("--worker ends with this command: leave out --no-wait.")
        if not options["timeout"] > 0:  # which is so of nan too
            raise plan.StartError("--timeout is a number of seconds greater than 0.")
        by = options["by"] or _user()
        rehearsal = None
        try:
            with ExitStack() as stack:
                try:
                    if options["worker"]:
                        plan.bound(text)
                        stack.enter_context(_worker(console))
                    else:
                        _require_worker()
                    with _held():  # until it is known what an interrupt has to cancel
                        rehearsal = tasks.start(
                            text, by=by, revision=options["revision"], only=options["only"]
                        )
                    console.say(f"{rehearsal} of {rehearsal.environment} started by {by}.")
                    if options["wait"]:
                        found = self._wait(rehearsal, console, by, options["timeout"])
                        code = EXIT_CODES[found] if found else TIMED_OUT
                    else:
                        code = 0
                except Interrupted:
                    connections.close_all()  # one that was amid a query answers no other
                    if rehearsal is not None:
                        cancelled = tasks.cancel(rehearsal.number, by=by)
                        ended = "was cancelled" if cancelled else "had ended"
                        console.say(f"Interrupted: {rehearsal} {ended}.")
                    code = INTERRUPTED
        except Interrupted:  # while the worker ended; if it still lives, it ends with us
            code = INTERRUPTED
        if rehearsal is not None and options["wait"]:
            rehearsal.refresh_from_db()
            for path, content in (
                (options["output"], records.ticked),
                (options["junit"], records.as_junit),
            ):
                try:
                    _write(path, content(rehearsal))
                except OSError as error:
                    console.say(f"{path} could not be written: {error.strerror}.")
                    code = code or USAGE
        if rehearsal is not None and options["json"]:
            # Whatever the encoding of stdout, ASCII is part of it.
            told = put(sys.stdout, json.dumps(records.as_json(rehearsal), indent=2) + "\n")
            code = code if told else code or USAGE
        if code:
            sys.exit(code)

    def _wait(
        self, rehearsal: Rehearsal, console: Console, by: str, timeout: float
    ) -> Verdict | None:
        """Show the rehearsal until it is decided; None when time ran out and it was cancelled."""
        deadline = time.monotonic() + timeout
        swept = time.monotonic()
        seen = -1
        while True:
            try:
                rehearsal.refresh_from_db()
                if rehearsal.version != seen:
                    seen = rehearsal.version
                    items = tasks.items_of(rehearsal.number)
                    stands = verdict(rehearsal, items)
                    console.show(items)
                    if stands != Verdict.RUNNING:
                        rehearsal.refresh_from_db()  # it may be the items of one just cancelled
                        stands = verdict(rehearsal, items)
                        console.end(rehearsal, stands, items)
                        return stands
                if time.monotonic() - swept > SWEEP_EVERY:
                    tasks.sweep(rehearsal.number)
                    swept = time.monotonic()
            except DatabaseError as error:
                console.say(f"The records cannot be read, trying again: {_first_line(error)}")
                connections.close_all()
                time.sleep(1)
            if time.monotonic() > deadline:
                tasks.cancel(rehearsal.number, by=by)
                console.say(f"Not decided within {timeout:g} s: {rehearsal} was cancelled.")
                return None
            time.sleep(LOOK_EVERY)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise plan.StartError(
            f"The checklist {path} cannot be read ({error.strerror}): name a Markdown file."
        ) from error


def _writable(path: Path | None) -> None:
    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise plan.StartError(f"{path} cannot be written: name a file in a folder of yours.")


def _write(path: Path | None, content: str) -> None:
    if path is None:
        return
    if path.exists() and not path.is_file():  # a pipe or a device takes it, and stays what it is
        path.write_bytes(content.encode())
        return
    path = path.resolve()
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.encode())
    if path.exists():
        shutil.copymode(path, part)
    part.replace(path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"user {os.getuid()}"


@contextmanager
def _signals() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        # A second signal is let through to whoever waits for the cancel to be written.
        signal.signal(number, signal.SIG_DFL)
        raise Interrupted

    # SIGHUP comes when a terminal is closed, unless nohup has it ignored.
    wanted = [one for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, interrupt) for one in wanted}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _held() -> Iterator[None]:
    """Let no signal in before the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require_worker() -> None:
    queue = conf.configuration().queue
    try:
        nodes = broker.consumers()
    except (OperationalError, OSError) as error:
        raise CommandError(
            f"The broker cannot be reached ({_first_line(error)}): start it, or correct its "
            "address in the Celery settings.",
            returncode=NO_WORKER,
        ) from error
    if not nodes:
        raise CommandError(
            f"No worker takes checks from the queue {queue!r}: run `manage.py rehearsal_worker`, "
            "or add --worker to this command.",
            returncode=NO_WORKER,
        )


@contextmanager
def _worker(console: Console) -> Iterator[None]:
    """A worker of our own for as long as the context lasts."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    lines: deque[str] = deque(maxlen=20)
    with command.Command(
        [sys.executable, "-m", "django", "rehearsal_worker"],
        cwd=Path.cwd(),
        env=environ,
        write=lines.append,
        redactor=conf.redactor(),
    ) as worker:
        deadline = time.monotonic() + WORKER_READY_WITHIN
        while not any(node.startswith(f"rehearsal-{worker.pid}@") for node in _consumers()):
            if worker.poll() is not None or time.monotonic() > deadline:
                raise CommandError(
                    "The worker did not start: its last lines were\n" + "\n".join(lines),
                    returncode=NO_WORKER,
                )
            time.sleep(0.2)
        console.say("A worker for this rehearsal is up.")
        yield


def _consumers() -> list[str]:
    try:
        return broker.consumers()
    except (OperationalError, OSError):
        return []
