"""A real browser, and a real server under a strict content security policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test import Client
from django.test.testcases import LiveServerThread
from playwright import sync_api

from rehearsal import polling

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


CUT = """[...document.querySelectorAll('.rehearsal-section, .rehearsal-banner')]
    .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.className)"""
"""Cards that hold more than they show."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        missing = "There is no chromium on PATH: install Debian's package of that name."
        (pytest.fail if os.environ.get("REHEARSAL_TEST_STRICT") else pytest.skip)(missing)
    # Playwright runs an event loop in this thread, and Django refuses to query beside one.
    with pytest.MonkeyPatch.context() as patch, sync_api.sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def site(browser: Any, transactional_db: None, settings: Any) -> Iterator[str]:
    """The address of a server that serves the tests' project as strictly as a host may."""
    settings.MIDDLEWARE = [
        "tests.browser.policy.strict",
        "django.middleware.locale.LocaleMiddleware",
        *settings.MIDDLEWARE,
    ]
    settings.LANGUAGES = [("en", "English"), ("fil", "Filipino")]
    # Other tests of this process have asked much, and pages would be told to ask rarely.
    polling._pace = polling.Pace(lambda: False)
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait(timeout=20)
    assert thread.error is None, thread.error
    yield f"http://127.0.0.1:{thread.port}"
    thread.terminate()


@dataclass
class Window:
    """A page in the browser and everything that went wrong in it."""

    page: Any
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def window(browser: Any, site: str) -> Iterator[Callable[..., Window]]:
    """Opens windows in which a person with every permission is signed in."""
    person = get_user_model().objects.create_user("staff-member-12", is_staff=True)
    person.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(person)
    session = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    contexts = []

    def open_window(**options: Any) -> Window:
        context = browser.new_context(base_url=site, **options)
        contexts.append(context)
        context.add_cookies(
            [{"name": django_settings.SESSION_COOKIE_NAME, "value": session, "url": site}]
        )
        context.set_default_timeout(10_000)
        opened = Window(context.new_page())
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on(
            "console",
            lambda said: (
                opened.complaints.append(said.text) if said.type in {"error", "warning"} else None
            ),
        )
        return opened

    yield open_window
    for context in contexts:
        context.close()
