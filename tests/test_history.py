"""What the records tell a check of earlier rehearsals and of other items of its own."""

from __future__ import annotations

import datetime

import pytest
from django.utils import timezone

from rehearsal.history import Records
from rehearsal.models import CheckItem, Measurement, Rehearsal, Section, Status

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])
CHECK = "rehearsal.checks.performance.ChangeSincePrevious"
SERIES = "pages.measured"


def rehearsed(
    *,
    waived: bool = False,
    measured: bool = True,
    environment: str = "staging",
    cancelled: str = "",
) -> CheckItem:
    """One more rehearsal with one item; returns the item."""
    begun = timezone.now() - datetime.timedelta(hours=1)
    made = Rehearsal.objects.create(
        environment=environment, revision="abc", started_by="tester", started_at=begun,
        closed_at=begun, cancelled_by=cancelled,
    )  # fmt: skip
    section = Section.objects.create(rehearsal=made, number=5, title="Performance")
    item = CheckItem.objects.create(
        rehearsal=made, section=section, position=0, number=2, text="Line.", check_path=CHECK,
        status=Status.FAILED, summary="1 page is worse", evidence={"result": ["1 worse"]},
        waived_by="a person" if waived else "",
    )  # fmt: skip
    if measured:
        for name, value in ((SERIES, 7), ("page.queries /a/", 3)):
            Measurement.objects.create(
                rehearsal=made, item=item, name=name, value=value, unit="pages"
            )
    return item


def test_the_previous_one_is_the_last_of_this_environment_that_measured_this() -> None:
    first = rehearsed()
    rehearsed(environment="elsewhere")
    rehearsed(measured=False)
    rehearsed(cancelled="a person")
    found = Records(rehearsed()).previous(SERIES)
    assert found is not None
    assert found.rehearsal.number == first.rehearsal_id
    assert found.measurements["page.queries /a/"].value == 3
    assert Records(first).previous(SERIES) is None


def test_the_baseline_is_the_first_until_a_person_accepts_another() -> None:
    first = rehearsed()
    rehearsed()
    found = Records(rehearsed()).baseline(SERIES)
    assert found is not None
    assert found.rehearsal.number == first.rehearsal_id
    accepted = rehearsed(waived=True)
    rehearsed()
    found = Records(rehearsed()).baseline(SERIES)
    assert found is not None
    assert found.rehearsal.number == accepted.rehearsal_id
    assert Records(first).baseline(SERIES) is None


def test_another_item_of_the_rehearsal_tells_what_came_of_it() -> None:
    item = rehearsed()
    found = Records(item).told(CHECK)
    assert found is not None
    assert (found.status, found.facts) == ("failed", {"result": ["1 worse"]})
    assert Records(item).told("no.such.Check") is None
