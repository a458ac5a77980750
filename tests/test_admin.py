"""The admin: everything to see, nothing to change, and a filter that agrees with the verdict."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rehearsal import decisions, sealing, tasks
from rehearsal.admin import with_verdict
from rehearsal.models import CheckItem, Choice, Rehearsal, Section, Status, Verdict
from tests.conftest import document

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])
LIST = "/admin/rehearsal/rehearsal/"


@pytest.fixture
def owner() -> Client:
    """Even a superuser only looks."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("owner"))
    return client


def ended(*checks: str, revision: str = "abc", by: str = "tester") -> Rehearsal:
    rehearsal = tasks.start(document(*checks), by=by, revision=revision)
    for item in rehearsal.items.all():
        tasks.perform.apply((item.pk, item.attempt))
    return rehearsal


def listed(client: Client, **query: Any) -> list[int]:
    return [one.number for one in client.get(LIST, query).context["cl"].result_list]


def test_the_list_shows_and_filters_by_verdict(owner: Client) -> None:
    green, red = ended("Passes"), ended("Ends how=failed")
    waits = ended("Ends how=action_required")
    assert listed(owner) == [waits.number, red.number, green.number]
    text = owner.get(LIST).content.decode()
    assert '<td class="field-stands">red</td>' in text
    assert listed(owner, verdict="green") == [green.number]
    assert listed(owner, verdict="red") == [red.number]
    assert listed(owner, verdict="action_required") == [waits.number]
    assert listed(owner, verdict="cancelled") == []


def test_the_list_is_searched_by_revision_and_starter(owner: Client) -> None:
    first = ended("Passes", revision="f00dcafe", by="staff-member-1")
    second = ended("Passes", revision="deadbeef", by="staff-member-2")
    assert listed(owner, q="f00d") == [first.number]
    assert listed(owner, q="member-2") == [second.number]
    assert listed(owner, environment="elsewhere") == []


def test_a_rehearsal_shows_its_items_its_journal_and_its_document(owner: Client) -> None:
    rehearsal = ended("Passes", "Ends how=failed")
    text = owner.get(f"{LIST}{rehearsal.number}/change/").content.decode()
    for expected in (
        "Line 1.", "It was told to end failed", "running", "tester",
        f'href="/rehearsal/{rehearsal.number}/checklist.md"',
        f'href="/rehearsal/{rehearsal.number}/items/1.2/"',
    ):  # fmt: skip
        assert expected in text
    assert 'name="_save"' not in text


def test_the_seal_is_verified_where_the_evidence_is_reviewed(owner: Client) -> None:
    rehearsal = ended("Passes")
    address = f"{LIST}{rehearsal.number}/change/"
    assert "not decided, and so not sealed" in owner.get(address).content.decode()
    seen = sealing.outcomes(rehearsal)
    decisions.decide(rehearsal.number, "go", by="owner", reason="all is well", seen=seen)
    text = owner.get(address).content.decode()
    assert "intact, SHA-256" in text
    assert "all is well" in text
    assert listed(owner, decision__exact="go") == [rehearsal.number]
    assert listed(owner, revision="abc") == [rehearsal.number]
    rehearsal.items.update(summary="Passed <b>.")
    text = owner.get(address).content.decode()
    assert "The seal is broken" in text
    assert "is now &quot;Passed &lt;b&gt;.&quot;" in text


@pytest.mark.parametrize("path", ["add/", "{n}/change/", "{n}/delete/"])
def test_nobody_changes_anything(owner: Client, path: str) -> None:
    rehearsal = ended("Passes")
    response = owner.post(LIST + path.format(n=rehearsal.number), {"revision": "forged"})
    assert response.status_code == 403
    rehearsal.refresh_from_db()
    assert rehearsal.revision == "abc"
    assert "delete_selected" not in owner.get(LIST).content.decode()
    assert not LogEntry.objects.exists()


def test_who_may_view_rehearsals_sees_their_items_too() -> None:
    rehearsal = ended("Passes")
    reader = get_user_model().objects.create_user("reader", is_staff=True)
    client = Client()
    client.force_login(reader)
    assert client.get(LIST).status_code == 403
    reader.user_permissions.set(Permission.objects.filter(codename="view_rehearsal"))
    assert "Line 1." in client.get(f"{LIST}{rehearsal.number}/change/").content.decode()


DAY = datetime.timedelta(days=1)
ITEM = st.tuples(
    st.sampled_from(Status),
    st.sampled_from([None, "for ever", "expired", "expires"]),  # how it was waived
    st.booleans(),
    st.booleans(),
)


@given(
    items=st.lists(ITEM, max_size=4),
    cancelled=st.booleans(),
    decision=st.sampled_from(["", *Choice]),
    days_ago=st.sampled_from([0, 2]),
)
@example(
    items=[(Status.PENDING, None, False, False), (Status.ACTION_REQUIRED, None, False, False)],
    cancelled=False,
    decision="",
    days_ago=0,
)
@settings(max_examples=150, deadline=None)
def test_the_query_says_what_the_verdict_says(
    items: list[tuple[Status, str | None, bool, bool]],
    cancelled: bool,
    decision: str,
    days_ago: int,
) -> None:
    now = timezone.now()
    rehearsal = Rehearsal.objects.create(
        environment="x",
        closed_at=now,
        cancelled_by="somebody" if cancelled else "",
        decision=decision,
        decided_at=now - days_ago * DAY if decision else None,
    )
    until = {"expired": now - DAY, "expires": now + DAY}
    section = Section.objects.create(rehearsal=rehearsal, number=1, title="Only")
    CheckItem.objects.bulk_create(
        CheckItem(
            rehearsal=rehearsal, section=section, position=position, number=position, text="x",
            check_path="x", status=status, waived_by="somebody" if waived else "",
            waiver_expires_at=until.get(waived or ""), sign_off=sign_off,
            started_at=now if began else None,
        )
        for position, (status, waived, began, sign_off) in enumerate(items)
    )  # fmt: skip
    found = with_verdict(Rehearsal.objects.filter(pk=rehearsal.pk)).get()
    assert Verdict(found.stands) == rehearsal.verdict
