"""The snapshot becomes staging: made ready beside it, verified, and put in its place at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from celery import current_app
from django.db import Error, connections

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment import outbound
from rehearsal.checks.environment.snapshot import work_of
from rehearsal.conf import configuration
from rehearsal.databases import (
    credentials,
    describe,
    identity_or_error,
    replacement,
    snapshots,
)
from rehearsal.databases.address import Address, AddressError

LOOK_SECONDS = 0.02
"""How often the target is asked during the swap, to measure how long it is away."""


@dataclass(frozen=True)
class Restore(Check):
    """The rehearsal's snapshot is restored beside the target, verified, and exchanged with it."""

    timeout = 3 * 3600
    # Itself as well: of two such lines, the second waits for the first.
    needs = ("rehearsal.checks.environment.Snapshot", "rehearsal.checks.environment.Restore")

    def run(self, report: Report) -> None:
        try:
            snapshot = snapshots.load(snapshots.of_rehearsal(report.rehearsal.number))
            way = replacement.configured(report.rehearsal.number)
        except (AddressError, snapshots.SnapshotError) as error:
            raise Failed(str(error)) from None
        except replacement.Refused as refused:
            raise Failed(str(refused)) from None
        app = current_app._get_current_object()
        report.progress("Seeing that nobody can be mailed.")
        outbound.prove_captured(report, app)
        report.evidence("started by beat on its own", outbound.senders(app))
        try:
            self._replace(report, snapshot, way)
        except replacement.Refused as refused:
            raise Failed(str(refused)) from None
        except snapshots.SnapshotError as error:
            raise Failed(f"{error} Staging is as it was.") from None

    def _replace(
        self, report: Report, snapshot: snapshots.Snapshot, way: replacement.Replacement
    ) -> None:
        report.progress("Proving that the target is not the source.")
        report.evidence("the target is not the source", way.prove())
        if dropped := way.heal():
            report.evidence("left by earlier rehearsals and dropped", dropped)
        work = work_of(report)
        report.progress("Restoring the snapshot beside the target.")
        began = time.monotonic()
        scratch = way.prepare()
        snapshots.restore_into(snapshot, scratch, work)
        report.measure("restore.seconds", time.monotonic() - began, "seconds")
        _stop_if_asked(report)
        began = time.monotonic()
        report.progress("Comparing what was restored with the snapshot's manifest.")
        if differences := snapshots.verify(snapshot, scratch, work):
            raise Failed(
                f"What was restored is not what was taken: {'; '.join(differences[:5])}. Staging "
                "is as it was; take the snapshot again."
            )
        report.measure("restore.verification_seconds", time.monotonic() - began, "seconds")
        snapshots.analyze(snapshot, scratch)
        _stop_if_asked(report)
        expected = self._people(report, way, scratch)
        _stop_if_asked(report)
        report.progress("Exchanging the databases.")
        if _is_alias():
            connections[configuration().target].close()
        with watched(way.target) as gaps:
            took = way.swap()
        self._look_again(report, way, expected)
        report.measure("restore.swap_seconds", took, "seconds")
        report.measure("restore.downtime_seconds", max(gaps), "seconds")
        report.evidence(replacement.KEPT, way.kept)
        taken = snapshot.manifest
        what = f"{taken.rows} rows in {len(taken.tables)} tables restored and verified"
        if taken.adopted:
            what = f"The archive {taken.adopted} restored, without counts to compare it with"
        report.progress(
            f"{what}; {len(expected)} accounts as they were; away for {max(gaps):.2f} s."
        )

    def _people(
        self, report: Report, way: replacement.Replacement, scratch: Address
    ) -> dict[str, credentials.Account]:
        """Settle whose passwords and sessions it holds; returns the accounts as they must be."""
        with closing(way.target.connect()) as old, closing(scratch.connect()) as new:
            before, expected = credentials.accounts(old), credentials.accounts(new)
            report.evidence("accounts", f"{len(expected)} restored, {len(before)} there before")
            if configuration().credentials == "target":
                expected = credentials.with_passwords_of(before, expected)
                kept = credentials.keep_passwords(before, new)
                report.evidence("passwords of the target kept", f"{kept} accounts")
            if credentials.sessions_in_database():
                stay, out = credentials.carry_sessions(old, new)
                report.evidence(
                    "sessions", f"{stay} of this environment kept, {out} of the snapshot removed"
                )
            else:
                report.evidence("sessions", "kept outside the database, so not looked at")
            _unchanged(expected, credentials.accounts(new), "Staging is as it was.")
            return expected

    def _look_again(
        self, report: Report, way: replacement.Replacement, expected: dict[str, credentials.Account]
    ) -> None:
        """See with fresh connections that the project serves the new database, accounts intact."""
        with closing(way.target.connect()) as now:
            found = credentials.accounts(now)
        report.evidence("digest of the accounts", credentials.digest(found))
        _unchanged(expected, found, "They are in staging now: roll back.")
        report.measure("restore.accounts", len(found), "accounts")
        if _is_alias():
            facts = identity_or_error(configuration().target)
            report.evidence("restored into", describe(facts))


def _unchanged(
    expected: dict[str, credentials.Account], found: dict[str, credentials.Account], where: str
) -> None:
    if not (changes := credentials.changed(expected, found)):
        return
    shown, more = changes[: credentials.SHOWN], len(changes) - credentials.SHOWN
    raise Failed(
        f"Accounts are not as they were: {'; '.join(shown)}{f'; and {more} more' * (more > 0)}. "
        f"Find what changed them, and restore again. {where}"
    )


def _is_alias() -> bool:
    return configuration().target in connections.settings


def _stop_if_asked(report: Report) -> None:
    if report.stop.is_set():
        raise Inconclusive("Stopped before the swap; staging is as it was.")


@contextmanager
def watched(target: Address) -> Iterator[list[float]]:
    """Ask a database again and again, as its clients do; fills the list with the seconds between
    one answer and the next."""
    done, asked = threading.Event(), threading.Event()
    gaps: list[float] = [0.0]

    def watch() -> None:
        last = time.monotonic()
        connection = None
        while True:
            ending = done.is_set()
            try:
                connection = connection or target.connect()
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                now = time.monotonic()
                gaps.append(now - last)
                last = now
                asked.set()
                if ending:
                    break
            except Error:
                connection = None
                if ending and time.monotonic() - last > 30:
                    gaps.append(time.monotonic() - last)
                    break
            time.sleep(LOOK_SECONDS)
        if connection:
            connection.close()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    asked.wait(10)
    try:
        yield gaps
    finally:
        done.set()
        thread.join(40)
