"""Run an argument list: guarded, bounded, streamed, redacted.

A command runs under a guard (`guard.py`), a small process of its own that ends the command's whole
tree when the command ends, when the owner asks for it, and when the owner dies. The guard tells the
exit code over a socket. The owner never learns it from `waitpid`: whoever else waits for this
process's children (billiard does) may take that status away, and the subprocess module then says 0.
"""

import codecs
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rehearsal.redaction import PlainStream, Redactor

__all__ = ["Command", "CommandError", "Ending", "Finished", "run"]

GUARD = Path(__file__).with_name("guard.py")
GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL, unless told otherwise."""
MAX_OUTPUT = 1_000_000
"""Bytes of output that are kept, unless told otherwise."""
TICK = 0.1
"""Seconds between two looks at the clock and at whether the end is wanted."""
START_SECONDS = 20.0
"""How long a guard may take to start its command on a crowded machine."""
END_SECONDS = 15.0
"""How long after the grace a guard may take to answer; it gives up by itself after five."""


class CommandError(Exception):
    """A command could not be started. The message says why, and what to do."""


class Ending(StrEnum):
    """How a command came to its end."""

    EXITED = "exited"
    """By itself. The code is its own; negative: the signal that ended it."""
    TIMED_OUT = "timed_out"
    """It was ended because its time was over."""
    STOPPED = "stopped"
    """It was ended because somebody asked for it."""
    LOST = "lost"
    """Its guard vanished, so nobody knows what it did."""


@dataclass(frozen=True)
class Finished:
    """What is known of a command that is no more."""

    code: int | None
    """The exit code; None when unknown, which is the case whenever the command was ended."""
    ending: Ending
    seconds: float
    """From the start until nothing of the command was left."""
    cut: int
    """Bytes of output beyond the limit, which nobody has seen."""


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    write: Callable[[str], None],
    redactor: Redactor,
    stop: threading.Event | None = None,
    max_output: int = MAX_OUTPUT,
    grace: float = GRACE,
) -> Finished:
    """Run a command to its end, at most `timeout` seconds and as long as `stop` is not set.

    `write` gets the output, standard error included, in this thread: one redacted line at a time,
    without its line end, as soon as the line is complete. Standard input is empty. Whatever ends
    this call, an exception from `write` included, nothing of the command is left behind.

    Raises CommandError if the command cannot be started.
    """
    process = _Process(argv, cwd, env, write, redactor, max_output)
    deadline = process.started + timeout

    def end() -> Ending | None:
        if stop is not None and stop.is_set():
            return Ending.STOPPED
        return Ending.TIMED_OUT if time.monotonic() >= deadline else None

    return process.follow(end, lambda: grace)


class Command:
    """A command that runs beside us until it is stopped, such as a Celery worker.

    Takes the arguments of `run`; `write` is called in a thread of its own. As a context manager it
    is stopped at the end of the block.

    Raises CommandError if the command cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        write: Callable[[str], None],
        redactor: Redactor,
        max_output: int = MAX_OUTPUT,
    ) -> None:
        self._process = _Process(argv, cwd, env, write, redactor, max_output)
        self._stop = threading.Event()
        self._grace = GRACE
        self._finished: Finished | None = None
        self._thread = threading.Thread(
            target=self._follow, name=f"command-{self.pid}", daemon=True
        )
        self._thread.start()

    @property
    def pid(self) -> int:
        """The command's own process id; it leads its session and process group."""
        return self._process.pid

    def poll(self) -> Finished | None:
        """How it ended, or None while it runs."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> Finished | None:
        """Wait for the end, at most `timeout` seconds; None if it still runs."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            return None
        # The thread ends without a result only by an exception from `write`.
        return self._finished or Finished(None, Ending.LOST, self._process.age(), 0)

    def stop(self, grace: float = GRACE) -> Finished:
        """End it: SIGTERM, after `grace` seconds SIGKILL. Return how it ended."""
        self._grace = grace
        self._stop.set()
        finished = self.wait(grace + END_SECONDS + 5)
        return finished or Finished(None, Ending.LOST, self._process.age(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _follow(self) -> None:
        self._finished = self._process.follow(
            lambda: Ending.STOPPED if self._stop.is_set() else None, lambda: self._grace
        )


class _Process:
    """A guard and its command, seen from the owner, by one thread."""

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        write: Callable[[str], None],
        redactor: Redactor,
        max_output: int,
    ) -> None:
        if not argv:
            raise CommandError("No command was given: expected a program and its arguments.")
        self.started = time.monotonic()
        self._output = _Output(write, redactor, max_output)
        self._words = b""
        self._over = False
        self.pid = 0
        self._asked: Ending | None = None
        self._asked_until = float("inf")
        self._control, control = socket.socketpair()
        self._reader, writer = os.pipe()
        options = {
            "owner": os.getpid(),
            "control": control.fileno(),
            "cwd": os.fspath(cwd),
            "grace": GRACE,
            "drop_locale": "LC_CTYPE" not in env,
        }
        try:
            # -I: neither PYTHON* variables nor the working directory change what the guard is.
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", os.fspath(GUARD), json.dumps(options), *argv],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT,
                pass_fds=[control.fileno()],
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._control.close()
            os.close(self._reader)
            raise CommandError(
                f"{argv[0]!r} could not be started: {error}. Arguments and environment must be "
                f"of a size and of characters the system takes, and {sys.executable} must run."
            ) from None
        finally:
            control.close()
            os.close(writer)
        os.set_blocking(self._reader, False)
        try:
            self.pid = self._begin(argv[0], cwd, env)
        except BaseException:
            self._close()
            raise

    def age(self) -> float:
        return time.monotonic() - self.started

    def follow(self, end: Callable[[], Ending | None], grace: Callable[[], float]) -> Finished:
        """Pass the output on until the command is gone; end it once `end` gives a reason."""
        try:
            while (result := self._look(TICK)) is None:
                if self._asked is None and (reason := end()) is not None:
                    self._ask(reason, grace())
                if time.monotonic() > self._asked_until:
                    break  # the guard does not answer, so neither code nor tree is known
            self._drain()
            cut = self._output.close()
            if left := (result or {}).get("left"):
                self._output.say(f"… {len(left)} processes could not be ended: {left}")
            if not result:
                return Finished(None, Ending.LOST, self.age(), cut)
            code = result["code"]
            ending = Ending.EXITED if code is not None else self._asked or Ending.STOPPED
            return Finished(code, ending, self.age(), cut)
        finally:
            self._close()

    def _begin(self, program: str, cwd: Path, env: Mapping[str, str]) -> int:
        """Wait until the guard has started the command; return the command's process id."""
        deadline = self.started + START_SECONDS
        while time.monotonic() < deadline:
            words = self._look(TICK)
            if words is None:
                continue
            if "pid" in words:
                return int(words["pid"])
            if "step" not in words:
                raise CommandError(
                    f"Nobody knows whether {program!r} began: its guard vanished at once. Check "
                    f"that {sys.executable} runs, and that nothing kills processes here, as a "
                    "system short of memory does."
                )
            reason = os.strerror(words["errno"])
            if words["step"] == "cwd":
                raise CommandError(
                    f"The working directory {os.fspath(cwd)!r} cannot be entered: {reason}. "
                    "Create it, or name another."
                )
            remedy = {
                "Exec format error": "Give it a #! line, or name its interpreter first.",
                "Permission denied": "Make it executable (chmod +x).",
                "Argument list too long": "Shorten its arguments and environment.",
            }.get(reason, "Install it, name it by its full path, or correct PATH.")
            raise CommandError(
                f"The program {program!r} cannot be run: {reason}. {remedy} "
                f"PATH is {env.get('PATH', os.defpath)!r}."
            )
        raise CommandError(
            f"{program!r} could not be started: its guard ({sys.executable} -I -S {GUARD.name}) "
            f"did not answer within {START_SECONDS:.0f} seconds. Check that this Python runs, "
            "and that the machine is not overloaded."
        )

    def _look(self, seconds: float) -> dict[str, Any] | None:
        """Pass on what output there is; return the guard's next word, {} when it is gone."""
        # No end of stream is needed to see a guard gone: a process we forked may hold its end of
        # the socket open. Asked before the poll, since its last word is there before it goes.
        gone = self._guard.poll() is not None
        poll = select.poll()  # unlike select(), it knows descriptors beyond 1023
        poll.register(self._control, select.POLLIN)
        if not self._output.ended:
            poll.register(self._reader, select.POLLIN)
        ready = dict(poll.poll(0 if b"\n" in self._words else seconds * 1000))
        if self._reader in ready:
            self._read()
        if self._control.fileno() in ready:
            try:
                heard = self._control.recv(65_536)
            except OSError:
                heard = b""
            gone = not heard
            self._words += heard
        if b"\n" not in self._words:
            return {} if gone else None
        line, self._words = self._words.split(b"\n", 1)
        words: dict[str, Any] = json.loads(line)
        self._over = "code" in words
        return words

    def _read(self) -> bool:
        try:
            self._output.feed(os.read(self._reader, 65_536))
        except BlockingIOError:
            return False
        return not self._output.ended

    def _drain(self) -> None:
        """Take what is left in the pipe. Not to its end: a survivor may hold it open for ever."""
        for _ in range(32):
            if not self._read():
                return

    def _ask(self, reason: Ending, grace: float) -> None:
        self._asked = reason
        self._asked_until = time.monotonic() + grace + END_SECONDS
        with suppress(OSError):
            self._control.send(f"{grace}\n".encode(), socket.MSG_DONTWAIT)

    def _close(self) -> None:
        """Let go of the guard; if the command still runs, end it first."""
        try:
            if not self._over and self._guard.poll() is None:
                self._output.mute()
                self._ask(Ending.STOPPED, GRACE)
                while self._look(TICK) is None and time.monotonic() < self._asked_until:
                    pass
        finally:
            self._control.close()
            os.close(self._reader)
            try:
                self._guard.wait(timeout=1)
            except subprocess.TimeoutExpired:
                self._guard.kill()
                with suppress(subprocess.TimeoutExpired):
                    self._guard.wait(timeout=5)
            if not self._over and self.pid:
                # Without its guard the command itself dies at once; this is for its children.
                with suppress(OSError):
                    os.killpg(self.pid, signal.SIGKILL)


class _Output:
    """The way of the output: bytes, text, plain text, redacted text, lines."""

    def __init__(self, write: Callable[[str], None], redactor: Redactor, limit: int) -> None:
        self.say = write
        self.ended = False
        self._room = limit
        self._cut = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._plain = PlainStream()
        self._redacted = redactor.stream()
        self._line: list[str] = []

    def feed(self, data: bytes) -> None:
        """Take a piece of output; no bytes are the end. What exceeds the limit is counted only."""
        self.ended = not data
        kept = data[: self._room]
        self._room -= len(kept)
        self._cut += len(data) - len(kept)
        if kept:
            self._show(self._redacted.feed(self._plain.feed(self._decoder.decode(kept))))

    def close(self) -> int:
        """Show what was held back; return how many bytes were cut.

        At a cut it is not shown: it may be the beginning of a secret.
        """
        if self._cut:
            self._cut += len(self._decoder.getstate()[0])
            self._cut += len(self._redacted.withdraw().encode())
        else:
            last = self._plain.feed(self._decoder.decode(b"", final=True)) + self._plain.close()
            self._show(self._redacted.feed(last) + self._redacted.close())
        if any(self._line):
            self.say("".join(self._line))
        if self._cut:
            self.say(f"… {self._cut} bytes more were cut")
        return self._cut

    def mute(self) -> None:
        """Show nothing any more."""
        self.say = lambda line: None

    def _show(self, text: str) -> None:
        # Pieces are joined once: a line without an end would be copied with each of them.
        first, *rest = text.split("\n")
        self._line.append(first)
        for piece in rest:
            line, self._line = "".join(self._line), [piece]
            self.say(line)
