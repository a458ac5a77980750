"""A project on the web is rehearsed: ten thousand accounts, and people who stay on the page."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from django.contrib.auth.hashers import make_password

from demo import servers
from tests import servers as shared
from tests.checks.host import SETTINGS, Host
from tests.conftest import wait_for
from tests.databases.test_replacement import databases, execute

USERS = 10_000
WEB = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "host.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
URLS = """
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("rehearsal/", include("rehearsal.urls"))]
"""
ON_THE_WEB = """
ROOT_URLCONF = "host.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "/static/"
LOGIN_URL = "/admin/login/"
INSTALLED_APPS += ["django.contrib." + name for name in
                   ("admin", "auth", "contenttypes", "messages", "sessions", "staticfiles")]
MIDDLEWARE = [
    "rehearsal.middleware.RestoreMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DATABASES["default"] = {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["WEB_DATABASE"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
    "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
    # Connections that outlive their request are what makes a swap hurt.
    "CONN_MAX_AGE": 600, "ATOMIC_REQUESTS": True,
}
DATABASES["production"] = DATABASES["default"] | {"NAME": os.environ["WEB_PRODUCTION"]}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
REHEARSAL |= {"SOURCE": "production", "POSTGRESQL_BIN": os.environ["POSTGRESQL_BIN"]}
"""
DOCUMENT = """\
# Release

## 1. Data
- [ ] Take it. <!-- check: rehearsal.checks.environment.Snapshot -->
- [ ] Put it in place. <!-- check: rehearsal.checks.environment.Restore -->
"""


class Look(NamedTuple):
    """What somebody who asked for a page got."""

    status: int
    again: str
    """Retry-After."""
    amid: bool
    """Whether the database was another one when the answer came than when it was asked for."""


class Browser:
    """Keeps cookies and follows nothing: enough of a browser to stay signed in."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: SimpleCookie = SimpleCookie()

    def ask(self, path: str, **form: str) -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Cookie": "; ".join(f"{k}={v.value}" for k, v in self.cookies.items())}
        if form:
            form["csrfmiddlewaretoken"] = self.cookies["csrftoken"].value
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("POST" if form else "GET", path, urlencode(form), headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        for cookie in answer.msg.get_all("Set-Cookie") or ():
            self.cookies.load(cookie)
        connection.close()
        return answer.status, answer.msg, body

    def sign_in(self, name: str, password: str) -> bool:
        self.ask("/admin/login/")
        status, _, _ = self.ask("/admin/login/", username=name, password=password, next="/")
        return status == 302

    @contextmanager
    def watching(self, path: str, database: str) -> Iterator[list[Look]]:
        """Two people load a page again and again, while its database is exchanged."""
        seen: list[Look] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                before = execute(stands)
                status, headers, _ = self.ask(path)
                again = headers.get("Retry-After", "")
                seen.append(Look(status, again, amid=execute(stands) != before))
                time.sleep(0.02)

        stands = f"SELECT oid FROM pg_database WHERE datname = '{database}'"
        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: seen)
            yield seen
            # Each of the web server's threads has a connection of its own to lose.
            wait_for(lambda: {look.status for look in seen[-12:]} == {200})
        finally:
            done.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Host, Browser, str]]:
    """The project with its production, its staging, and a web server that serves staging."""
    name = f"quay{os.getpid()}"
    with ExitStack() as stack:
        stack.callback(lambda: [
            execute(f'DROP DATABASE "{one}" WITH (FORCE)')
            for one in databases() if one.startswith(name)
        ])  # fmt: skip
        broker = stack.enter_context(servers.redis())
        host = Host(tmp_path, {
            "HOST_BROKER": broker.url(), "POSTGRESQL_BIN": str(servers.binaries()),
            "PGHOST": shared.postgresql.host, "PGPORT": str(shared.postgresql.port),
            "PGUSER": shared.postgresql.user, "PGPASSWORD": shared.postgresql.password,
            "WEB_DATABASE": f"{name}_staging", "WEB_PRODUCTION": f"{name}_production",
        })  # fmt: skip
        for path, text in (
            ("host/settings.py", SETTINGS + ON_THE_WEB), ("host/urls.py", URLS),
            ("host/wsgi.py", WEB), ("host/__init__.py", "from host.celery import app\n"),
            ("checklist.md", DOCUMENT),
        ):  # fmt: skip
            host.write(path, text)
        execute(f"CREATE DATABASE {name}_production")
        host.manage("migrate", WEB_DATABASE=f"{name}_production")
        old = make_password("the old password", hasher="pbkdf2_sha256")
        execute(
            "INSERT INTO auth_user (password, username, first_name, last_name, email, is_active,"
            " is_staff, is_superuser, date_joined)"
            f" SELECT '{old}', 'user' || n, '', '', '', true, n <= 2, n <= 2, now()"
            f" FROM generate_series(1, {USERS}) n",
            f"{name}_production",
        )
        execute(f"CREATE DATABASE {name}_staging TEMPLATE {name}_production")
        execute("DELETE FROM auth_user WHERE id > 9000", f"{name}_staging")
        host.prepare("rehearsal")
        host.manage("rehearsal_enroll", "--yes", f"{name}_staging")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "host.wsgi", "--bind", f"127.0.0.1:{port}",
             "--workers", "2", "--threads", "2", "--log-level", "warning", "--no-control-socket"],
            cwd=host.path,
            env=host.variables(),
        )  # fmt: skip
        stack.callback(lambda: (serve.terminate(), serve.wait(20)))
        browser = Browser(port)
        wait_for(lambda: serve.poll() is None and _answers(port))
        yield host, browser, name


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.long  # a production, a staging, a web server and a whole rehearsal
@pytest.mark.fault(
    "pages open during the exchange", promised="503 with Retry-After, and people stay on the page"
)
def test_people_stay_on_the_page(web: tuple[Host, Browser, str]) -> None:
    host, browser, name = web
    assert browser.sign_in("user1", "the old password")
    with browser.watching("/rehearsal/", f"{name}_staging") as seen:
        ran = subprocess.run(
            [sys.executable, "manage.py", "start_rehearsal", "--by", "user1", "--worker",
             "--checklist", "checklist.md", "--timeout", "100"],
            cwd=host.path,
            env=host.variables(),
            capture_output=True,
            text=True,
            timeout=120,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    only_asked_to_wait(seen)
    assert execute("SELECT count(*) FROM auth_user", f"{name}_staging") == [(USERS,)]
    _, _, body = browser.ask("/rehearsal/1/items/1.2/")
    assert f"{USERS} accounts as they were" in body
    (away,) = re.findall(r"away for (\d+\.\d+) s", body)[:1]
    assert float(away) <= 2
    # Account 9,876 was not in staging before, and its password is production's old one.
    assert Browser(browser.port).sign_in("user9876", "the old password") is False  # no staff
    assert Browser(browser.port).sign_in("user2", "the old password")

    with browser.watching("/rehearsal/", f"{name}_staging") as seen:
        page = Browser(browser.port)
        page.cookies = browser.cookies
        status, _, body = page.ask("/rehearsal/1/roll-back/", ref="1.2")
    assert status == 302, body
    only_asked_to_wait(seen)
    assert execute("SELECT count(*) FROM auth_user", f"{name}_staging") == [(9_000,)]
    _, _, body = browser.ask("/rehearsal/1/items/1.2/")
    assert "Rolled back by user1" in body


def only_asked_to_wait(seen: list[Look]) -> None:
    """Whoever looked saw the page, or was told when to look again; in the end, he saw the page.

    And somebody did look while the databases were exchanged.
    """
    assert {look.status for look in seen} <= {200, 503}
    assert all(look.again.isdigit() for look in seen if look.status == 503)
    assert seen[-1].status == 200
    assert any(look.amid or look.status == 503 for look in seen)
