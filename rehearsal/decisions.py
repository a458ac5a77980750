"""What only a person may do: confirm an item that waits for one, waive one that did not pass."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models.functions import Now
from django.utils import timezone

from rehearsal import plan, tasks
from rehearsal.models import WAIVABLE, Change, CheckItem, Status, change


class Refused(ValueError):
    """The item cannot take this now: what it is, and what could be done instead."""


def confirm(number: int, ref: str, *, by: str) -> None:
    """Tick an item that waits for a person, in that person's name; raises Refused."""

    def act(made: Change, item: CheckItem) -> None:
        if item.status != Status.ACTION_REQUIRED:
            raise Refused(
                f"{ref} is {item.get_status_display()}: only an item that waits for a person can "
                "be confirmed."
            )
        made.move(
            item,
            Status.PASSED,
            "confirmed",
            confirmed_by=by,
            evidence={**item.evidence, "confirmed by": by},
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
