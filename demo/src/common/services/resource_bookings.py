"""Books calendar resources on behalf of tasks."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone

from common.faults import planted
from common.models import CalendarResource, CalendarResourceBooking, StaffTask, User

Spec = Mapping[str, Any]


class ResourceBookingSpecError(ValueError):
    """A booking specification that cannot be understood."""


def create_bookings_for_task(
    task: StaffTask, specs: Spec | Sequence[Spec], *, user: User | None = None
) -> list[CalendarResourceBooking]:
    """Book what the specifications ask for: all of it, or nothing.

    A specification has `resource_id` or `resource_name`; `start` and `end` (ISO text or a
    datetime; a naive one is local time), or `start_offset_days` and `start_offset_hours` from
    08:00 on the task's first day, with `duration_hours`; and optionally `notes` and `status`.

    Raises ResourceBookingSpecError for a specification that makes no sense, and
    ValidationError when the resource is taken at that time.
    """
    booked_by = user or task.created_by
    if booked_by is None:
        raise ResourceBookingSpecError("Nobody is booking: pass `user`, the task has no creator.")
    content_type = ContentType.objects.get_for_model(StaffTask)
    bookings = []
    with transaction.atomic():
        for spec in [specs] if isinstance(specs, Mapping) else specs:
            start = _start(task, spec)
            booking = CalendarResourceBooking(
                resource=_resource(spec),
                content_type=content_type,
                object_id=UUID(int=task.pk),
                start_datetime=start,
                end_datetime=_end(task, spec, start),
                status=spec.get("status", CalendarResourceBooking.STATUS_PENDING),
                booked_by=booked_by,
                notes=spec.get("notes") or f"Booked for task: {task.title}",
            )
            booking.full_clean()
            if planted("booking not created"):
                continue
            booking.save()
            bookings.append(booking)
    return bookings


def _resource(spec: Spec) -> CalendarResource:
    """The resource, locked, so that two bookings of it look one after the other."""
    if not isinstance(spec, Mapping):
        raise ResourceBookingSpecError(f"A specification is a mapping, found {spec!r}.")
    if wanted := spec.get("resource_id"):
        lookup = {"pk": wanted}
    elif wanted := spec.get("resource_name"):
        lookup = {"name": wanted}
    else:
        raise ResourceBookingSpecError("Name the resource: `resource_id` or `resource_name`.")
    resource = CalendarResource.objects.select_for_update().filter(**lookup).first()
    if resource is None:
        raise ResourceBookingSpecError(f"No calendar resource {wanted!r}. Create it first.")
    return resource


def _start(task: StaffTask, spec: Spec) -> datetime:
    if value := spec.get("start"):
        return _moment("start", value)
    first_day = task.start_date or task.due_date
    if first_day is None:
        raise ResourceBookingSpecError("No `start` given, and the task has no date to count from.")
    return _at(first_day, 8) + timedelta(
        days=_number(spec, "start_offset_days"), hours=_number(spec, "start_offset_hours")
    )


def _end(task: StaffTask, spec: Spec, start: datetime) -> datetime:
    if value := spec.get("end"):
        return _moment("end", value)
    if spec.get("duration_hours") is not None:
        return start + timedelta(hours=_number(spec, "duration_hours"))
    if task.due_date is None:
        raise ResourceBookingSpecError("Give `end` or `duration_hours`: the task has no due date.")
    return _at(task.due_date, 17)


def _at(day: date, hour: int) -> datetime:
    return timezone.make_aware(datetime.combine(day, time(hour)))


def _moment(key: str, value: object) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ResourceBookingSpecError(
                f"`{key}` should be a date and time such as 2025-10-02T09:00, found {value!r}."
            ) from None
    if not isinstance(value, datetime):
        raise ResourceBookingSpecError(f"`{key}` should be a date and time, found {value!r}.")
    return value if timezone.is_aware(value) else timezone.make_aware(value)


def _number(spec: Spec, key: str) -> float:
    try:
        return float(spec.get(key) or 0)
    except (TypeError, ValueError):
        raise ResourceBookingSpecError(
            f"`{key}` should be a number, found {spec[key]!r}."
        ) from None
