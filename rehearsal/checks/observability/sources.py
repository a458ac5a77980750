"""The lines that a log source holds of a rehearsal's time, whatever was rotated meanwhile.

Nothing is remembered between two looks: each reads the files anew from before the window, so a file
that is rotated, copied and truncated, or replaced in between is found where it is then.
"""

from __future__ import annotations

import codecs
import datetime
import glob
import gzip
import os
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from rehearsal import command
from rehearsal.checks.base import Inconclusive, Report
from rehearsal.checks.observability.entries import Entry, Reader, moment
from rehearsal.conf import configuration, redactor
from rehearsal.observed import SINCE, LogSource
from rehearsal.redaction import PlainStream

BLOCK = 1 << 20
MAX_BYTES = 512 << 20
"""Bytes of one source that are read, and of one command's output."""
LONGEST_LINE = 32 << 20
"""Characters of a line that are held together; what is longer is taken in pieces, and said."""
LONGEST_SHOWN = 4000
"""Characters of an entry that are shown, after redaction."""
COMMAND_SECONDS = 60
LOOK_SECONDS = 0.5
"""Between two looks at a log for a line that must come."""


@dataclass
class Window:
    """What a source holds of a rehearsal's time; each entry is handed to `take`."""

    take: Callable[[Entry], None]
    count: int = 0
    lines: int = 0
    files: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def pass_on(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.count += 1
            self.take(entry)


def read(
    source: LogSource, since: datetime.datetime, report: Report, take: Callable[[Entry], None]
) -> Window:
    """Hand on the entries since a moment; what keeps them from being whole is among the doubts."""
    now = datetime.datetime.now(datetime.UTC)
    if source.arguments:
        return _command(source, since, now, report, take)
    window = Window(take)
    pattern = str(configuration().root / source.files)
    named = [Path(path) for path in sorted(glob.glob(pattern)) if os.path.isfile(path)]
    logs = [path for path in named if not _is_rotated(path, named)]
    if not logs:
        window.doubts.append(f"there is no file {source.files}: correct its path")
    for path in logs:
        _log(path, since, now, window)
    return window


def _is_rotated(path: Path, others: list[Path]) -> bool:
    return any(path != other and path.name.startswith(f"{other.name}.") for other in others)


# Files


def _log(path: Path, since: datetime.datetime, now: datetime.datetime, window: Window) -> None:
    """One log with all its rotated files that reach into the window."""
    reader = Reader(since, now)
    family = _family(path)
    inside = [one for one in family if _reaches(one, reader.since)]
    # A rename is a change of the file, if not of its contents: what was rotated before the window
    # tells nothing of a log that was removed in it.
    older = any(_rotated(one) >= int(since.timestamp()) for one in family if one not in inside)
    begins_before = False
    for number, one in enumerate(inside):
        if number == 0:
            first = _first_moment(one, now)
            begins_before = first is not None and first < reader.since
        window.files.append(str(one))
        try:
            for line in _lines(_chunks(one, reader, window)):
                window.lines += 1
                window.pass_on(reader.take([line]))
        except (OSError, EOFError, zlib.error) as error:
            window.doubts.append(f"{one.name} cannot be read ({_why(error)})")
    window.pass_on(reader.end())
    if not inside:
        window.doubts.append(f"{path.name} has no line of this rehearsal's time")
    elif window.lines and not reader.timed:
        window.doubts.append(f"no line of {path.name} carries a date and time that can be read")
    elif not begins_before and not (older and _is_younger(inside[0], since)):
        window.doubts.append(
            f"{path.name} begins within the rehearsal's time, so what came before may be lost: "
            "keep what is rotated or truncated beside it, and let a worker that starts append"
        )
    if reader.future:
        window.doubts.append(
            f"{reader.future} lines of {path.name} carry a time that is still to come: they are "
            "in another time zone than settings.TIME_ZONE; let the log name its offset"
        )


def _family(path: Path) -> list[Path]:
    """A log and its rotated files, the oldest first; a file of two names is one."""
    found: dict[tuple[int, int], tuple[float, bool, Path]] = {}
    folder, stem = path.parent, path.name
    rotated = [*folder.glob(f"{glob.escape(stem)}.*"), *folder.glob(f"{glob.escape(stem)}-*")]
    for one in [path, *rotated]:
        with suppress(OSError):
            told = one.stat()
            if one.is_file():
                found.setdefault((told.st_dev, told.st_ino), (told.st_mtime, one == path, one))
    # The log itself is the newest, also when a compression touched another later.
    return [one for _, _, one in sorted(found.values(), key=lambda told: (told[1], told[0]))]


def _reaches(path: Path, since: datetime.datetime) -> bool:
    try:
        return path.stat().st_mtime >= since.timestamp()
    except OSError:
        return False


def _rotated(path: Path) -> float:
    """When the file was last renamed, or changed in any other way."""
    try:
        return path.stat().st_ctime
    except OSError:
        return 0.0


def _is_younger(path: Path, since: datetime.datetime) -> bool:
    """Whether the file itself was made in the window, as by a rotation, and not emptied in it."""
    try:
        told = subprocess.run(
            ["stat", "--format=%W", "--", str(path)], capture_output=True, timeout=10, check=False
        )
        born = int(told.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return born >= int(since.timestamp())


def _first_moment(path: Path, now: datetime.datetime) -> datetime.datetime | None:
    with suppress(OSError, EOFError, zlib.error), _opened(path) as stream:
        for line in stream.read(BLOCK).decode(errors="replace").splitlines():
            if at := moment(line, now):
                return at
    return None


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _chunks(path: Path, reader: Reader, window: Window) -> Iterator[bytes]:
    """The file's bytes, from a place before the window."""
    left = MAX_BYTES
    with _opened(path) as stream:
        if not isinstance(stream, gzip.GzipFile):
            stream.seek(_place_before(stream, reader))
        while chunk := stream.read(min(BLOCK, left)):
            left -= len(chunk)
            yield chunk
            if not left:
                window.doubts.append(
                    f"only the first {MAX_BYTES >> 20} MB of {path.name} were read"
                )
                return
        if (
            not isinstance(stream, gzip.GzipFile)
            and os.fstat(stream.fileno()).st_size < stream.tell()
        ):
            window.doubts.append(f"{path.name} was truncated while it was read")


def _place_before(stream: BinaryIO, reader: Reader) -> int:
    """The beginning of a block before the window: large logs are mostly of other days."""
    place = stream.seek(0, os.SEEK_END)
    while place > 0:
        place = max(0, place - 8 * BLOCK)
        stream.seek(place)
        head = stream.read(BLOCK).replace(b"\0", b"").decode(errors="replace").splitlines()
        moments = (moment(line, reader.now) for line in head[1 if place else 0 :])
        at = next(filter(None, moments), None)
        if at is not None and at < reader.since:
            return place
    return 0


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Text lines of any bytes: no control characters, and none of them endless."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    plain = PlainStream()
    held: list[str] = []
    length = 0
    for chunk in chunks:
        # A log that was truncated under its writer begins with a hole.
        text = plain.feed(decoder.decode(chunk.replace(b"\0", b"")))
        *lines, rest = text.split("\n")
        for line in lines:
            yield "".join([*held, line])
            held, length = [], 0
        held.append(rest)
        length += len(rest)
        if length > LONGEST_LINE:
            yield "".join(held)
            held, length = [], 0
    last = "".join(held) + plain.feed(decoder.decode(b"", final=True)) + plain.close()
    if last:
        yield from last.split("\n")


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


# Commands


def _command(
    source: LogSource,
    since: datetime.datetime,
    now: datetime.datetime,
    report: Report,
    take: Callable[[Entry], None],
) -> Window:
    window, reader = Window(take, files=[source.name]), Reader(since, now)
    start = reader.since.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if source.arguments[0] != "journalctl":
        start = reader.since.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said: list[str] = []

    def write(line: str) -> None:
        window.lines += 1
        said[:] = [line]
        window.pass_on(reader.take([line]))

    try:
        ended = command.run(
            [one.replace(SINCE, start) for one in source.arguments],
            cwd=configuration().root,
            env=os.environ,
            timeout=COMMAND_SECONDS,
            write=write,
            stop=report.stop,
            redactor=redactor(),
            max_output=MAX_BYTES,
        )
    except command.CommandError as error:
        window.doubts.append(f"it could not be run: {error}")
        return window
    window.pass_on(reader.end())
    if ended.code != 0:
        last = f"; its last line is: {report.redact(said[0])[:500]}" if said else ""
        window.doubts.append(f"it ended with exit code {ended.code}{last}")
    if ended.cut:
        window.doubts.append(f"its last {ended.cut} bytes were not read")
    if window.lines and not reader.timed:
        window.doubts.append("no line of it carries a date and time that can be read")
    if reader.future:
        window.doubts.append(f"{reader.future} of its lines carry a time that is still to come")
    return window


def looks(report: Report, within: float) -> Iterator[None]:
    """Look at once, and again for some seconds; raises Inconclusive when the item is cancelled."""
    deadline = time.monotonic() + within
    yield
    while time.monotonic() < deadline:
        if report.stop.wait(LOOK_SECONDS):
            raise Inconclusive("Stopped before the logs were read: run this item again.")
        yield


def shown(entry: Entry, report: Report) -> str:
    """An entry as it may be shown: without secrets, and only then cut."""
    text = report.redact(entry.whole)
    more = len(text) - LONGEST_SHOWN
    return text[:LONGEST_SHOWN] + (f"… {more} characters more" if more > 0 else "")
