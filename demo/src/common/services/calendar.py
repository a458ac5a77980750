"""Brings events, bookings and tasks together on one calendar."""

from datetime import date, datetime, time, timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from common.models import CalendarResourceBooking, StaffTask
from coordination.models import Event

Entry = dict[str, Any]


def build_calendar_payload(first: date, last: date) -> list[Entry]:
    """Everything that touches the days from `first` to `last`, in order of time.

    Three queries, however many entries there are.
    """
    opens = timezone.make_aware(datetime.combine(first, time.min))
    closes = timezone.make_aware(datetime.combine(last, time.min)) + timedelta(days=1)
    entries: list[Entry] = []
    for event in Event.objects.filter(start_date__range=(first, last)).exclude(status="cancelled"):
        entries.append(
            {
                "id": f"event-{event.pk}",
                "module": "event",
                "title": event.title,
                "start": event.start_date.isoformat(),
                "end": (event.end_date or event.start_date).isoformat(),
                "day": event.start_date,
            }
        )
    for booking in CalendarResourceBooking.objects.filter(
        status__in=CalendarResourceBooking.HOLDING,
        start_datetime__lt=closes,
        end_datetime__gt=opens,
    ).select_related("resource"):
        starts = timezone.localtime(booking.start_datetime)
        entries.append(
            {
                "id": f"booking-{booking.pk}",
                "module": "booking",
                "title": f"{booking.resource.name}: {booking.notes}",
                "start": starts.isoformat(),
                "end": timezone.localtime(booking.end_datetime).isoformat(),
                "day": max(starts.date(), first),
            }
        )
    for task in StaffTask.objects.filter(due_date__range=(first, last)).only(
        "title", "due_date", "linked_workflow"
    ):
        entry = {
            "id": f"task-{task.pk}",
            "module": "task",
            "title": task.title,
            "start": task.due_date.isoformat(),
            "end": task.due_date.isoformat(),
            "day": task.due_date,
        }
        if task.linked_workflow_id:
            entry["url"] = reverse(
                "project_central:project_workflow_detail", args=[task.linked_workflow_id]
            )
        entries.append(entry)
    return sorted(entries, key=lambda entry: (entry["start"], entry["id"]))
