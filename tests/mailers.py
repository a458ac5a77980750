"""A project's way of sending mail, as each of Django's two kinds of settings says it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import override_settings

from rehearsal.checks.environment.mail import KNOWS_MAILERS

WAYS = ("EMAIL_BACKEND", "MAILERS") if KNOWS_MAILERS else ("EMAIL_BACKEND",)
SMTP, FILES, CONSOLE = (
    f"django.core.mail.backends.{name}.EmailBackend" for name in ("smtp", "filebased", "console")
)


def said(way: str, backend: str, **options: Any) -> dict[str, Any]:
    """The settings that say it, by name; `options` are those of `MAILERS`."""
    if way == "MAILERS":
        return {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    before = {"EMAIL_HOST_USER": "username", "EMAIL_HOST_PASSWORD": "password"}
    names = {option: name for name, option in before.items()}
    named = {names.get(key, f"EMAIL_{key.upper()}"): value for key, value in options.items()}
    return {"EMAIL_BACKEND": backend, **named}


def as_text(settings: dict[str, Any]) -> str:
    return "".join(f"{name} = {value!r}\n" for name, value in settings.items())


@contextmanager
def _quietly() -> Iterator[None]:
    """Some settings are given up by Django, which warns of whoever sets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        yield


@pytest.fixture(params=WAYS)
def mail_by(request: pytest.FixtureRequest, settings: object) -> Iterator[Callable[..., None]]:
    """Sets the test's own settings, first in the one way, then in the other."""
    overridden = []

    def say(backend: str, **options: Any) -> None:
        override = override_settings(**said(request.param, backend, **options))
        with _quietly():
            override.enable()
        overridden.append(override)

    yield say
    with _quietly():
        while overridden:
            overridden.pop().disable()
