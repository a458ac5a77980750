"""How a rehearsal looks in a terminal, in a log file and in a build service."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TextIO

from django.core.management.base import BaseCommand, OutputWrapper
from django.utils import timezone

from rehearsal.models import ACTIVE, CheckItem, Rehearsal, Status, Verdict
from rehearsal.redaction import plain

SIGNS = {
    Status.PENDING: "·", Status.QUEUED: "·", Status.RUNNING: "▸", Status.PASSED: "✓",
    Status.FAILED: "✗", Status.INCONCLUSIVE: "?", Status.SKIPPED: "–", Status.ACTION_REQUIRED: "!",
}  # fmt: skip
COLOURS = {
    Status.PASSED: "32", Status.FAILED: "31", Status.INCONCLUSIVE: "33", Status.SKIPPED: "2",
    Status.ACTION_REQUIRED: "36", Status.RUNNING: "34",
}  # fmt: skip
ANNOTATIONS = {
    Status.FAILED: "error", Status.INCONCLUSIVE: "warning", Status.ACTION_REQUIRED: "notice",
}  # fmt: skip
BAR = 24


class Console:
    """Writes settled items as lines; on a terminal a progress bar stays below them.

    `NO_COLOR` turns colours off, and under `GITHUB_ACTIONS` what did not pass is annotated.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self._live = stream.isatty() and environ.get("TERM") != "dumb"
        self._colours = self._live and not environ.get("NO_COLOR")
        self._annotates = environ.get("GITHUB_ACTIONS") == "true"
        self._began = time.monotonic()
        self._told: dict[int, tuple[str, int]] = {}

    def say(self, sentence: str) -> None:
        """Write one line of its own."""
        self._write("" if self._live else self._stamp(), sentence)

    def show(self, items: Iterable[CheckItem]) -> None:
        """Write what was settled since the last call, and how far it is."""
        everything = list(items)
        for item in everything:
            told = (item.status, item.attempt)
            if self._told.get(item.pk) == told or item.status in {Status.PENDING, Status.QUEUED}:
                continue
            self._told[item.pk] = told
            if item.status == Status.RUNNING and self._live:
                continue
            self._item(item)
        if self._live:
            self._bar(everything)

    def end(self, rehearsal: Rehearsal, verdict: Verdict, items: Iterable[CheckItem]) -> None:
        """Write the verdict and how many items ended how."""
        counted: dict[str, int] = {}
        for item in items:
            standing = "waived" if item.waived_by else item.get_status_display()
            counted[standing] = counted.get(standing, 0) + 1
        counts = ", ".join(f"{number} {name}" for name, number in counted.items())
        colour = {Verdict.GREEN: "1;32", Verdict.RED: "1;31"}.get(verdict, "1;33")
        name = self._coloured(verdict.label.upper(), colour)
        self.say(f"{rehearsal} of {rehearsal.environment}: {name}. {counts}.")

    def _item(self, item: CheckItem) -> None:
        status = Status(item.status)
        sign = self._coloured(SIGNS[status], COLOURS.get(status, "0"))
        took = f" ({item.seconds:.1f} s)" if item.seconds is not None else ""
        said = f" — {item.summary}" if item.summary and status != Status.RUNNING else ""
        begins = "" if self._live else self._stamp()
        text = plain(item.text)  # a document must not steer the terminal
        self._write(begins, f"{sign} {item.ref} {status.label}: {text}{took}{said}")
        if self._annotates and status in ANNOTATIONS:
            title = _property(f"{item.ref} {text}")
            self._write("", f"::{ANNOTATIONS[status]} title={title}::{_data(item.summary)}")

    def _bar(self, items: list[CheckItem]) -> None:
        ended = sum(item.status not in ACTIVE | {Status.PENDING} for item in items)
        running = ", ".join(item.ref for item in items if item.status == Status.RUNNING)
        filled = BAR * ended // max(len(items), 1)
        took = int(time.monotonic() - self._began)
        bar = f"{'█' * filled}{'░' * (BAR - filled)} {ended}/{len(items)}  {took} s  {running}"
        # Written without a line end and wiped by whatever is written next.
        put(self._stream, f"\r\x1b[K{bar[: shutil.get_terminal_size().columns - 1]}")

    def _write(self, begins: str, line: str) -> None:
        wipe = "\r\x1b[K" if self._live else ""
        put(self._stream, f"{wipe}{begins}{' '.join(line.split())}\n")

    def _stamp(self) -> str:
        return f"{timezone.localtime():%Y-%m-%d %H:%M:%S} "

    def _coloured(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def reopen(command: BaseCommand) -> bool:
    """Let the streams that were closed lead nowhere; returns whether stdout was open.

    No file of ours gets their number, and no word of ours fails and changes the exit code.
    """
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        setattr(command, name, OutputWrapper(getattr(sys, name)))
    return "stdout" not in closed


def put(stream: TextIO, text: str) -> bool:
    """Write what the stream's encoding can hold of a text.

    Returns False when nobody takes it: the reader is gone, or the disk is full.
    """
    encoding = getattr(stream, "encoding", None) or sys.getdefaultencoding()
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
        return True
    except OSError:
        # What is written from now on goes nowhere, the interpreter's last flush included.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        return False


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
