import calendar
from datetime import date, timedelta

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.db import connection
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from common.forms import LoginForm
from common.models import CalendarNotification, CalendarResourceBooking, StaffTask
from common.services.calendar import build_calendar_payload
from project_central.models import ProjectWorkflow

login = LoginView.as_view(
    template_name="common/login.html",
    authentication_form=LoginForm,
    redirect_authenticated_user=True,
)


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "healthy"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """The database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ready", "checks": {"database": True}})


@login_required
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    tasks = StaffTask.objects.of(request.user)
    stages = dict(
        ProjectWorkflow.objects.values_list("current_stage").annotate(Count("pk")).order_by()
    )
    return render(
        request,
        "common/dashboard.html",
        {
            "figures": [
                ("My open tasks", tasks.exclude(status=StaffTask.STATUS_COMPLETED).count()),
                ("Overdue", tasks.overdue().count()),
                ("Projects", sum(stages.values())),
                (
                    "Notifications waiting",
                    CalendarNotification.objects.filter(
                        status=CalendarNotification.STATUS_PENDING
                    ).count(),
                ),
            ],
            "stages": [
                (label, stages.get(stage, 0)) for stage, label in ProjectWorkflow.WORKFLOW_STAGES
            ],
            "tasks": tasks.exclude(status=StaffTask.STATUS_COMPLETED).select_related(
                "linked_workflow__primary_need"
            )[:8],
        },
    )


@login_required
@require_safe
def oobc_calendar(request: HttpRequest) -> HttpResponse:
    """One month: ?month=2025-10."""
    today = timezone.localdate()
    try:
        first = date.fromisoformat(f"{request.GET.get('month', f'{today:%Y-%m}')}-01")
    except ValueError:
        return HttpResponseBadRequest("`month` should look like 2025-10.")
    weeks = calendar.Calendar().monthdatescalendar(first.year, first.month)
    entries: dict[date, list[dict[str, object]]] = {}
    for entry in build_calendar_payload(weeks[0][0], weeks[-1][-1]):
        entries.setdefault(entry["day"], []).append(entry)
    return render(
        request,
        "common/oobc_calendar.html",
        {
            "first": first,
            "today": today,
            "previous": first - timedelta(days=1),
            "next": first + timedelta(days=31),
            "weeks": [[(day, entries.get(day, [])) for day in week] for week in weeks],
        },
    )


@login_required
@require_safe
def oobc_calendar_feed_json(request: HttpRequest) -> HttpResponse:
    """The entries between ?start= and ?end=, by default the 31 days from today."""
    try:
        first = date.fromisoformat(request.GET.get("start", "")[:10] or f"{timezone.localdate()}")
        last = date.fromisoformat(
            request.GET.get("end", "")[:10] or f"{first + timedelta(days=31)}"
        )
    except ValueError:
        return HttpResponseBadRequest("`start` and `end` should look like 2025-10-02.")
    return JsonResponse(build_calendar_payload(first, last), safe=False)


@login_required
@require_safe
def booking_list(request: HttpRequest) -> HttpResponse:
    bookings = CalendarResourceBooking.objects.select_related("resource", "booked_by")
    status = request.GET.get("status", "")
    if status:
        bookings = bookings.filter(status=status)
    return render(
        request,
        "common/booking_list.html",
        {
            "bookings": bookings.order_by("-start_datetime", "-pk"),
            "status": status,
            "statuses": CalendarResourceBooking.STATUS_CHOICES,
        },
    )
