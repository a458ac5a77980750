"""Request logs: a real server is crawled per role, and its log is read while it is written."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.test import RequestFactory, override_settings
from django.test.testcases import LiveServerThread, _StaticFilesHandler
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal import request_log
from rehearsal.checks.base import Outcome, Rehearsed, Report
from rehearsal.checks.observability import RequestLogs, request_logs
from rehearsal.checks.observability.entries import Entry, Reader
from rehearsal.checks.observability.request_logs import Said
from rehearsal.conf import redactor
from tests.checks.observability.test_sources import NOW, OLD, SINCE, line
from tests.checks.projects import Result
from tests.fuzzing import ANYTHING, cases, corpus

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])
Look = Callable[..., Result]
TRACEBACK = "Traceback (most recent call last):\n  File x\nValueError: planted\n"


@pytest.fixture
def site(settings: Any, transactional_db: None) -> Iterator[str]:
    """A server whose requests the app's own handler writes down."""
    settings.ROOT_URLCONF = "tests.checks.observability.site"
    settings.MIDDLEWARE = [
        "rehearsal.request_log.RequestLogMiddleware",
        *settings.MIDDLEWARE,
    ]
    handler = request_log.Handler()
    loggers = [logging.getLogger(name) for name in ("rehearsal.requests", "django.request")]
    for logger in loggers:
        logger.addHandler(handler)
    loggers[0].setLevel(logging.INFO)
    thread = LiveServerThread("127.0.0.1", _StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait(timeout=20)
    assert thread.error is None, thread.error
    yield f"http://127.0.0.1:{thread.port}"
    thread.terminate()
    for logger in loggers:
        logger.removeHandler(handler)
    loggers[0].setLevel(logging.NOTSET)


@pytest.fixture
def look(site: str, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Look:
    for name in ("clerk", "boss"):
        get_user_model().objects.create_user(name, is_staff=name == "boss")
    monkeypatch.setattr(request_logs, "SEEN_SECONDS", 2)

    def look(*pages: str, roles: tuple[str, ...] = ("clerk", "boss"), **setting: Any) -> Result:
        settings.REHEARSAL = {
            "ROOT": tmp_path,
            "SITE_URL": site,
            "PAGES": list(pages),
            "ROLES": {f"the {name}": name for name in roles},
            **setting,
        }
        log = request_log.path()
        log.write_text(OLD)
        report = Report("Review.", Rehearsed(7, "", SINCE), redact=redactor().redact)
        try:
            RequestLogs().run(report)
        except Outcome as outcome:
            return Result(report, outcome)
        return Result(report, None)

    return look


def test_pages_are_looked_at_as_each_role_and_found_in_the_log(look: Look) -> None:
    found = look("well", "htmx /well/?page=2", "rehearsal:index", roles=("boss",))
    assert found.verdict == "inconclusive"  # who is no more than staff may not see rehearsals
    assert "rehearsal:index as the boss (403)" in found.why
    found = look("well", "htmx /well/?page=2")
    assert found.verdict == "passed", found.why
    assert "4 pages looked at as 2 roles; 4 requests in the log" in found.report.said
    assert "rehearsal/7 (rehearsal-run-" in found.report.facts["our requests' User-Agent"]
    assert Session.objects.count() == 0
    # What was asked by others in the same time is told apart from what was asked by us.
    assert found.report.facts["requests in the log"] == ["4 x 200"]


def test_a_page_that_breaks_fails_by_path_and_its_secret_is_not_shown(look: Look) -> None:
    found = look("well", "broken")
    assert found.verdict == "failed"
    assert "broken as the clerk (500)" in found.why
    assert "/broken/ (2)" in found.why
    assert "RuntimeError: planted" in found.report.output
    assert "correct-horse" not in found.report.output + found.why
    assert "correct-horse" not in request_log.path().read_text()


def test_a_page_that_is_not_for_a_role_proves_nothing(look: Look) -> None:
    assert look("staff", roles=("boss",)).verdict == "passed"
    found = look("staff")
    assert found.verdict == "inconclusive"
    assert "staff as the clerk (403)" in found.why


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"PAGES": []}, "PAGES"),
        ({"ROLES": {}}, "ROLES"),
        ({"SITE_URL": ""}, "SITE_URL"),
        ({"ROLES": {"nobody": "missing"}}, "no account 'missing'"),
        ({"PAGES": ["no:such"]}, "no:such"),
        ({"SITE_URL": "http://127.0.0.1:1"}, "did not answer"),
    ],
)
def test_where_nothing_was_looked_at_the_remedy_is_named(
    look: Look, setting: dict[str, Any], said: str
) -> None:
    found = look("well", **setting)
    assert found.verdict in {"inconclusive", "failed"}
    assert said in found.why


def test_a_log_without_our_requests_is_the_wrong_one(look: Look, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    at = f"{NOW:%d/%b/%Y:%H:%M:%S} +0000"
    other.write_text("starting\n" + f'1.2.3.4 - - [{at}] "GET / HTTP/1.1" 200 5 "-" "curl"\n' * 3)
    found = look("well", REQUEST_LOGS=["other.log"])
    assert found.verdict == "inconclusive"
    assert "Of our own 2 requests none are in the log" in found.why


def entries(text: str) -> list[Entry]:
    reader = Reader(SINCE, NOW)
    return [*reader.take(text.splitlines()), *reader.end()]


def said(*lines: str) -> request_logs.Said:
    found = request_logs.Said("run-7", 3.0)
    for entry in entries("".join(lines)):
        found.take(entry)
    return found


def access(path: str, status: int, agent: str = "curl", minutes: float = -1) -> str:
    at = NOW + datetime.timedelta(minutes=minutes)
    moment = f"[{at:%d/%b/%Y:%H:%M:%S} +0000]"
    return f'1.2.3.4 - - {moment} "GET {path} HTTP/1.1" {status} 5 "-" "{agent}"\n'


def test_lines_of_web_servers_are_counted_by_path_and_status() -> None:
    found = said(
        access("/a/?token=1", 500),
        access("/a/", 502),
        access("/b/", 200, "run-7"),
        access("/c/", 404),
        access("/old/", 500, minutes=-60),
        access("/rehearsal/3/rows/", 503),
        access("/d/", 503),
    )
    assert found.requests == 6
    assert found.own == 1
    assert found.failed == {"/a/": 2, "/d/": 1}
    assert found.away == {"/rehearsal/3/rows/": 1}


LOST = "django.db.utils.OperationalError: server closed the connection unexpectedly\n"


def test_what_django_says_of_a_page_during_the_restore_is_no_error_of_its_own() -> None:
    path = "/rehearsal/3/rows/"
    broken = line(f"Internal Server Error: {path}", -1, "ERROR") + TRACEBACK + LOST
    unavailable = line(f"Service Unavailable: {path}", -1, "ERROR")
    once = (broken, unavailable, access(path, 503))
    assert not said(*once, *once).wrong
    # Of each there is one for an answer: what is more than that has another reason.
    assert said(*once, broken, broken).wrong == {path: 2}
    assert said(broken, unavailable).wrong == {path: 2}
    # Another error of that page, an answer of 500, and a page of the project's stay errors.
    other = line(f"Internal Server Error: {path}", -1, "ERROR") + TRACEBACK
    assert said(*once, other).wrong == {path: 1}
    assert said(*once, broken, access(path, 500)).wrong == {path: 1}
    assert said(*(one.replace("/rehearsal/3", "/shop") for one in once)).wrong == {"/shop/rows/": 2}


def test_tracebacks_of_django_are_counted_by_path() -> None:
    found = said(
        line("Internal Server Error: /a/", -1, "ERROR") + TRACEBACK,
        line("something else", -1, "WARNING") + TRACEBACK,
    )
    assert found.errors == {"/a/": 1, "no path": 1}
    # The same request in both logs is one error.
    found.take(next(iter(entries(access("/a/", 500)))))
    assert found.wrong["/a/"] == 1


def test_slow_requests_are_told_where_the_log_has_their_time() -> None:
    at = NOW.isoformat()
    found = said(
        f'{{"at": "{at}", "level": "INFO", "path": "/slow/", "status": 200, "seconds": 3.5}}\n',
        f'{{"at": "{at}", "level": "INFO", "path": "/fast/", "status": 200, "seconds": 0.5}}\n',
    )
    assert found.slow == {"/slow/": 1}
    assert not found.wrong


def test_the_handlers_file_is_rotated_and_never_breaks_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "MAX_BYTES", 500)
    request = RequestFactory().get("/a/")
    with override_settings(REHEARSAL={"FOLDER": tmp_path}):
        handler = request_log.Handler()
        for number in range(10):
            record = logging.LogRecord("x", logging.INFO, "", 1, f"line {number}", None, None)
            record.request = request
            handler.emit(record)
        files = sorted(path.name for path in request_log.path().parent.iterdir())
        assert files == ["requests.log", "requests.log.1"]
        assert "line 9" in request_log.path().read_text()
        assert request_log.path().stat().st_mode & 0o777 == 0o600


# Whatever a log holds


ENTRIES = st.builds(
    lambda moment, level, rest: f"{moment} {level} {rest}",
    st.sampled_from(["2026-03-01 10:00:00", "2026-03-01T10:00:00.5Z", "9999-12-31 23:59:59", ""]),
    st.sampled_from(["INFO", "ERROR", ""]),
    st.text(max_size=30) | st.sampled_from(['"GET /a HTTP/1.1" 500', "Traceback (most recent"]),
) | ANYTHING.map(lambda said: json.dumps({"at": "2026-03-01T10:00:00Z", "status": 500, "x": said}))
FIELDS = st.fixed_dictionaries(
    {"at": st.just("2026-03-01T10:00:00Z"), "path": ANYTHING | st.just("/a")},
    optional={"status": ANYTHING | st.just(500), "seconds": ANYTHING, "level": ANYTHING},
).map(json.dumps)
MOMENT = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def taken(lines: list[str]) -> Said:
    reader = Reader(MOMENT, MOMENT + datetime.timedelta(days=1))
    said = Said("rehearsal-run-x", 3.0)
    for entry in [*reader.take(lines), *reader.end()]:
        said.take(entry)
    return said


@cases(60)
@given(st.lists(ENTRIES | FIELDS | st.text(max_size=40), max_size=5))
@example(['{"at": "2026-03-01T10:00:00Z", "path": "/a", "status": "\u00b2"}'])
@example([f'{{"at": "2026-03-01T10:00:00Z", "path": "/a", "status": 5, "seconds": {10**400}}}'])
def test_any_line_is_read_and_an_error_among_them_is_seen(lines: list[str]) -> None:
    wrong = '2026-03-01T11:00:00Z x "GET /broken HTTP/1.1" 500 -'
    assert taken([*lines, wrong]).failed["/broken"] == 1


@pytest.mark.parametrize("file", corpus("logs"))
def test_a_log_that_once_broke_it_is_read(file: Path) -> None:
    wrong = '2026-03-01T11:00:00Z x "GET /broken HTTP/1.1" 500 -'
    said = taken([*file.read_text().splitlines(), wrong])
    assert said.wrong["/broken"] == 1
