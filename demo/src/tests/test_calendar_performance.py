"""The calendar asks the database as often for many entries as for few."""

from datetime import date, datetime, time, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from common.models import CalendarResourceBooking, StaffTask
from common.services.calendar import build_calendar_payload
from common.tests.factories import create_resource, create_user, create_workflow
from coordination.models import Event

pytestmark = pytest.mark.django_db
FIRST, LAST = date(2025, 10, 1), date(2025, 10, 31)


def fill(days: int) -> None:
    """One event, one booking and one task on each of the first `days` days of the month."""
    user, resource = create_user(), create_resource()
    workflow = create_workflow(user)
    dates = [FIRST + timedelta(days=day) for day in range(days)]
    Event.objects.bulk_create(
        Event(pk=uuid4(), title=f"Event {day}", event_type="meeting", start_date=day)
        for day in dates
    )
    nine = [timezone.make_aware(datetime.combine(day, time(9))) for day in dates]
    CalendarResourceBooking.objects.bulk_create(
        CalendarResourceBooking(
            resource=resource,
            booked_by=user,
            start_datetime=start,
            end_datetime=start + timedelta(hours=1),
        )
        for start in nine
    )
    StaffTask.objects.bulk_create(
        StaffTask(title=f"Task {day}", due_date=day, linked_workflow=workflow) for day in dates
    )


@pytest.mark.parametrize("days", [1, 31])
def test_calendar_aggregation_takes_three_queries(days: int) -> None:
    fill(days)
    with CaptureQueriesContext(connection) as queries:
        entries = build_calendar_payload(FIRST, LAST)
    assert len(entries) == 3 * days
    assert len(queries) == 3


@pytest.mark.parametrize("days", [1, 31])
@pytest.mark.parametrize("view", ["oobc_calendar", "oobc_calendar_feed_json"])
def test_calendar_aggregation_page_takes_five_queries(client: Client, view: str, days: int) -> None:
    fill(days)
    client.force_login(create_user())
    query = {"month": "2025-10", "start": str(FIRST), "end": str(LAST)}
    with CaptureQueriesContext(connection) as queries:
        response = client.get(reverse(f"common:{view}"), query)
    assert response.status_code == 200
    # Session and user, then one each for events, bookings and tasks.
    assert len(queries) == 5


def test_calendar_aggregation_keeps_to_the_month_in_order() -> None:
    fill(31)
    Event.objects.create(title="Later", event_type="meeting", start_date=LAST + timedelta(days=1))
    Event.objects.create(
        title="Called off", event_type="meeting", start_date=FIRST, status="cancelled"
    )
    entries = build_calendar_payload(FIRST, LAST)
    assert {entry["title"] for entry in entries}.isdisjoint({"Later", "Called off"})
    assert [entry["start"] for entry in entries] == sorted(entry["start"] for entry in entries)
    assert {entry["module"] for entry in entries} == {"event", "booking", "task"}
