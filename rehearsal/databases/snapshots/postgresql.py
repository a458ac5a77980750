"""Snapshots of PostgreSQL: pg_dump in its directory format, and a manifest of the same moment."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal import command
from rehearsal.conf import redactor
from rehearsal.databases.address import Address
from rehearsal.databases.pooler import is_pooled
from rehearsal.databases.snapshots import clients, contents
from rehearsal.databases.snapshots.manifest import Manifest, SnapshotError, differences, sums

TIMEOUT_SECONDS = 3 * 3600
DUMP = "dump"
"""Where in a snapshot's folder pg_dump's directory is."""
LEFT_OUT = {"SUBSCRIPTION", "PUBLICATION", "PUBLICATION TABLE", "EVENT TRIGGER"}
"""What is not restored: it would reach out to other servers, or belongs to a superuser."""
SCRATCH_SETTINGS = {
    # The scratch is thrown away with a crash, and nobody waits for its commits.
    "synchronous_commit": "off",
    "maintenance_work_mem": "256MB",
    "max_parallel_maintenance_workers": "2",
    "client_min_messages": "warning",
    "lock_timeout": "0",
    "statement_timeout": "0",
}


@dataclass
class Work:
    """Who is told what goes on, and who may end it."""

    write: Callable[[str], object] = str
    say: Callable[[str], object] = str
    stop: threading.Event = field(default_factory=threading.Event)


def server_version(connection: BaseDatabaseWrapper) -> int:
    """The major version of a server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int / 10000")
        return int(cursor.fetchone()[0])


def take(source: Address, target: Address | None, folder: Path, work: Work) -> Manifest:
    """Dump `source` into `folder`, with the manifest of the same moment.

    `target` is where it will be restored: its server's version limits that of pg_dump. Raises
    SnapshotError.
    """
    began = time.monotonic()
    try:
        with contents.session(source) as connection, connection.cursor() as cursor:
            if is_pooled(connection):
                raise SnapshotError(
                    f"A pooler such as pgbouncer answers at the source {source.shown}, and a dump "
                    "needs sessions of its own there. Let SOURCE name the server's direct address."
                )
            cursor.execute(
                "SELECT current_setting('server_version'), pg_database_size(current_database()),"
                " pg_export_snapshot()"
            )
            version, size, exported = cursor.fetchone()
            room(folder, size)
            major = server_version(connection)
            newest = _version_of(target) if target else 99
            program = clients.fitting("pg_dump", major, newest)
            before = contents.sequences(connection)
            taken_at = datetime.datetime.now(datetime.UTC).isoformat()
            rows = _Aside(lambda: contents.rows(source, exported, stop=work.stop, say=work.say))
            dump = [
                *(str(program), "--format=directory", f"--file={folder / DUMP}"),
                *(f"--jobs={contents.JOBS}", f"--snapshot={exported}", "--no-password"),
                f"--compress={clients.compression(program, clients.version(program))}",
            ]
            read_only = source.environment() | {
                "PGOPTIONS": "-c default_transaction_read_only=on -c statement_timeout=0"
            }
            try:
                _run(dump, read_only, "pg_dump", source, work)
            except BaseException:
                rows.give_up(work)
                raise
            tables = rows.result()
            after = contents.sequences(connection)
            held = contents.structure(connection)
    except Error as error:
        raise SnapshotError(
            f"The source {source.shown} cannot be read: {_first(error)}. Let its role read every "
            "table and sequence (GRANT pg_read_all_data), and large objects if there are any."
        ) from error
    stopped(work)
    if not tables:
        raise SnapshotError(
            f"The source {source.shown} holds no table, so nothing was taken. Correct SOURCE."
        )
    return Manifest(
        engine="postgresql",
        server=version,
        taken_at=taken_at,
        seconds=time.monotonic() - began,
        database=source.shown,
        database_bytes=size,
        tables=tables,
        sequences={name: [before.get(name, 0), stands] for name, stands in after.items()},
        structure=held,
        files=sums(folder),
        archive_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


class _Aside:
    """Something done in a thread beside the dump; its result or its error is had afterwards."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._found: list[Any] = []
        self._wrong: list[BaseException] = []
        self._thread = threading.Thread(target=self._perform, args=(do,), daemon=True)
        self._thread.start()

    def _perform(self, do: Callable[[], Any]) -> None:
        try:
            self._found.append(do())
        except BaseException as error:
            self._wrong.append(error)

    def result(self) -> Any:
        self._thread.join()
        if self._wrong:
            raise self._wrong[0]
        return self._found[0]

    def give_up(self, work: Work) -> None:
        """Wait for it no longer than its current table takes."""
        asked = work.stop.is_set()
        work.stop.set()
        self._thread.join()
        if not asked:
            work.stop.clear()


def restore(archive: Path, manifest: Manifest, target: Address, work: Work) -> None:
    """Restore an archive into an empty database; raises SnapshotError at its first error."""
    major = int(manifest.server.split(".")[0]) if manifest.server else 0
    there = _version_of(target)
    program = clients.fitting("pg_restore", major or there, there)
    options = " ".join(f"-c {name}={value}" for name, value in SCRATCH_SETTINGS.items())
    environment = target.environment() | {"PGOPTIONS": options}
    with tempfile.TemporaryDirectory(prefix="rehearsal-restore-") as folder:
        listed = Path(folder) / "list"
        listed.write_text("".join(_entries(program, archive, work)))
        argv = [
            *(str(program), f"--dbname={target.name}", "--exit-on-error", "--no-owner"),
            *("--no-privileges", "--no-security-labels", "--no-password"),
            "--no-tablespaces",  # the target's server has its own
            *(f"--use-list={listed}", str(archive)),
        ]
        if archive.is_dir() or _is_custom(archive):
            argv.insert(1, f"--jobs={contents.JOBS}")
        _run(argv, environment, "pg_restore", target, work)


def _is_custom(archive: Path) -> bool:
    """Whether it is in pg_dump's custom format, which several jobs can read; tar is not."""
    with archive.open("rb") as file:
        return file.read(5) == b"PGDMP"


def _entries(program: Path, archive: Path, work: Work) -> list[str]:
    """The archive's table of contents, without what is not restored."""
    lines: list[str] = []
    listing = Work(write=lines.append, stop=work.stop)
    _run([str(program), "--list", str(archive)], {"PATH": os.defpath}, "pg_restore", None, listing)
    kept = []
    for line in lines:
        said = line.split("; ", 1)[-1].split(" ", 2)[-1] if not line.startswith(";") else ""
        # Only the owner of an extension may comment on it, and the restoring role is not.
        if any(said.startswith(f"{kind} ") for kind in LEFT_OUT) or "COMMENT - EXTENSION" in said:
            work.write(f"Not restored: {said}")
            continue
        kept.append(line + "\n")
    return kept


def holds(target: Address, work: Work) -> dict[str, Any]:
    """What a manifest says of its contents, and its server, of a database that nobody writes to.

    Raises SnapshotError.
    """
    try:
        rows = contents.rows(target, stop=work.stop, say=work.say)
        with contents.session(target) as connection:
            found = {
                "tables": rows,
                "sequences": {
                    name: [stands, stands]
                    for name, stands in contents.sequences(connection).items()
                },
                "structure": contents.structure(connection),
                "server": str(server_version(connection)),
            }
    except Error as error:
        raise SnapshotError(f"What was restored cannot be read: {_first(error)}.") from error
    stopped(work)
    return found


def verify(manifest: Manifest, target: Address, work: Work) -> list[str]:
    """How what `target` holds differs from the manifest. Raises SnapshotError."""
    found = holds(target, work)
    if manifest.adopted:
        return [] if found["tables"] else ["no table was restored"]
    return differences(
        manifest, found, same_version=found["server"] == manifest.server.split(".")[0]
    )


def analyze(target: Address) -> None:
    """Gather the planner's statistics, which a dump does not carry; raises SnapshotError."""
    try:
        contents.analyze(target)
    except Error as error:
        raise SnapshotError(f"{target.shown} cannot be analyzed: {_first(error)}.") from error


def _version_of(at: Address) -> int:
    try:
        with contents.session(at) as connection:
            return server_version(connection)
    except Error as error:
        raise SnapshotError(f"{at.shown} cannot be reached: {_first(error)}.") from error


def _run(
    argv: Sequence[str], environment: dict[str, str], name: str, at: Address | None, work: Work
) -> None:
    said: list[str] = []

    def write(line: str) -> None:
        work.write(line)
        if len(said) < 5:
            said.append(line)

    try:
        finished = command.run(
            argv,
            cwd=Path("/"),
            env={"LC_ALL": "C"} | environment,
            timeout=TIMEOUT_SECONDS,
            write=write,
            redactor=redactor(),
            stop=work.stop,
        )
    except command.CommandError as error:
        raise SnapshotError(f"{name} could not be started: {error}") from error
    stopped(work)
    if finished.code != 0:
        told = next((line for line in said if "error" in line or "FATAL" in line), " ".join(said))
        where = f" on {at.shown}" if at else ""
        raise SnapshotError(
            f"{name}{where} ended with {finished.code if finished.code is not None else 'a kill'}: "
            f"{told.strip()[:400] or 'it said nothing'}. See the output, correct it, and run this "
            "again."
        )


def room(folder: Path, size: int) -> None:
    """See that there is room for a dump of a database that large; raises SnapshotError."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise SnapshotError(
            f"{folder} has {free / 1e6:.0f} MB free, and {size / 1e6:.0f} MB are needed: make "
            "room, or set REHEARSAL['FOLDER'] to a larger disk."
        )


def stopped(work: Work) -> None:
    """Raises SnapshotError when somebody asked for the end."""
    if work.stop.is_set():
        raise SnapshotError("Stopped before it was done.")


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
