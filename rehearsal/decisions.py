"""What only a person may do: confirm, waive, decide, and go back to the replaced database."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection
from contextlib import closing

from django.db import Error
from django.db.models.functions import Now
from django.utils import timezone

from rehearsal import plan, sealing, tasks
from rehearsal.checks.base import ACKNOWLEDGE
from rehearsal.conf import configuration, redactor
from rehearsal.databases import credentials, replacement
from rehearsal.databases.address import AddressError
from rehearsal.models import (
    ACTIVE,
    WAIVABLE,
    Change,
    CheckItem,
    Choice,
    Rehearsal,
    Status,
    Verdict,
    Vote,
    before_sign_off,
    change,
    unjournaled,
)


class Refused(ValueError):
    """The item cannot take this now: what it is, and what could be done instead."""


def confirm(
    number: int,
    ref: str,
    *,
    by: str,
    acknowledged: Collection[str] = (),
    attempt: int | None = None,
) -> None:
    """Tick an item that waits for a person, in that person's name.

    `acknowledged` are the names of what he acknowledges: all that the item lists, and no other,
    since it may have run again after he read it; so does `attempt`, the one he read. Raises
    Refused.
    """

    def act(made: Change, item: CheckItem) -> None:
        _prove_read(item, attempt)
        if item.status != Status.ACTION_REQUIRED:
            raise Refused(
                f"{ref} is {item.get_status_display()}: only an item that waits for a person can "
                "be confirmed."
            )
        evidence = {key: value for key, value in item.evidence.items() if key != ACKNOWLEDGE}
        names = item.evidence.get(ACKNOWLEDGE, [])
        if open_names := [name for name in names if name not in acknowledged]:
            raise Refused(
                f"{ref} lists what has to be acknowledged by name, and {len(open_names)} of "
                f"{len(names)} is not, first: {open_names[0]}. Tick each of them."
            )
        if unknown := sorted(set(acknowledged) - set(names)):
            raise Refused(
                f"{ref} does not list what was acknowledged, such as: {unknown[0]}. It ran again "
                "meanwhile: read it anew."
            )
        if names:
            evidence[f"acknowledged by {by}"] = names
        made.move(
            item,
            Status.PASSED,
            "; ".join(["confirmed", *(f"acknowledged: {name}" for name in names)]),
            confirmed_by=by,
            evidence={**evidence, "confirmed by": by},
            summary=f"Confirmed by {by}.",
            finished_at=Now(),
        )

    _act(number, ref, by, act)


def _prove_read(item: CheckItem, attempt: int | None) -> None:
    if attempt is not None and item.attempt != attempt:
        raise Refused(f"{item.ref} ran again after you read it: read it anew, then answer.")


def waive(
    number: int,
    ref: str,
    *,
    by: str,
    reason: str,
    until: datetime.datetime | None = None,
    attempt: int | None = None,
) -> None:
    """Accept an item that did not pass, for a stated reason; it is never ticked.

    The waiver expires at `until`, by default after `WAIVER_DAYS`. `attempt` is the one whose
    outcome is accepted, so that nobody accepts what he has not read. Raises Refused.
    """
    reason = redactor().redact(reason.strip())
    if not reason:
        raise Refused(f"A waiver of {ref} needs a reason: say why it is acceptable.")
    until = until or timezone.now() + datetime.timedelta(days=configuration().waiver_days)
    if until <= timezone.now():
        raise Refused(f"A waiver of {ref} until {until:%Y-%m-%d} is over: name a day to come.")

    def act(made: Change, item: CheckItem) -> None:
        _prove_read(item, attempt)
        if item.status not in WAIVABLE or item.accepted:
            raise Refused(
                f"{ref} is {'waived' if item.waived else item.get_status_display()}: only an "
                "item that failed, is inconclusive or was skipped can be waived."
            )
        made.move(
            item,
            Status(item.status),
            f"waived until {until:%Y-%m-%d}: {reason}",
            waived_by=by,
            waived_at=timezone.now(),
            waiver_reason=reason,
            waiver_expires_at=until,
        )

    _act(number, ref, by, act)


def decide(
    number: int, choice: str, *, by: str, reason: str, seen: str, ticket: str = ""
) -> Choice | None:
    """Vote `go` or `no-go` on a rehearsal whose items before the sign-off are settled.

    `seen` is the digest of the outcomes that the vote is about (`sealing.outcomes`), so that
    nobody decides over what he has not seen. Returns what is decided now: a no-go by anybody, a
    go by as many as `QUORUM` says; None while votes are missing. Raises Refused.
    """
    reason = redactor().redact(reason.strip())
    if choice not in Choice.values:
        raise Refused(f"Say go or no-go; {choice!r} is neither.")
    if not reason:
        raise Refused("A decision needs a reason: say what it rests on.")
    if not re.fullmatch(TICKET, ticket):
        raise Refused(f"A release ticket is named by its number or key, such as REL-12: {ticket!r}")
    with plan.one_open(), change(number, by) as made:
        plan.prove_ours(made.rehearsal)
        items = tasks.items_of(number)
        _prove_decidable(made, items, choice)
        outcomes = sealing.outcomes(made)
        if seen != outcomes:
            raise Refused(
                f"Rehearsal {number} has changed since you looked: look again, then decide."
            )
        votes = Vote.objects.filter(rehearsal=number, outcomes_sha256=outcomes)
        if votes.filter(by=by).exists():
            raise Refused(f"You have voted on rehearsal {number}: others have to.")
        made.vote(by, Choice(choice), reason, outcomes)
        made.rehearsal.ticket = ticket or made.rehearsal.ticket
        enough = votes.filter(choice=Choice.GO).count() >= configuration().quorum
        if choice == Choice.NO_GO or enough:
            tasks.decide(made, items, Choice(choice))
            return Choice(choice)
    return None


TICKET = r"[A-Za-z][A-Za-z0-9_]{0,30}-[0-9]{1,12}|#?[0-9]{0,12}"
"""A number or a key of a ticket, and nothing that an address could be made of."""


def _prove_decidable(made: Change, items: list[CheckItem], choice: str) -> None:
    rehearsal = made.rehearsal
    if rehearsal.cancelled_by:
        raise Refused(f"{rehearsal} was cancelled: start a new one instead.")
    if rehearsal.decision:
        raise Refused(f"{rehearsal} is decided already: {Choice(rehearsal.decision).label}.")
    if wrong := unjournaled(rehearsal, items):
        raise Refused(f"{wrong} The records were changed: start a new rehearsal.")
    before = [item for item in items if not item.sign_off]
    busy = [item.ref for item in before if item.status in ACTIVE]
    stands = before_sign_off(items)
    if busy or stands == Verdict.RUNNING:
        raise Refused(f"{', '.join(busy) or 'The next line'} is under way: wait for its outcome.")
    if choice == Choice.NO_GO:
        return
    if stands != Verdict.GREEN:
        against = [f"{item.ref} is {item.get_status_display()}"
                   for item in before if not item.accepted]  # fmt: skip
        raise Refused(
            f"A go needs all before the sign-off passed, confirmed or waived; {against[0]}"
            + (f", and {len(against) - 1} more are open." if against[1:] else ".")
        )
    starter = Rehearsal.objects.values_list("started_by", flat=True).get(pk=rehearsal.pk)
    if made.actor.casefold() == starter.casefold() and not configuration().starter_may_decide:
        raise Refused(
            f"{made.actor} started {rehearsal}: somebody else has to say go, or allow it by "
            "REHEARSAL['STARTER_MAY_DECIDE']."
        )


ROLLING_BACK = "the database that was replaced is being put back"
"""What the journal says from before the exchange; see `middleware.restoring`, too."""


def roll_back(number: int, *, by: str) -> str:
    """Put back the database that the rehearsal's restore replaced; returns what was done.

    Unless it is decided already, the restore is then inconclusive: what followed it was seen on a
    database that is gone. It is so from before the exchange, so that no tick outlives it, whatever
    dies meanwhile. People stay signed in. Raises Refused.
    """
    try:
        way = replacement.configured(number)
        _give_up_the_tick(number, by, way)
        with closing(way.target.connect()) as now, closing(way.kept_at.connect()) as old:
            credentials.carry_sessions(now, old, own=True)
        replacement.leave(way)
        way.roll_back()
    except (replacement.Refused, AddressError, Error) as refused:
        raise Refused((str(refused).splitlines() or [type(refused).__name__])[0]) from None
    said = f"Rolled back by {by}: the database from before this rehearsal is in place again."
    with change(number, by) as made:
        if restored := _restored(number):
            left = {key: fact for key, fact in restored.evidence.items() if key != replacement.KEPT}
            # What was decided stays as it was seen; only what can be undone is less.
            values = {} if made.rehearsal.decision else {"summary": said}
            made.move(restored, Status(restored.status), said, evidence=left, **values)
            tasks.dispatch(made, tasks.items_of(number))  # a decided one is sealed anew
    return said


def _give_up_the_tick(number: int, by: str, way: replacement.Replacement) -> None:
    """Let the restore pass no longer; raises Refused where there is nothing to go back to."""
    with change(number, by) as made:
        plan.prove_ours(made.rehearsal)
        restored = _restored(number)
        if restored is None:
            raise Refused(f"Rehearsal {number} keeps no database to go back to.")
        environment = made.rehearsal.environment
        others = Rehearsal.objects.filter(environment=environment, closed_at=None)
        if other := others.exclude(pk=number).first():
            raise Refused(f"{other} is at work on {environment}: wait for its end, or cancel it.")
        items = tasks.items_of(number)
        if any(one.status in ACTIVE for one in items):
            raise Refused("Checks are still at work on the restored database: wait, or cancel.")
        if not way.keeps():
            raise Refused(
                f"There is no {way.kept} to go back to: a later rehearsal dropped it, or it was "
                "put back already. Restore a snapshot instead."
            )
        item = next(one for one in items if one.pk == restored.pk)
        if made.rehearsal.decision:
            made.note(ROLLING_BACK, item=item)
        else:
            said = f"{by} began to roll this back; whether it came to its end is not known."
            made.move(item, Status.INCONCLUSIVE, ROLLING_BACK, summary=said, waived_by="")
        # What needs the restore and has not run yet must not run on the wrong database.
        tasks.dispatch(made, items)


def _restored(number: int) -> CheckItem | None:
    """The item whose restore keeps a database, with its evidence."""
    kept = CheckItem.objects.filter(rehearsal=number, evidence__has_key=replacement.KEPT)
    return kept.select_related("section").first()


def _act(number: int, ref: str, by: str, act: Callable[[Change, CheckItem], None]) -> None:
    with plan.one_open(), change(number, by) as made:
        plan.prove_ours(made.rehearsal)
        if made.rehearsal.cancelled_by:
            raise Refused(f"Rehearsal {number} was cancelled: nothing in it can change.")
        items = tasks.items_of(number)
        item = next((one for one in items if one.ref == ref), None)
        if item is None:
            raise Refused(f"Rehearsal {number} has no item {ref}.")
        if made.rehearsal.decision and not item.sign_off:
            raise Refused(tasks.decided_already(made.rehearsal, ref))
        act(made, item)
        tasks.dispatch(made, items)
