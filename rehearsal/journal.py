"""The one door of all changes: `change()` locks a rehearsal, moves its items by compare-and-set and
writes the journal, all in one transaction. And whether the journal is still whole.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections, router, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from rehearsal.models import CheckItem, Choice, Event, Rehearsal, Status, Vote
from rehearsal.statements import in_turn, insert, update


class Change:
    """What happens to one locked rehearsal in one transaction; made by `change()`."""

    SAVED = (
        *("journal_hash", "journal_length", "closed_at", "cancelled_by"),
        *("decision", "decided_at", "ticket"),
    )

    def __init__(self, rehearsal: Rehearsal, actor: str) -> None:
        self.rehearsal = rehearsal
        self.actor = actor
        self.unsaved: list[Event] = []

    def note(self, message: str, *, item: CheckItem | None = None,
             before: str = "", after: str = "") -> None:  # fmt: skip
        """Add an entry to the journal."""
        self._add(timezone.now(), self.actor, item.ref if item else "", before, after, message)

    def _add(self, at: datetime.datetime, actor: str, *said: str) -> None:
        self.rehearsal.journal_length += 1
        ref, before, after, message = said
        event = Event(
            rehearsal=self.rehearsal,
            sequence=self.rehearsal.journal_length,
            at=at,
            actor=actor,
            ref=ref,
            before=before,
            after=after,
            message=message,
        )
        event.hash = self.rehearsal.journal_hash = event.chained(self.rehearsal.journal_hash)
        self.unsaved.append(event)

    def move(self, item: CheckItem, to: Status, message: str = "", **values: Any) -> bool:
        """Move an item on if it still stands as it was read: same status, attempt and token.

        Returns whether it moved. `values` are further columns to write with it.
        """
        stands = {"status": item.status, "attempt": item.attempt, "token": item.token}
        values |= {"status": to, "changed_in": self.rehearsal.version}
        if not update(CheckItem, values, pk=item.pk, **stands):
            return False
        if item.status == Status.RUNNING and item.started_at is not None:
            # A claim takes no lock, so its entry is written with the one that ends it.
            claim = (item.ref, str(Status.QUEUED), str(Status.RUNNING), "")
            self._add(item.started_at, item.worker, *claim)
        self.note(message, item=item, before=item.status, after=to)
        for name, value in values.items():
            setattr(item, name, value)
        return True

    def queue(self, items: Sequence[CheckItem]) -> None:
        """Move items that nobody works on to QUEUED, each with its next attempt, in one query."""
        # Without a beginning: one that was cut off must not look like a check that ran and ended.
        values = {"status": Status.QUEUED, "token": "", "queued_at": Now(), "started_at": None}
        CheckItem.objects.filter(pk__in=[item.pk for item in items]).update(
            attempt=F("attempt") + 1, changed_in=self.rehearsal.version, **values
        )
        for item in items:
            self.note("", item=item, before=item.status, after=Status.QUEUED)
            item.status, item.attempt, item.token = Status.QUEUED, item.attempt + 1, ""
            item.started_at = None

    def vote(self, by: str, choice: Choice, reason: str, outcomes_sha256: str) -> None:
        """Record somebody's vote over outcomes; without `by`, the policy's."""
        vote = Vote.objects.create(
            rehearsal=self.rehearsal,
            by=by,
            choice=choice,
            reason=reason,
            outcomes_sha256=outcomes_sha256,
        )
        self.note(f"{vote.who} votes {choice.label}: {reason}")

    def _save(self) -> None:
        insert(self.unsaved)
        saved = {name: getattr(self.rehearsal, name) for name in self.SAVED}
        update(Rehearsal, saved, pk=self.rehearsal.pk)


FROZEN = "10s"
"""How long a change may ask nothing of PostgreSQL before the server takes it back."""


@contextmanager
def change(number: int, actor: str) -> Iterator[Change]:
    """Lock rehearsal `number`, let the caller change it in `actor`'s name, and write the journal.

    Raises Rehearsal.DoesNotExist when there is none.
    """
    using = router.db_for_write(Rehearsal)
    within = connections[using].in_atomic_block  # a transaction that may hold the lock, or has read
    with transaction.atomic(using=using):
        locked = _locked(number) if within else in_turn(using, lambda: _locked(number))
        made = Change(locked, actor)
        yield made
        made._save()


def _locked(number: int) -> Rehearsal:
    # Writing first takes the row's lock on PostgreSQL and the file's on SQLite alike; one
    # statement that also reads spares a query of every change (SQLite 3.35 and later).
    using = router.db_for_write(Rehearsal)
    quoted = connections[using].ops.quote_name
    columns = ", ".join(map(quoted, ("number", "version", *Change.SAVED)))
    if connections[using].vendor == "postgresql":
        # A process that is frozen amid its change would hold the lock for as long as it is.
        columns += (
            f", set_config('idle_in_transaction_session_timeout', '{FROZEN}', true) AS frozen"
        )
    table, version, key = map(quoted, (Rehearsal._meta.db_table, "version", "number"))
    rows = Rehearsal.objects.using(using).raw(
        f"UPDATE {table} SET {version} = {version} + 1 WHERE {key} = %s RETURNING {columns}",
        [number],
    )
    for rehearsal in rows:
        return rehearsal
    raise Rehearsal.DoesNotExist(f"there is no rehearsal {number}")


def first_broken_event(rehearsal: Rehearsal) -> int | None:
    """The sequence number at which the journal's chain breaks; None when it is whole.

    A journal whose end was cut off breaks one past the last entry that is left.
    """
    previous, count = "", 0
    for count, event in enumerate(rehearsal.events.order_by("sequence"), start=1):
        if event.sequence != count or event.hash != event.chained(previous):
            return count
        previous = event.hash
    whole = (previous, count) == (rehearsal.journal_hash, rehearsal.journal_length)
    return None if whole else count + 1


def unjournaled(
    rehearsal: Rehearsal, items: Iterable[CheckItem], unsaved: Sequence[Event] = ()
) -> str:
    """What of the items or of itself the journal does not bear out; empty for nothing.

    `unsaved` are entries that this transaction will add.
    """
    saved = list(Event.objects.filter(rehearsal=rehearsal.pk).order_by("sequence"))
    previous = ""
    told: dict[str, str] = {}
    for count, event in enumerate([*saved, *unsaved], start=1):
        if event.sequence != count or event.hash != event.chained(previous):
            return f"The journal's chain is broken at entry {count}."
        previous = event.hash
        if event.ref and event.after:
            told[event.ref] = event.after
    if previous != rehearsal.journal_hash:
        return "The journal's last entries are missing."
    for item in items:
        # What was never moved is as it was made: still to be run, or not selected.
        known = told.get(item.ref)
        if known != item.status and (known or item.status not in {Status.PENDING, Status.SKIPPED}):
            return f"{item.ref} is {item.status}, and its journal says {known or 'nothing'}."
    return ""
