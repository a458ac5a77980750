"""Replacing a SQLite database: its pages are written by the backup API, in one transaction.

The file itself is never exchanged: processes that hold it open would go on with the old one.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace
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

    @property
    def path(self) -> Path:
        return Path(self.target.name).resolve()

    def _named(self, way: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{way}-{self.number}")

    @property
    def scratch(self) -> Address:
        """Where the new database is made ready."""
        return replace(self.target, name=str(self._named("rehearsal")))

    @property
    def kept(self) -> str:
        """The file with the database as it was before."""
        return str(self._named("before"))

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
        own = re.compile(re.escape(self.path.name) + r"\.(rehearsal|before|replaced)-(\d+)")
        removed = []
        for path in sorted(self.path.parent.iterdir()):
            parts = own.fullmatch(path.name)
            if parts and (parts[1] != "before" or int(parts[2]) != self.number):
                _remove(path)
                removed.append(path.name)
        return removed

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
        kept = Path(self.kept)
        if not kept.exists():
            part = self._named("replaced")
            _remove(part)
            self._copy(self.path, part)
            part.rename(kept)
        took = self._copy(Path(self.scratch.name), self.path)
        _remove(Path(self.scratch.name))
        return took

    def roll_back(self) -> float:
        """Put back what this rehearsal replaced; the seconds it took. Raises Refused."""
        self.prove()
        if not Path(self.kept).is_file():
            raise Refused(
                f"There is no file {Path(self.kept).name} to go back to: a later rehearsal removed "
                "it, or it was put back already. Restore a snapshot instead."
            )
        took = self._copy(Path(self.kept), self.path)
        _remove(Path(self.kept))
        return took

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
