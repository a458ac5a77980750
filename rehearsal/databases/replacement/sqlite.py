"""Replacing a SQLite database: its pages are written by the backup API, in one transaction.

The file itself is never exchanged: processes that hold it open would go on with the old one.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehearsal.databases.address import Address
from rehearsal.databases.replacement.proof import listed
from rehearsal.databases.replacement.refusal import Refused

WAIT_SECONDS = 30
"""How long the swap waits for the others' locks."""
MARK = ".rehearsal-enrolled"
ASIDE = ("", "-journal", "-wal", "-shm")


@dataclass(frozen=True)
class SQLiteReplacement:
    """One rehearsal's replacement of the database file at `target`."""

    target: Address
    admin: Address
    source: Address | None
    environment: str
    names: Collection[str]
    number: int
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of this attempt alone: one that was taken for lost and wakes up finds no other's scratch."""

    @property
    def path(self) -> Path:
        return Path(self.target.name).resolve()

    def _named(self, way: str) -> Path:
        return self.path.with_name(f"{self.path.name}.rehearsal-{self.number}-{way}")

    @property
    def scratch(self) -> Address:
        """Where the new database is made ready."""
        return replace(self.target, name=str(self._named(f"scratch-{self.token}")))

    @property
    def kept(self) -> str:
        """The file with the database as it was before."""
        return str(self._named("before"))

    @property
    def kept_at(self) -> Address:
        """Where that database is."""
        return replace(self.target, name=self.kept)

    def keeps(self) -> bool:
        """Whether there is something to go back to."""
        return Path(self.kept).is_file()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock on replacing this target; a killed process holds none. Raises Refused."""
        descriptor = os.open(self._mark_path(), os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Refused(
                f"Another process is replacing {self.path.name} now: wait for its end."
            ) from None
        finally:
            os.close(descriptor)

    def prove(self) -> list[str]:
        """Prove that the target may be replaced; returns the proofs. Raises Refused."""
        return self._apart() + self._entitled()

    def _apart(self) -> list[str]:
        if not self.path.is_file():
            raise Refused(f"There is no database file {self.path}. Correct TARGET.")
        if self.source is None:
            return []
        source = Path(self.source.name)
        try:
            same = source.samefile(self.path)
        except OSError as error:
            raise Refused(
                "Whether the target is another file than the source could not be proven: "
                f"{error.strerror} ({source.name}). Let both be readable."
            ) from error
        if same:
            raise Refused(
                f"The target {self.path} is the source: both are one file. Correct TARGET."
            )
        return [f"two files: inode {self.path.stat().st_ino}, and {source.stat().st_ino}"]

    def _entitled(self) -> list[str]:
        listed(self.path.name, self.environment, self.names)
        marked = self._mark_path()
        found = marked.read_text().strip() if marked.is_file() else ""
        if found != self._mark():
            carries = f"carries the enrollment {found}" if found else "is not enrolled"
            raise Refused(
                f"The database {self.path.name} {carries}, and {self._mark()} was expected, so it "
                f"is not replaced. If it is the {self.environment} database, run "
                "`python manage.py rehearsal_enroll` once."
            )
        return [f"enrolled as {found}", f"the name {self.path.name} is on the list"]

    def _mark_path(self) -> Path:
        return self.path.with_name(self.path.name + MARK)

    def _mark(self) -> str:
        # A copy of the file, or of its whole folder, has another inode.
        stands = self.path.stat()
        return f"{self.environment}/{stands.st_dev}/{stands.st_ino}"

    def enroll(self) -> str:
        """Mark the target as one that may be replaced; returns the mark. Raises Refused."""
        listed(self.path.name, self.environment, self.names)
        self._apart()
        self._mark_path().write_text(self._mark() + "\n")
        return self._mark()

    def heal(self) -> list[str]:
        """Remove what earlier replacements left, but not what this rehearsal keeps; their names."""
        self._entitled()
        own = re.compile(re.escape(self.path.name) + r"\.rehearsal-\d+-(before|aside|scratch-\w+)")
        removed = []
        with self._alone():
            for path in sorted(self.path.parent.iterdir()):
                if own.fullmatch(path.name) and path != Path(self.kept):
                    _remove(path)
                    removed.append(path.name)
        return removed

    def discard(self) -> None:
        """Remove the scratch, if it is there."""
        _remove(Path(self.scratch.name))

    def prepare(self) -> Address:
        """Make the scratch: an empty file beside the target."""
        self._entitled()
        scratch = Path(self.scratch.name)
        _remove(scratch)
        scratch.touch(mode=0o600)
        return self.scratch

    def swap(self) -> float:
        """Write the scratch over the target and keep what was there; the seconds it took.

        SQLite writes it in one transaction: killed at any moment, the next to open the file
        rolls it back to the old database. Raises Refused.
        """
        self.prove()
        with self._alone():
            scratch = Path(self.scratch.name)
            if not scratch.is_file():
                raise Refused(
                    f"The file {scratch.name}, which was made ready, is gone: another attempt has "
                    "swept it away. Nothing was changed; see what came of that one."
                )
            if not self.keeps():
                part = self._named("aside")
                _remove(part)
                self._copy(self.path, part)
                part.rename(self.kept)
            self._same_pages(scratch)
            took = self._copy(scratch, self.path)
            _remove(scratch)
            return took

    def roll_back(self) -> float:
        """Put back what this rehearsal replaced; the seconds it took. Raises Refused."""
        self.prove()
        with self._alone():
            if not self.keeps():
                raise Refused(
                    f"There is no file {Path(self.kept).name} to go back to: a later rehearsal "
                    "removed it, or it was put back already. Restore a snapshot instead."
                )
            took = self._copy(Path(self.kept), self.path)
            _remove(Path(self.kept))
            return took

    def _same_pages(self, scratch: Path) -> None:
        """Give the scratch the target's size of pages, which cannot change in the WAL mode."""
        with closing(sqlite3.connect(self.path)) as old, closing(sqlite3.connect(scratch)) as new:
            sizes = [one.execute("PRAGMA page_size").fetchone()[0] for one in (old, new)]
            if sizes[0] != sizes[1]:
                new.execute("PRAGMA journal_mode=DELETE")
                new.execute(f"PRAGMA page_size={sizes[0]}")
                new.execute("VACUUM")

    def _copy(self, source: Path, target: Path) -> float:
        began = time.monotonic()
        deadline = began + WAIT_SECONDS
        with closing(sqlite3.connect(source)) as old:
            while True:
                try:
                    with closing(sqlite3.connect(target, timeout=WAIT_SECONDS)) as new:
                        old.backup(new)
                    return time.monotonic() - began
                except sqlite3.Error as error:
                    if "locked" not in str(error) or time.monotonic() > deadline:
                        raise Refused(
                            f"The database {target.name} could not be written, and is as it was: "
                            f"{error}. End the processes that hold on to it, and try again."
                        ) from error


def _remove(path: Path) -> None:
    for ending in ASIDE:
        path.with_name(path.name + ending).unlink(missing_ok=True)
