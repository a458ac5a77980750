"""Who may come in, and what the others are told."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.signing import BadSignature, Signer
from django.db import InterfaceError, InternalError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.cache import never_cache

from rehearsal.conf import configuration

logger = logging.getLogger(__name__)

RESULTS = "django_celery_results"
STOP_POLLING = 286
"""The status that makes htmx stop asking."""
LATELY = "rehearsal_lately"
"""The cookie that says what its session was permitted a moment ago."""
LATELY_SECONDS = 30
"""After which it is worth nothing."""
P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]
Watched = Callable[[HttpRequest, int, frozenset[str]], HttpResponse]


def permitted(*names: str) -> Callable[[View[P]], View[P]]:
    """Let in who may view rehearsals and has the permissions `names`; tell others what to do."""
    needed = [f"rehearsal.{name}" for name in ("view_rehearsal", *names)]

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            return _refusal(request, needed) or view(request, *args, **kwargs)

        return _patient(cast(View[P], guarded))

    return decorate


def permitted_lately(view: Watched) -> View[[int]]:
    """As `permitted()` for a view that is asked again and again: whoever was let in to a rehearsal
    is not looked up anew for LATELY_SECONDS. The view is told what the person may do.

    A signed cookie says so, which only the address that was asked is sent. It is worth nothing
    without the session's own cookie, nor for another rehearsal: both are what it is signed with.
    """

    @permitted()
    def looked_up(request: HttpRequest, number: int) -> HttpResponse:
        names = allowed(request)
        response = view(request, number, names)
        _remember(request, response, number, names)
        return response

    @_patient
    @wraps(view)
    def guarded(request: HttpRequest, number: int) -> HttpResponse:
        names = _remembered(request, number)
        return looked_up(request, number) if names is None else view(request, number, names)

    return guarded


def _patient(view: View[P]) -> View[P]:
    @never_cache
    @wraps(view)
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except (OperationalError, InterfaceError, InternalError):
            # The project's database is away for a moment when a rehearsal restores it.
            logger.warning("A database cannot be reached", exc_info=True)
            return _unavailable(request)

    return cast(View[P], guarded)


def _signer(request: HttpRequest, number: int) -> Signer | None:
    # Who signs in by other means than a session is looked up each time.
    session = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return Signer(salt=f"{__name__}.lately:{number}:{session}") if session else None


def _remember(
    request: HttpRequest, response: HttpResponse, number: int, names: frozenset[str]
) -> None:
    if signer := _signer(request, number):
        # Not all at the same moment, whose first look was at the same: after a restart.
        seconds = LATELY_SECONDS * random.uniform(0.5, 1)  # noqa: S311
        response.set_cookie(
            LATELY,
            signer.sign(".".join([str(int(time.time() + seconds)), *sorted(names)])),
            max_age=LATELY_SECONDS,
            path=request.path,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Strict",
        )


def _remembered(request: HttpRequest, number: int) -> frozenset[str] | None:
    """What the person was permitted lately; None when that is to be looked up."""
    said, signer = request.COOKIES.get(LATELY), _signer(request, number)
    if not (said and signer):
        return None
    try:
        until, *names = signer.unsign(said).split(".")
    except BadSignature:
        return None
    return frozenset(names) if time.time() < int(until) else None


def may(request: HttpRequest) -> dict[str, bool]:
    """What the person may do, by the words that the templates use."""
    return {
        "start": request.user.has_perm("rehearsal.start_rehearsal"),
        "confirm": request.user.has_perm("rehearsal.confirm_checkitem"),
        "waive": request.user.has_perm("rehearsal.waive_checkitem"),
        "decide": request.user.has_perm("rehearsal.decide_rehearsal"),
        "trace": request.user.is_staff and request.user.has_perm(f"{RESULTS}.view_taskresult"),
    }


def allowed(request: HttpRequest) -> frozenset[str]:
    """The words of what the person may do."""
    return frozenset(word for word, yes in may(request).items() if yes)


def from_htmx(request: HttpRequest) -> bool:
    """Whether a fragment is asked for, and not a page."""
    return request.headers.get("HX-Request") == "true"


def _refusal(request: HttpRequest, needed: list[str]) -> HttpResponse | None:
    known = request.user.is_authenticated
    missing = [name for name in needed if not request.user.has_perm(name)]
    if known and not missing:
        return None
    if from_htmx(request) and known:
        # A fragment cannot say why: the whole page is loaded again, and it says so.
        return HttpResponse(status=403, headers={"HX-Refresh": "true"})
    if from_htmx(request):
        # The page stays, with what was written into it.
        posted = request.method == "POST"
        html = render_to_string("rehearsal/signed_out.html", {"posted": posted})
        return HttpResponse(html, status=200 if posted else STOP_POLLING)
    if known:
        context = {"missing": missing, "base_template": configuration().base_template}
        return render(request, "rehearsal/forbidden.html", context, status=403)
    here = request.get_full_path() if request.method == "GET" else reverse("rehearsal:index")
    return redirect_to_login(here)


def _unavailable(request: HttpRequest) -> HttpResponse:
    # Ours and not the project's template: that one would ask the database who is signed in.
    html = render_to_string("rehearsal/unavailable.html", {"again": request.method == "GET"})
    return HttpResponse(html, status=503, headers={"Retry-After": "3"})


__all__ = [
    "RESULTS",
    "STOP_POLLING",
    "allowed",
    "from_htmx",
    "may",
    "permitted",
    "permitted_lately",
]
