"""A revision of the project that can be asked for pages: this one, or an earlier one beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tarfile
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.urls import NoReverseMatch, reverse

from rehearsal import command, conf
from rehearsal.checks.base import Inconclusive, Report
from rehearsal.checks.commands import COMMIT
from rehearsal.conf import configuration, redactor
from rehearsal.observed import PageName

PROBE = Path(__file__).with_name("probe.py")
START_SECONDS = 240
"""How long a project may take to start; the machine may be busy, and the project large."""
ANSWER_SECONDS = 600
MAX_ANSWER = 16_000_000
GIT_SECONDS = 120


class CannotRun(Exception):
    """A revision cannot be run, or does not show a page: why, in a sentence without an end."""


@dataclass(frozen=True)
class Profile:
    """What one request of a page costs, by counts that no machine changes."""

    queries: int
    sql: dict[str, int]
    rows: int
    bytes: int
    calls: int
    warm_queries: int

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass
class Side:
    """A process that runs one revision; see `side`."""

    name: str
    _connection: socket.socket
    _process: command.Command
    _stop: threading.Event
    _said: deque[str] = field(default_factory=deque)
    _held: bytes = b""
    database: str = ""
    """The database its settings lead to."""

    def profile(self, page: PageName) -> Profile:
        """Raises CannotRun when the page is not shown."""
        told = self.ask("profile", page)
        cold, warm = told["cold"], told["warm"]
        _must_be_shown(page, cold["status"])
        return Profile(
            cold["queries"], cold["sql"], cold["rows"], cold["bytes"], cold["calls"],
            warm["queries"],
        )  # fmt: skip

    def block(self, page: PageName, count: int, burn: float = 0) -> dict[str, list[float]]:
        """The seconds of `count` requests, as `cpu` and `wall`; raises CannotRun."""
        told = self.ask("block", page, count=count, burn=burn)
        _must_be_shown(page, told["status"])
        return {"cpu": told["cpu"], "wall": told["wall"]}

    def ask(self, do: str, page: PageName | None = None, **more: Any) -> dict[str, Any]:
        order = {"do": do, **more}
        if page is not None:
            order |= {"path": address(page), "htmx": page.htmx}
        try:
            self._connection.sendall(json.dumps(order).encode() + b"\n")
            answer: dict[str, Any] = json.loads(self._line())
        except (OSError, ValueError) as error:
            last = f"; its last words: {self._said[-1]}" if self._said else ""
            raise CannotRun(f"its process went away ({error}){last}") from None
        if "error" in answer:
            raise CannotRun(redactor().redact(answer["error"])[:500])
        return answer

    def _line(self) -> bytes:
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._held:
            if self._stop.is_set():
                raise Inconclusive("Stopped while pages were asked for: run this item again.")
            if self._process.poll() is not None:
                raise OSError("it ended")
            if time.monotonic() > deadline or len(self._held) > MAX_ANSWER:
                raise OSError("it did not answer in time")
            try:
                heard = self._connection.recv(1 << 16)
            except TimeoutError:
                continue
            if not heard:
                raise OSError("it hung up")
            self._held += heard
        line, self._held = self._held.split(b"\n", 1)
        return line


def _must_be_shown(page: PageName, status: int) -> None:
    if status != 200:
        why = ", as to somebody who is not signed in" if status in {302, 303} else ""
        raise CannotRun(f"the page {page.name} answers {status} where 200 was expected{why}")


def address(page: PageName) -> str:
    """The path of a page with its query; raises CannotRun when it has none."""
    path = page.target
    if not path.startswith("/"):
        try:
            path = reverse(path)
        except NoReverseMatch as error:
            raise CannotRun(f"the page {page.name} has no address ({error})") from None
    return path + (f"?{page.query}" if page.query else "")


@contextmanager
def side(tree: Path, name: str, report: Report) -> Iterator[Side]:
    """The project's code in `tree` (a checkout laid out as the project's root), in a process that
    answers; raises CannotRun when it does not start."""
    here = configuration()
    manage = here.manage_path.resolve()
    root = here.root.resolve()
    below = manage.parent.relative_to(root) if manage.is_relative_to(root) else Path()
    said: deque[str] = deque(maxlen=5)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-")))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(folder / "probe"))
        listener.listen(1)
        listener.settimeout(0.2)
        environ = {
            **os.environ,
            "REHEARSAL_PROBE_SOCKET": str(folder / "probe"),
            "REHEARSAL_PROBE_TREE": str(tree.resolve()),
            # Sets of words are walked in one order, so that counts can be the same.
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": _path(root, tree),
        }
        try:
            process = stack.enter_context(
                command.Command(
                    [here.python, str(PROBE)],
                    cwd=tree / below,
                    env=environ,
                    write=said.append,
                    redactor=redactor(),
                )
            )
        except command.CommandError as error:
            raise CannotRun(str(error)) from None
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                connection, _ = listener.accept()
                break
            except TimeoutError:
                if process.poll() is not None or report.stop.is_set():
                    last = said[-1] if said else "it said nothing"
                    raise CannotRun(f"its process did not start; its last words: {last}") from None
                if time.monotonic() > deadline:
                    raise CannotRun(f"it did not start within {START_SECONDS} s") from None
        stack.enter_context(connection)
        connection.settimeout(1)
        found = Side(name, connection, process, report.stop, said)
        roles = list(here.roles.values())
        told = found.ask("begin", username=roles[0] if roles else "")
        found.database = told["database"]
        yield found


def _path(root: Path, tree: Path) -> str:
    """PYTHONPATH for another tree: what leads into this one must lead into that one instead."""
    parts = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    found = []
    for part in parts:
        at = Path(part).resolve()
        inside = tree.resolve() != root and at.is_relative_to(root)
        found.append(str(tree.resolve() / at.relative_to(root)) if inside else part)
    return os.pathsep.join(found)


@contextmanager
def tree_of(revision: str, report: Report) -> Iterator[Path]:
    """The project's files as they were at a commit, in a folder that goes with the block.

    Raises CannotRun when git does not have them.
    """
    if not re.fullmatch(COMMIT, revision):
        raise CannotRun(f"{revision or 'nothing'!r} does not name a commit")
    folder = conf.folder("worktrees") / f"{revision[:40]}-{report.rehearsal.number}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        archive = folder.with_suffix(".tar")
        said: list[str] = []
        ended = command.run(
            # An archive, since a worktree of git's own would leave traces in the repository.
            ["git", "archive", "--format=tar", f"--output={archive}", revision],
            cwd=configuration().root,
            env=os.environ,
            timeout=GIT_SECONDS,
            write=said.append,
            stop=report.stop,
            redactor=redactor(),
        )
        if ended.code != 0:
            raise CannotRun(f"git has no files of it here ({said[-1] if said else 'no reason'})")
        with tarfile.open(archive) as files:
            files.extractall(folder, filter="data")
        yield folder
    except (OSError, command.CommandError, tarfile.TarError) as error:
        raise CannotRun(f"its files cannot be had ({error})") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".tar").unlink(missing_ok=True)
