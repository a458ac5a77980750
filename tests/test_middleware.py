"""Visitors during a restore: asked to come back, where a lost connection would be a 500."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils import timezone

from rehearsal.decisions import ROLLING_BACK
from rehearsal.journal import change
from rehearsal.middleware import AFTER_SECONDS, RESTORE
from rehearsal.models import CheckItem, Rehearsal, Status
from tests.test_views import begin

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"], transaction=True)
ERRORS = {"lost": OperationalError, "closed": InterfaceError, "own": ValueError}


def view(request: HttpRequest, kind: str) -> HttpResponse:
    raise ERRORS[kind]("server closed the connection unexpectedly")


async def later(request: HttpRequest, kind: str) -> HttpResponse:
    raise ERRORS[kind]("server closed the connection unexpectedly")


urlpatterns = [path("now/<kind>/", view), path("later/<kind>/", later)]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["rehearsal.middleware.RestoreMiddleware"]


def ask(kind: str) -> set[tuple[int, str]]:
    """Status and Retry-After from a synchronous and an asynchronous server."""
    ways = [Client(raise_request_exception=False).get(f"/now/{kind}/")]
    asynchronous = AsyncClient(raise_request_exception=False)
    ways.append(async_to_sync(asynchronous.get)(f"/later/{kind}/"))
    return {(one.status_code, one.get("Retry-After", "")) for one in ways}


def restore(**values: Any) -> Rehearsal:
    """A rehearsal whose restore stands as told."""
    rehearsal = begin("Passes")
    CheckItem.objects.filter(rehearsal=rehearsal).update(check_path=RESTORE, **values)
    return rehearsal


def test_while_it_runs() -> None:
    restore(status=Status.RUNNING)
    assert ask("lost") == ask("closed") == {(503, "2")}
    assert ask("own") == {(500, "")}  # an error of the project's own stays one


def test_right_afterwards_and_later() -> None:
    ended = timezone.now() - datetime.timedelta(seconds=AFTER_SECONDS - 20)
    rehearsal = restore(status=Status.FAILED, finished_at=ended)
    assert ask("lost") == {(503, "2")}
    ended -= datetime.timedelta(seconds=20)
    CheckItem.objects.filter(rehearsal=rehearsal).update(finished_at=ended)
    assert ask("lost") == {(500, "")}


def test_while_it_is_rolled_back() -> None:
    rehearsal = begin("Passes")
    assert ask("lost") == {(500, "")}
    with change(rehearsal.number, "tester") as made:
        made.note(ROLLING_BACK)
    assert ask("lost") == {(503, "2")}


def test_a_restore_elsewhere_is_not_ours() -> None:
    rehearsal = restore(status=Status.RUNNING)
    Rehearsal.objects.filter(pk=rehearsal.pk).update(environment="training")
    assert ask("lost") == {(500, "")}
