"""The straight line: start, dispatch, claim, perform, settle, and dispatch again.

The database is the queue and Celery is the doorbell: a message only says "look at this item", and
a message lost, late or doubled changes nothing.
"""

from __future__ import annotations

import copy
import datetime
import logging
import os
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task, current_app, shared_task, states
from django.db import router, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from rehearsal import broker, conf, history, plan, release, sealing
from rehearsal.checks import base
from rehearsal.checks.environment import workers
from rehearsal.checks.environment.beat import Tick, announce
from rehearsal.heartbeat import Heartbeat, patiently
from rehearsal.journal import Change, change, unjournaled
from rehearsal.models import (
    ACTIVE,
    CheckItem,
    Choice,
    Measurement,
    Rehearsal,
    Status,
    Verdict,
    awaits_decision,
    before_sign_off,
    verdict,
)
from rehearsal.statements import InSeconds, in_turn, update

logger = logging.getLogger(__name__)

SOFT_AFTER, HARD_AFTER = 5, 60
"""Seconds beyond its time-out at which a check is told to end, and at which it is ended."""
RING_AGAIN_AFTER = 5
"""Seconds a queued item waits unclaimed before its message counts as lost."""
MAXIMUM_ATTEMPTS = 3
"""How often a check that is safe to repeat may lose its worker."""
CANCELLED_BEFORE = 10
"""How many rehearsals back is looked for a cancelled command that still runs."""


# Start, and what a person may ask of a rehearsal.


def start(
    text: str | bytes, *, by: str, revision: str | None = None, only: Collection[str] = ()
) -> Rehearsal:
    """Freeze `text` as a new rehearsal and set its first items going.

    `revision` is the commit rehearsed, by default the one in the project's repository. With
    `only`, the other items are skipped and the rehearsal cannot be green. Raises plan.StartError
    and plan.AlreadyOpen.
    """
    revision = release.revision() if revision is None else release.commit(revision)
    with plan.one_open(), transaction.atomic(using=router.db_for_write(Rehearsal)):
        rehearsal, items = plan.create(text, by=by, revision=revision, only=only)
        with change(rehearsal.number, by) as made:
            made.note(f"started with the checklist {rehearsal.checklist_sha256}")
            dispatch(made, items)
    return rehearsal


def cancel(number: int, *, by: str) -> bool:
    """Decide whatever is not settled yet; commands that run are killed by their workers.

    Returns False when there was nothing left to cancel.
    """
    with change(number, by) as made:
        if made.rehearsal.closed_at is not None or made.rehearsal.cancelled_by:
            return False
        items = items_of(number)
        # A claim takes no lock: what was claimed after it was read is read and decided once more.
        while not all(_cancel(made, item, by) for item in items):
            items = items_of(number)
        made.rehearsal.cancelled_by = by
        made.note("cancelled")
        _close(made, items)
    return True


def _cancel(made: Change, item: CheckItem, by: str) -> bool:
    """Decide an item that is not settled; returns False when it no longer stands as it was read."""
    if item.status not in ACTIVE | {Status.PENDING}:
        return True
    running = item.status == Status.RUNNING
    return made.move(
        item,
        Status.INCONCLUSIVE if running else Status.SKIPPED,
        summary=f"Cancelled by {by} {'while it ran' if running else 'before it ran'}.",
        token="",
        finished_at=Now(),
    )


def rerun(number: int, *, by: str, ref: str | None = None) -> int:
    """Put one item, or everything that did not pass, back in line, with all that depends on it.

    Returns how many items were put back. Raises plan.StartError when the rehearsal cannot take
    it or this process cannot import one of its checks, plan.AlreadyOpen when a later one is open.
    """
    with plan.one_open(), change(number, by) as made:
        items = items_to_act_on(made.rehearsal)
        if made.rehearsal.cancelled_by:
            raise plan.StartError(f"Rehearsal {number} was cancelled: start a new one instead.")
        chosen = {
            item.pk
            for item in items
            if (ref == item.ref if ref else _has_ended(item) and not item.accepted)
        }
        if ref and not chosen:
            raise plan.StartError(f"Rehearsal {number} has no item {ref}.")
        if made.rehearsal.decision:
            final = {item.pk: item.ref for item in items if not item.sign_off}
            if ref and ref in final.values():
                raise plan.StartError(decided_already(made.rehearsal, ref))
            chosen -= final.keys()
        chosen = plan.dependents(items, chosen)
        again = [item for item in items if item.pk in chosen and item.status != Status.PENDING]
        busy = [item.ref for item in again if item.status in ACTIVE]
        if busy:
            raise plan.StartError(
                f"{', '.join(busy)} would run again and is still under way: wait, or cancel."
            )
        for item in again:
            made.move(item, Status.PENDING, "to be run again", **BLANK)
        Measurement.objects.filter(item__in=again).delete()
        dispatch(made, items)
    return len(again)


def _has_ended(item: CheckItem) -> bool:
    return item.status not in ACTIVE | {Status.PENDING}


BLANK: dict[str, object] = {
    "token": "", "summary": "", "output": "", "evidence": {}, "worker": "", "task_id": "",
    "queued_at": None, "started_at": None, "finished_at": None, "lease_expires_at": None,
    "confirmed_by": "", "waived_by": "", "waived_at": None, "waiver_reason": "",
    "waiver_expires_at": None,
}  # fmt: skip
"""What is forgotten of an item that runs again; the journal keeps what came of it."""


# Dispatch: whoever changes an item also queues what has become ready, in the same transaction.


def items_of(number: int) -> list[CheckItem]:
    """All items of a rehearsal in the document's order; output and evidence load when asked for."""
    found = CheckItem.objects.filter(rehearsal=number).select_related("section")
    return list(found.only(*STANDING).order_by("position"))


def items_to_act_on(rehearsal: Rehearsal) -> list[CheckItem]:
    """`items_of` a rehearsal for what a person does to it.

    Raises plan.StartError when it is another environment's, and when this process cannot import
    one of its checks: what follows from an action is arranged by who knows them all.
    """
    plan.prove_ours(rehearsal)
    items = items_of(rehearsal.number)
    plan.prove_known(items)
    return items


STANDING = (
    "rehearsal_id", "section__number", "number", "position", "text", "check_path", "status",
    "attempt", "token", "worker", "started_at", "finished_at", "summary", "confirmed_by",
    "waived_by", "waiver_expires_at", "sign_off",
)  # fmt: skip
"""What is read of each item to see what follows from it: the rest is large or slow to read."""


def decided_already(rehearsal: Rehearsal, ref: str) -> str:
    """Why an item from before the sign-off cannot change any more."""
    said = Choice(rehearsal.decision).label
    return f"{rehearsal} is decided ({said}), and {ref} is sealed with it: start a new one."


def dispatch(made: Change, items: list[CheckItem]) -> None:
    """Queue what may run now, decide what the policy may, and close what has ended."""
    decided = bool(made.rehearsal.decision)
    step = plan.next_step(items, decided=decided)
    while step.skip:
        for item, cause in step.skip:
            summary = f"Not run: it needs {cause.ref}, which is {cause.get_status_display()}."
            made.move(item, Status.SKIPPED, summary, summary=summary, finished_at=Now())
        step = plan.next_step(items, decided=decided)
    if policy_decides(made, items):
        made.vote("", Choice.GO, "Everything was sensed green.", sealing.outcomes(made))
        decide(made, items, Choice.GO)
        return
    if step.queue:
        made.queue(step.queue)
    _close(made, items)
    _ring_after_commit(step.queue)


def _close(made: Change, items: list[CheckItem]) -> None:
    decided = made.rehearsal.decision
    stands = verdict(made.rehearsal, items)
    asked = [item for item in items if decided or not item.sign_off]
    waiting = stands in {Verdict.RUNNING, Verdict.ACTION_REQUIRED} and any(
        item.status in ACTIVE | {Status.PENDING, Status.ACTION_REQUIRED} for item in asked
    )
    if waiting or awaits_decision(made.rehearsal, items):
        made.rehearsal.closed_at = None
        return
    if made.rehearsal.closed_at is None:
        made.rehearsal.closed_at = datetime.datetime.now(datetime.UTC)
        made.note(f"verdict: {stands.label}")
    if decided:
        sealing.seal(made, complete=True)


def sensed_green(items: Iterable[CheckItem]) -> bool:
    """Whether all before the sign-off passed by what its checks saw, and by no person's word."""
    before = [item for item in items if not item.sign_off]
    return (
        before_sign_off(before) == Verdict.GREEN
        and any(item.status == Status.PASSED for item in before)
        and not any(item.confirmed_by or item.waived_by for item in before)
    )


def policy_decides(made: Change, items: Sequence[CheckItem]) -> bool:
    """Whether the policy may say go, over records that are as their journal tells."""
    if made.rehearsal.decision or conf.configuration().sign_off != "automatic":
        return False
    return sensed_green(items) and not unjournaled(made.rehearsal, items, made.unsaved)


def decide(made: Change, items: list[CheckItem], choice: Choice) -> None:
    """Make final what was performed so far, seal it, and go on with the sign-off."""
    made.rehearsal.decision = choice
    made.rehearsal.decided_at = timezone.now()
    made.note(f"decided: {choice.label}")
    sealing.seal(made, complete=False)
    dispatch(made, items)


def _ring_after_commit(items: Iterable[CheckItem]) -> None:
    messages = [(item.pk, item.attempt, _timeout(item)) for item in items]
    if messages:
        transaction.on_commit(lambda: _ring(messages), using=router.db_for_write(CheckItem))


def _ring(messages: Iterable[tuple[int, int, int]]) -> None:
    queue = conf.configuration().queue
    try:
        with broker.connect() as connection, current_app.amqp.Producer(connection) as producer:
            for pk, attempt, timeout in messages:
                # The project's global limits would kill a restore, so every message has its own.
                perform.apply_async(
                    (pk, attempt),
                    queue=queue,
                    soft_time_limit=timeout + SOFT_AFTER,
                    time_limit=timeout + HARD_AFTER,
                    producer=producer,
                    retry_policy={"max_retries": 1, "interval_start": 0},
                )
    except broker.ERRORS as error:
        # Nothing is lost: what is queued stays so, and the sweep rings again.
        logger.warning("The broker cannot be reached, the sweep will ring again: %s", error)


# A worker: claim, perform, settle.


@shared_task(
    bind=True,
    name="rehearsal.perform",
    acks_late=False,
    reject_on_worker_lost=False,
    max_retries=0,
    ignore_result=True,  # _settle stores it with the outcome; errors are stored all the same
    store_errors_even_if_ignored=True,
)
def perform(self: Task, pk: int, attempt: int) -> None:
    """Perform attempt `attempt` of the item `pk`, unless another message already did."""
    item = _claim(pk, attempt, worker=self.request.hostname or "", task_id=self.request.id or "")
    if item is None:
        return
    report = _report(item)
    with Heartbeat(pk, item.token, report, longest=_timeout(item) + HARD_AFTER):
        status, summary = _judge(item, report)
        # A copy for each try: one that was rolled back has moved the item it was given.
        patiently(lambda: _settle(copy.copy(item), status, summary, report, self))


CLAIMED = (
    *("check_path", "options", "text", "status", "attempt", "queued_at", "number"),
    "section__number",
    *("rehearsal__revision", "rehearsal__started_at", "rehearsal__environment"),
)
"""What a worker reads of the item it claims."""


def _claim(pk: int, attempt: int, *, worker: str, task_id: str) -> CheckItem | None:
    waiting = CheckItem.objects.filter(pk=pk, status=Status.QUEUED, attempt=attempt).order_by()
    found = waiting.select_related("rehearsal", "section").only(*CLAIMED)
    item = next(iter(found), None)
    # Environments may share records and broker, and what this worker would see is its own alone.
    # Not a part of the query: joined tables would take the compare out of the compare-and-set.
    if item is None or item.rehearsal.environment != conf.configuration().environment:
        return None
    _wait_for_cancelled(item)
    token = uuid.uuid4().hex
    claim = {
        "status": Status.RUNNING,
        "token": token,
        "lease_expires_at": InSeconds(conf.configuration().lease_seconds),
        "started_at": Now(),
        "finished_at": None,
        "worker": worker[:200],
        "task_id": task_id,
    }
    stands = {"pk": pk, "status": Status.QUEUED, "attempt": attempt}
    using = router.db_for_write(CheckItem)
    claimed = in_turn(using, lambda: update(CheckItem, claim, **stands))
    item.status, item.token, item.worker = Status.RUNNING, token, worker
    item.started_at = timezone.now()
    return item if claimed else None


_alone: set[tuple[int, datetime.datetime | None]] = set()
"""Of what was queued together last: the rehearsal and when, once nothing else was seen to run."""


def _wait_for_cancelled(item: CheckItem) -> None:
    """Wait until nothing runs any more of what was cancelled lately in another rehearsal.

    Its worker needs a moment to end the command, and gives up the lease then. Nobody extends that
    lease, so a worker that is gone too is waited for at most `lease_seconds`.
    """
    rehearsal = item.rehearsal
    queued = rehearsal.pk, item.queued_at
    if queued in _alone:
        return  # it was open ever since, so no other can have begun
    ending = CheckItem.objects.filter(
        rehearsal__environment=rehearsal.environment,
        rehearsal__gte=rehearsal.number - CANCELLED_BEFORE,
        lease_expires_at__gt=Now(),
    ).exclude(Q(status=Status.RUNNING) | Q(rehearsal=rehearsal.number))
    while ending.exists():
        time.sleep(0.1)
    _alone.clear()
    _alone.add(queued)


def _report(item: CheckItem) -> base.Report:
    rehearsal = item.rehearsal

    def beat_seen_at() -> datetime.datetime | None:
        return Rehearsal.objects.values_list("beat_seen_at", flat=True).get(pk=rehearsal.pk)

    def keep() -> bool:
        ours = CheckItem.objects.filter(pk=item.pk, token=item.token, status=Status.RUNNING)
        return bool(ours.filter(lease_expires_at__gt=Now()).update(evidence=dict(report.facts)))

    report = base.Report(
        item.text,
        base.Rehearsed(rehearsal.number, rehearsal.revision, rehearsal.started_at),
        redact=conf.redactor().redact,
        beat_seen_at=beat_seen_at,
        keep=keep,
        exports=lambda: sealing.exports(rehearsal.number),
        history=history.Records(item),
    )
    return report


def _judge(item: CheckItem, report: base.Report) -> tuple[Status, str]:
    """Run the item's check; whatever happens in it becomes a status and a sentence."""
    began, process = time.monotonic(), os.getpid()
    try:
        run: Callable[[base.Report], object] = base.build(item.check_path, item.options).run
        if (returned := run(report)) is not None:
            # An `async def`, a generator or `return False`: nothing was looked at, or not approved.
            raise TypeError(
                f"run() returned {type(returned).__name__!r} where nothing was expected: let it "
                "look at once, and raise Failed or Inconclusive when the item does not pass"
            )
    except base.Outcome as outcome:
        if isinstance(outcome, base.ActionRequired) and outcome.acknowledge:
            report.evidence(base.ACKNOWLEDGE, outcome.acknowledge)
        return _ended(outcome), report.redact(str(outcome))
    except SoftTimeLimitExceeded:
        return Status.FAILED, f"The check did not end within its {_timeout(item)} seconds."
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and _worker_ends(error):
            raise  # not the check's doing: it is judged like any other that lost its worker
        report.write(traceback.format_exc())
        said = report.redact(f"{type(error).__name__}: {error}")
        return Status.FAILED, f"The check itself broke: {said}"
    finally:
        if os.getpid() != process:  # a child that the check forked: its word is not the check's
            os._exit(1)
    if (took := time.monotonic() - began) > _timeout(item) + 2 * SOFT_AFTER:
        # It was told to end, and did not listen: a broad `except` takes that for any error.
        limit = f"{_timeout(item)} seconds"
        return Status.FAILED, f"The check ended after {took:.0f} seconds, and its limit is {limit}."
    if not (report.facts or report.measurements):
        return Status.INCONCLUSIVE, RECORDED_NOTHING
    return Status.PASSED, report.said or "Passed."


RECORDED_NOTHING = (
    "The check recorded nothing that it looked at, so nothing shows that it did: let it give "
    "evidence or a measurement, and run this again."
)


def _ended(outcome: base.Outcome) -> Status:
    """The status that an outcome stands for: of ways to not pass, there are four."""
    known = (base.Failed, base.Inconclusive, base.Skipped, base.ActionRequired)
    kind = next((one for one in known if isinstance(outcome, one)), base.Failed)
    return Status(kind.status)


def _worker_ends(error: SystemExit) -> bool:
    """Whether it comes from the pool, whose handler takes the signal's number from 256 (a cold
    shutdown), and not from the check."""
    return isinstance(error.code, int) and -256 < error.code < 0


def _timeout(item: CheckItem) -> int:
    return base.declared_by(item.check_path).timeout


def _settle(item: CheckItem, status: Status, summary: str, report: base.Report, task: Task) -> None:
    with change(item.rehearsal_id, item.worker) as made:
        values = {"summary": summary, "output": report.output, "evidence": report.facts}
        ended = {"token": "", "lease_expires_at": None, "finished_at": Now()}
        if not made.move(item, status, summary, **values, **ended):
            # Cancelled, or given to another worker; nothing of this attempt runs any more.
            mine = CheckItem.objects.filter(pk=item.pk, attempt=item.attempt, token="")
            mine.update(lease_expires_at=None)
            return
        Measurement.objects.bulk_create(
            [
                Measurement(
                    rehearsal_id=item.rehearsal_id,
                    item=item,
                    name=one.name,
                    value=one.value,
                    unit=one.unit,
                )
                for one in report.measurements
            ]
        )
        items = CheckItem.objects.filter(rehearsal=item.rehearsal_id)
        left = set(items.order_by().values_list("status", flat=True))
        if Status.PENDING in left or not left & ACTIVE:
            dispatch(made, items_of(item.rehearsal_id))
        if hasattr(task.backend, "TaskModel"):  # of django-celery-results, whose rows are here too
            _leave_trace(task)
        else:  # one that is away must not keep the rehearsal locked
            transaction.on_commit(lambda: _leave_trace(task), using=router.db_for_write(CheckItem))


def _leave_trace(task: Task) -> None:
    """Store the task's result with the item's outcome: a trace, and never in its way."""
    try:
        with transaction.atomic(using=router.db_for_write(CheckItem)):
            task.backend.store_result(task.request.id, None, states.SUCCESS, request=task.request)
    except Exception as error:
        logger.warning("The trace of %s could not be stored: %s", task.request.id, error)


# The sweep: whatever a dead worker, broker or process left behind is taken up again.


def sweep(number: int) -> None:
    """Bring on a rehearsal of this environment that lost something: a worker, a message, or its
    own dispatch."""
    environment = conf.configuration().environment
    if not Rehearsal.objects.filter(pk=number, environment=environment).exists():
        return  # its own workers, beat and pages see to it
    expired = Q(status=Status.RUNNING, lease_expires_at__lt=Now())
    here = CheckItem.objects.filter(rehearsal=number)
    if here.filter(expired).exists():
        with change(number, "sweep") as made:
            items = items_of(number)
            lost = set(here.filter(expired).values_list("pk", flat=True))
            for item in items:
                if item.pk in lost:
                    _give_up(made, item)
            dispatch(made, items)
            _ring_after_commit(i for i in items if i.pk in lost and i.status == Status.QUEUED)
    elif here.filter(status=Status.PENDING).exists():
        decided = Rehearsal.objects.filter(pk=number).exclude(decision="").exists()
        step = plan.next_step(items_of(number), decided=decided)
        if step.queue or step.skip:
            with change(number, "sweep") as made:
                dispatch(made, items_of(number))
    _ring_again(number)


def _give_up(made: Change, item: CheckItem) -> None:
    if base.declared_by(item.check_path).safe_to_repeat and item.attempt < MAXIMUM_ATTEMPTS:
        made.queue([item])
        return
    said = f" The last it said: {item.summary}" if item.summary else ""
    summary = (
        "The worker that ran this was lost, and what it had done by then is unknown. "
        f"Look at the output, then run it again.{said}"
    )
    made.move(item, Status.FAILED, summary, summary=summary, token="", finished_at=Now())


def _ring_again(number: int) -> None:
    late = CheckItem.objects.filter(
        rehearsal=number, status=Status.QUEUED, queued_at__lt=InSeconds(-RING_AGAIN_AFTER)
    ).order_by("queued_at", "position")
    if not late.exists():
        return
    # Only as many as the broker no longer holds, so that a busy worker is not rung at for ever.
    held = broker.queue_length()
    if held is not None:
        items = list(late)  # once: some may be claimed meanwhile
        if lost := items[: max(0, len(items) - held)]:
            _ring([(one.pk, one.attempt, _timeout(one)) for one in lost])


# What other checks listen for.


@shared_task(bind=True, name=workers.IDENTIFY, acks_late=False, ignore_result=True)
def identify(self: Task, *, reply_to: str, nonce: str, keys: list[str], hold: float) -> None:
    """Say on the broker's queue `reply_to` which database, release and values this serves."""
    workers.answer(reply_to, nonce, self.request.hostname or "", self.app, keys, hold)


@shared_task(bind=True, name="rehearsal.tick", acks_late=False, ignore_result=True)
def tick(self: Task, *, beat: str = "unknown", serves: dict[str, Any] | None = None) -> None:
    """Sent by the process `beat`: tell when it was fired, and sweep what is open."""
    expires = self.request.expires
    if expires is None:
        return
    if isinstance(expires, str):
        expires = datetime.datetime.fromisoformat(expires)
    fired = expires - datetime.timedelta(seconds=2 * conf.configuration().beat_seconds)
    announce(self.app, Tick(beat, fired, serves))
    environment = conf.configuration().environment
    for rehearsal in Rehearsal.objects.filter(environment=environment, closed_at=None):
        if fired > max(rehearsal.started_at, rehearsal.beat_seen_at or rehearsal.started_at):
            Rehearsal.objects.filter(pk=rehearsal.pk).update(beat_seen_at=fired)
        sweep(rehearsal.pk)
