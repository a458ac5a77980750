"""What pages that ask are told: what changed, to whom, how soon, and how often they may ask."""

from __future__ import annotations

import datetime
import heapq
import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rehearsal import access, fragments, polling, tasks
from rehearsal.journal import change
from rehearsal.models import CheckItem, Rehearsal, Status
from tests.test_views import (
    ACTIONS,
    _nothing_is_known,  # noqa: F401  for each test
    at,
    begin,
    poll,
    project_database_away,  # noqa: F401
    rows_in,
    signed_in,
    version,
    work,
)

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])


@pytest.fixture
def client() -> Client:
    """Somebody who may do everything."""
    return signed_in("view_rehearsal", *sorted({*ACTIONS.values()}))


@pytest.fixture
def reader() -> Client:
    return signed_in("view_rehearsal")


# What an answer brings.


def test_a_poll_that_finds_nothing_new_is_empty(client: Client) -> None:
    rehearsal = begin("Passes")
    response = poll(client, rehearsal, version(rehearsal))
    assert (response.status_code, response.content) == (204, b"")


def test_a_poll_brings_the_changed_rows_and_no_others(client: Client) -> None:
    rehearsal = begin("Passes", "Passes", "Ends how=action_required")
    seen = version(rehearsal)
    item = rehearsal.items.get(position=1)
    tasks.perform.apply((item.pk, item.attempt))
    response = poll(client, rehearsal, seen)
    assert response.status_code == 200
    assert rows_in(response) == ["item-1-2"]
    text = response.content.decode()
    for expected in (
        'id="item-1-2-detail" hx-swap-oob="true"', 'id="rehearsal-banner" hx-swap-oob="true"',
        'id="rehearsal-cursor" hx-swap-oob="true"', 'id="section-1-state" hx-swap-oob="true"',
        "1.2 passed. Running: 1 of 3 settled.", f'name="seen" value="{version(rehearsal)}"',
    ):  # fmt: skip
        assert expected in text
    assert '<details class="rehearsal-item"' not in text, "an opened line would close"


def test_the_rows_together_bring_a_page_to_the_present(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling.Standings, "SECONDS", 0)
    rehearsal = begin("Passes", "Ends how=failed", "Passes")
    seen, brought = version(rehearsal), set()
    for item in rehearsal.items.all():
        tasks.perform.apply((item.pk, item.attempt))
        brought |= set(rows_in(poll(client, rehearsal, seen)))
        seen = version(rehearsal)
    assert brought == {"item-1-1", "item-1-2", "item-1-3"}


def test_polling_stops_when_all_is_decided(client: Client) -> None:
    rehearsal = begin("Passes")
    seen = version(rehearsal)
    work(rehearsal)
    last = poll(client, rehearsal, seen)
    assert (last.status_code, rows_in(last)) == (286, ["item-1-1"])
    assert "every " not in last.content.decode()
    assert poll(client, rehearsal, version(rehearsal)).status_code == 286


def test_a_red_rehearsal_that_waits_for_a_person_is_still_looked_at(client: Client) -> None:
    rehearsal = begin("Ends how=failed", "Ends how=action_required")
    work(rehearsal)
    assert poll(client, rehearsal, 0).status_code == 200
    assert poll(client, rehearsal, version(rehearsal), pause=5).status_code == 204
    assert b"confirm 1.2" in client.get(at("{n}/", rehearsal)).content
    client.post(at("{n}/items/1.2/confirm/", rehearsal))
    assert poll(client, rehearsal, version(rehearsal)).status_code == 286


def test_polling_is_slow_while_only_a_person_can_bring_news(client: Client) -> None:
    rehearsal = begin("Ends how=action_required")
    assert 'hx-trigger="every 1s"' in client.get(at("{n}/", rehearsal)).content.decode()
    work(rehearsal)
    assert 'hx-trigger="every 5s"' in client.get(at("{n}/", rehearsal)).content.decode()


@pytest.mark.parametrize("seen", ["", "nonsense", "-1", "999999", "9" * 40, "²"])
def test_a_page_that_saw_nonsense_is_brought_everything(client: Client, seen: str) -> None:
    rehearsal = begin("Passes", "Passes")
    assert rows_in(poll(client, rehearsal, seen)) == ["item-1-1", "item-1-2"]


def test_the_clock_goes_on_though_nothing_changed(client: Client) -> None:
    rehearsal = begin("Passes")
    seen = version(rehearsal)
    assert poll(client, rehearsal, seen, elapsed=0).status_code == 204
    before = timezone.now() - datetime.timedelta(seconds=polling.CLOCK_EVERY + 1)
    Rehearsal.objects.filter(pk=rehearsal.pk).update(started_at=before)
    polling._standings = polling.Standings()
    response = poll(client, rehearsal, seen, elapsed=0)
    assert response.status_code == 200
    assert rows_in(response) == [] and "#rehearsal-status" not in response.content.decode()


def test_a_reader_may_be_in_a_time_zone_without_a_name(client: Client) -> None:
    """As a project's middleware may take it from a browser: by its offset alone."""
    rehearsal = begin("Passes")
    at = Rehearsal.objects.get(pk=rehearsal.pk).started_at
    with timezone.override(datetime.timezone(datetime.timedelta(hours=8, minutes=7))):
        response = poll(client, rehearsal, 0)
        assert response.status_code == 200
        assert f"{timezone.localtime(at):%H:%M}" in response.content.decode()


def test_a_poll_sweeps_but_not_each_time(client: Client) -> None:
    rehearsal = begin("Passes")
    lost = rehearsal.items.get()
    with change(rehearsal.number, "a worker that dies") as made:
        made.move(lost, Status.RUNNING, started_at=timezone.now(),
                  lease_expires_at=timezone.now() - datetime.timedelta(minutes=1))  # fmt: skip
    poll(client, rehearsal, 0)
    lost.refresh_from_db()
    assert lost.status == Status.FAILED
    CheckItem.objects.filter(pk=lost.pk).update(
        status=Status.RUNNING, lease_expires_at=timezone.now() - datetime.timedelta(minutes=1)
    )
    Rehearsal.objects.filter(pk=rehearsal.pk).update(closed_at=None)
    polling._standings = polling.Standings()
    poll(client, rehearsal, 0)
    lost.refresh_from_db()
    assert lost.status == Status.RUNNING, "swept twice within the same moment"


def test_pages_that_poll_and_stand_at_the_same_version_share_one_rendering(
    django_assert_num_queries: Any,
) -> None:
    rehearsal = begin("Passes", "Ends how=action_required")
    for item in rehearsal.items.all():
        tasks.perform.apply((item.pk, item.attempt))
    reader, confirmer = (
        signed_in("view_rehearsal"),
        signed_in("view_rehearsal", "confirm_checkitem"),
    )
    poll(reader, rehearsal, 0)
    fragments._sweep_at[rehearsal.number] = time.monotonic() + 60
    polling._standings = polling.Standings()
    with django_assert_num_queries(1, using="rehearsal"):  # the version
        again = poll(reader, rehearsal, 0)
    assert b"confirm/" not in again.content
    assert b"confirm/" in poll(confirmer, rehearsal, 0).content
    assert b"csrfmiddlewaretoken" not in poll(confirmer, rehearsal, 0).content


def test_the_last_poll_of_a_closed_rehearsal_reads_it_once() -> None:
    rehearsal = begin("Ends how=failed")
    for item in rehearsal.items.all():
        tasks.perform.apply((item.pk, item.attempt))
    rehearsal.refresh_from_db()
    reader = signed_in("view_rehearsal")
    with CaptureQueriesContext(connections["rehearsal"]) as asked:
        assert poll(reader, rehearsal, rehearsal.version).status_code == 286
    assert sum("checklist_text" in one["sql"] for one in asked) == 1


# Who is answered, and how long that holds.


def settle(rehearsal: Rehearsal, position: int = 0) -> None:
    item = rehearsal.items.get(position=position)
    tasks.perform.apply((item.pk, item.attempt))


def lately(visitor: Client) -> str:
    return visitor.cookies[access.LATELY].value


def test_who_asked_a_moment_ago_is_not_looked_up_again_but_hears_of_changes(
    reader: Client, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling.Standings, "SECONDS", 60)
    rehearsal = begin("Passes", "Passes")
    seen = version(rehearsal)
    with django_assert_num_queries(4):  # the session, the user, and the permissions twice
        assert poll(reader, rehearsal, seen).status_code == 204
    with django_assert_num_queries(0), django_assert_num_queries(0, using="rehearsal"):
        assert poll(reader, rehearsal, seen).status_code == 204
    settle(rehearsal)
    polling._standings = polling.Standings()
    with django_assert_num_queries(0):
        assert rows_in(poll(reader, rehearsal, seen)) == ["item-1-1"]


def test_what_says_who_asked_is_told_to_no_page_address_or_script(reader: Client) -> None:
    rehearsal = begin("Passes")
    answer = poll(reader, rehearsal, 0)
    said = answer.cookies[access.LATELY]
    assert said["httponly"] and said["samesite"] == "Strict"
    assert said["path"] == at("{n}/rows/", rehearsal)
    assert said["max-age"] == access.LATELY_SECONDS
    assert said.value.encode() not in answer.content
    session = reader.cookies["sessionid"].value
    assert session not in said.value


def test_it_is_kept_as_carefully_as_the_session(reader: Client, settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = True
    assert poll(reader, begin("Passes"), 0).cookies[access.LATELY]["secure"]


def test_it_is_worth_nothing_without_its_session(reader: Client) -> None:
    rehearsal = begin("Passes")
    poll(reader, rehearsal, 0)
    for thief, status in ((Client(), access.STOP_POLLING), (signed_in(), 403)):
        thief.cookies[access.LATELY] = lately(reader)
        answer = poll(thief, rehearsal, 0)
        assert (answer.status_code, rows_in(answer)) == (status, [])
    kept = lately(reader)
    reader.logout()
    reader.cookies[access.LATELY] = kept
    answer = poll(reader, rehearsal, 0)
    assert (answer.status_code, rows_in(answer)) == (access.STOP_POLLING, [])


def test_it_lends_no_permission_of_another_session(client: Client) -> None:
    rehearsal = begin("Ends how=action_required")
    settle(rehearsal)
    assert b"confirm/" in poll(client, rehearsal, 0).content
    reader = signed_in("view_rehearsal")
    reader.cookies[access.LATELY] = lately(client)
    answer = poll(reader, rehearsal, 0)
    assert answer.status_code == 200 and b"confirm/" not in answer.content


def test_it_is_worth_nothing_for_another_rehearsal(
    reader: Client, django_assert_num_queries: Any
) -> None:
    one = begin("Ends how=failed")
    work(one)
    other = begin("Passes")
    poll(reader, one, 0)
    with django_assert_num_queries(4):
        assert poll(reader, other, 0).status_code == 200


@pytest.mark.parametrize(
    "said", ["", "x", "9999999999:x", "9999999999.decide:x", "9999999999", ":", "²:²", "a" * 5000]
)
def test_what_nobody_signed_is_no_permission(said: str) -> None:
    rehearsal, nobody = begin("Passes"), signed_in()
    nobody.cookies[access.LATELY] = said
    assert poll(nobody, rehearsal, 0).status_code == 403


@pytest.mark.parametrize("taken", ["permission", "account", "session"])
def test_what_is_taken_away_is_noticed_once_it_is_looked_up_again(
    reader: Client, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal = begin("Passes")
    assert poll(reader, rehearsal, 0).status_code == 200
    if taken == "permission":
        Permission.objects.get(codename="view_rehearsal").user_set.clear()
    elif taken == "account":
        Permission.objects.get(codename="view_rehearsal").user_set.update(is_active=False)
    else:
        Session.objects.all().delete()
    assert poll(reader, rehearsal, 0).status_code == 200  # for as long as is said
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30)  # as docs/security.md promises
    answer = poll(reader, rehearsal, 0)
    if taken == "permission":
        assert (answer.status_code, answer["HX-Refresh"]) == (403, "true")
    else:
        assert answer.status_code == access.STOP_POLLING
        assert "You are signed out" in answer.content.decode()
    assert access.LATELY not in answer.cookies


def test_a_page_and_an_action_are_looked_up_each_time(client: Client) -> None:
    rehearsal = begin("Ends how=action_required")
    settle(rehearsal)
    poll(client, rehearsal, 0)
    Permission.objects.get(codename="confirm_checkitem").user_set.clear()
    assert client.post(at("{n}/items/1.1/confirm/", rehearsal)).status_code == 403
    Permission.objects.get(codename="view_rehearsal").user_set.clear()
    assert client.get(at("{n}/", rehearsal)).status_code == 403


@pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])
def test_while_the_projects_database_is_swapped_who_asked_a_moment_ago_sees_the_restore_go_on(
    reader: Client, no_worker: None, request: pytest.FixtureRequest
) -> None:
    rehearsal = begin("Passes", "Passes")
    poll(reader, rehearsal, 0)
    request.getfixturevalue("project_database_away")
    seen = version(rehearsal)
    settle(rehearsal)
    polling._standings = polling.Standings()
    assert rows_in(poll(reader, rehearsal, seen)) == ["item-1-1"]
    del reader.cookies[access.LATELY]
    assert poll(reader, rehearsal, seen).status_code == 503


# How soon it is heard of a change.


def test_a_change_is_hidden_no_longer_than_a_moment(reader: Client) -> None:
    rehearsal = begin("Passes", "Passes")
    seen = version(rehearsal)
    poll(reader, rehearsal, seen)
    settle(rehearsal)
    time.sleep(0.1)  # as long as is promised, and no event to wait for
    assert rows_in(poll(reader, rehearsal, seen)) == ["item-1-1"]


def test_a_page_that_another_process_brought_further_is_not_sent_back(
    reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling.Standings, "SECONDS", 60)
    rehearsal = begin("Passes", "Passes")
    poll(reader, rehearsal, version(rehearsal))
    settle(rehearsal)
    assert poll(reader, rehearsal, version(rehearsal)).status_code == 204


def test_a_change_is_rendered_once_though_it_is_not_known_yet(
    reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling.Standings, "SECONDS", 60)
    rehearsal = begin("Passes", "Passes")
    poll(reader, rehearsal, version(rehearsal))
    settle(rehearsal)
    assert f'value="{version(rehearsal)}"' in poll(reader, rehearsal, 0).content.decode()
    with CaptureQueriesContext(connections["rehearsal"]) as asked:
        assert poll(reader, rehearsal, 0).status_code == 200
    assert not len(asked)


# How often it may be asked.


def asking(viewers: int, cost: float, seconds: int = 120, *, short: bool = False) -> list[int]:
    """What `viewers` are told late in that time, when each keeps to it and an answer costs `cost`
    seconds of a processor."""
    pace, told = polling.Pace(lambda: 99 if short else 0), []
    waiting = [(number / viewers, 1) for number in range(viewers)]
    heapq.heapify(waiting)
    while waiting:
        now, before = heapq.heappop(waiting)
        pause = pace.pause(now)
        pace.answered(now, before, cost)
        if now > seconds / 2:
            told.append(pause)
        if now + pause < seconds:
            heapq.heappush(waiting, (now + pause, pause))
    return told


def test_hundreds_may_ask_each_second_where_that_is_cheap() -> None:
    assert set(asking(300, 0.0005)) == {1}


def test_where_asking_is_dear_all_together_take_no_more_than_their_share() -> None:
    told = asking(200, 0.005)
    assert min(told) >= 5
    assert len(told) / 60 * 0.005 < 1.1 * polling.Pace.SHARE


def test_crowds_ask_more_rarely_where_processors_are_short_and_a_few_do_not() -> None:
    told = asking(67, 0.0005, short=True)
    assert min(told) >= 12
    assert len(told) / 60 < 1.1 * polling.Pace.CROWD
    assert set(asking(5, 0.0005, short=True)) == {1}


def test_a_crowd_that_gave_way_stays_away_until_there_are_processors_to_spare() -> None:
    now = [40]
    pace = polling.Pace(lambda: now[0])

    def told(second: int) -> int:
        for _ in range(50):
            pace.answered(second, 1, 0.0)
        return pace.pause(second)

    assert [told(second) for second in range(20)] == [1] * 20
    now[0] = 60
    assert told(20) == 10
    now[0] = 40  # since the crowd is away
    assert told(21) == 10
    now[0] = 20
    assert told(22) == 1


@pytest.mark.parametrize(
    ("said", "waiting"),
    [
        ("some avg10=83.89 avg60=53.13 avg300=35.94 total=1\nfull avg10=0.00", 83),
        ("some avg10=0.00 avg60=99.00 avg300=99.00 total=1\nfull avg10=9.00", 0),
        ("nothing that is known", 0),
        (None, 0),
    ],
)
def test_how_short_processors_are_is_what_the_system_says(
    said: str | None, waiting: int, tmp_path: Path
) -> None:
    file = tmp_path / "cpu"
    if said:
        file.write_text(said)
    assert polling.waiting_for_processors(file) == waiting


def test_pages_may_ask_each_second_again_when_many_have_left() -> None:
    pace = polling.Pace(lambda: 0)
    for second in range(30):
        pace.answered(second, 1, 2.0)
    assert pace.pause(30) == 10
    assert pace.pause(30 + pace.WINDOW) == 1


def test_what_an_answer_takes_is_counted_from_the_projects_middleware_on(
    reader: Client, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_polling.busy"]
    rehearsal = begin("Passes")
    polling._pace = polling.Pace()
    poll(reader, rehearsal, 0)
    assert sum(work for work, _pages in polling._pace._answered.values()) > BUSY


BUSY = 0.2


def busy(get_response: Any) -> Any:
    """Middleware that takes processor time."""

    def answer(request: Any) -> Any:
        ends = time.thread_time() + BUSY
        while time.thread_time() < ends:
            pass
        return get_response(request)

    return answer


def test_the_page_is_told_how_often_it_may_ask(reader: Client) -> None:
    rehearsal = begin("Passes", "Passes")
    polling._pace.answered(time.monotonic(), 1, 3.5 * polling.Pace.SHARE * polling.Pace.WINDOW)
    assert 'hx-trigger="every 4s"' in poll(reader, rehearsal, 0).content.decode()


def test_a_page_that_only_waits_for_a_person_hears_that_the_crowd_has_left(reader: Client) -> None:
    rehearsal = begin("Ends how=failed", "Ends how=action_required")
    work(rehearsal)
    address, seen = at("{n}/rows/", rehearsal), version(rehearsal)
    assert reader.get(address, {"seen": seen, "pause": 5}).status_code == 204
    slow = reader.get(address, {"seen": seen, "pause": 10})
    assert 'hx-trigger="every 5s"' in slow.content.decode()
    assert 'name="pause" value="5"' in slow.content.decode()
