"""The straight line, on a real database; where a worker is named, with a real worker."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from celery.backends.base import DisabledBackend
from django.db import DatabaseError, InternalError, OperationalError, connections
from django.db.models.functions import Now
from django.utils import timezone

from rehearsal import decisions, journal, plan, tasks
from rehearsal.journal import first_broken_event
from rehearsal.models import CheckItem, Event, Rehearsal, Status, Verdict
from rehearsal.statements import InSeconds
from tests.conftest import WorkerProcess, document, statuses, together, wait_for

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])


def begin(*checks: str, only: tuple[str, ...] = ()) -> Rehearsal:
    return tasks.start(document(*checks), by="tester", revision="abc", only=only)


def work(rehearsal: Rehearsal) -> None:
    """Perform what is queued in this process, as a worker would, until nothing is."""
    while queued := CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        for item in queued:
            tasks.perform.apply((item.pk, item.attempt))


def test_every_outcome_becomes_its_status() -> None:
    rehearsal = begin(
        "Passes", "Ends how=failed", "Ends how=inconclusive", "Ends how=skipped",
        "Ends how=action_required", "Ends how=breaks", "Ends how=exits", "Ends how=somehow",
        "Ends how=nohow",
    )  # fmt: skip
    work(rehearsal)
    assert statuses(rehearsal) == [
        "passed", "failed", "inconclusive", "skipped", "action_required", "failed", "failed",
        "failed", "failed",
    ]  # fmt: skip
    broken = rehearsal.items.get(number=6)
    assert "RuntimeError: planted" in broken.summary
    assert "Traceback" in broken.output


def test_what_looks_afterwards_waits_for_all_above_and_runs_whatever_came_of_it() -> None:
    rehearsal = begin(
        "Ends how=failed", "Passes", "LooksAfterAll", "Passes", "Ends how=action_required",
        "LooksAfterAll",
    )  # fmt: skip
    assert statuses(rehearsal) == ["queued", "queued", "pending", "queued", "queued", "pending"]
    work(rehearsal)
    passed, last = ["failed", "passed", "passed", "passed", "action_required"], "pending"
    assert statuses(rehearsal) == [*passed, last]
    decisions.confirm(rehearsal.number, "1.5", by="a person")
    work(rehearsal)
    assert statuses(rehearsal)[-1] == "passed"
    # It looks again when what it waited for has run again.
    assert tasks.rerun(rehearsal.number, by="a person", ref="1.2") == 3
    work(rehearsal)
    assert statuses(rehearsal) == ["failed", "passed", "passed", "passed", "passed", "passed"]


def ends(rehearsal: Rehearsal) -> list[str]:
    return [event.after for event in rehearsal.events.filter(ref="1.1", before="running")]


@pytest.mark.parametrize("error", [OperationalError, InternalError])
def test_an_outcome_is_written_though_the_database_took_back_the_first_try(
    monkeypatch: pytest.MonkeyPatch, error: type[DatabaseError]
) -> None:
    rehearsal = begin("Passes")
    insert, tries = journal.insert, []

    def broken_once(events: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise error("planted")
        insert(events)

    monkeypatch.setattr(journal, "insert", broken_once)
    work(rehearsal)
    assert len(tries) == 2
    assert (statuses(rehearsal), ends(rehearsal)) == (["passed"], ["passed"])
    assert rehearsal.measurements.count() == 1


def test_an_outcome_is_written_once_though_nobody_heard_that_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal = begin("Passes")
    settle, tries = tasks._settle, []

    def unheard_once(*arguments: Any) -> None:
        settle(*arguments)
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("the connection broke amid COMMIT")

    monkeypatch.setattr(tasks, "_settle", unheard_once)
    work(rehearsal)
    assert len(tries) == 2
    assert (statuses(rehearsal), ends(rehearsal)) == (["passed"], ["passed"])
    assert rehearsal.measurements.count() == 1


def test_a_check_that_this_process_cannot_import_costs_no_other_its_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal = begin("Passes", "Alone", "Passes", "PassesAfterAll")
    monkeypatch.delattr("tests.sample_checks.Alone")
    tasks.sweep(rehearsal.number)
    work(rehearsal)
    assert statuses(rehearsal) == ["passed", "failed", "passed", "skipped"]
    assert "cannot be imported" in rehearsal.items.get(number=2).summary
    rehearsal.items.filter(number=2).update(status=Status.RUNNING, token="t",
                                            lease_expires_at=InSeconds(-1))  # fmt: skip
    tasks.sweep(rehearsal.number)
    assert "was lost" in rehearsal.items.get(number=2).summary


def test_who_does_not_know_a_check_skips_nothing_by_it_while_another_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal = begin("Ends how=failed", "Passes", "NeedsTheFirst")
    first = rehearsal.items.get(number=1)
    tasks.perform.apply((first.pk, first.attempt))
    monkeypatch.delattr("tests.sample_checks.NeedsTheFirst")
    tasks.sweep(rehearsal.number)
    assert statuses(rehearsal) == ["failed", "queued", "pending"]
    assert not plan.knows_all(rehearsal.number)
    assert tasks._timeout(rehearsal.items.get(number=3)) > 3600
    for act in (
        lambda: tasks.rerun(rehearsal.number, by="tester"),
        lambda: decisions.waive(rehearsal.number, "1.1", by="tester", reason="known"),
    ):
        with pytest.raises(plan.StartError, match=r"cannot import the check of 1\.3"):
            act()
    assert statuses(rehearsal) == ["failed", "queued", "pending"]


def test_nobody_decides_where_the_check_of_a_sign_off_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal = begin("Ends how=failed", "SignsOff")
    work(rehearsal)
    monkeypatch.delattr("tests.sample_checks.SignsOff")
    with pytest.raises(plan.StartError, match="cannot import"):
        decisions.decide(rehearsal.number, "no-go", by="tester", reason="it failed", seen="")
    assert statuses(rehearsal) == ["failed", "pending"]


def test_a_check_that_names_an_unknown_one_is_not_known_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal = begin("Ends how=failed", "Passes", "NeedsTheFirst")
    tasks.perform.apply((rehearsal.items.get(number=1).pk, 1))
    monkeypatch.setattr("tests.sample_checks.NeedsTheFirst.needs", ("tests.sample_checks.Nowhere",))
    assert not plan.knows_all(rehearsal.number)
    tasks.sweep(rehearsal.number)
    assert statuses(rehearsal) == ["failed", "queued", "pending"]


def test_what_may_be_the_check_that_another_needs_is_waited_for() -> None:
    rehearsal = begin("LooksAfterAll", "NeedsTheFirst")
    assert [list(each) for each in plan.needs(tasks.items_of(rehearsal.number))] == [[], []]
    first = rehearsal.items.get(number=1)
    rehearsal.items.filter(pk=first.pk).update(check_path="tests.sample_checks.Gone")
    assert list(plan.needs(tasks.items_of(rehearsal.number)))[1] == [first]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("check", ["ReturnsFalse", "IsAsynchronous", "IsGenerator"])
def test_a_check_that_returns_something_has_not_passed(check: str) -> None:
    rehearsal = begin(check)
    work(rehearsal)
    item = rehearsal.items.get()
    assert item.status == "failed"
    assert "where nothing was expected" in item.summary


class ResultsElsewhere(DisabledBackend):  # type: ignore[misc]
    """A result backend that is no database of ours, such as Redis."""

    locked: ClassVar[list[bool]] = []

    def store_result(self, *_: Any, **__: Any) -> None:
        # Within another transaction, which is the one that settles.
        self.locked.append(bool(connections["rehearsal"].savepoint_ids))


def test_a_result_backend_elsewhere_keeps_nothing_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = ResultsElsewhere(tasks.perform.app)
    monkeypatch.setattr(tasks.perform, "_backend", elsewhere)
    rehearsal = begin("Passes")
    work(rehearsal)
    assert statuses(rehearsal) == ["passed"]
    assert elsewhere.locked and not any(elsewhere.locked)


def test_a_check_that_records_nothing_has_not_passed() -> None:
    """Whatever it says: a tick stands on something that a stranger can look at."""
    rehearsal = begin("RecordsNothing")
    work(rehearsal)
    item = rehearsal.items.get()
    assert item.status == "inconclusive"
    assert item.summary.startswith("The check recorded nothing that it looked at")


@pytest.mark.parametrize("what", ["nan", "bytes", "name", "unit"])
def test_what_the_records_cannot_hold_fails_the_check_and_not_its_worker(what: str) -> None:
    rehearsal = begin(f"RecordsOddly what={what}")
    work(rehearsal)
    item = rehearsal.items.get()
    assert item.status == "failed"
    assert item.summary.startswith("The check itself broke")


def test_the_name_of_a_fact_is_as_clean_as_the_fact() -> None:
    rehearsal = begin("RecordsOddly what=key")
    work(rehearsal)
    assert rehearsal.items.get().evidence == {"token=[redacted]": 1}


def test_a_passing_item_keeps_its_evidence_and_measurements() -> None:
    rehearsal = begin("Passes")
    work(rehearsal)
    item = rehearsal.items.get()
    assert item.evidence == {"looked at": "everything"}
    assert [str(one) for one in item.measurements.all()] == ["answer 42 things"]
    assert rehearsal.verdict == Verdict.GREEN


def test_only_what_needs_a_failed_item_is_skipped_and_it_names_the_cause() -> None:
    rehearsal = begin("Ends how=failed", "Passes", "NeedsTheFirst", "PassesAfterAll")
    work(rehearsal)
    assert statuses(rehearsal) == ["failed", "passed", "passed", "skipped"]
    assert "needs 1.1, which is failed" in rehearsal.items.get(number=4).summary
    assert rehearsal.verdict == Verdict.RED


def test_a_check_that_is_not_enabled_here_stops_nothing() -> None:
    rehearsal = begin("Ends how=skipped", "PassesAfterAll")
    work(rehearsal)
    assert statuses(rehearsal) == ["skipped", "passed"]
    assert rehearsal.verdict == Verdict.GREEN


def test_independent_checks_are_queued_together_and_an_exclusive_one_alone() -> None:
    rehearsal = begin("Alone", "Passes", "Passes", "Alone")
    assert statuses(rehearsal) == ["pending", "queued", "queued", "pending"]
    first, second = rehearsal.items.filter(status="queued")
    tasks.perform.apply((first.pk, 1))
    assert statuses(rehearsal) == ["pending", "passed", "queued", "pending"]
    tasks.perform.apply((second.pk, 1))
    assert statuses(rehearsal) == ["queued", "passed", "passed", "pending"]
    work(rehearsal)
    assert statuses(rehearsal) == ["passed"] * 4


@pytest.mark.fault("messages doubled and late", promised="dropped")
def test_a_doubled_or_late_message_is_dropped() -> None:
    rehearsal = begin("Passes")
    item = rehearsal.items.get()
    for attempt in (1, 1, 0, 2):
        tasks.perform.apply((item.pk, attempt))
    assert Event.objects.filter(rehearsal=rehearsal, after="running").count() == 1


def test_what_is_claimed_while_the_sweep_counts_is_not_rung_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal = begin("Passes", "Passes", "Passes")
    items = CheckItem.objects.filter(rehearsal=rehearsal)
    items.update(queued_at=InSeconds(-3600))
    monkeypatch.setattr(tasks.broker, "queue_length", lambda: 2)

    def claims(execute: Any, sql: str, *rest: Any) -> Any:
        found = execute(sql, *rest)
        if "COUNT(" in sql:
            items.filter(number__lt=3).update(status=Status.RUNNING)
        return found

    rung: list[Any] = []
    monkeypatch.setattr(tasks, "_ring", rung.extend)
    with connections["rehearsal"].execute_wrapper(claims):
        tasks._ring_again(rehearsal.number)
    assert [pk for pk, _attempt, _timeout in rung] == [items.get(number=1).pk]


def test_a_partial_rehearsal_is_not_green() -> None:
    rehearsal = begin("Passes", "Passes", only=("1.2",))
    work(rehearsal)
    assert statuses(rehearsal) == ["skipped", "passed"]
    assert rehearsal.verdict == Verdict.ACTION_REQUIRED
    decisions.waive(rehearsal.number, "1.1", by="tester", reason="seen yesterday")
    rehearsal.refresh_from_db()
    assert rehearsal.verdict == Verdict.GREEN


def test_what_a_person_confirms_lets_the_rest_go_on() -> None:
    rehearsal = begin("Ends how=action_required", "PassesAfterAll")
    work(rehearsal)
    assert statuses(rehearsal) == ["action_required", "pending"]
    assert rehearsal.verdict == Verdict.ACTION_REQUIRED
    decisions.confirm(rehearsal.number, "1.1", by="tester")
    work(rehearsal)
    assert statuses(rehearsal) == ["passed", "passed"]
    assert rehearsal.items.get(number=1).confirmed_by == "tester"


def test_what_is_listed_by_name_is_acknowledged_by_name() -> None:
    rehearsal = begin("ListsTwo", "Ends how=action_required")
    work(rehearsal)
    item = rehearsal.items.get(number=1)
    names = item.evidence["to be acknowledged"]
    assert names == ["drop <b>a</b>, b & c", "rename 'd'"]
    # Not at all, in part, or what another attempt had listed.
    for given in ([], names[:1], [*names, "drop e"]):
        with pytest.raises(decisions.Refused, match="Tick each of them|read it anew"):
            decisions.confirm(rehearsal.number, "1.1", by="tester", acknowledged=given)
    with pytest.raises(decisions.Refused, match="read it anew"):
        decisions.confirm(rehearsal.number, "1.2", by="tester", acknowledged=names)
    assert statuses(rehearsal) == ["action_required"] * 2
    decisions.confirm(rehearsal.number, "1.1", by="tester", acknowledged=names)
    item.refresh_from_db()
    assert item.status == Status.PASSED
    assert item.evidence == {"acknowledged by tester": names, "confirmed by": "tester"}
    said = rehearsal.events.get(ref="1.1", after="passed").message
    assert said == "confirmed; " + "; ".join(f"acknowledged: {name}" for name in names)


def test_nobody_answers_for_an_attempt_that_he_has_not_read() -> None:
    rehearsal = begin("Ends how=action_required", "Ends how=failed")
    work(rehearsal)
    for ref in ("1.1", "1.2"):
        tasks.rerun(rehearsal.number, by="other", ref=ref)
    work(rehearsal)
    with pytest.raises(decisions.Refused, match="ran again after you read it"):
        decisions.confirm(rehearsal.number, "1.1", by="tester", attempt=1)
    with pytest.raises(decisions.Refused, match="ran again after you read it"):
        decisions.waive(rehearsal.number, "1.2", by="tester", reason="known", attempt=1)
    decisions.confirm(rehearsal.number, "1.1", by="tester", attempt=2)
    decisions.waive(rehearsal.number, "1.2", by="tester", reason="known", attempt=2)
    assert rehearsal.verdict == Verdict.GREEN


def test_nothing_runs_again_below_something_that_still_looks_at_it() -> None:
    rehearsal = begin("Ends how=failed", "LooksAfterAll", "Passes")
    first = rehearsal.items.get(number=1)
    tasks.perform.apply((first.pk, first.attempt))
    last = rehearsal.items.get(number=3)
    tasks.perform.apply((last.pk, last.attempt))
    assert statuses(rehearsal) == ["failed", "queued", "passed"]
    with pytest.raises(plan.StartError, match=r"1\.2 would run again and is still under way"):
        tasks.rerun(rehearsal.number, by="tester")
    work(rehearsal)
    assert tasks.rerun(rehearsal.number, by="tester") == 2


def test_a_check_that_was_cut_off_never_looks_like_one_that_is_not_enabled() -> None:
    rehearsal = begin("RunsSafely")
    rehearsal.items.update(status=Status.RUNNING, token="t", started_at=Now(),
                           lease_expires_at=InSeconds(-1))  # fmt: skip
    tasks.sweep(rehearsal.number)
    assert statuses(rehearsal) == ["queued"]
    tasks.cancel(rehearsal.number, by="tester")
    item = rehearsal.items.get()
    assert (item.status, item.not_applicable) == ("skipped", False)


def test_a_waiver_needs_a_reason_and_something_to_waive() -> None:
    rehearsal = begin("Ends how=failed", "Passes")
    work(rehearsal)
    for ref, reason in (("1.1", "  "), ("1.2", "why not"), ("9.9", "why not")):
        with pytest.raises(decisions.Refused):
            decisions.waive(rehearsal.number, ref, by="tester", reason=reason)
    decisions.waive(rehearsal.number, "1.1", by="tester", reason="known, mended on Monday")
    item = rehearsal.items.get(number=1)
    assert item.status == "failed"
    assert item.waiver is not None and item.waiver["reason"] == "known, mended on Monday"
    assert rehearsal.verdict == Verdict.GREEN


def test_running_again_takes_what_depends_on_it_along(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    rehearsal = begin(f"FailsUntil path={mended}", "Passes", "PassesAfterAll")
    work(rehearsal)
    assert statuses(rehearsal) == ["failed", "passed", "skipped"]
    mended.touch()
    assert tasks.rerun(rehearsal.number, by="tester") == 2
    work(rehearsal)
    assert statuses(rehearsal) == ["passed", "passed", "passed"]
    assert [item.attempt for item in rehearsal.items.all()] == [2, 1, 1]
    assert tasks.rerun(rehearsal.number, by="tester", ref="1.1") == 2
    work(rehearsal)
    assert rehearsal.items.get(number=1).measurements.count() == 0
    with pytest.raises(plan.StartError):
        tasks.rerun(rehearsal.number, by="tester", ref="1.9")


@pytest.mark.fault("eight starts at once", promised="one rehearsal, seven refusals")
def test_one_rehearsal_is_open_at_a_time() -> None:
    results: list[object] = []

    def begin_here() -> None:
        try:
            results.append(begin("Passes"))
        except plan.AlreadyOpen as error:
            results.append(error)

    together(*[begin_here] * 8)
    assert sum(isinstance(result, Rehearsal) for result in results) == 1
    assert sum(isinstance(result, plan.AlreadyOpen) for result in results) == 7
    assert Rehearsal.objects.count() == 1


def test_an_ended_rehearsal_makes_room_and_cannot_come_back_beside_the_next() -> None:
    first = begin("Ends how=failed")
    work(first)
    begin("Passes")
    with pytest.raises(plan.AlreadyOpen):
        tasks.rerun(first.number, by="tester")
    assert statuses(first) == ["failed"]


def test_another_environment_with_the_same_records_performs_and_changes_nothing(
    settings: Any,
) -> None:
    rehearsal = begin("Ends how=action_required", "Passes", "PassesAfterAll")
    before = list(CheckItem.objects.order_by("pk").values())
    here = settings.REHEARSAL
    settings.REHEARSAL = {**here, "ENVIRONMENT": "elsewhere"}
    for item in rehearsal.items.filter(status=Status.QUEUED):
        tasks.perform.apply((item.pk, item.attempt))
    rehearsal.items.filter(number=2).update(status=Status.PENDING)
    tasks.sweep(rehearsal.number)
    rehearsal.items.filter(number=2).update(status=Status.QUEUED)
    expires = timezone.now() + datetime.timedelta(seconds=60)
    tasks.tick.apply(kwargs={"beat": "elsewhere:1"}, expires=expires)
    assert list(CheckItem.objects.order_by("pk").values()) == before
    assert Rehearsal.objects.get().beat_seen_at is None
    settings.REHEARSAL = here
    work(rehearsal)
    assert statuses(rehearsal) == ["action_required", "passed", "pending"]
    settings.REHEARSAL = {**here, "ENVIRONMENT": "elsewhere"}
    with pytest.raises(plan.StartError, match="from there"):
        decisions.confirm(rehearsal.number, "1.1", by="a person")
    with pytest.raises(plan.StartError, match="from there"):
        tasks.rerun(rehearsal.number, by="a person", ref="1.2")
    with pytest.raises(plan.StartError, match="from there"):
        decisions.decide(rehearsal.number, "no-go", by="a person", reason="x", seen="")
    assert statuses(rehearsal) == ["action_required", "passed", "pending"]


@pytest.mark.parametrize(
    "text", ["", "no boxes", "- [ ] no heading", "## A\n- [ ] \x00", b"\xff\xfe"]
)
def test_a_document_that_cannot_be_used_is_a_sentence(text: str | bytes) -> None:
    with pytest.raises(plan.StartError):
        tasks.start(text, by="tester", revision="")
    assert not Rehearsal.objects.exists()


@pytest.mark.parametrize("check", ["NoSuchCheck", "Passes how=well", "document"])
def test_a_binding_that_cannot_serve_names_its_line(check: str) -> None:
    with pytest.raises(plan.StartError, match="Line 4"):
        begin(check)


def test_a_cancelled_rehearsal_is_decided_at_once() -> None:
    rehearsal = begin("Passes", "PassesAfterAll")
    assert tasks._claim(rehearsal.items.get(number=1).pk, 1, worker="w", task_id="t")
    assert tasks.cancel(rehearsal.number, by="tester")
    assert not tasks.cancel(rehearsal.number, by="tester")
    rehearsal.refresh_from_db()
    assert statuses(rehearsal) == ["inconclusive", "skipped"]
    assert rehearsal.verdict == Verdict.CANCELLED
    assert rehearsal.closed_at is not None
    begin("Passes")


@pytest.mark.fault(
    "an earlier rehearsal run again beside the cancelled command of a later one",
    promised="its checks wait until that is gone",
)
def test_run_again_waits_for_what_a_later_one_cancelled(
    own_worker: WorkerProcess, tmp_path: Path
) -> None:
    deaf, again = tmp_path / "deaf", tmp_path / "again"
    earlier = begin(f"Runs line='date +%s.%N > {again}; false'")
    wait_for(lambda: statuses(earlier) == ["failed"])
    tell = f"date +%s.%N > {deaf}.part; mv {deaf}.part {deaf}"
    later = begin(f"""Runs line='trap "" TERM; while true; do {tell}; sleep 0.05; done'""")
    wait_for(deaf.exists)
    tasks.cancel(later.number, by="tester")
    again.unlink()
    tasks.rerun(earlier.number, by="tester")
    wait_for(lambda: tasks.sweep(earlier.number) or statuses(earlier) == ["failed"])
    assert float(again.read_text()) > float(deaf.read_text())


@pytest.mark.fault("claim in the middle of a cancel", promised="it is cancelled too")
def test_what_is_claimed_while_the_cancel_reads_is_cancelled_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal = begin("Passes")
    claims: list[CheckItem | None] = []
    read = tasks.items_of

    def claim(pk: int) -> None:
        claims.append(tasks._claim(pk, 1, worker="w", task_id="t"))
        connections.close_all()

    def items_of(number: int) -> list[CheckItem]:
        items = read(number)
        if not claims:
            thread = threading.Thread(target=claim, args=[items[0].pk])
            thread.start()
            thread.join()
        return items

    monkeypatch.setattr(tasks, "items_of", items_of)
    if connections["rehearsal"].vendor == "sqlite":
        pytest.skip("on SQLite the cancel's lock is the file's, so nobody can claim meanwhile")
    assert tasks.cancel(rehearsal.number, by="tester")
    assert claims[0] is not None
    assert statuses(rehearsal) == ["inconclusive"]
    item = rehearsal.items.get()
    assert not CheckItem.objects.filter(pk=item.pk, token=claims[0].token).exists()
    assert [event.after for event in rehearsal.events.filter(ref="1.1")][-2:] == [
        "running", "inconclusive",
    ]  # fmt: skip


@pytest.mark.fault("journal changed or shortened", promised="the entry at which it breaks is named")
def test_the_journal_shows_what_was_changed_in_it() -> None:
    rehearsal = begin("Passes", "Ends")
    work(rehearsal)
    rehearsal.refresh_from_db()
    assert first_broken_event(rehearsal) is None
    count = rehearsal.events.count()
    assert count > 5
    last = rehearsal.events.get(sequence=count)
    rehearsal.events.filter(sequence=count).delete()
    assert first_broken_event(rehearsal) == count
    last.save()
    assert first_broken_event(rehearsal) is None
    rehearsal.events.filter(sequence=3).update(message="nothing to see")
    assert first_broken_event(rehearsal) == 3


@pytest.mark.fault(
    "check beyond its time", promised="failed at its limit; what needs it is skipped"
)
def test_real_workers_bring_every_item_to_an_end(worker: WorkerProcess) -> None:
    rehearsal = begin("Passes", "Runs line='echo hello'", "TakesForEver", "PassesAfterAll")
    wait_for(lambda: Rehearsal.objects.get(pk=rehearsal.pk).verdict != Verdict.RUNNING, 60)
    assert statuses(rehearsal) == ["passed", "passed", "failed", "skipped"]
    assert rehearsal.items.get(number=2).output == "hello\n"
    assert "did not end within its 1 seconds" in rehearsal.items.get(number=3).summary


@pytest.mark.fault("pass after the time was over", promised="failed")
def test_a_pass_after_its_time_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SOFT_AFTER", 0)
    item = performed("PassesTooLate")
    assert item.status == Status.FAILED
    assert "ended after 1 seconds, and its limit is 1 seconds" in item.summary


@pytest.mark.fault("no time limits from Celery", promised="the heartbeat ends the check")
def test_a_check_is_stopped_after_its_time_also_where_celery_sets_no_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "HARD_AFTER", 0)
    assert performed("WaitsToBeStopped").summary == "It was stopped: let it take less time."


@pytest.mark.fault("check that forks", promised="its child settles nothing")
def test_a_child_that_a_check_forked_settles_nothing(worker: WorkerProcess) -> None:
    rehearsal = begin("Forks")
    wait_for(lambda: Rehearsal.objects.get(pk=rehearsal.pk).verdict != Verdict.RUNNING)
    assert rehearsal.items.get().summary == "The parent looked, and it is wrong: mend it."


def performed(check: str) -> CheckItem:
    """An item that was performed in this process."""
    item = begin(check).items.get()
    tasks.perform.apply((item.pk, item.attempt))
    item.refresh_from_db()
    return item


@pytest.mark.fault("cancel of a running command", promised="the command is ended")
def test_cancelling_kills_the_command_that_runs(worker: WorkerProcess, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    line = f"while true; do touch {alive}; sleep 0.1; done"
    rehearsal = begin(f"Runs line='{line}'")
    wait_for(alive.exists)
    tasks.cancel(rehearsal.number, by="tester")

    def dead() -> bool:
        alive.unlink(missing_ok=True)
        return not any(alive.exists() for _ in range(20) if not threading.Event().wait(0.03))

    wait_for(dead)
    assert statuses(rehearsal) == ["inconclusive"]


def test_what_a_module_says_that_cannot_be_imported_is_told_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "office_leaky.py").write_text("raise RuntimeError('postgres://ana:hunter2@db/x')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(plan.StartError, match="'office_leaky.Check' cannot be imported") as told:
        text = document("Passes").replace("tests.sample_checks.Passes", "office_leaky.Check")
        tasks.start(text, by="tester", revision="abc")
    assert "hunter2" not in str(told.value)
