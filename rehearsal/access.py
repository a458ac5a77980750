"""Who may come in, and what the others are told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.contrib.auth.views import redirect_to_login
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.cache import never_cache

from rehearsal.conf import configuration

logger = logging.getLogger(__name__)

RESULTS = "django_celery_results"
P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]


def permitted(*names: str) -> Callable[[View[P]], View[P]]:
    """Let in who may view rehearsals and has the permissions `names`; tell others what to do."""
    needed = [f"rehearsal.{name}" for name in ("view_rehearsal", *names)]

    def decorate(view: View[P]) -> View[P]:
        @never_cache
        @wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            try:
                return _refusal(request, needed) or view(request, *args, **kwargs)
            except (OperationalError, InterfaceError):
                # The project's database is away for a moment when a rehearsal restores it.
                logger.warning("A database cannot be reached", exc_info=True)
                return _unavailable(request)

        return cast(View[P], guarded)

    return decorate


def may(request: HttpRequest) -> dict[str, bool]:
    """What the person may do, by the words that the templates use."""
    return {
        "start": request.user.has_perm("rehearsal.start_rehearsal"),
        "confirm": request.user.has_perm("rehearsal.confirm_checkitem"),
        "waive": request.user.has_perm("rehearsal.waive_checkitem"),
        "decide": request.user.has_perm("rehearsal.decide_rehearsal"),
        "trace": request.user.is_staff and request.user.has_perm(f"{RESULTS}.view_taskresult"),
    }


def from_htmx(request: HttpRequest) -> bool:
    """Whether a fragment is asked for, and not a page."""
    return request.headers.get("HX-Request") == "true"


def _refusal(request: HttpRequest, needed: list[str]) -> HttpResponse | None:
    known = request.user.is_authenticated
    missing = [name for name in needed if not request.user.has_perm(name)]
    if known and not missing:
        return None
    if from_htmx(request):
        # A fragment cannot say why: the whole page is loaded again, and it says so or signs in.
        return HttpResponse(status=403, headers={"HX-Refresh": "true"})
    if known:
        context = {"missing": missing, "base_template": configuration().base_template}
        return render(request, "rehearsal/forbidden.html", context, status=403)
    here = request.get_full_path() if request.method == "GET" else reverse("rehearsal:index")
    return redirect_to_login(here)


def _unavailable(request: HttpRequest) -> HttpResponse:
    # Ours and not the project's template: that one would ask the database who is signed in.
    html = render_to_string("rehearsal/unavailable.html", {"again": request.method == "GET"})
    return HttpResponse(html, status=503, headers={"Retry-After": "3"})


__all__ = ["RESULTS", "from_htmx", "may", "permitted"]
