"""4.3: a task's booking of a resource is made, appears, and keeps others out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.visitor import Visitor, visit
from rehearsal.contrib.oobc.functional import names
from rehearsal.contrib.oobc.functional.traces import MARK, removed_afterwards

BOOK = "common.services.resource_bookings.create_bookings_for_task"
FEED = "common:coordination_resource_bookings_feed"
LIST = "common:calendar_booking_list"
CALENDAR = "common:calendar_resource_calendar"


@dataclass(frozen=True)
class BookingAppears(Check):
    """A task's booking is in the database, in the feed and in the list; an overlap is refused."""

    timeout = names.TIMEOUT
    needs = names.DATABASE
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        names.find_models(
            "common.StaffTask", "common.CalendarResource", "common.CalendarResourceBooking"
        )
        book = names.find_function(BOOK)
        with removed_afterwards(report):
            user = names.make_staff()
            with visit(user, "booking") as visitor:
                _look(report, visitor, user, book)


def _look(report: Report, visitor: Visitor, user: Any, book: Any) -> None:
    tasks, resources, bookings = names.find_models(
        "common.StaffTask", "common.CalendarResource", "common.CalendarResourceBooking"
    )
    day = timezone.localdate() + timedelta(days=1)
    resource = names.make(resources, name=f"{MARK} projector", is_available=True)
    task = names.make(tasks, title=f"{MARK} booking", created_by=user, start_date=day, due_date=day)
    opens = timezone.make_aware(datetime.combine(day, time(9)))
    closes = opens + timedelta(hours=2)
    of_resource = bookings._default_manager.filter(resource=resource)
    spec = {
        "resource_id": resource.pk,
        # Without a zone, as people write it: it is the office's own time.
        "start": f"{day.isoformat()}T09:00",
        "end": f"{day.isoformat()}T11:00",
        "notes": f"{MARK} for a task",
    }
    try:
        book(task, spec, user=user)
    except (ValidationError, ValueError) as refusal:
        raise Failed(
            f"{BOOK} refuses to book a resource that nobody has booked ({refusal}): mend it."
        ) from None
    made = list(of_resource.all())  # the query itself stays unread, to be asked again
    report.measure("functional.bookings", len(made), "bookings")
    if len(made) != 1:
        raise Failed(
            f"One booking was asked for by {BOOK}, and {len(made)} are in the database: "
            "make it save the booking."
        )
    (booking,) = made
    wrong = [
        f"{what} {found!r} where {expected!r} was expected"
        for what, found, expected in (
            ("it starts", timezone.localtime(booking.start_datetime), timezone.localtime(opens)),
            ("it ends", timezone.localtime(booking.end_datetime), timezone.localtime(closes)),
            ("it is booked by", booking.booked_by_id, user.pk),
            ("it belongs to", booking.object_id, UUID(int=task.pk)),
            ("it is of the kind", booking.content_type.model, "stafftask"),
        )
        if found != expected
    ]
    if wrong:
        raise Failed(f"The booking is not what was asked for: {'; '.join(wrong)}. Mend {BOOK}.")
    report.evidence(
        "booking", f"{booking.status}, {day} 09:00–11:00 {timezone.get_current_timezone_name()}"
    )
    _appears(report, visitor, booking, resource)
    _conflicts(report, book, task, user, of_resource, day)
    report.progress(
        "A task's booking is in the database, in the calendar's feed and in the list of bookings; "
        "one that overlaps it was refused, the one after it was taken."
    )


def _appears(report: Report, visitor: Visitor, booking: Any, resource: Any) -> None:
    feed = visitor.get(names.find_path(FEED, resource.pk))
    if feed.status != 200:
        raise Failed(f"The calendar's feed {feed.path} answers {feed.status}: mend it.")
    try:
        entries = json.loads(feed.text)
        shown = [
            (parse_datetime(entry["start"]), parse_datetime(entry["end"]))
            for entry in entries
            if str(entry["id"]) == str(booking.pk)
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise Inconclusive(
            f"The calendar's feed {feed.path} is not a list of entries with id, start and end "
            f"({type(error).__name__}: {error}): bind the line to a check that knows the new feed."
        ) from None
    report.evidence("in the calendar's feed", f"{feed.path}: {len(entries)} entries")
    if shown != [(booking.start_datetime, booking.end_datetime)]:
        raise Failed(
            f"The calendar's feed {feed.path} shows the booking {len(shown)} times as it is in the "
            f"database, among {len(entries)} entries; once was expected. Mend the feed."
        )
    listed = visitor.get(names.find_path(LIST))
    rows = [row for row in listed.rows if resource.name in row.text]
    report.evidence("in the list of bookings", f"{listed.path} → {listed.status}, {len(rows)} row")
    if listed.status != 200 or len(rows) != 1:
        raise Failed(
            f"The list of bookings {listed.path} answers {listed.status} with the booking in "
            f"{len(rows)} rows; one was expected. Mend the page."
        )
    try:
        path = reverse(CALENDAR, args=[resource.pk])
    except NoReverseMatch:
        return
    page = visitor.get(path)
    why = f" ({visitor.cause(page)})" if page.status == 500 else ""
    report.evidence("the resource's calendar", f"{path} → {page.status}{why}")


def _conflicts(report: Report, book: Any, task: Any, user: Any, of_resource: Any, day: Any) -> None:
    """One that overlaps is refused, and one that begins when it ends is not."""
    spec = {"resource_id": of_resource.get().resource_id, "notes": MARK}
    overlap = {"start": f"{day.isoformat()}T10:00", "end": f"{day.isoformat()}T12:00"}
    try:
        book(task, {**spec, **overlap}, user=user)
    except (ValidationError, ValueError) as refusal:
        said = refusal.messages if isinstance(refusal, ValidationError) else [str(refusal)]
        report.evidence("a booking that overlaps it", f"refused: {' '.join(said)}")
    if (count := of_resource.count()) != 1:
        raise Failed(
            f"A booking that overlaps another of the same resource was not refused: there are "
            f"{count} now. Make {BOOK} look for what overlaps."
        )
    after = {"start": f"{day.isoformat()}T11:00", "end": f"{day.isoformat()}T12:00"}
    try:
        book(task, {**spec, **after}, user=user)
    except (ValidationError, ValueError) as refusal:
        raise Failed(
            f"A booking that begins when another ends was refused too ({refusal}), so that the "
            "first refusal proves nothing: mend the rule."
        ) from None
