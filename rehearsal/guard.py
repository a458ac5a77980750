"""Stand between an owner and its command: when either is gone, nothing of the command is left.

`command.py` starts this file as a program of its own: `python -I -S guard.py OPTIONS ARGUMENT...`.
It uses the standard library alone and imports nothing of the project. It speaks one JSON object a
line on the socket it inherits: `{"pid"}` or `{"step", "errno"}` once, then `{"code", "left"}`.
A code of null means the guard ended the command, so nobody knows how it would have ended.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_SECONDS = 5.0
"""How long SIGKILL is repeated before whoever is left (another user's process, say) is reported."""
LOOK_SECONDS = 0.25
"""How often to look whether the owner still lives."""


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Guard:
    def __init__(self, options: dict[str, Any], argv: list[str]) -> None:
        self.owner: int = options["owner"]
        self.grace: float = options["grace"]
        self.cwd: str = options["cwd"]
        self.argv = argv
        self.environment = dict(os.environ)
        if options["drop_locale"]:
            # Python adds this to its own environment in the C locale (PEP 538); it is not ours.
            self.environment.pop("LC_CTYPE", None)
        self.control = socket.socket(fileno=options["control"])
        self.control.set_inheritable(False)
        self.pid = 0
        self.code: int | None = None
        self.terminated = False
        # Any signal wakes the waits below. All of them are set here, since an owner may have
        # ignored or blocked them, and a process inherits that.
        self.waker, wake = socket.socketpair()
        self.waker.setblocking(False)
        wake.setblocking(False)
        self.wake = wake
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.on_terminate)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def on_terminate(self, number: int, frame: object) -> None:
        self.terminated = True

    def run(self) -> None:
        # Orphans of the command come to us instead of to init: so we see them, and end them.
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        refusal = self.start()
        if refusal is not None:
            self.say(refusal)
            return
        self.say({"pid": self.pid})
        while self.code is None and not self.must_end():
            self.wait(LOOK_SECONDS, self.control)
            self.reap()
        code = self.code
        self.say({"code": code, "left": sorted(self.end_tree())})

    def start(self) -> dict[str, Any] | None:
        """Start the command in a session of its own; return why not, or None."""
        reader, writer = os.pipe()
        guard = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            step = "start"
            try:
                # Should the guard itself be killed, the command goes with it. The guard has one
                # thread, so "the parent's thread ended" means "the guard ended".
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != guard:
                    os._exit(127)
                os.setsid()
                signal.set_wakeup_fd(-1)
                for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                    # The C library keeps some real-time signals to itself.
                    with suppress(OSError, ValueError):
                        signal.signal(number, signal.SIG_DFL)
                step = "cwd"
                os.chdir(self.cwd)
                step = "program"
                os.execvpe(self.argv[0], self.argv, self.environment)
            except OSError as error:
                os.write(writer, json.dumps({"step": step, "errno": error.errno}).encode())
            finally:
                os._exit(127)
        os.close(writer)
        # Only the command's own tree may hold the output open: its end is then seen by the owner.
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        refusal = b""
        while piece := os.read(reader, 4096):
            refusal += piece
        os.close(reader)
        return json.loads(refusal) if refusal else None

    def must_end(self) -> bool:
        """Whether the owner asked for the end, or is gone.

        The end of the control stream alone would not tell: a process the owner forked without
        exec (a Celery pool's child, multiprocessing) holds a copy of it open. A parent-death
        signal would tell too much: it is sent when the owner's *thread* ends. The kernel gives us
        another parent exactly when the owner's process has ended, whoever else lives on.
        """
        if self.terminated or os.getppid() != self.owner:
            return True
        if not select.select([self.control], [], [], 0)[0]:
            return False
        try:
            asked = self.control.recv(64)
        except OSError:
            return True
        if asked:
            self.grace = float(asked.split()[0])
        return True

    def end_tree(self) -> set[int]:
        """End every process below this one; return those that could not be ended.

        The command is asked first, since it may conduct its own shutdown (a Celery worker lets its
        children finish). The others are asked once it is gone, or at half the grace. Then SIGKILL,
        again and again, until none is left or `KILL_SECONDS` are over.
        """
        began = time.monotonic()
        asked: set[int] = set()
        while True:
            self.reap()
            tree = self.tree()
            if not tree:
                return set()
            age = time.monotonic() - began
            if age >= self.grace + KILL_SECONDS:
                return set(tree)
            if age >= self.grace:
                # By group as well: a group is signalled at one stroke, so a chain of processes
                # that fork and exit faster than we look does not slip through.
                for group in set(tree.values()) - {os.getpgid(0)}:
                    self.send(-group, signal.SIGKILL)
                for pid in tree:
                    self.send(pid, signal.SIGKILL)
            else:
                first = self.pid in tree and age < self.grace / 2
                for pid in ({self.pid} if first else set(tree)) - asked:
                    self.send(pid, signal.SIGTERM)
                    self.send(pid, signal.SIGCONT)
                    asked.add(pid)
            self.wait(0.02)

    def tree(self) -> dict[int, int]:
        """The process group of every process below this one, by process id."""
        parents: dict[int, list[int]] = {}
        groups: dict[int, int] = {}
        try:
            names = [name for name in os.listdir("/proc") if name.isdigit()]
        except OSError:
            names = []
        for name in names:
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it has just ended
            parents.setdefault(int(fields[1]), []).append(int(name))
            groups[int(name)] = int(fields[2])
        if not names:  # no /proc on this system: the command's own group is what can be known
            return {self.pid: self.pid} if self.send(-self.pid, 0) else {}
        found: dict[int, int] = {}
        waiting = [os.getpid()]
        while waiting:
            for pid in parents.get(waiting.pop(), []):
                if pid not in found:
                    found[pid] = groups[pid]
                    waiting.append(pid)
        return found

    @staticmethod
    def send(pid: int, number: int) -> bool:
        try:
            os.kill(pid, number)
        except OSError:
            return False
        return True

    def reap(self) -> None:
        """Bury the dead, ours and adopted, and keep the command's exit code."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)

    def wait(self, seconds: float, *also: socket.socket) -> None:
        """Wait until a signal came, one of the sockets has a word, or the time is over."""
        if self.waker in select.select([self.waker, *also], [], [], seconds)[0]:
            self.waker.recv(4096)

    def say(self, words: dict[str, Any]) -> None:
        with suppress(OSError):  # an owner that is gone does not ask any more
            self.control.sendall(json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    Guard(json.loads(sys.argv[1]), sys.argv[2:]).run()
