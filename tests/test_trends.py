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
from rehearsal.trends import charts

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
