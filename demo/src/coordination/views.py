from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from common.models import CalendarResource, CalendarResourceBooking


@login_required
@require_safe
def resource_bookings_feed(request: HttpRequest, resource_id: int) -> JsonResponse:
    """The bookings that hold a resource, for a calendar to draw."""
    resource = get_object_or_404(CalendarResource, pk=resource_id)
    bookings = resource.bookings.filter(status__in=CalendarResourceBooking.HOLDING)
    return JsonResponse(
        [
            {
                "id": str(booking.pk),
                "title": f"{booking.booked_by} ({booking.get_status_display()})",
                "start": timezone.localtime(booking.start_datetime).isoformat(),
                "end": timezone.localtime(booking.end_datetime).isoformat(),
                "extendedProps": {
                    "status": booking.status,
                    "bookedBy": str(booking.booked_by),
                    "notes": booking.notes,
                },
            }
            for booking in bookings.select_related("booked_by")
        ],
        safe=False,
    )
