"""Snapshots: a database's contents in a folder, with a manifest to compare a restored one with.

snapshot = take(source, folder, target=target)   # or adopt(path, folder, …)
snapshot = load(folder)
restore_into(snapshot, scratch)                  # an empty database
verify(snapshot, scratch)                        # [] when it holds what was taken
as_restored(snapshot, scratch)                   # to compare it with itself, later
prune(keep=3)
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

from rehearsal import conf
from rehearsal.databases.address import Address
from rehearsal.databases.snapshots import postgresql, sqlite
from rehearsal.databases.snapshots.adoption import adopted
from rehearsal.databases.snapshots.manifest import Manifest, SnapshotError, intact, read
from rehearsal.databases.snapshots.postgresql import Work, stopped

ENGINES: dict[str, ModuleType] = {"postgresql": postgresql, "sqlite": sqlite}
FOLDER = "snapshots"


@dataclass(frozen=True)
class Snapshot:
    """A folder with an archive and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def archive(self) -> Path:
        """What pg_restore, or SQLite, reads."""
        if self.manifest.adopted:
            (name,) = {Path(name).parts[0] for name in self.manifest.files}
            return self.folder / name
        return self.folder / str(ENGINES[self.manifest.engine].DUMP)


def of_rehearsal(number: int) -> Path:
    """The folder of a rehearsal's snapshot; it may not exist."""
    return _all() / f"rehearsal-{number}"


def _all() -> Path:
    """The folder of this environment's snapshots: another one counts its rehearsals by itself."""
    return conf.folder(FOLDER, quote(conf.configuration().environment, safe=" "))


def take(source: Address, folder: Path, *, target: Address | None, work: Work) -> Snapshot:
    """Take a snapshot of `source` into `folder`, whole or not at all. Raises SnapshotError."""
    engine = _engine(source)
    with _part(folder, work) as part:
        manifest = engine.take(source, target, part, work)
        manifest.save(part)
    return Snapshot(folder, manifest)


def adopt(path: Path, folder: Path, *, vendor: str, max_age_hours: int, work: Work) -> Snapshot:
    """Adopt an archive that somebody else made, at most so old. Raises SnapshotError."""
    with _part(folder, work) as part:
        manifest = adopted(path, part, vendor, max_age_hours)
        manifest.save(part)
    return Snapshot(folder, manifest)


def load(folder: Path) -> Snapshot:
    """The snapshot in a folder; raises SnapshotError when there is none."""
    return Snapshot(folder, read(folder))


def restore_into(snapshot: Snapshot, target: Address, work: Work) -> None:
    """Restore into an empty database, if every byte is as it was. Raises SnapshotError."""
    intact(snapshot.folder, snapshot.manifest)
    engine = ENGINES[snapshot.manifest.engine]
    engine.restore(snapshot.archive, snapshot.manifest, target, work)


def analyze(snapshot: Snapshot, target: Address) -> None:
    """Gather the planner's statistics in a restored database. Raises SnapshotError."""
    ENGINES[snapshot.manifest.engine].analyze(target)


def verify(snapshot: Snapshot, target: Address, work: Work) -> list[str]:
    """How a restored database differs from what was taken, a phrase each."""
    return list(ENGINES[snapshot.manifest.engine].verify(snapshot.manifest, target, work))


def as_restored(snapshot: Snapshot, target: Address, work: Work) -> Snapshot:
    """The snapshot with what `target` holds for its contents: what later differs from that, and
    be it an adopted one or of another server version, is seen. Raises SnapshotError."""
    held = ENGINES[snapshot.manifest.engine].holds(target, work)
    return replace(snapshot, manifest=replace(snapshot.manifest, adopted="", **held))


def prune(keep: int) -> list[str]:
    """Remove all but the newest `keep` snapshots, and what was not taken to its end; names."""
    folders = [path for path in _all().iterdir() if path.is_dir()]
    whole = {int(m[1]): p for p in folders if (m := re.fullmatch(r"rehearsal-(\d+)", p.name))}
    spared = {whole[number] for number in sorted(whole)[-keep:]}
    gone = [path for path in folders if path not in spared]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return sorted(path.name for path in gone)


def _engine(source: Address) -> ModuleType:
    if source.vendor not in ENGINES:
        raise SnapshotError(
            f"A snapshot of a {source.vendor} database cannot be taken: PostgreSQL or SQLite was "
            "expected. Adopt a dump of it instead, or do this line by hand."
        )
    return ENGINES[source.vendor]


@contextmanager
def _part(folder: Path, work: Work) -> Iterator[Path]:
    """A folder of this attempt alone, which gets its name when what is in it is whole."""
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        yield part
        stopped(work)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


__all__ = [
    "Manifest", "Snapshot", "SnapshotError", "Work", "adopt", "analyze", "as_restored", "load",
    "of_rehearsal", "prune", "restore_into", "take", "verify",
]  # fmt: skip
