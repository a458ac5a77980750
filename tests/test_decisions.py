"""Who may decide what, what is final from then on, and what breaks a seal."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from rehearsal import decisions, plan, records, sealing, tasks
from rehearsal.journal import first_broken_event
from rehearsal.models import CheckItem, Event, Rehearsal, Seal, Status, Verdict, Vote
from tests.conftest import document, statuses, together

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])
GREEN = ("Passes", "SignsOff", "SignsOff")


def begin(*checks: str, by: str = "starter", only: tuple[str, ...] = ()) -> Rehearsal:
    return tasks.start(document(*checks), by=by, revision="abc", only=only)


def work(rehearsal: Rehearsal) -> Rehearsal:
    while queued := CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        for item in queued:
            tasks.perform.apply((item.pk, item.attempt))
    rehearsal.refresh_from_db()
    return rehearsal


def say(rehearsal: Rehearsal, choice: str = "go", by: str = "owner", **said: Any) -> object:
    said = {"reason": "seen", "seen": sealing.outcomes(rehearsal)} | said
    return decisions.decide(rehearsal.number, choice, by=by, **said)


def signed_off(*checks: str) -> Rehearsal:
    rehearsal = work(begin(*(checks or GREEN)))
    say(rehearsal)
    return work(rehearsal)


# The straight line.


def test_the_sign_off_waits_for_a_person_and_then_runs_in_its_order() -> None:
    rehearsal = work(begin(*GREEN))
    assert statuses(rehearsal) == ["passed", "pending", "pending"]
    assert rehearsal.verdict == Verdict.ACTION_REQUIRED
    assert rehearsal.closed_at is None  # it blocks others until somebody decides
    assert say(rehearsal) == "go"
    assert statuses(rehearsal) == ["passed", "queued", "pending"]
    rehearsal.refresh_from_db()
    assert rehearsal.verdict == Verdict.RUNNING
    work(rehearsal)
    assert rehearsal.verdict == Verdict.GREEN
    assert rehearsal.closed_at is not None
    assert sealing.broken(rehearsal) == []


def test_the_sign_off_can_still_turn_it_red_and_be_run_again() -> None:
    rehearsal = signed_off("Passes", "SignsOffBadly", "SignsOff")
    assert statuses(rehearsal) == ["passed", "failed", "passed"]
    assert rehearsal.verdict == Verdict.RED
    assert sealing.broken(rehearsal) == []
    tasks.rerun(rehearsal.number, by="owner")
    assert statuses(rehearsal) == ["passed", "queued", "passed"]
    assert sealing.broken(rehearsal) == []
    work(rehearsal)
    assert sealing.broken(rehearsal) == []
    decisions.waive(rehearsal.number, "1.2", by="owner", reason="told by telephone")
    rehearsal.refresh_from_db()
    assert rehearsal.verdict == Verdict.GREEN
    assert sealing.broken(rehearsal) == []


def test_a_no_go_is_red_and_the_owners_are_told_all_the_same() -> None:
    rehearsal = work(begin(*GREEN))
    assert say(rehearsal, "no-go", by="starter", reason="the office is closed") == "no-go"
    work(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 3
    assert rehearsal.verdict == Verdict.RED
    assert rehearsal.closed_at is not None


def test_a_red_rehearsal_can_only_be_a_no_go() -> None:
    rehearsal = work(begin("Ends how=failed", "SignsOff"))
    assert rehearsal.closed_at is not None
    with pytest.raises(decisions.Refused, match=r"1\.1 is failed"):
        say(rehearsal)
    assert say(rehearsal, "no-go") == "no-go"
    assert statuses(work(rehearsal)) == ["failed", "passed"]


def test_nobody_decides_while_something_runs() -> None:
    rehearsal = begin("Passes", "SignsOff")
    for choice in ("go", "no-go"):
        with pytest.raises(decisions.Refused, match=r"1\.1 is under way"):
            say(rehearsal, choice)


def test_a_document_without_sign_off_is_green_at_once_and_can_be_decided() -> None:
    rehearsal = work(begin("Passes"))
    assert rehearsal.verdict == Verdict.GREEN
    assert rehearsal.closed_at is not None
    assert say(rehearsal) == "go"
    rehearsal.refresh_from_db()
    assert rehearsal.verdict == Verdict.GREEN
    assert sealing.broken(rehearsal) == []


def test_what_comes_before_the_decision_cannot_need_what_comes_after() -> None:
    with pytest.raises(plan.StartError, match="performed after the decision"):
        begin("SignsOff", "NeedsTheSignOff")
    rehearsal = work(begin("SignsOff", "PassesAfterAll"))
    assert statuses(rehearsal) == ["pending", "passed"]


def test_a_partial_rehearsal_has_nothing_to_decide() -> None:
    rehearsal = work(begin("Passes", "Passes", "SignsOff", only=("1.1", "1.3")))
    assert rehearsal.closed_at is not None
    assert rehearsal.verdict == Verdict.ACTION_REQUIRED
    with pytest.raises(decisions.Refused, match=r"1\.2 is not run"):
        say(rehearsal)


# Who decides.


@pytest.mark.parametrize("by", ["starter", "STARTER"])
def test_the_starter_does_not_say_go_unless_the_setting_allows(by: str, settings: Any) -> None:
    rehearsal = work(begin(*GREEN))
    with pytest.raises(decisions.Refused, match="somebody else has to say go"):
        say(rehearsal, by=by)
    settings.REHEARSAL = {**settings.REHEARSAL, "STARTER_MAY_DECIDE": True}
    assert say(rehearsal, by=by) == "go"


def test_a_quorum_of_different_people_over_the_same_outcomes(settings: Any) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "QUORUM": 2}
    rehearsal = work(begin("Ends how=failed", "SignsOff"))
    decisions.waive(rehearsal.number, "1.1", by="owner", reason="known")
    assert say(rehearsal, by="one") is None
    with pytest.raises(decisions.Refused, match="You have voted"):
        say(rehearsal, by="one")
    assert statuses(rehearsal) == ["failed", "pending"]
    # Run again and waived anew, it is not what the first has voted on.
    tasks.rerun(rehearsal.number, by="other", ref="1.1")
    work(rehearsal)
    decisions.waive(rehearsal.number, "1.1", by="owner", reason="still known")
    assert say(rehearsal, by="two") is None
    assert say(rehearsal, by="three") == "go"
    assert Vote.objects.count() == 3
    rehearsal.refresh_from_db()
    told = records.decision(rehearsal)
    assert told is not None and told["by"] == ["three", "two"]


def test_one_no_go_is_enough(settings: Any) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "QUORUM": 2}
    rehearsal = work(begin(*GREEN))
    assert say(rehearsal, by="one") is None
    assert say(rehearsal, "no-go", by="two") == "no-go"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"choice": "maybe"}, "neither"),
        ({"reason": "  "}, "needs a reason"),
        ({"reason": "x" * 2001}, "at most 2000 characters, and this one has 2001"),
        ({"seen": "0" * 64}, "changed since you looked"),
        ({"ticket": "https://evil.example/1"}, "named by its number or key"),
    ],
)
def test_a_vote_that_says_too_little_is_refused(said: dict[str, Any], why: str) -> None:
    rehearsal = work(begin(*GREEN))
    with pytest.raises(decisions.Refused, match=why):
        say(rehearsal, **said)
    assert not Vote.objects.exists()


def test_a_vote_is_never_changed() -> None:
    rehearsal = work(begin(*GREEN))
    say(rehearsal)
    vote, seal = Vote.objects.get(), Seal.objects.last()
    for record in (vote, seal):
        with pytest.raises(TypeError, match="once and for all"):
            record.save()
        with pytest.raises(TypeError, match="once and for all"):
            record.delete()


def test_the_policy_decides_what_was_sensed_and_nothing_else(settings: Any) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "SIGN_OFF": "automatic"}
    rehearsal = work(begin("Passes", "Ends how=skipped", "SignsOff"))
    assert rehearsal.verdict == Verdict.GREEN
    assert (rehearsal.decision, Vote.objects.get().who) == ("go", "policy")
    nothing = work(begin("Ends how=skipped", "SignsOff"))
    assert nothing.decision == ""  # nothing was looked at
    tasks.cancel(nothing.number, by="owner")
    confirmed = work(begin("Ends how=action_required", "SignsOff"))
    decisions.confirm(confirmed.number, "1.1", by="owner")
    confirmed.refresh_from_db()
    assert confirmed.decision == ""
    assert confirmed.verdict == Verdict.ACTION_REQUIRED
    tasks.cancel(confirmed.number, by="owner")
    waived = work(begin("Ends how=failed", "SignsOff"))
    decisions.waive(waived.number, "1.1", by="owner", reason="known")
    waived.refresh_from_db()
    assert waived.decision == ""


# What is final.


def test_what_was_decided_is_neither_run_again_nor_confirmed_nor_waived() -> None:
    rehearsal = work(begin("Passes", "Ends how=inconclusive", "SignsOff"))
    say(rehearsal, "no-go")
    work(rehearsal)
    number = rehearsal.number
    for act in (
        lambda: tasks.rerun(number, by="x", ref="1.2"),
        lambda: decisions.waive(number, "1.2", by="x", reason="x"),
        lambda: decisions.confirm(number, "1.1", by="x"),
        lambda: say(rehearsal, "go"),
    ):
        with pytest.raises((decisions.Refused, plan.StartError), match="is decided"):
            act()
    assert tasks.rerun(number, by="x") == 0
    assert sealing.broken(rehearsal) == []


def test_an_expired_waiver_accepts_nothing_but_what_was_decided_in_time() -> None:
    rehearsal = work(begin("Ends how=failed", "SignsOff"))
    with pytest.raises(decisions.Refused, match="is over"):
        decisions.waive(rehearsal.number, "1.1", by="x", reason="x", until=timezone.now())
    decisions.waive(rehearsal.number, "1.1", by="x", reason="known")
    item = rehearsal.items.get(number=1)
    assert 29 < (item.waiver_expires_at - timezone.now()).days + 1 <= 30
    seen = sealing.outcomes(rehearsal)
    expired = timezone.now() - datetime.timedelta(seconds=1)
    rehearsal.items.filter(number=1).update(waiver_expires_at=expired)
    assert Rehearsal.objects.get().verdict == Verdict.RED
    with pytest.raises(decisions.Refused, match=r"1\.1 is failed"):
        say(rehearsal, seen=seen)
    decisions.waive(rehearsal.number, "1.1", by="x", reason="known still")
    say(rehearsal)
    work(rehearsal)
    Rehearsal.objects.update(decided_at=expired - datetime.timedelta(days=2))
    rehearsal.items.filter(number=1).update(waiver_expires_at=expired)
    assert Rehearsal.objects.get().verdict == Verdict.GREEN  # it held when it was decided


# The seal.


def flip_document(rehearsal: Rehearsal) -> None:
    seal = rehearsal.seals.last()
    at = seal.document.index('"summary": "')
    text = f"{seal.document[:at]}'{seal.document[at + 1 :]}"
    Seal.objects.filter(pk=seal.pk).update(document=text)


def flip(**values: Any) -> Callable[[Rehearsal], object]:
    return lambda rehearsal: rehearsal.items.filter(number=1).update(**values)


def of(**values: Any) -> Callable[[Rehearsal], object]:
    return lambda rehearsal: Rehearsal.objects.filter(pk=rehearsal.pk).update(**values)


HARM: list[tuple[Callable[[Rehearsal], object], str]] = [
    (flip(evidence={"looked at": "everythinG"}), "1.1 evidence, looked at"),
    (flip(evidence={"looked at": "everything", "more": 1}), "1.1 evidence, more"),
    (flip(summary="Passed!"), "1.1 summary"),
    (flip(output="x"), "1.1 output_sha256"),
    (flip(status="failed"), "1.1 status"),
    (flip(text="another line"), "1.1 text"),
    (flip(waived_by="x", waived_at=timezone.now()), "1.1 waiver"),
    (lambda r: r.items.get(number=1).measurements.update(value=41), "measurement 1, answer"),
    (lambda r: r.items.get(number=1).measurements.all().delete(), "1.1 measurements"),
    (lambda r: r.items.get(number=2).delete(), "1.2 status"),
    (lambda r: r.items.filter(number=3).update(summary="told"), "1.3 summary"),
    (lambda r: Vote.objects.all()._raw_delete("rehearsal"), "vote of owner"),
    (lambda r: Vote.objects.update(reason="because"), "vote of owner"),
    (lambda r: Vote.objects.create(rehearsal=r, by="b", choice="go", reason="x"), "vote of b"),
    (lambda r: Event.objects.filter(rehearsal=r).last().delete(), "journal"),
    (lambda r: Event.objects.filter(sequence=2).update(actor="x"), "broken at entry 2"),
    (lambda r: r.seals.all()._raw_delete("rehearsal"), "no seal"),
    (lambda r: r.seals.filter(complete=True)._raw_delete("rehearsal"), "sign-off has ended"),
    (lambda r: r.seals.update(signature="0" * 64), "signature"),
    (flip_document, "signature"),
    (of(revision="abd"), "revision"),
    (of(checklist_text="# Another"), "checklist was sealed"),
    (of(checklist_sha256="0" * 64), "checklist_sha256"),
    (of(decision="no-go"), "decision choice"),
    (of(settings_digest="0" * 64), "settings_digest"),
    (of(started_by="owner"), "started_by"),
    (of(journal_hash="0" * 64), "journal"),
    (of(decided_at=timezone.now()), "decision at"),
]


@pytest.mark.security("rows changed under a seal", promised="it is broken, and says where")
def test_whatever_is_changed_breaks_the_seal_and_is_named(record_property: Any) -> None:
    record_property("tried", len(HARM))
    rehearsal = signed_off()
    assert sealing.broken(rehearsal) == []
    for harm, named in HARM:
        with transaction.atomic(using="rehearsal"):
            harm(Rehearsal.objects.get(pk=rehearsal.pk))
            found = sealing.broken(rehearsal)
            assert any(named in said for said in found), (named, found)
            transaction.set_rollback(True, using="rehearsal")
    assert sealing.broken(rehearsal) == []


def test_a_seal_that_was_made_over_changed_rows_needs_the_key(settings: Any) -> None:
    rehearsal = signed_off()
    settings.SECRET_KEY, before = (
        "another key of fifty characters or so, I think",
        settings.SECRET_KEY,
    )
    assert any("SECRET_KEY" in said for said in sealing.broken(rehearsal))
    settings.SECRET_KEY_FALLBACKS = [before]
    assert sealing.broken(rehearsal) == []


def test_while_the_sign_off_runs_what_was_decided_is_sealed() -> None:
    rehearsal = work(begin(*GREEN))
    say(rehearsal)
    assert sealing.broken(rehearsal) == []
    rehearsal.items.filter(number=1).update(summary="changed")
    assert any("1.1 summary" in said for said in sealing.broken(rehearsal))
    work(rehearsal)
    # The last seal took it in, and the first one still knows.
    assert any("1.1 summary" in said for said in sealing.broken(rehearsal))


@pytest.mark.security("a journal written anew", promised="it is not the sealed one")
def test_a_journal_that_was_written_anew_from_its_beginning_is_not_the_sealed_one() -> None:
    rehearsal = work(begin(*GREEN))
    say(rehearsal)
    previous = ""
    for event in rehearsal.events.order_by("sequence"):
        event.actor = "somebody else"
        previous = event.chained(previous)
        values = {"actor": event.actor, "hash": previous}
        Event.objects.filter(pk=event.pk).update(**values)
    Rehearsal.objects.update(journal_hash=previous)
    rehearsal.refresh_from_db()
    assert first_broken_event(rehearsal) is None
    (said,) = sealing.broken(rehearsal)
    assert re.fullmatch(r"The journal's entry \d+ is not the sealed one\.", said)


def test_the_sealed_document_holds_what_it_stands_for() -> None:
    rehearsal = signed_off()
    found = json.loads(rehearsal.seals.last().document)
    assert found["checklist"] == rehearsal.checklist_text
    assert found["decision"]["by"] == ["owner"]
    assert found["journal"]["hash"] == rehearsal.journal_hash
    assert len(found["settings_digest"]) == 64
    assert [item["status"] for item in found["sections"][0]["items"]] == ["passed"] * 3


# At once.


@pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])
@pytest.mark.parametrize("other", ["decide", "rerun", "waive"])
def test_what_is_done_at_once_comes_one_after_the_other(other: str) -> None:
    rehearsal = work(begin("Passes", "Ends how=failed", "SignsOff"))
    number = rehearsal.number
    decisions.waive(number, "1.2", by="x", reason="known")
    seen = sealing.outcomes(rehearsal)
    acts: list[Callable[[], object]] = [
        lambda: decisions.decide(number, "go", by="one", reason="seen", seen=seen),
        {
            "decide": lambda: decisions.decide(number, "no-go", by="two", reason="no", seen=seen),
            "rerun": lambda: tasks.rerun(number, by="two", ref="1.1"),
            "waive": lambda: decisions.waive(number, "1.1", by="two", reason="x"),
        }[other],
    ]
    refused = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except (decisions.Refused, plan.StartError) as error:
            refused.append(str(error))

    together(*(partial(run, act) for act in acts), within=20)
    assert len(refused) == 1, refused
    rehearsal.refresh_from_db()
    decided = bool(rehearsal.decision)
    assert decided or other == "rerun"
    assert rehearsal.seals.count() == decided
    if decided:
        assert sealing.broken(rehearsal) == []


# What a hostile hand would try.


def test_a_tick_that_the_journal_does_not_know_is_not_decided_upon(settings: Any) -> None:
    rehearsal = work(begin("Ends how=failed", "SignsOff"))
    rehearsal.items.filter(number=1).update(status="passed")
    with pytest.raises(decisions.Refused, match=r"1\.1 is passed, and its journal says failed"):
        say(rehearsal)
    settings.REHEARSAL = {**settings.REHEARSAL, "SIGN_OFF": "automatic"}
    automatic = work(begin("Ends how=failed", "Passes", "SignsOff"))
    tasks.rerun(automatic.number, by="x", ref="1.2")
    automatic.items.filter(number=1).update(status="passed")
    assert work(automatic).decision == ""


def test_a_journal_that_was_changed_is_not_decided_upon() -> None:
    rehearsal = work(begin(*GREEN))
    Event.objects.filter(rehearsal=rehearsal, sequence=2).update(actor="somebody else")
    with pytest.raises(decisions.Refused, match="journal's chain is broken at entry 2"):
        say(rehearsal)
