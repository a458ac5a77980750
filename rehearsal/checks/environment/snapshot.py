"""A snapshot of production, through a session that can only read."""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.conf import configuration
from rehearsal.databases import address, snapshots
from rehearsal.databases.address import AddressError


@dataclass(frozen=True)
class Snapshot(Check):
    """The source is dumped with a manifest of the same moment, or a fresh archive is adopted."""

    timeout = 3 * 3600
    # Of two such lines, the second waits for the first: both have the rehearsal's one folder.
    needs = ("rehearsal.checks.environment.Snapshot",)
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        here = configuration()
        if not (here.source or here.snapshot):
            raise Inconclusive(
                "Nothing says where production is, so no snapshot was taken: set "
                "REHEARSAL['SOURCE'] to the name of an environment variable with the URL of a "
                "role that may only read, or REHEARSAL['SNAPSHOT'] to an archive."
            )
        folder = snapshots.of_rehearsal(report.rehearsal.number)
        try:
            target = address.of(here.target)
            if here.snapshot:
                report.progress(f"Adopting {here.snapshot.name}.")
                taken = snapshots.adopt(
                    here.snapshot,
                    folder,
                    vendor=target.vendor,
                    max_age_hours=here.snapshot_max_age_hours,
                    work=work_of(report),
                )
            else:
                source = address.of(here.source)
                report.progress(f"Dumping {source.shown}.")
                taken = snapshots.take(source, folder, target=target, work=work_of(report))
        except (AddressError, snapshots.SnapshotError) as error:
            if report.stop.is_set():
                raise Inconclusive(
                    "Stopped before the snapshot was whole; nothing is left of it."
                ) from None
            raise Failed(str(error)) from None
        _tell(report, taken)
        if pruned := snapshots.prune(here.keep_snapshots):
            report.evidence("older snapshots removed", pruned)


def work_of(report: Report) -> snapshots.Work:
    """The report as those who take and restore snapshots know it."""
    return snapshots.Work(write=report.write, say=report.progress, stop=report.stop)


def _tell(report: Report, taken: snapshots.Snapshot) -> None:
    manifest = taken.manifest
    report.evidence("source", manifest.database)
    report.evidence("taken at", manifest.taken_at)
    report.evidence("server", f"{manifest.engine} {manifest.server}".strip())
    report.evidence("files of the archive", f"{len(manifest.files)}, each with its SHA-256")
    report.measure("snapshot.archive_bytes", manifest.archive_bytes, "bytes")
    size = f"{manifest.archive_bytes / 1e6:.1f} MB"
    if manifest.adopted:
        report.evidence("adopted", manifest.adopted)
        report.progress(f"The archive {manifest.adopted} of {manifest.taken_at} adopted, {size}.")
        return
    report.evidence("digest of the contents", manifest.digest)
    largest = sorted(manifest.tables.items(), key=lambda one: -one[1][0])[:10]
    report.evidence("largest tables", [f"{name}: {rows} rows" for name, (rows, _) in largest])
    counted = {kind: len(lines) for kind, lines in manifest.structure.items() if lines}
    report.evidence("structure", ", ".join(f"{n} of {kind}" for kind, n in counted.items()))
    report.measure("snapshot.seconds", manifest.seconds, "seconds")
    report.measure("snapshot.database_bytes", manifest.database_bytes, "bytes")
    report.measure("snapshot.tables", len(manifest.tables), "tables")
    report.measure("snapshot.rows", manifest.rows, "rows")
    report.progress(
        f"{manifest.rows} rows in {len(manifest.tables)} tables taken from {manifest.database} in "
        f"{manifest.seconds:.1f} s, {size}."
    )
