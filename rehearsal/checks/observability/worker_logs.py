"""The project's worker logs of this rehearsal's time: errors, retries, tracebacks, by task."""

from __future__ import annotations

import datetime
import re
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from celery import current_app, current_task
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment.survey import survey
from rehearsal.checks.environment.workers import IDENTIFY, declared_queues, stays_local
from rehearsal.checks.observability import sources
from rehearsal.checks.observability.entries import Entry, counted
from rehearsal.checks.observability.noise import Noise
from rehearsal.conf import configuration
from rehearsal.observed import LogSource

SEEN_SECONDS = 10
"""How long the line of our own task may take until it is in the log."""
NEW = 2000
"""Entries of one look that are shown: the last ones."""
NAMED = 20
"""Complaints that are shown whole at the end of the output."""
_TASK = re.compile(r"\b([A-Za-z_][\w.]*)\[([0-9a-f]{8}-[0-9a-f-]{27})\]")
_RETRY = re.compile(r"\] retry: ")
_SUCCEEDED = re.compile(r"\] succeeded in ")
NO_TASK = "outside of a task"


Asked = Mapping[str, frozenset[str]]
"""The ids of the tasks that our question became, by the node that executed them."""


class Said:
    """What the logs say, each entry looked at once."""

    def __init__(self, show_after: int = 0, asked: Asked | None = None) -> None:
        self.entries = 0
        self.new: deque[Entry] = deque(maxlen=NEW)
        self._show_after = show_after
        self.errors: Counter[str] = Counter()
        self.tracebacks: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self.retried: dict[str, str] = {}
        self.complaints: list[Entry] = []
        self.noise = Noise()
        self._tasks = frozenset().union(*(asked or {}).values())
        self.seen: set[str] = set()
        """Of the tasks that our question became, those whose line is here."""

    def take(self, entry: Entry) -> None:
        self.entries += 1
        if self.entries > self._show_after:
            self.new.append(entry)
        found = _TASK.search(entry.text) or _TASK.search(entry.whole[:4000])
        task, key = (found[1], found[2]) if found else (NO_TASK, "")
        if key in self._tasks:
            self.seen.add(key)
        if " received" in entry.text and key:
            self.tasks[task] += 1
        if key and _SUCCEEDED.search(entry.text):
            self.retried.pop(key, None)
        retry = bool(_RETRY.search(entry.text))
        if not (retry or entry.wrong or entry.traceback) or self.noise.knows(entry.whole):
            return
        if retry:
            self.retries[task] += 1
            self.retried[key] = task
        else:
            self.errors[task] += entry.wrong
            self.tracebacks[task] += entry.traceback
            self.retried.pop(key, None)
        if len(self.complaints) < NAMED:
            self.complaints.append(entry)

    @property
    def failures(self) -> Counter[str]:
        """How many entries speak of an error, by task; one with a traceback is one."""
        return Counter({t: max(self.errors[t], self.tracebacks[t])
                        for t in {*self.errors, *self.tracebacks}
                        if self.errors[t] or self.tracebacks[t]})  # fmt: skip


@dataclass(frozen=True)
class WorkerLogs(Check):
    """The logs of the project's workers hold this rehearsal's time, and no error is in it."""

    timeout = 300
    needs = ()
    after = None
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        named = configuration().worker_logs
        if not named:
            raise Inconclusive(
                "Nobody said where the workers' logs are: name the files, journal:UNIT or a "
                "command in REHEARSAL['WORKER_LOGS']."
            )
        since = report.rehearsal.started_at
        report.progress("Sending the workers a task whose line must be in their logs.")
        asked = _ask_workers(report)
        written = 0
        for _ in sources.looks(report, SEEN_SECONDS):
            said = Said(written, asked)
            windows = [(one, sources.read(one, since, report, said.take)) for one in named]
            # What this look has found more than the one before is shown at once.
            for entry in said.new:
                report.write(sources.shown(entry, report))
            written = max(written, said.entries)
            report.progress(f"{said.entries} entries, {sum(said.failures.values())} errors so far")
            if asked and not _unproven(asked, said):
                break
        _record(report, since, said, windows)
        _judge(report, asked, said, windows)


def _ask_workers(report: Report) -> Asked:
    """Send our task to the project's workers, each of which leaves its line in its own log.

    A node that executed none has none; without any, nothing can be proven.
    """
    app = current_app._get_current_object()
    try:
        if stays_local(app):
            return {}
        own = configuration().queue
        queues = {queue for queue in declared_queues(app) if queue != own}
        found = survey(report, app, queues)
    except (OperationalError, OSError, RedisError) as error:
        report.write(f"The workers could not be asked: {error}")
        return {}
    report.evidence("our task was executed by", sorted(set(found.queues.values())) or "nobody")
    if not found.queues:
        return {}
    asked = {
        node: frozenset(said["nonce"] for said in found.answers.get(node, ()))
        for node, consumed in found.consumes.items()
        if consumed & queues
    }
    if found.own in asked and current_task:  # it executes this very check
        asked[found.own] |= {current_task.request.id}
    return asked


def _unproven(asked: Asked, said: Said) -> list[str]:
    """The nodes none of whose tasks is in the logs."""
    return sorted(node for node, tasks in asked.items() if not tasks & said.seen)


def _record(
    report: Report,
    since: datetime.datetime,
    said: Said,
    windows: list[tuple[LogSource, sources.Window]],
) -> None:
    report.evidence("time looked at", f"from {since.isoformat()} on")
    for source, window in windows:
        report.evidence(
            f"log {source.name}",
            f"{window.count} entries of this time in {', '.join(window.files) or 'no file'}",
        )
    report.measure("worker_logs.entries", said.entries, "entries")
    report.measure("worker_logs.errors", sum(said.failures.values()), "errors")
    report.measure("worker_logs.retries", sum(said.retries.values()), "retries")
    for kind in ("tasks", "errors", "tracebacks", "retries"):
        found = +getattr(said, kind)
        if found:
            report.evidence(kind, [f"{count} x {task}" for task, count in found.most_common(20)])
    said.noise.record(report)
    if said.complaints:
        report.write("")
        report.write("What speaks against the workers:")
        for entry in said.complaints:
            report.write(sources.shown(entry, report))


def _judge(
    report: Report,
    asked: Asked,
    said: Said,
    windows: list[tuple[LogSource, sources.Window]],
) -> None:
    if failures := said.failures:
        last = next(one for one in reversed(said.complaints) if one.wrong or one.traceback)
        raise Failed(
            f"The workers' logs hold {sum(failures.values())} errors of this rehearsal's time: "
            f"{counted(failures)}. The last: {report.redact(last.last)[:300]} "
            "Mend them, or name what is known in REHEARSAL['KNOWN_NOISE']."
        )
    doubts = [f"{source.name}: {doubt}." for source, one in windows for doubt in one.doubts]
    if not said.entries:
        raise Inconclusive(
            "No line of this rehearsal's time is in the workers' logs, so they are not those of "
            "its workers, or say too little: correct REHEARSAL['WORKER_LOGS'], and start workers "
            f"with --loglevel INFO. {' '.join(doubts)}".strip()
        )
    if doubts:
        raise Inconclusive(f"The workers' logs are not whole. {' '.join(doubts)}")
    if not asked:
        raise Inconclusive(
            "No worker of the project executed our task, so nothing shows that these logs are "
            "theirs: start the workers, then run this item again."
        )
    if unproven := _unproven(asked, said):
        raise Inconclusive(
            f"Our task {IDENTIFY} was sent to {', '.join(unproven)}, and none of these logs says "
            f"so within {SEEN_SECONDS} s: name the logs of all workers in "
            "REHEARSAL['WORKER_LOGS'], start workers with --loglevel INFO, let their times be in "
            "settings.TIME_ZONE, and run this item again when they are not busy."
        )
    if said.retried:
        waiting = Counter(said.retried.values())
        raise Inconclusive(
            f"{len(said.retried)} tasks were to be tried again and did not end yet: "
            f"{counted(waiting)}. Run this item again once they did."
        )
    parts = [f"{said.entries} entries without an error, {sum(said.tasks.values())} tasks received"]
    if said.retries:
        parts.append(f"tried again and then done: {counted(said.retries)}")
    report.progress("; ".join(filter(None, [*parts, str(said.noise)])) + ".")
