"""Lines of a log as entries: each with its moment, its level, and the lines that belong to it."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

HEAD = 400
"""Characters at the beginning of a line in which its moment and level are looked for."""
BELONGING = 300
"""Lines without a moment that are kept with the entry above them; the others are counted."""
TRACEBACK = "Traceback (most recent call last)"

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))? ?(Z|UTC|[+-]\d\d:?\d\d)?"
)
_WEB = re.compile(r"\[(\d\d)/(\w{3})/(\d{4})[: ](\d\d):(\d\d):(\d\d)(?: ([+-]\d{4}))?\]")
_SYSLOG = re.compile(r"^(\w{3}) ([ \d]\d) (\d\d):(\d\d):(\d\d)")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_LEVEL = re.compile(r"\b(DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|PANIC)\b")
_JSON_LEVEL = re.compile(r'"(?:level|levelname|severity)"\s*:\s*"(\w+)"', re.IGNORECASE)
WRONG = {"ERROR", "CRITICAL", "FATAL", "PANIC"}


@dataclass
class Entry:
    """One entry of a log: a line that carries a moment, and those below it that carry none."""

    at: datetime.datetime
    level: str
    text: str
    rest: list[str] = field(default_factory=list)
    left_out: int = 0
    traceback: bool = False

    @property
    def wrong(self) -> bool:
        return self.level in WRONG

    @property
    def whole(self) -> str:
        return "\n".join([self.text, *self.rest])

    @property
    def last(self) -> str:
        """What a traceback ends in, else the line itself."""
        ends = [line for line in self.rest if line and not line[0].isspace()]
        return ends[-1] if self.traceback and ends else self.text


def moment(line: str, now: datetime.datetime) -> datetime.datetime | None:
    """When a line was written; without an offset it is in the project's own time zone."""
    head = line[:HEAD]
    try:
        if found := _ISO.search(head):
            *parts, fraction, offset = found.groups()
            micro = int((fraction or "0")[:6].ljust(6, "0"))
            return _at([int(part) for part in parts], offset, micro)
        if found := _WEB.search(head):
            day, month, year, hour, minute, second, offset = found.groups()
            numbers = [year, _MONTHS.index(month) + 1, day, hour, minute, second]
            return _at([int(number) for number in numbers], offset)
        if found := _SYSLOG.search(head):
            month, day, hour, minute, second = found.groups()
            numbers = [now.year, _MONTHS.index(month) + 1, day, hour, minute, second]
            at = _at([int(number) for number in numbers], None)
            ahead = at - now > datetime.timedelta(days=2)
            return at.replace(year=now.year - 1) if ahead else at  # it names no year
    except (ValueError, OverflowError):
        pass  # a thirteenth month, and the like: no moment
    return None


def _at(numbers: list[int], offset: str | None, micro: int = 0) -> datetime.datetime:
    zone: datetime.tzinfo = datetime.UTC
    if offset is None:
        zone = timezone.get_default_timezone()
    elif offset not in ("Z", "UTC"):
        sign = -1 if offset[0] == "-" else 1
        delta = datetime.timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
        zone = datetime.timezone(sign * delta)
    year, month, day, hour, minute, second = numbers
    return datetime.datetime(year, month, day, hour, minute, second, micro, tzinfo=zone)


def level(line: str) -> str:
    """The level that a line says of itself, in capitals; empty when it says none."""
    head = line[:HEAD]
    if head.lstrip().startswith("{"):
        found = _JSON_LEVEL.search(line)
        return found[1].upper() if found else ""
    found = _LEVEL.search(head)
    return found[1] if found else ""


class Reader:
    """Puts lines together to entries; counts what carries no moment and what is not of its time."""

    def __init__(self, since: datetime.datetime, now: datetime.datetime) -> None:
        # Many logs tell whole seconds, cut off.
        self.since = since.replace(microsecond=0)
        self.now = now
        self.first: datetime.datetime | None = None
        self.untimed = 0
        """Lines above the first that carries a moment."""
        self.future = 0
        self.timed = 0
        self._entry: Entry | None = None
        self._outside = False

    def take(self, lines: Iterable[str]) -> Iterator[Entry]:
        """The entries of the rehearsal's time; call `end` for the last one."""
        for line in lines:
            at = moment(line, self.now)
            if at is None:
                self._belongs(line)
                continue
            self.timed += 1
            if self.first is None or at < self.first:
                self.first = at
            yield from self.end()
            if at > self.now + datetime.timedelta(minutes=1):
                self.future += 1
            elif at >= self.since:
                self._entry = Entry(at, level(line), line, traceback=TRACEBACK in line)
                if line.lstrip().startswith("{"):
                    self._entry.rest = _traceback_in_json(line)

    def end(self) -> Iterator[Entry]:
        if self._entry is not None:
            yield self._entry
        self._entry = None

    def _belongs(self, line: str) -> None:
        if self.first is None:
            self.untimed += 1
        elif (entry := self._entry) is not None:
            entry.traceback = entry.traceback or TRACEBACK in line
            if len(entry.rest) < BELONGING:
                entry.rest.append(line)
            else:
                # Its end says what was raised.
                entry.rest[-1] = line
                entry.left_out += 1


def _traceback_in_json(line: str) -> list[str]:
    texts = [
        value
        for value in json_object(line).values()
        if isinstance(value, str) and TRACEBACK in value
    ]
    return texts[0].splitlines()[:BELONGING] if texts else []


def json_object(line: str) -> dict[str, Any]:
    """The JSON object that a line holds; empty where it holds none that can be read."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def counted(found: Counter[str], most: int = 3) -> str:
    """Such as `common.tasks.a (3), common.tasks.b` and how many more there are."""
    said = [f"{name} ({count})" if count > 1 else name for name, count in found.most_common(most)]
    more = len(found) - most
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")
