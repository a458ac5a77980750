"""The pages of a site that is looked at: one is well, one breaks, one is not for everybody."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def well(request: HttpRequest) -> HttpResponse:
    who = request.user.get_username() or "nobody"
    return HttpResponse(f"{who} {request.headers.get('HX-Request', '')}")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("planted, with the password=correct-horse-battery")


def staff_only(request: HttpRequest) -> HttpResponse:
    return HttpResponse("well", status=200 if request.user.is_staff else 403)


urlpatterns = [
    path("well/", well, name="well"),
    path("broken/", broken, name="broken"),
    path("staff/", staff_only, name="staff"),
    path("admin/", admin.site.urls),
    path("rehearsal/", include("rehearsal.urls")),
]
