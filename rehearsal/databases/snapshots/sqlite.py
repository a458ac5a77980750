"""Snapshots of SQLite: a copy by the backup API, which writers do not disturb."""

from __future__ import annotations

import datetime
import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rehearsal.databases.address import Address
from rehearsal.databases.snapshots.manifest import Manifest, SnapshotError, differences, sums
from rehearsal.databases.snapshots.postgresql import Work, room, stopped

DUMP = "database.sqlite3"
STEP_PAGES = 4096


def take(source: Address, target: Address | None, folder: Path, work: Work) -> Manifest:
    """Copy `source` into `folder`, with the manifest of the copy. Raises SnapshotError."""
    began = time.monotonic()
    path = Path(source.name)
    if not path.is_file():
        raise SnapshotError(f"There is no database file {path}. Correct SOURCE.")
    room(folder, path.stat().st_size)
    taken_at = datetime.datetime.now(datetime.UTC).isoformat()
    with _opened(path, "ro") as old, closing(sqlite3.connect(folder / DUMP)) as new:
        _copy(old, new, work)
    (folder / DUMP).chmod(0o600)
    with _opened(folder / DUMP, "ro") as copy:
        held = _contents(copy, work)
    if not held["tables"]:
        raise SnapshotError(f"The source {path} holds no table, so nothing was taken.")
    return Manifest(
        engine="sqlite",
        server=sqlite3.sqlite_version,
        taken_at=taken_at,
        seconds=time.monotonic() - began,
        database=source.shown,
        database_bytes=path.stat().st_size,
        **held,
        files=sums(folder),
        archive_bytes=(folder / DUMP).stat().st_size,
    )


def restore(archive: Path, manifest: Manifest, target: Address, work: Work) -> None:
    """Copy an archive into an empty database; raises SnapshotError."""
    # The new database, and beside it what the target was before.
    room(Path(target.name).parent, 2 * archive.stat().st_size)
    with _opened(archive, "ro") as old, closing(sqlite3.connect(target.name)) as new:
        _copy(old, new, work)


def holds(target: Address, work: Work) -> dict[str, Any]:
    """What a manifest says of its contents, of a database. Raises SnapshotError."""
    with _opened(Path(target.name), "ro") as connection:
        return _contents(connection, work)


def verify(manifest: Manifest, target: Address, work: Work) -> list[str]:
    """How what `target` holds differs from the manifest. Raises SnapshotError."""
    with _opened(Path(target.name), "ro") as connection:
        checked = [line for (line,) in connection.execute("PRAGMA integrity_check(3)")]
    if checked != ["ok"]:
        return [f"SQLite finds it damaged: {'; '.join(checked)}"]
    found = holds(target, work)
    if manifest.adopted:
        return [] if found["tables"] else ["no table was restored"]
    return differences(manifest, found)


def analyze(target: Address) -> None:
    """Gather the planner's statistics."""
    with closing(sqlite3.connect(target.name)) as connection:
        connection.execute("PRAGMA optimize")


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=30)
        with closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise SnapshotError(
            f"The database {path.name} cannot be read: {error}. Correct its path or its rights."
        ) from error


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, work: Work) -> None:
    def tell(_: int, left: int, total: int) -> None:
        work.say(f"{(total - left) * 100 // max(total, 1)} % copied.")
        stopped(work)

    old.backup(new, pages=STEP_PAGES, progress=tell)


def _contents(connection: sqlite3.Connection, work: Work) -> dict[str, Any]:
    tables: dict[str, list[Any]] = {}
    connection.text_factory = bytes  # whatever is in a text column, UTF-8 or not
    known = connection.execute(
        "SELECT name, type, tbl_name, coalesce(sql, '') FROM sqlite_schema ORDER BY name"
    ).fetchall()
    structure: dict[str, list[str]] = {}
    for name, kind, table, sql in known:
        line = b"%s\t%s %s" % (name, table, b" ".join(sql.split()))
        structure.setdefault(kind.decode(), []).append(line.decode(errors="replace"))
        virtual = sql.lstrip().upper().startswith(b"CREATE VIRTUAL")
        if kind == b"table" and not name.startswith(b"sqlite_stat") and not virtual:
            tables[name.decode(errors="replace")] = _rows(connection, name)
            work.say(f"{len(tables)} tables counted and digested.")
            stopped(work)
    positions = {}
    if "sqlite_sequence" in tables:
        for name, last in connection.execute("SELECT name, seq FROM sqlite_sequence"):
            positions[name.decode(errors="replace")] = [last, last]
    return {"tables": tables, "sequences": positions, "structure": structure}


def _rows(connection: sqlite3.Connection, table: bytes) -> list[Any]:
    count, total = 0, 0
    quoted = '"' + table.decode().replace('"', '""') + '"'
    for row in connection.execute(f"SELECT * FROM {quoted}"):
        count += 1
        total += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=16).digest())
    return [count, f"{total % 2**128:032x}"]
