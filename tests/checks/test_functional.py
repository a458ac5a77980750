"""Pages of a running web server and tasks of a real worker, for any site."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.urls import path
from hypothesis import given
from hypothesis import strategies as st

from rehearsal.checks.base import BindingError, Outcome, build
from rehearsal.checks.functional import Page
from rehearsal.checks.visitor import Answer, visit
from tests.checks.projects import make_report
from tests.standin import Site


def fragment(request: HttpRequest) -> HttpResponse:
    inside = "<table><tr><th>Name</th></tr><tr><td>one</td></tr></table>"
    return HttpResponse(
        inside if request.headers.get("HX-Request") else f"<html><body>{inside}</body></html>"
    )


def broken(request: HttpRequest) -> HttpResponse:
    raise LookupError("planted")


urlpatterns = [
    path("admin/", admin.site.urls), path("fragment/", fragment), path("broken/", broken),
]  # fmt: skip


@pytest.fixture
def web(live_server: Any, settings: Any) -> str:
    """A web server of the tests' project, with two accounts."""
    settings.ROOT_URLCONF = __name__
    settings.REHEARSAL = {**settings.REHEARSAL, "SITE_URL": live_server.url}
    User.objects.create_superuser("owner", password="nobody needs to know")
    User.objects.create_user("guest")
    return str(live_server.url)


def look(**options: Any) -> tuple[str, str]:
    """What the check says of a page: its status and its sentence."""
    report = make_report("A page.")
    try:
        build("rehearsal.checks.functional.Page", options).run(report)
    except Outcome as outcome:
        return outcome.status, str(outcome)
    return "passed", report.said


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (
            {"path": "/admin/auth/user/", "user": "owner", "rows": 2, "text": "guest"},
            "passed",
            "rows",
        ),
        (
            {"path": "/admin/auth/user/", "user": "owner", "rows": 3, "table": "result_list"},
            "failed",
            "at least 3",
        ),
        (
            {"path": "/admin/auth/user/", "user": "owner", "rows": 2, "table": "result_list"},
            "passed",
            " 2 rows",
        ),
        ({"path": "/admin/", "user": "owner", "text": "no such words"}, "failed", "to say"),
        ({"path": "/admin/", "user": "owner", "queries": 50}, "passed", "queries"),
        ({"path": "/admin/", "user": "owner", "queries": 0}, "failed", "at most 0"),
        ({"path": "/admin/", "user": "guest"}, "inconclusive", "lets no such user in"),
        ({"path": "/admin/", "user": "nobody"}, "inconclusive", "no account 'nobody'"),
        ({"path": "/admin/", "status": 302}, "passed", "answers 302"),
        ({"path": "/admin/"}, "failed", "answers 302, on to /admin/login/"),
        ({"path": "/none/", "status": 404}, "passed", "answers 404"),
        ({"path": "/broken/"}, "failed", "500 (LookupError: planted)"),
        ({"path": "/fragment/", "htmx": True, "rows": 1}, "passed", "1 rows"),
        ({"path": "/admin/login/", "htmx": True}, "failed", "with a whole page"),
    ],
)
def test_a_page(web: str, options: dict[str, Any], status: str, says: str) -> None:
    found, said = look(**options)
    assert (found, says in said) == (status, True), said
    assert not Session.objects.exists()


def test_a_session_that_a_crash_left_is_taken_over(web: str) -> None:
    owner = User.objects.get(username="owner")
    left = visit(owner, "the same")
    left.__enter__()
    assert Session.objects.count() == 1
    with visit(owner, "the same") as visitor:
        assert Session.objects.count() == 1
        assert visitor.get("/admin/").status == 200
    assert not Session.objects.exists()


def test_no_web_server(web: str, settings: Any) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "SITE_URL": "http://127.0.0.1:1"}
    assert look(path="/") == (
        "inconclusive",
        "The web server at http://127.0.0.1:1 did not answer to / (ConnectionRefusedError: [Errno "
        "111] Connection refused): start it, or correct REHEARSAL['SITE_URL'].",
    )
    settings.REHEARSAL = {**settings.REHEARSAL, "SITE_URL": ""}
    assert look(path="/")[0] == "inconclusive"


@contextmanager
def answering(status: int, location: str = "", body: bytes = b"") -> Iterator[str]:
    """A web server of its own that gives one answer to everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "location", "body", "says"),
    [
        (302, "/admin/login/?next=/admin/", b"", "it serves another database or SECRET_KEY"),
        (301, "https://127.0.0.1/admin/", b"", "only over https"),
        (400, "", b"<h1>Bad Request (400)</h1>", "into ALLOWED_HOSTS"),
    ],
)
def test_a_web_server_that_is_not_this_environments(
    web: str, settings: Any, status: int, location: str, body: bytes, says: str
) -> None:
    with answering(status, location, body) as address:
        settings.REHEARSAL = {**settings.REHEARSAL, "SITE_URL": address}
        found, said = look(path="/admin/", user="owner")
    assert found == "inconclusive"
    assert says in said


def test_a_line_that_names_no_page() -> None:
    with pytest.raises(BindingError, match="begins with /"):
        build("rehearsal.checks.functional.Page", {})
    with pytest.raises(BindingError, match="name the task"):
        build("rehearsal.checks.functional.TaskRoundTrip", {})
    assert Page(path="/").needs is None


@given(st.text(alphabet="<tr>d/=' \"colspan2x&;", max_size=80))
def test_reading_rows_never_breaks(html: str) -> None:
    for row in Answer("/", 200, html, "", 0.0).rows:
        assert row.text == " ".join(row.text.split())


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<table><tr><th>A</th></tr><tr><td>x</td><td>y</td></tr></table>", ["x y"]),
        ("<table><tr><td colspan=6>Nothing is here.</td></tr></table>", []),
        ("<tr><td>one<tr><td>two", ["one", "two"]),
        ("<table><tr><td>a</td></tr></table>after", ["a"]),
    ],
)
def test_rows_are_those_with_data(html: str, expected: list[str]) -> None:
    assert [row.text for row in Answer("/", 200, html, "", 0.0).rows] == expected


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ({"task": "common.tasks.send_daily_digest"}, "passed", "came back from its worker"),
        ({"task": "common.tasks.no_such_task"}, "inconclusive", "has no task common.tasks.no_such"),
        (
            {"task": "common.tasks.send_single_calendar_notification", "args": ["x"]},
            *("failed", "FAILURE"),
        ),
        (
            {"task": "rehearsal.identify", "kwargs": {"reply_to": "x"}},
            *("inconclusive", "cannot be sent so"),
        ),
        ({"task": "rehearsal.tick", "within": 1}, "inconclusive", "did not come back within 1 s"),
    ],
)
def test_a_round_trip(site: Site, options: dict[str, Any], status: str, says: str) -> None:
    site.plant()
    answer = site.perform("checks.functional.TaskRoundTrip", options=options)
    assert (answer["status"], says in answer["message"]) == (status, True), answer
