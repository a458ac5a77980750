"""4.4: due notifications are sent by the project's own worker, and nobody real gets one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db.models import Min
from django.utils import timezone

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment import outbound
from rehearsal.checks.environment.sink import Sink
from rehearsal.checks.functional import send
from rehearsal.conf import configuration
from rehearsal.contrib.oobc.functional import names
from rehearsal.contrib.oobc.functional.traces import removed_afterwards

BATCH = "common.tasks.send_calendar_notifications_batch"
OURS = 3
"""How many notifications of our own are sent, each to an address of its own."""
SETTLED_SECONDS = 90
"""How long the worker may take; a mail that fails is tried again after half a minute."""
SEEN_SECONDS = 15
WITHOUT_GATEWAY = {"email", "in_app"}
"""Ways of delivery that lead through the proven mail route, or to nobody's device."""


@dataclass(frozen=True)
class NotificationsSent(Check):
    """Notifications of ours go from pending to sent, each seen in the sink; none gets out."""

    timeout = names.TIMEOUT
    needs = (*names.DATABASE, "rehearsal.checks.environment.ServicesOnline")

    def run(self, report: Report) -> None:
        (notifications,) = names.find_models("common.CalendarNotification")
        names.find_function(BATCH)
        app = current_app._get_current_object()
        report.progress("Seeing that nobody can be mailed.")
        outbound.prove_captured(report, app, undone="nothing was sent")
        sink = Sink(since=time.time())
        report.evidence("captured mail is seen in", sink.how)
        with removed_afterwards(report):
            _send(report, notifications, sink)


def _send(report: Report, notifications: Any, sink: Sink) -> None:
    restored = _due(notifications)
    _no_gateway_can_send(report, restored)
    report.evidence("restored notifications that are due", len(restored))
    ours = _make(notifications)
    report.progress(
        f"Sending {OURS} notifications of our own, with {len(restored)} restored ones due."
    )
    result = send(BATCH, within=SETTLED_SECONDS)
    mine = notifications._default_manager.filter(pk__in=ours)

    def states() -> dict[int, str]:
        return dict(mine.values_list("pk", "status"))

    # One that failed is tried again: only `sent` is where it ends well.
    _wait(report, lambda: set(states().values()) == {"sent"}, SETTLED_SECONDS)
    said = states()
    seen = _seen(report, sink, ours) if "sent" in said.values() else dict.fromkeys(ours, 0)
    others = _afterwards(report, notifications, restored)
    report.evidence(
        "notifications of our own",
        [f"{address}: {said[pk]}, {seen[pk]} seen in the sink" for pk, address in ours.items()],
    )
    report.measure("functional.notifications_sent", list(said.values()).count("sent"), "messages")
    _judge(said, seen, dict(mine.values_list("pk", "error_message")), result.status)
    report.progress(
        f"{OURS} pending notifications became sent and their messages are in the sink; of "
        f"{len(restored)} restored ones that were due the same batch took {others}, and all mail "
        "is captured."
    )


def _judge(said: dict[int, str], seen: dict[int, int], errors: dict[int, str], task: str) -> None:
    counts = Counter(said.values())
    if counts["sent"] < len(said):
        why = "; ".join(sorted({error for error in errors.values() if error}))
        stands = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        remedy = {
            "PENDING": "no worker took the task, or it keeps no result: look at the queue",
            "FAILURE": "the task itself failed: look at the worker's log",
        }.get(task, "the task ended: look at the tasks that it hands them to")
        raise Failed(
            f"Of {len(said)} notifications that were due, each should be sent; {stands} after "
            f"{SETTLED_SECONDS} s" + (f" ({why})" if why else "") + f". The state of {BATCH} is "
            f"{task}: {remedy}."
        )
    if unseen := [pk for pk, count in seen.items() if not count]:
        raise Failed(
            f"{len(unseen)} of {len(seen)} notifications are marked as sent, and their messages "
            "are not in the sink: see that the task sends before it says so, and that "
            "REHEARSAL['MAIL_SEEN_IN'] is where this worker's mail is captured."
        )
    if doubled := [pk for pk, count in seen.items() if count > 1]:
        raise Failed(
            f"{len(doubled)} of {len(seen)} notifications were mailed more than once: let a task "
            "claim a notification before it sends it."
        )


def _due(notifications: Any) -> dict[int, datetime]:
    """The notifications that the next batch may take, and when each is scheduled for."""
    due = notifications._default_manager.filter(status="pending", scheduled_for__lte=timezone.now())
    return dict(due.values_list("pk", "scheduled_for"))


def _no_gateway_can_send(report: Report, restored: dict[int, datetime]) -> None:
    (notifications,) = names.find_models("common.CalendarNotification")
    ways = Counter(
        notifications._default_manager.filter(pk__in=restored).values_list(
            "delivery_method", flat=True
        )
    )
    report.evidence("they would be delivered by", [f"{way}: {n}" for way, n in ways.items()])
    unproven = sorted(set(ways) - WITHOUT_GATEWAY - set(configuration().mail_sinks))
    if unproven:
        raise Inconclusive(
            f"Restored notifications are due by {', '.join(unproven)}, and that nobody gets them "
            "cannot be proven, so nothing was sent. Where those ways lead nowhere in staging, name "
            "them in REHEARSAL['MAIL_SINKS']."
        )


def _make(notifications: Any) -> dict[int, str]:
    """Notifications of our own, due before all others: their keys and addresses."""
    waiting = notifications._default_manager.filter(status="pending")
    first = waiting.aggregate(first=Min("scheduled_for"))["first"] or timezone.now()
    made = {}
    for _ in range(OURS):
        user = names.make_staff()
        one = names.make(
            notifications,
            recipient=user,
            notification_type="reminder",
            delivery_method="email",
            status="pending",
            scheduled_for=min(first, timezone.now()) - timedelta(days=1),
        )
        made[one.pk] = user.email
    return made


def _seen(report: Report, sink: Sink, ours: dict[int, str]) -> dict[int, int]:
    found: dict[str, int] = {}

    def all_seen() -> bool:
        found.update(sink.count(list(ours.values())))
        return all(found.values())

    _wait(report, all_seen, SEEN_SECONDS)
    return {pk: found[address] for pk, address in ours.items()}


def _afterwards(report: Report, notifications: Any, restored: dict[int, datetime]) -> int:
    """Wait until the restored ones the batch took are done; returns how many it took."""

    def taken() -> dict[int, str]:
        rows = notifications._default_manager.filter(pk__in=restored)
        return {
            pk: status
            for pk, status, at in rows.values_list("pk", "status", "scheduled_for")
            if status != "pending" or at != restored[pk]
        }

    _wait(report, lambda: "pending" not in taken().values(), SETTLED_SECONDS)
    states = taken()
    counted = [f"{count} {status}" for status, count in sorted(Counter(states.values()).items())]
    report.evidence("restored notifications that the batch took", counted or "none")
    return len(states)


def _wait(report: Report, look: Callable[[], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not look() and time.monotonic() < deadline:
        if report.stop.wait(0.2):
            raise Inconclusive("Stopped before every notification was settled.")
