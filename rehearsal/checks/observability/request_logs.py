"""The web server's log of this rehearsal's time, while the dashboards are looked at per role."""

from __future__ import annotations

import datetime
import re
import secrets
from collections import Counter
from dataclasses import dataclass, field

from django.urls import NoReverseMatch, reverse

from rehearsal import request_log
from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.observability import sources
from rehearsal.checks.observability.crawl import Visit, crawl
from rehearsal.checks.observability.entries import Entry, counted, json_object
from rehearsal.checks.observability.noise import Noise
from rehearsal.conf import configuration
from rehearsal.observed import LogSource

SEEN_SECONDS = 10
"""How long our last request may take until it is in the log."""
NAMED = 20
MANY_PATHS = 1000
"""Different paths that are counted apart; the others are counted together."""
_REQUEST = re.compile(r'"([A-Z]{3,10}) (\S{1,2000}) HTTP/[\d.]+" (\d{3})\b')
_DJANGO = re.compile(r"(Internal Server Error|Bad Gateway|Service Unavailable): (/\S{0,2000})")
_LOST = re.compile(r"^django\.db\.utils\.(?:OperationalError|InterfaceError): ", re.MULTILINE)


@dataclass
class Request:
    """One request as a log tells it."""

    path: str
    status: int
    seconds: float | None = None


def request(entry: Entry) -> Request | None:
    """The request that an entry is about; None when it is about something else."""
    if found := _REQUEST.search(entry.text):
        return Request(_without_query(found[2]), int(found[3]))
    if entry.text.lstrip().startswith("{"):
        said = json_object(entry.text)
        path, status = said.get("path"), said.get("status")
        if isinstance(path, str) and re.fullmatch("[0-9]{3}", str(status)):
            took = said.get("seconds")
            # Of whole numbers Python's JSON reads some that are beyond any float.
            known = isinstance(took, float) or (isinstance(took, int) and took < 86_400)
            seconds = float(took) if known else None  # type: ignore[arg-type]
            return Request(_without_query(path), int(str(status)), seconds)
    return None


def _without_query(path: str) -> str:
    return path.partition("?")[0]


def _path_of_error(entry: Entry) -> str:
    if entry.text.lstrip().startswith("{"):
        return str(json_object(entry.text).get("path") or "no path")
    found = _DJANGO.search(entry.text)
    return found[2] if found else "no path"


def _echo(entry: Entry) -> tuple[str, str] | None:
    """What Django says of a page of ours that is answered 503 during the restore, and its path: one
    line of the answer, and one of the query that lost its database, where a middleware asked it."""
    found = _DJANGO.search(entry.text)
    if not found or not found[2].startswith(_own_pages()):
        return None
    said = found[1] == "Service Unavailable" or _LOST.search(entry.whole)
    return (found[1], found[2]) if said else None


@dataclass
class Said:
    """What the logs say, each entry looked at once."""

    run: str
    slow_seconds: float
    noise: Noise = field(default_factory=Noise)
    requests: int = 0
    own: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    """Answers of 500 and above, by path."""
    errors: Counter[str] = field(default_factory=Counter)
    """Entries of an error or with a traceback, by path."""
    slow: Counter[str] = field(default_factory=Counter)
    away: Counter[str] = field(default_factory=Counter)
    """Our own pages, asked for in the moment of the restore, by path."""
    echoes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What Django says of these, by its words and the path: as often as they were at most."""
    complaints: list[Entry] = field(default_factory=list)

    def take(self, entry: Entry) -> None:
        own = self.run in entry.text
        if found := request(entry):
            self.requests += 1
            self.own += own
            self.answers[found.status] += 1
            if found.seconds is not None and found.seconds >= self.slow_seconds:
                self._count(self.slow, found.path)
            if found.status < 500:
                return
            if found.status == 503 and found.path.startswith(_own_pages()):
                self._count(self.away, found.path)
            elif not self.noise.knows(entry.whole):
                self._count(self.failed, found.path)
                self._complain(entry)
        elif not (entry.wrong or entry.traceback) or self.noise.knows(entry.whole):
            return
        elif (echo := _echo(entry)) and len(self.echoes) < MANY_PATHS:
            self.echoes[echo] += 1
        else:
            self._count(self.errors, _path_of_error(entry))
            self._complain(entry)

    def _count(self, counter: Counter[str], path: str) -> None:
        counter[path if path in counter or len(counter) < MANY_PATHS else "other paths"] += 1

    def _complain(self, entry: Entry) -> None:
        if len(self.complaints) < NAMED:
            self.complaints.append(entry)

    @property
    def wrong(self) -> Counter[str]:
        """By path, the more of what was answered wrongly and of what was logged as an error."""
        return self.failed | self.logged

    @property
    def logged(self) -> Counter[str]:
        """Entries of an error by path, with the echoes of answers that no log has."""
        found = Counter(self.errors)
        for (_, path), count in self.echoes.items():
            found[path] += max(0, count - self.away[path])
        return +found


def _own_pages() -> str:
    try:
        return reverse("rehearsal:index")
    except NoReverseMatch:
        return "/rehearsal/"


@dataclass(frozen=True)
class RequestLogs(Check):
    """The dashboards answer to each role, their requests are in the log, and no error is."""

    slow_seconds: float = 3.0
    """From when on a request is named as slow, where the log tells how long it took."""

    timeout = 600
    needs = ("rehearsal.checks.environment.Restore",)
    after = None
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        here = configuration()
        for key, value in (
            ("PAGES", here.pages),
            ("ROLES", here.roles),
            ("SITE_URL", here.site_url),
        ):
            if not value:
                raise Inconclusive(
                    f"No dashboard was looked at: REHEARSAL['{key}'] is not set. PAGES names the "
                    "dashboards, ROLES the accounts to look at them with, SITE_URL the web server."
                )
        logs = here.request_logs or (LogSource(str(request_log.path())),)
        run = f"rehearsal-run-{secrets.token_hex(8)}"
        agent = f"rehearsal/{report.rehearsal.number} ({run})"
        report.evidence("our requests' User-Agent", agent)
        visits = list(crawl(report, agent))
        _record_visits(report, visits)
        since = report.rehearsal.started_at
        sent = len(visits)
        report.progress(f"{sent} pages were looked at; reading the logs.")
        for _ in sources.looks(report, SEEN_SECONDS):
            said, windows = Said(run, self.slow_seconds), []
            for source in logs:
                windows.append((source, sources.read(source, since, report, said.take)))
            if said.own >= sent:
                break
        _record(report, since, said, windows)
        _judge(report, visits, sent, said, windows)


def _record_visits(report: Report, visits: list[Visit]) -> None:
    for visit in visits:
        took, size = visit.answer.seconds, len(visit.answer.text)
        report.write(f"{visit.name}: {visit.answer.status} in {took:.2f} s, {size} characters")
    report.evidence("pages looked at", sorted({visit.page for visit in visits}))
    report.evidence("roles", sorted({visit.role for visit in visits}))


def _record(
    report: Report,
    since: datetime.datetime,
    said: Said,
    windows: list[tuple[LogSource, sources.Window]],
) -> None:
    report.evidence("time looked at", f"from {since.isoformat()} on")
    for source, window in windows:
        report.evidence(
            f"log {source.name}", f"{window.count} entries in {', '.join(window.files) or 'none'}"
        )
    if said.answers:
        counts = [f"{count} x {status}" for status, count in sorted(said.answers.items())]
        report.evidence("requests in the log", counts)
    if said.away:
        report.evidence("pages of ours asked for during the restore", said.away.total())
    for name, found in (
        ("answers of 500 and above", said.failed),
        ("errors and tracebacks", said.logged),
        ("slow requests", said.slow),
    ):
        if found:
            told = [f"{count} x {path}" for path, count in found.most_common(NAMED)]
            report.evidence(name, told)
    report.measure("request_logs.requests", said.requests, "requests")
    report.measure("request_logs.errors", sum(said.wrong.values()), "errors")
    report.measure("request_logs.slow", sum(said.slow.values()), "requests")
    said.noise.record(report)
    if said.complaints:
        report.write("")
        report.write("What speaks against the site:")
        for entry in said.complaints:
            report.write(sources.shown(entry, report))


def _judge(
    report: Report,
    visits: list[Visit],
    sent: int,
    said: Said,
    windows: list[tuple[LogSource, sources.Window]],
) -> None:
    broken = Counter(
        f"{visit.name} ({visit.answer.status})" for visit in visits if visit.answer.status >= 500
    )
    problems = []
    if broken:
        problems.append(f"{len(broken)} of {len(visits)} pages looked at broke: {counted(broken)}.")
    if wrong := said.wrong:
        problems.append(
            f"The log holds {sum(wrong.values())} errors of this rehearsal's time: "
            f"{counted(wrong)}."
        )
    if problems:
        remedy = "Mend them, or name what is known in REHEARSAL['KNOWN_NOISE']."
        raise Failed(" ".join([*problems, remedy]))
    refused = Counter(
        f"{visit.name} ({visit.answer.status})" for visit in visits if visit.answer.status != 200
    )
    if refused:
        raise Inconclusive(
            f"{len(refused)} of {len(visits)} pages were not shown: {counted(refused)}. Name "
            "pages that the role may see in REHEARSAL['PAGES'] and ROLES, and the address that "
            "does not redirect in SITE_URL."
        )
    doubts = [f"{source.name}: {doubt}." for source, one in windows for doubt in one.doubts]
    if said.own < sent:
        raise Inconclusive(
            f"Of our own {sent} requests {said.own or 'none'} are in the log, so it is not that of "
            f"{configuration().site_url}, or leaves requests out: correct "
            "REHEARSAL['REQUEST_LOGS'], let the access log hold the User-Agent, or use "
            f"rehearsal.request_log. {' '.join(doubts)}".strip()
        )
    if doubts:
        raise Inconclusive(f"The log is not whole. {' '.join(doubts)}")
    parts = [f"{sent} pages looked at as {len({visit.role for visit in visits})} roles"]
    parts.append(f"{said.requests} requests in the log without an error")
    if said.slow:
        parts.append(f"slow: {counted(said.slow)}")
    report.progress("; ".join(filter(None, [*parts, str(said.noise)])) + ".")
