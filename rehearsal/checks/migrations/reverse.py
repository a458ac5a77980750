"""The way back, tried on a copy: what the migrations did is taken back again, where they say so.

The copy is the rehearsal's snapshot, restored beside the target as 1.2 does it and dropped again.
There the migrations run forwards and backwards; what the copy then lacks, a rollback would lose.
"""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import Any

from django.db import Error

from rehearsal.checks.base import Failed, Inconclusive, Report
from rehearsal.checks.commands import ask
from rehearsal.checks.environment.snapshot import work_of
from rehearsal.databases import describe, identity_of, replacement, same, snapshots
from rehearsal.databases.address import Address, AddressError

SHOWN = 10
"""How many differences of the copy from the snapshot are told."""
FORWARDS = re.compile(r"sequence .* stands at |table (\w+\.)?django_migrations has ")
"""Counters; and what Django records of other databases' apps, wherever it migrates."""
UNSEEN = "The migrations are applied, and whether they can be taken back was not seen: "


def take_back(
    report: Report,
    alias: str,
    identity: dict[str, str],
    applied: list[str],
    arguments: list[str],
    ends: float,
) -> None:
    """Try the way back of what was applied, where the rehearsal's snapshot lacks just that.

    `identity` is that of the database just migrated as `alias`; `ends` is when time is up, by the
    monotonic clock. Raises Failed where a migration cannot do what it says, Inconclusive where it
    could not be tried.
    """
    said = report.said
    try:
        snapshot = snapshots.load(snapshots.of_rehearsal(report.rehearsal.number))
        way = replacement.configured(report.rehearsal.number)
        _prove_target(way.target, alias, identity)
        way.prove()
        report.progress(f"{said} Restoring a copy to try the way back.")
        try:
            scratch = way.prepare()
            snapshots.restore_into(snapshot, scratch, work_of(report))
            snapshot = snapshots.as_restored(snapshot, scratch, work_of(report))
            report.progress(f"{said} Trying the way back on the copy.")
            question = [
                *("rehearsal_reverse", "--database", alias),
                *("--number", str(report.rehearsal.number), "--token", way.token),
            ]
            if (left := ends - time.monotonic()) < 1:
                raise Inconclusive(f"{UNSEEN}no time was left. Give 2.2 a line of its own for it.")
            found = _ask(report, question, arguments, left)
            _prove_plan(found["applied"], applied)
            differs = [] if found["failed"] else _differences(snapshot, scratch, report)
        finally:
            way.discard()
    except (AddressError, snapshots.SnapshotError, replacement.Refused) as error:
        raise Inconclusive(f"{UNSEEN}{error}") from None
    except Error as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise Inconclusive(f"{UNSEEN}a database refused ({first}).") from None
    _tell(report, said, found, differs)


def _prove_target(target: Address, alias: str, identity: dict[str, str]) -> None:
    with closing(target.connect()) as connection:
        there = identity_of(connection)
    if not same(there, identity):
        raise replacement.Refused(
            f"the line migrates {describe(identity)} as {alias!r}, and a copy can be made of "
            f"{describe(there)} alone, which is REHEARSAL['TARGET']."
        )


def _ask(
    report: Report, question: list[str], arguments: list[str], seconds: float
) -> dict[str, Any]:
    try:
        found = ask(report, question, arguments, timeout=seconds)
    except Failed as error:
        raise Inconclusive(f"{UNSEEN}{error}") from None
    if reached := found.get("reached"):
        raise Inconclusive(
            f"{UNSEEN}a migration also works in the database {reached!r}, of which there is no "
            "copy. Try its way back by hand."
        )
    return found


def _prove_plan(found: list[str], applied: list[str]) -> None:
    if others := sorted(set(found) ^ set(applied)):
        raise Inconclusive(
            f"{UNSEEN}the snapshot is not what was migrated, for {', '.join(others[:5])} would be "
            "applied to only one of the two. Let 1.2 restore the snapshot first."
        )


def _differences(snapshot: snapshots.Snapshot, scratch: Address, report: Report) -> list[str]:
    """How the copy differs from the snapshot it was made of, but for what never runs backwards."""
    found = snapshots.verify(snapshot, scratch, work_of(report))
    return [one for one in found if not FORWARDS.match(one)]


def _tell(report: Report, said: str, found: dict[str, Any], differs: list[str]) -> None:
    back, irreversible = found["reversed"], found["irreversible"]
    report.evidence(
        "taken back on a copy", [f"{one['name']}: {one['seconds']:.2f} s" for one in back]
    )
    if irreversible:
        report.evidence("cannot be taken back", irreversible)
    if found["kept"]:
        report.evidence("kept, since what cannot be taken back needs it", found["kept"])
    if failed := found["failed"]:
        raise Failed(
            f"{said} On a copy, {failed['name']} says that it can be taken back, and could not "
            f"({failed['error']}), after {len(back)} others: correct its reverse, or declare that "
            "it has none."
        )
    more = [f"and {len(differs) - SHOWN} more"] if differs[SHOWN:] else []
    report.evidence("the copy then differs from the snapshot", differs[:SHOWN] + more or "in nothing")
    seconds = sum(one["seconds"] for one in back)
    report.measure("migrations.reverse_seconds", seconds, "seconds")
    # What cannot be taken back differs by itself.
    lost = differs and not irreversible
    report.progress(
        f"{said} On a copy, {len(back)} of {len(found['applied'])} were taken back in "
        f"{seconds:.1f} s{f'; {len(irreversible)} cannot be' if irreversible else ''}"
        f"{f'; it then differs from the snapshot, first: {differs[0]}' if lost else ''}."
    )
