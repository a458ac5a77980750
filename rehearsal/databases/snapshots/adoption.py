"""An archive that somebody else made, such as the nightly dump of production."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
from pathlib import Path

from rehearsal.databases.snapshots import clients
from rehearsal.databases.snapshots.manifest import Manifest, SnapshotError, sha256, sums
from rehearsal.databases.snapshots.postgresql import room

LIST_SECONDS = 120
CREATED = re.compile(r";\s+Archive created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
SERVER = re.compile(r";\s+Dumped from database version: (\S+)")
NAMED = re.compile(r";\s+dbname: (.+)")


def adopted(path: Path, folder: Path, vendor: str, max_age_hours: int) -> Manifest:
    """Copy the archive at `path` into `folder`; its manifest, without counts, which it has not.

    Beside the archive a file of the same name and `.sha256` is expected, in sha256sum's format:
    an archive whose bytes nobody vouches for could be cut off or damaged in ways that no restore
    notices. Raises SnapshotError.
    """
    if not path.exists():
        raise SnapshotError(f"There is no archive {path}. Correct REHEARSAL['SNAPSHOT'].")
    vouched = _vouched(path)
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    room(folder, sum(p.stat().st_size for p in files))
    copied = folder / (path.name if path.is_file() else "dump")
    if path.is_dir():
        shutil.copytree(path, copied)
    else:
        shutil.copy2(path, copied)
    found = {str(Path(copied.name) / n): s for n, s in sums(copied).items()} or {
        copied.name: sha256(copied)
    }
    seen = {name.removeprefix(f"{copied.name}/"): said for name, said in found.items()}
    if seen != vouched:
        names = sorted(name for name in seen.keys() | vouched.keys()
                       if seen.get(name) != vouched.get(name))  # fmt: skip
        raise SnapshotError(
            f"{names[0]} of the archive {path.name} is not what {path.name}.sha256 says: it is "
            "damaged, or was written anew. Dump again."
        )
    server, database, created = "", path.name, _modified(path)
    if vendor == "postgresql":
        server, database, created = _head(path, created)
    age = datetime.datetime.now(datetime.UTC) - created
    if age > datetime.timedelta(hours=max_age_hours):
        hours = age.total_seconds() / 3600
        raise SnapshotError(
            f"The archive {path.name} is {hours:.0f} hours old, and at most {max_age_hours} were "
            "expected. Dump again, or raise REHEARSAL['SNAPSHOT_MAX_AGE_HOURS']."
        )
    return Manifest(
        engine=vendor,
        server=server,
        taken_at=created.isoformat(),
        seconds=0.0,
        database=database,
        database_bytes=0,
        tables={},
        sequences={},
        structure={},
        files=found,
        archive_bytes=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        adopted=path.name,
    )


def _vouched(path: Path) -> dict[str, str]:
    """What the file of digests says: SHA-256 by the file's name within the archive."""
    told = path.with_name(f"{path.name}.sha256")
    try:
        lines = told.read_text(errors="replace").splitlines()
    except OSError:
        how = f"find {path.name} -type f -exec sha256sum {{}} +" if path.is_dir() else ""
        raise SnapshotError(
            f"Nothing vouches for the archive {path.name}: a file {told.name} was expected beside "
            f"it. Write it where the dump is made: {how or f'sha256sum {path.name}'} > {told.name}"
        ) from None
    found = {}
    for line in lines:
        said = re.fullmatch(r"\\?([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if said is None:
            raise SnapshotError(
                f"{told.name} has a line that is no digest: {line[:60]!r}. Write it with sha256sum."
            )
        parts = Path(said[2]).parts
        within = parts[parts.index(path.name) + 1 :] if path.name in parts else parts
        found["/".join(within) or path.name] = said[1].lower()
    return found


def _modified(path: Path) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)


def _head(path: Path, created: datetime.datetime) -> tuple[str, str, datetime.datetime]:
    """Version, database and moment that an archive of pg_dump's own formats says of itself."""
    said = "nothing"
    for program in clients.candidates("pg_restore"):
        listed = subprocess.run(
            [program, "--list", path],
            capture_output=True, text=True, errors="replace", timeout=LIST_SECONDS, check=False,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        )  # fmt: skip
        if listed.returncode == 0:
            server = SERVER.search(listed.stdout)
            named, at = NAMED.search(listed.stdout), CREATED.search(listed.stdout)
            if at:
                moment = datetime.datetime.fromisoformat(at[1]).replace(tzinfo=datetime.UTC)
                created = min(created, moment)
            return (
                server[1] if server else "",
                named[1].strip() if named else path.name,
                created,
            )
        said = (listed.stderr.strip().splitlines() or ["nothing"])[0]
    raise SnapshotError(
        f"The archive {path.name} cannot be read: pg_restore says {said}. Let it be in pg_dump's "
        "custom, directory or tar format, made by a version that is installed here."
    )
