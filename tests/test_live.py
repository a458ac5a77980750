"""What is pushed to the pages, by a real asynchronous server to real connections."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal import live, tasks
from rehearsal.models import CheckItem, Rehearsal
from tests.browser.server import serving
from tests.conftest import document
from tests.fuzzing import cases

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"]),
    pytest.mark.usefixtures("no_worker"),
]


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as address:
        yield address


def cookie(*permissions: str) -> str:
    person = get_user_model().objects.create_user("viewer")
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(person)
    name = django_settings.SESSION_COOKIE_NAME
    return f"{name}={client.cookies[name].value}"


class Stream:
    """An open stream of events; to be used as a context manager."""

    def __init__(self, address: str, path: str, **headers: str) -> None:
        at = urlsplit(address)
        self.connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=15)
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self.connection.close()

    def next(self) -> dict[str, str]:
        """The next event, its data in one string; empty when the stream has ended."""
        event: dict[str, str] = {}
        while line := self.response.readline().decode():
            if line == "\n":
                if "event" in event:
                    return event
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            event[name] = event.get(name, "") + value
        return event


@cases(60)
@given(st.text(alphabet="a <\u2028\x0b: \n", max_size=30))
@example("<pre>one\n\n  two\u2028\n</pre>")
def test_an_event_holds_the_text_with_its_empty_lines(html: str) -> None:
    # As the standard has it: lines end in \n alone, and one blank is no part of the value.
    lines = live.data(html).removesuffix("\n").split("\n")
    assert "\n".join(line.removeprefix("data: ") for line in lines) == html


def begin(*checks: str) -> Rehearsal:
    return tasks.start(document(*checks), by="tester", revision="abc")


def settle(rehearsal: Rehearsal, position: int) -> None:
    item = CheckItem.objects.get(rehearsal=rehearsal, position=position)
    tasks.perform.apply((item.pk, item.attempt))


def path(rehearsal: Rehearsal, seen: int) -> str:
    return f"/rehearsal/{rehearsal.number}/stream/?seen={seen}"


def test_changes_are_pushed_until_the_end(server: str) -> None:
    rehearsal = begin("Passes", "Passes")
    version = Rehearsal.objects.get().version
    with Stream(server, path(rehearsal, version), Cookie=cookie("view_rehearsal")) as stream:
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        settle(rehearsal, 0)
        first = stream.next()
        assert first["event"] == "changes" and int(first["id"]) > version
        assert 'id="item-1-1-head"' in first["data"]
        assert 'id="item-1-2-head"' not in first["data"]
        settle(rehearsal, 1)
        second = stream.next()
        assert 'id="item-1-2-head"' in second["data"]
        assert 'id="item-1-1-head"' not in second["data"]
        assert stream.next()["event"] == "end"
        assert stream.next() == {}


def test_what_is_pushed_carries_no_token_and_no_button_of_others(server: str) -> None:
    rehearsal = begin("Ends how=failed", "Passes")
    may_waive = cookie("view_rehearsal", "waive_checkitem")
    with Stream(server, path(rehearsal, 0), Cookie=may_waive) as one:
        get_user_model().objects.filter(username="viewer").update(username="first")
        may_look = cookie("view_rehearsal")
        with Stream(server, path(rehearsal, 0), Cookie=may_look) as other:
            settle(rehearsal, 0)
            until = 'id="item-1-1-head"'
            pushed = [read(one, until), read(other, until)]
    assert ["Why is it acceptable" in data for data in pushed] == [True, False]
    assert not any("csrfmiddlewaretoken" in data for data in pushed)


def read(stream: Stream, until: str) -> str:
    for _ in range(5):
        if until in (data := stream.next().get("data", "")) and "failed" in data:
            return data
    raise AssertionError(f"{until} was not pushed")


def test_a_browser_that_lost_its_connection_gets_what_it_missed(server: str) -> None:
    rehearsal = begin("Passes", "Passes", "Passes")
    before = Rehearsal.objects.get().version
    settle(rehearsal, 0)
    heard = Rehearsal.objects.get().version
    settle(rehearsal, 1)
    who = cookie("view_rehearsal")
    with Stream(server, path(rehearsal, before), Cookie=who, **{"Last-Event-ID": str(heard)}) as s:
        data = s.next()["data"]
    assert re.findall(r'id="(item-1-\d)-head"', data) == ["item-1-2"]


def test_only_who_may_look_is_let_in(server: str) -> None:
    rehearsal = begin("Passes")
    with Stream(server, path(rehearsal, 0)) as stranger:
        assert stranger.response.status == 302
    nobody = cookie()
    with Stream(server, path(rehearsal, 0), Cookie=nobody) as signed_in:
        assert signed_in.response.status == 403
    get_user_model().objects.all().delete()
    with Stream(server, "/rehearsal/999/stream/", Cookie=cookie("view_rehearsal")) as missing:
        assert missing.response.status == 404


def test_a_synchronous_server_holds_nobody(client: Client) -> None:
    rehearsal = begin("Passes")
    name, _, value = cookie("view_rehearsal").partition("=")
    client.cookies[name] = value
    assert client.get(path(rehearsal, 0)).status_code == 204
    assert "sse-connect" not in client.get(rehearsal.get_absolute_url()).content.decode()


def test_viewers_who_leave_hold_no_connection_to_the_database(server: str, tmp_path: Path) -> None:
    from django.db import connections

    from tests.conftest import wait_for

    def held() -> int:
        with connections["rehearsal"].cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() AND datname IN ('records', 'project')"
            )
            return int(cursor.fetchone()[0])

    connections["default"].close()
    rehearsal = begin("Passes")
    who = cookie("view_rehearsal")
    streams = [Stream(server, path(rehearsal, 0), Cookie=who) for _ in range(8)]
    try:
        for stream in streams:
            assert stream.next()["event"] == "changes"
        connections["default"].close()
        wait_for(lambda: held() <= 2, within=10)
    finally:
        for stream in streams:
            stream.__exit__()
    wait_for(lambda: held() == 0, within=10)
