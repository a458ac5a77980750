"""What only a person may do: confirm what waits for one, waive what did not pass, go back."""

from __future__ import annotations

from collections.abc import Callable, Collection

from django.db.models.functions import Now
from django.utils import timezone

from rehearsal import plan, tasks
from rehearsal.checks.base import ACKNOWLEDGE
from rehearsal.databases import replacement
from rehearsal.databases.address import AddressError
from rehearsal.models import ACTIVE, WAIVABLE, Change, CheckItem, Status, change


class Refused(ValueError):
    """The item cannot take this now: what it is, and what could be done instead."""


def confirm(number: int, ref: str, *, by: str, acknowledged: Collection[str] = ()) -> None:
    """Tick an item that waits for a person, in that person's name.

    `acknowledged` are the names of what he acknowledges: all that the item lists, and no other,
    since it may have run again after he read it. Raises Refused.
    """

    def act(made: Change, item: CheckItem) -> None:
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


def waive(number: int, ref: str, *, by: str, reason: str) -> None:
    """Accept an item that did not pass, for a stated reason; it is never ticked. Raises Refused."""
    reason = reason.strip()
    if not reason:
        raise Refused(f"A waiver of {ref} needs a reason: say why it is acceptable.")

    def act(made: Change, item: CheckItem) -> None:
        if item.status not in WAIVABLE or item.accepted:
            raise Refused(
                f"{ref} is {'waived' if item.waived_by else item.get_status_display()}: only an "
                "item that failed, is inconclusive or was skipped can be waived."
            )
        made.move(
            item,
            Status(item.status),
            f"waived: {reason}",
            waived_by=by,
            waived_at=timezone.now(),
            waiver_reason=reason,
        )

    _act(number, ref, by, act)


def roll_back(number: int, *, by: str) -> str:
    """Put back the database that the rehearsal's restore replaced; returns what was done.

    The restore is then inconclusive: what followed it was seen on a database that is gone. Raises
    Refused.
    """
    said = f"Rolled back by {by}: the database from before this rehearsal is in place again."
    with change(number, by) as made:
        items = tasks.items_of(number)
        keeps = CheckItem.objects.filter(rehearsal=number, evidence__has_key=replacement.KEPT)
        kept = keeps.values_list("pk", flat=True).first()
        restored = next((one for one in items if one.pk == kept), None)
        if restored is None:
            raise Refused(f"Rehearsal {number} keeps no database to go back to.")
        if any(one.status in ACTIVE for one in items):
            raise Refused("Checks are still at work on the restored database: wait, or cancel.")
        try:
            replacement.configured(number).roll_back()
        except (replacement.Refused, AddressError) as refused:
            raise Refused(str(refused)) from None
        evidence = {k: v for k, v in restored.evidence.items() if k != replacement.KEPT}
        made.move(
            restored, Status.INCONCLUSIVE, said, summary=said, evidence=evidence, waived_by=""
        )
        # What needs the restore and has not run yet must not run on the wrong database.
        tasks.dispatch(made, items)
    return said


def _act(number: int, ref: str, by: str, act: Callable[[Change, CheckItem], None]) -> None:
    with plan.one_open(), change(number, by) as made:
        if made.rehearsal.cancelled_by:
            raise Refused(f"Rehearsal {number} was cancelled: nothing in it can change.")
        items = tasks.items_of(number)
        item = next((one for one in items if one.ref == ref), None)
        if item is None:
            raise Refused(f"Rehearsal {number} has no item {ref}.")
        act(made, item)
        tasks.dispatch(made, items)
