"""While staging's database is exchanged, visitors are asked to come back in a moment."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.signals import got_request_exception
from django.db import Error, InterfaceError, OperationalError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.utils import timezone

from rehearsal.conf import configuration
from rehearsal.decisions import ROLLING_BACK
from rehearsal.models import CheckItem, Event, Status

RESTORE = "rehearsal.checks.environment.Restore"
RETRY_SECONDS = 2
AFTER_SECONDS = 30
"""How long after the restore a broken connection may still be one to the old database."""
Answer = HttpResponseBase | Awaitable[HttpResponseBase]


class RestoreMiddleware:
    """Answers 503 with Retry-After where a lost database connection would be a 500, during and
    right after a restore. To stand first in MIDDLEWARE."""

    async_capable = sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if iscoroutinefunction(self.get_response):
            return self._later(request)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        return _one_moment(request) if _was_lost(request, response) and restoring() else response

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        response = await self.get_response(request)  # type: ignore[misc]
        assert isinstance(response, HttpResponseBase)
        if _was_lost(request, response) and await sync_to_async(restoring)():
            return _one_moment(request)
        return response


def _was_lost(request: HttpRequest, response: HttpResponseBase) -> bool:
    return response.status_code == 500 and getattr(request, "_rehearsal_lost_database", False)


def _one_moment(request: HttpRequest) -> HttpResponse:
    html = render_to_string("rehearsal/unavailable.html", {"again": request.method == "GET"})
    headers = {"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"}
    return HttpResponse(html, status=503, headers=headers)


def restoring() -> bool:
    """Whether a database of this environment is being exchanged, or has just been."""
    recently = timezone.now() - timedelta(seconds=AFTER_SECONDS)
    here = configuration().environment
    restored = CheckItem.objects.filter(check_path=RESTORE, rehearsal__environment=here)
    rolled_back = Event.objects.filter(message=ROLLING_BACK, rehearsal__environment=here)
    try:
        return (
            restored.filter(Q(status=Status.RUNNING) | Q(finished_at__gt=recently)).exists()
            or rolled_back.filter(at__gt=recently).exists()
        )
    except Error:
        return False


def _note(request: HttpRequest | None = None, **_: object) -> None:
    """Remember on the request that a connection was lost: it becomes a 500 on the way out."""
    if request is not None and isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        request._rehearsal_lost_database = True  # type: ignore[attr-defined]


got_request_exception.connect(_note)
