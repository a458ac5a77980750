"""What is looked at besides the code, as the `REHEARSAL` setting names it: logs, pages, monitors.

Each has a `read` that takes what the setting says and raises TypeError or ValueError naming what
was expected.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

JOURNAL = "journal:"
SINCE = "{since}"
"""In the arguments of a command, the moment from which its lines are wanted, as ISO 8601 in UTC."""
MONITORS = ("prometheus", "alertmanager", "grafana")
LONGEST_PATTERN = 500


def web_address(value: object) -> str:
    """The address of a web server, without a slash at its end."""
    if not isinstance(value, str):
        raise TypeError("an address such as https://staging.example.org was expected")
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = None
    if not whole or parts.username or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError("an address such as https://staging.example.org was expected")
    return value.rstrip("/")


@dataclass(frozen=True)
class LogSource:
    """Where lines of a log come from: files, a unit of the journal, or a command's output."""

    files: str = ""
    """A path or glob pattern; rotated files beside it are found by its name."""
    arguments: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: object) -> LogSource:
        """A path, `journal:UNIT`, or the list of a command's arguments."""
        if isinstance(value, (str, Path)) and str(value):
            text = str(value)
            if not text.startswith(JOURNAL):
                return cls(files=text)
            unit = text.removeprefix(JOURNAL)
            if not re.fullmatch(r"[\w@:.\\-]+", unit) or unit.startswith("-"):
                raise ValueError("the name of a unit was expected after journal:")
            # The lines as they were written: a traceback's own lines carry no moment.
            since = ("--since", SINCE, "--output", "cat", "--no-pager")
            return cls(arguments=("journalctl", "--unit", unit, *since))
        if isinstance(value, (list, tuple)) and value and all(isinstance(x, str) for x in value):
            return cls(arguments=tuple(value))
        raise TypeError("a path, journal:UNIT or a list of arguments was expected")

    @property
    def name(self) -> str:
        return self.files or " ".join(self.arguments)


@dataclass(frozen=True)
class KnownNoise:
    """A complaint that people know of: not held against the rehearsal until a day has passed."""

    match: re.Pattern[str]
    reason: str
    until: datetime.date

    @classmethod
    def read(cls, value: object) -> KnownNoise:
        """`{"match": a regular expression, "reason": words, "until": "2026-12-31"}`."""
        if not isinstance(value, Mapping) or set(value) != {"match", "reason", "until"}:
            raise TypeError("dicts of match, reason and until were expected")
        match, reason, until = (value[name] for name in ("match", "reason", "until"))
        if not isinstance(match, str) or not 3 <= len(match) <= LONGEST_PATTERN:
            raise ValueError("a regular expression of 3 to 500 characters was expected as match")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError("some words were expected as reason")
        try:
            pattern = re.compile(match)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"match is no regular expression ({error})") from None
        if pattern.search(""):
            raise ValueError("match fits every line; name what is known")
        if isinstance(until, str):
            try:
                until = datetime.date.fromisoformat(until)
            except ValueError:
                raise ValueError("a day such as 2026-12-31 was expected as until") from None
        if not isinstance(until, datetime.date) or isinstance(until, datetime.datetime):
            raise TypeError("a day such as 2026-12-31 was expected as until")
        return cls(pattern, " ".join(reason.split()), until)

    @property
    def sentence(self) -> str:
        return f"{self.match.pattern!r}: {self.reason} (until {self.until})"


@dataclass(frozen=True)
class PageName:
    """A page or interface that matters: a URL name or path, with its query, htmx or not."""

    target: str
    query: str = ""
    htmx: bool = False

    @classmethod
    def read(cls, value: object) -> PageName:
        """`common:dashboard`, `/calendar/?month=2025-10`, `htmx common:tasks?status=open`."""
        if not isinstance(value, str):
            raise TypeError("names of URLs or paths were expected")
        words = value.split()
        htmx = words[:1] == ["htmx"]
        if len(words) != 1 + htmx:
            raise ValueError("the name of a URL or a path was expected, perhaps after `htmx `")
        target, _, query = words[-1].partition("?")
        if not target or target.startswith("//") or "://" in target:
            raise ValueError("the name of a URL or a path of this site was expected")
        return cls(target, query, htmx)

    @property
    def name(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{'htmx ' if self.htmx else ''}{self.target}{query}"


@dataclass(frozen=True)
class Monitor:
    """A server that knows of alerts."""

    kind: str
    url: str
    token: str = field(default="", repr=False)
    """The name of the environment variable that holds its token."""
    match: Mapping[str, str] = field(default_factory=dict)
    """Labels: only targets, rules' alerts and alerts with these values are this environment's."""
    watchdog: str = "Watchdog"
    """The alert that always fires, to show that alerts come through."""

    @classmethod
    def read(cls, value: object) -> Monitor:
        """`{"kind": "prometheus", "url": "http://…", "token": "A_VARIABLE", "match": {}}`."""
        if not isinstance(value, Mapping) or not {"kind", "url"} <= set(value):
            raise TypeError("dicts with kind and url were expected")
        if unknown := set(value) - {"kind", "url", "token", "match", "watchdog"}:
            raise ValueError(f"{sorted(map(str, unknown))[0]!r} is no key of a monitor")
        if value["kind"] not in MONITORS:
            raise ValueError(f"{' or '.join(map(repr, MONITORS))} was expected as kind")
        token, watchdog = value.get("token", ""), value.get("watchdog", "Watchdog")
        if not isinstance(token, str) or (token and not re.fullmatch(r"[A-Za-z_]\w*", token)):
            # Not shown: somebody may have written the token itself here.
            raise ValueError("token names the environment variable that holds it")
        match = value.get("match", {})
        if not isinstance(match, Mapping) or not all(
            isinstance(key, str) and isinstance(entry, str) for key, entry in match.items()
        ):
            raise TypeError("match is a dict of labels and their values")
        if not isinstance(watchdog, str):
            raise TypeError("watchdog is the name of an alert")
        return cls(value["kind"], web_address(value["url"]), token, dict(match), watchdog)

    @property
    def name(self) -> str:
        return f"{self.kind} at {self.url}"
