"""Rows of our own in staging: told from all others by their tags, and removed again.

Nothing is remembered anywhere: what a crash leaves behind is known by its tags, and removed by
whichever check of this kind runs next. So only one of them runs at a time, held by a lock that the
death of its process opens.
"""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, Error, connections, router
from django.db.models import Q, QuerySet

from rehearsal.checks.base import Inconclusive, Outcome, Report
from rehearsal.conf import folder

MARK = "[rehearsal check]"
"""What the titles and names of our rows begin with."""
USERNAME = "rehearsal-check-"
"""What the names of our users begin with."""
DOMAIN = "rehearsal-check.invalid"
"""Where our users have their addresses: no such domain can exist."""
TURN_SECONDS = 240
UNCOUNTED = {"sessions.Session"}
"""Tables in which rows come and go by themselves."""


@contextmanager
def removed_afterwards(report: Report) -> Iterator[None]:
    """Within the block, rows with our tags may be made; when it is left they are gone.

    What an earlier run left is removed first. Raises Inconclusive where it is not its turn within
    four minutes, or where other rows have come or gone at the end.
    """
    _reconnect()
    with _alone(report):
        if left := _remove():
            report.evidence("left by an earlier run, and removed", left)
        before = _counted()
        outcome: Outcome | None = None
        try:
            yield
        except Outcome as raised:
            outcome = raised
        finally:
            _remove()
        changed = _changes(before, _counted())
        report.evidence(
            "rows before and after",
            changed or f"{sum(before.values())} in {len(before)} tables, the same in each",
        )
        differs = f"It left staging with other rows than before ({', '.join(changed)}): remove them"
        if outcome and changed:
            raise type(outcome)(f"{outcome} {differs}.") from outcome
        if outcome:
            raise outcome
        if changed:
            raise Inconclusive(f"{differs}, or see that nobody works in staging, and run it again.")


def _reconnect() -> None:
    """A connection from before a restore leads nowhere."""
    connection = connections[DEFAULT_DB_ALIAS]
    if not connection.in_atomic_block:
        connection.close()


@contextmanager
def _alone(report: Report) -> Iterator[None]:
    with ExitStack() as stack:
        take = _postgresql_lock(stack) or _file_lock(stack)
        deadline = time.monotonic() + TURN_SECONDS
        while not take():
            report.progress("Waiting until another functional check has ended.")
            if report.stop.wait(0.2) or time.monotonic() > deadline:
                raise Inconclusive(
                    "Another functional check did not end in time: end it, and run this again."
                )
        yield


def _postgresql_lock(stack: ExitStack) -> Callable[[], bool] | None:
    """Tries for a lock that belongs to a transaction, since a pooler takes away all others."""
    if connections[DEFAULT_DB_ALIAS].vendor != "postgresql":
        return None
    connection: Any = connections[DEFAULT_DB_ALIAS].copy()
    stack.callback(connection.close)
    cursor = stack.enter_context(connection.cursor())
    cursor.execute("BEGIN")
    cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")

    def take() -> bool:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('rehearsal'), hashtext(%s))",
                       [MARK])  # fmt: skip
        return bool(cursor.fetchone()[0])

    return take


def _file_lock(stack: ExitStack) -> Callable[[], bool]:
    file = stack.enter_context((folder() / "functional.lock").open("w"))

    def take() -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return take


# What is ours


def _ours() -> Iterator[QuerySet[Any]]:
    """The rows with our tags, as far as the project has such tables, in an order to delete them."""
    users = get_user_model()._default_manager.filter(
        email__endswith=f"@{DOMAIN}", username__startswith=USERNAME
    )
    needs = _rows("mana.Need", title__startswith=MARK)
    entries = _rows("monitoring.MonitoringEntry", title__startswith=MARK)
    workflows = _rows("project_central.ProjectWorkflow", primary_need__in=needs)
    tasks = _rows(
        "common.StaffTask",
        title__startswith=MARK,
        created_by__in=users,
        linked_workflow__in=workflows,
        related_ppa__in=entries,
    )
    resources = _rows("common.CalendarResource", name__startswith=MARK)
    bookings = _rows("common.CalendarResourceBooking", booked_by__in=users, resource__in=resources)
    if tasks is not None and bookings is not None:
        # A booking holds the key of its task as a UUID, which no subquery can compare.
        of_tasks = Q(
            content_type=ContentType.objects.get_for_model(tasks.model),
            object_id__in=[UUID(int=pk) for pk in tasks.values_list("pk", flat=True)],
        )
        bookings = bookings | bookings.model._default_manager.filter(of_tasks)
    notifications = _rows("common.CalendarNotification", recipient__in=users)
    categories = _rows("mana.NeedsCategory", name__startswith=MARK)
    for rows in (
        *(notifications, bookings, resources, tasks, workflows, entries, needs, categories),
        users,
    ):
        if rows is not None:
            yield rows


def _rows(label: str, **either: Any) -> QuerySet[Any] | None:
    """The rows of a model that meet any of these conditions; None where there is no such model."""
    try:
        model = apps.get_model(label)
    except LookupError:
        return None
    found = Q(pk__in=[])
    for condition, value in either.items():
        if value is not None:
            found |= Q(**{condition: value})
    rows: QuerySet[Any] = model._default_manager.filter(found)
    return rows


def _remove() -> list[str]:
    """Delete the rows with our tags, and what hangs on them; returns how many of what."""
    removed: Counter[str] = Counter()
    # All keys are read before the first row goes: what is ours is known by what hangs on what.
    for model, keys in [(rows.model, list(rows.values_list("pk", flat=True))) for rows in _ours()]:
        _total, by_model = model._default_manager.filter(pk__in=keys).delete()
        removed.update(by_model)
    return [f"{count} {label}" for label, count in sorted(removed.items()) if count]


# What is everybody's


def _counted() -> Counter[str]:
    """How many rows each table of the project holds."""
    counted: Counter[str] = Counter()
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        mine = router.db_for_read(model) == DEFAULT_DB_ALIAS
        if mine and meta.managed and not meta.proxy and meta.label not in UNCOUNTED:
            try:
                counted[meta.label] = model._base_manager.using(DEFAULT_DB_ALIAS).count()
            except Error:  # no migration makes its table
                continue
    return counted


def _changes(before: Counter[str], after: Counter[str]) -> list[str]:
    return [
        f"{label} {before[label]} → {after[label]}"
        for label in sorted(before | after)
        if before[label] != after[label]
    ]
