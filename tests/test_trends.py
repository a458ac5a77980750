"""Trends: numbers over past rehearsals, drawn with a table behind, on the page and in the admin."""

from __future__ import annotations

import datetime
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rehearsal.models import CheckItem, Measurement, Rehearsal, Section, Status
from rehearsal.trends import charts, durations, of_item

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])


def past(number: int, **measured: float) -> Rehearsal:
    """A rehearsal that ended after as many minutes as its number says."""
    begun = timezone.now() - datetime.timedelta(days=100 - number)
    ended = begun + datetime.timedelta(minutes=number)
    made = Rehearsal.objects.create(
        environment="staging", started_by="tester", started_at=begun, closed_at=ended
    )
    section = Section.objects.create(rehearsal=made, number=1, title="Only")
    item = CheckItem.objects.create(
        rehearsal=made, section=section, position=0, number=1, text="Line.", status=Status.PASSED,
        check_path="tests.sample_checks.Passes", started_at=begun, finished_at=ended,
    )  # fmt: skip
    for name, value in measured.items():
        name = name.replace("__", " ").replace("_of_", ".")
        unit = "bytes" if "bytes" in name else "s"
        Measurement.objects.create(rehearsal=made, item=item, name=name, value=value, unit=unit)
    return made


@pytest.fixture
def history(settings: Any) -> list[Rehearsal]:
    settings.REHEARSAL = {**settings.REHEARSAL, "PAGES": ["/<b>items</b>/"]}
    return [
        past(
            number,
            snapshot_of_archive_bytes=number * 1_000_000,
            **{"page_of_seconds__/<b>items</b>/": number / 10},
        )
        for number in range(1, 6)
    ]


def someone(*permissions: str) -> Client:
    user = get_user_model().objects.create_user("someone", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_each_series_is_a_chart_over_the_rehearsals_that_have_it(history: list[Rehearsal]) -> None:
    past(6)  # which measured nothing
    Rehearsal.objects.create(environment="elsewhere", closed_at=timezone.now())
    found = {chart.title: chart for chart in charts("staging")}
    assert list(found) == [
        "Duration of a rehearsal", "Size of the snapshot", "Response time of /<b>items</b>/",
    ]  # fmt: skip
    duration, snapshot, response = found.values()
    assert [point.value for point in duration.points] == [60.0 * n for n in range(1, 7)]
    assert snapshot.last.number == history[-1].number
    assert "between 1000000 bytes (1.0 MB) and 5000000 bytes (5.0 MB)" in snapshot.sentence
    assert len(response.points) == 5
    assert all(0 <= point.x <= 320 and 0 <= point.y <= 96 for point in duration.points)
    # Twice as much is twice as high.
    heights = [88 - point.y for point in snapshot.points]
    assert heights[3] == pytest.approx(2 * heights[1], abs=0.3)


def test_nothing_measured_is_no_chart() -> None:
    assert charts("staging") == []


@pytest.mark.parametrize("address", ["/rehearsal/trends/", "/admin/rehearsal/rehearsal/trends/"])
def test_the_page_draws_and_tells_without_inline_style_or_script(
    history: list[Rehearsal], address: str
) -> None:
    client = someone("view_rehearsal")
    with CaptureQueriesContext(connection()) as queries:
        response = client.get(address)
    assert response.status_code == 200
    assert len(queries) <= 3
    html = response.content.decode()
    drawn = html[html.index('<div class="rehearsal-trends">') :]
    assert not re.search(r"\sstyle=|<style|<script|\son\w+=", drawn)
    assert "&lt;b&gt;items" in drawn
    assert "<b>items" not in drawn
    for figure in re.findall(r"<figure.*?</figure>", drawn, re.DOTALL):
        chart = ElementTree.fromstring(figure)
        assert chart.find("svg/title").text.endswith(".")  # type: ignore[union-attr]
        assert chart.find("svg").get("role") == "img"  # type: ignore[union-attr]
        assert len(chart.findall("details/table/tbody/tr")) == 5
    assert client.get("/rehearsal/").content.count(b"/rehearsal/trends/") == 1


def connection() -> Any:
    from django.db import connections

    return connections["rehearsal"]


@pytest.mark.parametrize("address", ["/rehearsal/trends/", "/admin/rehearsal/rehearsal/trends/"])
def test_who_may_not_view_rehearsals_sees_no_trends(address: str) -> None:
    assert someone().get(address).status_code == 403
    assert Client().get(address).status_code == 302


def test_the_admins_list_leads_to_them(history: list[Rehearsal]) -> None:
    response = someone("view_rehearsal").get("/admin/rehearsal/rehearsal/")
    assert b"/admin/rehearsal/rehearsal/trends/" in response.content


def test_how_long_rehearsals_took_is_a_line_from_the_second_on(history: list[Rehearsal]) -> None:
    drawn = durations("staging")
    assert drawn is not None
    assert [point.value for point in drawn.points] == [60.0 * n for n in range(1, 6)]
    client = someone("view_rehearsal")
    assert drawn.sentence in client.get("/rehearsal/").content.decode()
    Rehearsal.objects.exclude(pk=history[-1].pk).delete()
    assert durations("staging") is None
    assert b"rehearsal-spark" not in client.get("/rehearsal/").content


def test_an_item_draws_what_the_same_line_measured_up_to_its_rehearsal() -> None:
    made = [past(number, seconds=number) for number in range(1, 5)]
    items = [one.items.get() for one in made]
    other = CheckItem.objects.create(  # measures by the same name
        rehearsal=made[0], section=items[0].section, position=1, number=2, text="Another.",
        check_path=items[0].check_path,
    )  # fmt: skip
    Measurement.objects.create(rehearsal=made[0], item=other, name="seconds", value=9, unit="s")
    CheckItem.objects.filter(pk=items[1].pk).update(check_path="tests.sample_checks.Ends")
    Measurement.objects.create(rehearsal=made[2], item=items[2], name="once", value=1, unit="s")
    (drawn,) = of_item(items[2])["charts"]
    assert drawn.title == "seconds"
    assert [(one.number, one.value) for one in drawn.points] == [
        (made[0].pk, 1.0), (made[2].pk, 3.0)
    ]  # fmt: skip
    # Its own rehearsal counts also while it is open, and none that was cancelled.
    Rehearsal.objects.filter(pk=made[3].pk).update(closed_at=None)
    Rehearsal.objects.filter(pk=made[0].pk).update(cancelled_by="tester")
    (drawn,) = of_item(items[3])["charts"]
    assert [one.value for one in drawn.points] == [3.0, 4.0]
    items[3].measurements.all().delete()
    assert of_item(items[3])["charts"] == []


def test_an_opened_line_fetches_its_trends_and_its_own_page_has_them(
    django_assert_num_queries: Any,
) -> None:
    made = [past(number, seconds=number, bytes=1e6 * number, kept=7) for number in range(1, 4)]
    client = someone("view_rehearsal")
    path = f"{made[-1].get_absolute_url()}items/1.1/"
    opened = client.get(made[-1].get_absolute_url()).content.decode()
    assert f'hx-get="{path}trends/"' in opened
    assert "<figure" not in opened
    with django_assert_num_queries(4, using="rehearsal"):
        fetched = client.get(f"{path}trends/", headers={"HX-Request": "true"}).content.decode()
    assert fetched.count("<figure") == 2 and "<html" not in fetched
    assert "The same in the past rehearsals: kept." in fetched
    assert "3 rehearsals, the last 3 s, between 1 s and 3 s" in fetched
    own = client.get(path).content.decode()
    assert own.count("<figure") == 2 and 'hx-get="' + path not in own
    # A link that somebody keeps leads to the page that has them.
    assert client.get(f"{path}trends/").headers["Location"] == path
    missing = path.replace("1.1", "7.7") + "trends/"
    assert client.get(missing, headers={"HX-Request": "true"}).status_code == 404
