"""The snapshot becomes staging: made ready beside it, verified, and put in its place at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from celery import current_app
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import Error, connections, router

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment import outbound
from rehearsal.checks.environment.snapshot import work_of
from rehearsal.conf import configuration
from rehearsal.databases import (
    address,
    credentials,
    describe,
    identity_of,
    identity_or_error,
    replacement,
    same,
    snapshots,
)
from rehearsal.databases.address import CONNECT_SECONDS, Address, AddressError
from rehearsal.databases.replacement import leave

PROVEN_SECONDS = 60
"""How long it holds that nobody can be mailed: a worker may have come since."""
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
        except (AddressError, snapshots.SnapshotError, replacement.Refused) as error:
            raise Failed(str(error)) from None
        _records_stay(way)
        app = current_app._get_current_object()
        report.progress("Seeing that nobody can be mailed.")
        outbound.prove_captured(report, app)
        proven = time.monotonic()
        report.evidence("started by beat on its own", outbound.senders(app))
        try:
            report.progress("Proving that the target is not the source.")
            report.evidence("the target is not the source", way.prove())
            if dropped := way.heal():
                report.evidence("left by earlier rehearsals and dropped", dropped)
            # Before `keep` is called, so that the way back is known even if this worker is lost.
            report.evidence(replacement.KEPT, way.kept)
            try:
                expected = self._make_ready(report, snapshot, way)
                if time.monotonic() - proven > PROVEN_SECONDS:
                    report.progress("Seeing once more that nobody can be mailed.")
                    outbound.prove_captured(report, app)
                _stop_if_asked(report)
                gaps = self._exchange(report, way)
            finally:
                way.discard()
                with suppress(replacement.Refused, Error):
                    if not way.keeps():
                        del report.facts[replacement.KEPT]
        except replacement.Refused as refused:
            raise Failed(str(refused)) from None
        except snapshots.SnapshotError as error:
            raise Failed(f"{error} Staging is as it was.") from None
        except Error as error:
            first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise Failed(
                f"A database refused what the restore asked of it: {first}. Let the role of "
                "TARGET_ADMIN create databases and own the target, and that of TARGET own it too; "
                "then run this again."
            ) from None
        self._look_again(report, way, expected)
        taken = snapshot.manifest
        what = f"{taken.rows} rows in {len(taken.tables)} tables restored and verified"
        if taken.adopted:
            what = f"The archive {taken.adopted} restored, without counts to compare it with"
        away = f"away for {max(gaps):.2f} s" if gaps else "how long it was away was not seen"
        report.progress(f"{what}; {len(expected)} accounts as they were; {away}.")

    def _make_ready(
        self, report: Report, snapshot: snapshots.Snapshot, way: replacement.Replacement
    ) -> dict[str, credentials.Account]:
        """Restore beside the target and verify; returns the accounts as they must be."""
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
        return self._people(report, way, scratch)

    def _exchange(self, report: Report, way: replacement.Replacement) -> list[float]:
        """Put the new database in the target's place; returns the gaps that a client saw."""
        report.progress("Exchanging the databases.")
        leave(way)
        with watched(way.target) as gaps:
            took = way.swap()
        report.measure("restore.swap_seconds", took, "seconds")
        if gaps:
            report.measure("restore.downtime_seconds", max(gaps), "seconds")
        return gaps

    def _people(
        self, report: Report, way: replacement.Replacement, scratch: Address
    ) -> dict[str, credentials.Account]:
        """Settle whose passwords and sessions it holds; returns the accounts as they must be."""
        with closing(way.target.connect()) as old, closing(scratch.connect()) as new:
            before, expected = credentials.accounts(old), credentials.accounts(new)
            report.evidence("accounts", f"{len(expected)} restored, {len(before)} there before")
            names = {one.username for one in expected.values()}
            gone = sorted({one.username for one in before.values()} - names)
            if gone:
                more = [f"and {len(gone) - credentials.SHOWN} more"]
                shown = gone[: credentials.SHOWN] + more * (len(gone) > credentials.SHOWN)
                report.evidence("accounts of this environment alone, gone", shown)
            if starts := outbound.scheduled(new):
                report.evidence("started by the restored data on its own", starts)
            if not expected and (elsewhere := _accounts_elsewhere()):
                report.evidence("accounts", f"in the database {elsewhere}, which stays as it is")
            elif not expected:
                raise Inconclusive(
                    f"What was restored holds no account ({len(before)} are in the target), so "
                    "whether credentials are as they were cannot be seen. Staging is as it was: "
                    "correct SOURCE."
                )
            if configuration().credentials == "target":
                expected = credentials.with_passwords_of(before, expected)
                kept = credentials.keep_passwords(before, new)
                report.evidence("passwords of the target kept", f"{kept} accounts")
            stay, out = credentials.carry_sessions(old, new)
            said = f"{stay} of this environment kept, {out} of the snapshot removed"
            if not credentials.sessions_in_database():
                said += f"; what {settings.SESSION_ENGINE} keeps elsewhere stays"
                _no_strangers(credentials.strangers(before, expected))
            report.evidence("sessions", said)
            _unchanged(expected, credentials.accounts(new), "Staging is as it was.")
            return expected

    def _look_again(
        self, report: Report, way: replacement.Replacement, expected: dict[str, credentials.Account]
    ) -> None:
        """See with fresh connections that the project serves the new database, accounts intact."""
        try:
            with closing(way.target.connect()) as now:
                found = credentials.accounts(now)
        except Error as error:
            raise Inconclusive(
                f"The databases were exchanged, and the new one does not answer ({error}), so its "
                "accounts were not looked at: run this again, or roll back."
            ) from None
        report.evidence("digest of the accounts", credentials.digest(found))
        _unchanged(expected, found, "They are in staging now: roll back.")
        report.measure("restore.accounts", len(found), "accounts")
        if configuration().target in connections.settings:
            facts = identity_or_error(configuration().target)
            report.evidence("restored into", describe(facts))


def _records_stay(way: replacement.Replacement) -> None:
    """The records, this rehearsal among them, are in no database that is replaced."""
    records = address.of(configuration().database)
    if records.vendor != way.target.vendor:
        return
    try:
        with closing(records.connect()) as one, closing(way.target.connect()) as other:
            together = same(identity_of(one), identity_of(other))
    except Error:
        return  # the proofs that follow say what cannot be reached
    if together:
        raise Failed(
            f"The records of rehearsals are in the target itself ({way.target.shown}), and would "
            "be gone with it. Give REHEARSAL['DATABASE'] a database of its own."
        )


def _no_strangers(found: list[str]) -> None:
    if found:
        raise Failed(
            f"Sessions kept outside the database would become another's ({'; '.join(found[:5])}): "
            "number and password are the same. Change these passwords in staging, and run this "
            "again. Staging is as it was."
        )


def _accounts_elsewhere() -> str:
    """The alias of the accounts' database, where that is another than the target."""
    alias = router.db_for_read(get_user_model())
    here = configuration().target
    return alias if here in connections.settings and alias != here else ""


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


def _stop_if_asked(report: Report) -> None:
    if report.stop.is_set() or not report.keep():
        raise Inconclusive("Stopped before the swap; staging is as it was.")


@contextmanager
def watched(target: Address, patience: float = 30) -> Iterator[list[float]]:
    """Ask a database again and again, as its clients do; fills the list with the seconds between
    one answer and the next. It is empty in the end where not both sides of the change were seen,
    the new one within `patience` seconds."""
    done, asked, whole = threading.Event(), threading.Event(), threading.Event()
    gaps: list[float] = []

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
                    whole.set()
                    break
            except Error:
                if connection:  # an error of the query alone leaves it open
                    connection.close()
                connection = None
                if ending and time.monotonic() - last > patience:
                    break
            time.sleep(LOOK_SECONDS)
        if connection:
            connection.close()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    seen = asked.wait(patience)
    try:
        yield gaps
    finally:
        done.set()
        thread.join(patience + CONNECT_SECONDS)
        if not (seen and whole.is_set()):
            gaps.clear()
