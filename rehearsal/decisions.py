"""What only a person may do: confirm, waive, decide, and go back to the replaced database."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection
from contextlib import closing

from django.db import Error
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rehearsal import plan, sealing, tasks
from rehearsal.checks.base import ACKNOWLEDGE
from rehearsal.conf import configuration, redactor
from rehearsal.databases import credentials, replacement
from rehearsal.databases.address import AddressError
from rehearsal.journal import Change, change, unjournaled
from rehearsal.models import (
    ACTIVE,
    WAIVABLE,
    CheckItem,
    Choice,
    Rehearsal,
    Status,
    Verdict,
    Vote,
    before_sign_off,
)
from rehearsal.sentences import translated
from rehearsal.wording import WORDS, sign

LONGEST_REASON = 2000
"""Characters. It stands in the journal, in the report and on every page of the rehearsal."""


class Refused(ValueError):
    """The item cannot take this now: what it is, and what could be done instead.

    Said to the person who asked, in his language, and recorded nowhere.
    """


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
                _(
                    "Nothing was done: %(ref)s is %(status)s, and only a line that waits for a "
                    "person can be confirmed."
                )
                % _standing(item)
            )
        evidence = {key: value for key, value in item.evidence.items() if key != ACKNOWLEDGE}
        names = item.evidence.get(ACKNOWLEDGE, [])
        if open_names := [name for name in names if name not in acknowledged]:
            raise Refused(
                ngettext(
                    "%(ref)s lists what has to be acknowledged by name, and %(open)d of %(total)d "
                    "is not: %(first)s. Tick each of them.",
                    "%(ref)s lists what has to be acknowledged by name, and %(open)d of %(total)d "
                    "are not, first: %(first)s. Tick each of them.",
                    len(open_names),
                )
                % {
                    "ref": ref,
                    "open": len(open_names),
                    "total": len(names),
                    "first": open_names[0],
                }
            )
        if unknown := sorted(set(acknowledged) - set(names)):
            raise Refused(
                _(
                    "%(ref)s does not list what was acknowledged, such as: %(first)s. It ran again "
                    "meanwhile: read it anew."
                )
                % {"ref": ref, "first": unknown[0]}
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


def _standing(item: CheckItem) -> dict[str, str]:
    return {"ref": item.ref, "status": str(WORDS[sign(item)])}


def _prove_read(item: CheckItem, attempt: int | None) -> None:
    if attempt is not None and item.attempt != attempt:
        raise Refused(
            _("%(ref)s ran again after you read it: read it anew, then answer.") % {"ref": item.ref}
        )


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
    reason = _kept(reason)
    if not reason:
        raise Refused(
            _("A waiver of %(ref)s needs a reason: say why it is acceptable.") % {"ref": ref}
        )
    until = until or timezone.now() + datetime.timedelta(days=configuration().waiver_days)
    if until <= timezone.now():
        raise Refused(
            _("A waiver of %(ref)s until %(day)s is over: name a day to come.")
            % {"ref": ref, "day": f"{until:%Y-%m-%d}"}
        )

    def act(made: Change, item: CheckItem) -> None:
        _prove_read(item, attempt)
        if item.status not in WAIVABLE or item.accepted:
            raise Refused(
                _(
                    "%(ref)s is %(status)s: only a line that failed, is inconclusive or was not "
                    "run can be waived."
                )
                % _standing(item)
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


def _kept(reason: str) -> str:
    if len(reason) > LONGEST_REASON:
        raise Refused(
            _("A reason has at most %(most)d characters, and this one has %(found)d: shorten it.")
            % {"most": LONGEST_REASON, "found": len(reason)}
        )
    return redactor().redact(reason.strip())


def decide(
    number: int, choice: str, *, by: str, reason: str, seen: str, ticket: str = ""
) -> Choice | None:
    """Vote `go` or `no-go` on a rehearsal whose items before the sign-off are settled.

    `seen` is the digest of the outcomes that the vote is about (`sealing.outcomes`), so that
    nobody decides over what he has not seen. Returns what is decided now: a no-go by anybody, a
    go by as many as `QUORUM` says; None while votes are missing. Raises Refused.
    """
    reason = _kept(reason)
    if choice not in Choice.values:
        raise Refused(_("Say go or no-go; %(choice)r is neither.") % {"choice": choice})
    if not reason:
        raise Refused(_("A decision needs a reason: say what it rests on."))
    if not re.fullmatch(TICKET, ticket):
        raise Refused(
            _("A release ticket is named by its number or key, such as REL-12: %(ticket)r")
            % {"ticket": ticket}
        )
    with plan.one_open(), change(number, by) as made:
        items = tasks.items_to_act_on(made.rehearsal)
        _prove_decidable(made, items, choice)
        outcomes = sealing.outcomes(made)
        if seen != outcomes:
            raise Refused(
                _("Rehearsal %(number)s has changed since you looked: look again, then decide.")
                % {"number": number}
            )
        votes = Vote.objects.filter(rehearsal=number, outcomes_sha256=outcomes)
        if votes.filter(by=by).exists():
            raise Refused(
                _("You have voted on rehearsal %(number)s: others have to.") % {"number": number}
            )
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
        raise Refused(
            _("Rehearsal %(number)s was cancelled: start a new one instead.")
            % {"number": rehearsal.number}
        )
    if rehearsal.decision:
        said = {"number": rehearsal.number, "choice": Choice(rehearsal.decision).label}
        raise Refused(_("Rehearsal %(number)s is decided already: %(choice)s.") % said)
    if wrong := unjournaled(rehearsal, items):
        raise Refused(
            _("%(wrong)s The records were changed: start a new rehearsal.")
            % {"wrong": translated(wrong)}
        )
    before = [item for item in items if not item.sign_off]
    busy = [item.ref for item in before if item.status in ACTIVE]
    stands = before_sign_off(items)
    if busy or stands == Verdict.RUNNING:
        refs = ", ".join(busy) or _("The next line")
        raise Refused(_("%(refs)s is under way: wait for its outcome.") % {"refs": refs})
    if choice == Choice.NO_GO:
        return
    if stands != Verdict.GREEN:
        against = [item for item in before if not item.accepted]
        first = _("%(ref)s is %(status)s") % _standing(against[0])
        more = len(against) - 1
        if not more:
            raise Refused(
                _("A go needs all before the sign-off passed, confirmed or waived; %(first)s.")
                % {"first": first}
            )
        raise Refused(
            ngettext(
                "A go needs all before the sign-off passed, confirmed or waived; %(first)s, and "
                "%(more)d more is open.",
                "A go needs all before the sign-off passed, confirmed or waived; %(first)s, and "
                "%(more)d more are open.",
                more,
            )
            % {"first": first, "more": more}
        )
    starter = Rehearsal.objects.values_list("started_by", flat=True).get(pk=rehearsal.pk)
    if made.actor.casefold() == starter.casefold() and not configuration().starter_may_decide:
        raise Refused(
            _(
                "%(who)s started rehearsal %(number)s: somebody else has to say go, or allow it by "
                "REHEARSAL['STARTER_MAY_DECIDE']."
            )
            % {"who": made.actor, "number": rehearsal.number}
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
        items = tasks.items_to_act_on(made.rehearsal)
        restored = _restored(number)
        if restored is None:
            raise Refused(
                _("Rehearsal %(number)s keeps no database to go back to.") % {"number": number}
            )
        environment = made.rehearsal.environment
        others = Rehearsal.objects.filter(environment=environment, closed_at=None)
        if other := others.exclude(pk=number).first():
            raise Refused(
                _(
                    "Rehearsal %(number)s is at work on %(environment)s: wait for its end, or "
                    "cancel it."
                )
                % {"number": other.number, "environment": environment}
            )
        if any(one.status in ACTIVE for one in items):
            raise Refused(_("Checks are still at work on the restored database: wait, or cancel."))
        if not way.keeps():
            raise Refused(
                _(
                    "There is no %(name)s to go back to: a later rehearsal dropped it, or it was "
                    "put back already. Restore a snapshot instead."
                )
                % {"name": way.kept}
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
        items = tasks.items_to_act_on(made.rehearsal)
        if made.rehearsal.cancelled_by:
            raise Refused(
                _("Rehearsal %(number)s was cancelled: nothing in it can change.")
                % {"number": number}
            )
        item = next((one for one in items if one.ref == ref), None)
        if item is None:
            raise Refused(
                _("Rehearsal %(number)s has no item %(ref)s.") % {"number": number, "ref": ref}
            )
        if made.rehearsal.decision and not item.sign_off:
            raise Refused(tasks.decided_already(made.rehearsal, ref))
        act(made, item)
        tasks.dispatch(made, items)
