"""What a snapshot holds, in counts and digests: what a restored database is compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
CHUNK = 1024 * 1024


class SnapshotError(Exception):
    """A snapshot cannot be taken, read or restored: what was expected, found, and the remedy."""


@dataclass(frozen=True)
class Manifest:
    """The contents of a database at one moment, and of the archive that was made of it."""

    engine: str
    """`postgresql` or `sqlite`."""
    server: str
    """The version of the server it was taken from."""
    taken_at: str
    """When, in ISO 8601 with its zone."""
    seconds: float
    """How long the taking took."""
    database: str
    """The source, in words without secrets."""
    database_bytes: int
    """The size of the database, indexes and all."""
    tables: dict[str, list[Any]]
    """For each table its number of rows and the digest of their contents, whatever their order."""
    sequences: dict[str, list[int]]
    """For each sequence the lowest and the highest position it may have been dumped at."""
    structure: dict[str, list[str]]
    """Columns, indexes, constraints and the like, by kind: a line for each."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file of the archive, by its path within it."""
    archive_bytes: int = 0
    adopted: str = ""
    """The archive that somebody else made, in words; empty for one of ours."""

    @property
    def rows(self) -> int:
        return sum(count for count, _ in self.tables.values())

    def contents(self) -> dict[str, Any]:
        """What a restored database is compared with."""
        return {"tables": self.tables, "sequences": self.sequences, "structure": self.structure}

    @property
    def digest(self) -> str:
        """One digest over the contents: equal for two databases that hold the same."""
        said = json.dumps([self.tables, self.structure], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(self._text())

    def _text(self) -> str:
        said = asdict(self)
        said["sha256"] = _digest(said)
        return json.dumps(said, indent=1, sort_keys=True)


def _digest(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> Manifest:
    """The manifest of the snapshot in a folder; raises SnapshotError when there is none."""
    try:
        text = (folder / MANIFEST).read_text()
        said = json.loads(text)
        found = Manifest(**{one.name: said[one.name] for one in fields(Manifest)})
        if found._text() != text:
            raise ValueError("its own digest differs")
        return found
    except FileNotFoundError:
        raise SnapshotError(
            f"There is no snapshot in {folder.name}: it was not taken to its end. Take it again."
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SnapshotError(
            f"The manifest of the snapshot in {folder.name} cannot be read "
            f"({type(error).__name__}: {error}). Take the snapshot again."
        ) from None


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the archive in a folder, by its path there."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(paths)}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def intact(folder: Path, expected: Manifest) -> None:
    """See that the archive's files are what they were; raises SnapshotError naming one."""
    found = sums(folder)
    for name in sorted(expected.files.keys() | found.keys()):
        if name not in found:
            what = "is missing"
        elif name not in expected.files:
            what = "was not there when it was taken"
        elif found[name] != expected.files[name]:
            what = "is not what it was when it was taken (its SHA-256 differs)"
        else:
            continue
        raise SnapshotError(
            f"The file {name} of the snapshot {what}, so nothing of it is restored. Take the "
            "snapshot again, and see to the disk."
        )
    if not expected.files:
        raise SnapshotError("The snapshot's manifest names no file. Take the snapshot again.")


def differences(taken: Manifest, found: dict[str, Any], *, same_version: bool = True) -> list[str]:
    """How the contents of a restored database differ from the manifest's, a phrase each."""
    said = list(_tables(taken.tables, found["tables"]))
    for name, (low, high) in sorted(taken.sequences.items()):
        position = found["sequences"].get(name)
        if position is None:
            said.append(f"sequence {name} is missing")
        elif not low <= position[0] <= high:
            said.append(f"sequence {name} stands at {position[0]}, not at {low} to {high}")
    for kind, lines in sorted(taken.structure.items()):
        there = set(found["structure"].get(kind, ()))
        wanted = set(lines)
        if not same_version:  # another server version words the same definition differently
            there, wanted = ({line.split("\t")[0] for line in each} for each in (there, wanted))
        said += [f"{kind}: missing or changed {line}" for line in _short(wanted - there)]
        said += [f"{kind}: not in the snapshot {line}" for line in _short(there - wanted)]
    return said


def _tables(taken: dict[str, list[Any]], found: dict[str, list[Any]]) -> Iterable[str]:
    for name, (count, digest) in sorted(taken.items()):
        if name not in found:
            yield f"table {name} is missing"
        elif found[name][0] != count:
            yield f"table {name} has {found[name][0]} rows, not {count}"
        elif found[name][1] != digest:
            yield f"table {name} has other contents"
    for name in sorted(found.keys() - taken.keys()):
        yield f"table {name} is not in the snapshot"


def _short(lines: Iterable[str]) -> list[str]:
    return [line.replace("\t", " ")[:200] for line in sorted(lines)]
