"""What each migration did to the tables, and who would have waited for it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.checks.base import Report
from rehearsal.databases import locks
from rehearsal.databases.address import of
from rehearsal.databases.locks import Hold, Recorded, Watched
from rehearsal.databases.pooler import is_pooled

SHOWN_SECONDS = 0.05
"""Nobody notices a shorter hold."""


@dataclass
class Effect:
    """One migration: how long it took, what it locked, wrote anew and made larger."""

    name: str
    seconds: float
    holds: list[Hold]
    rewritten: list[str]
    """The tables whose file is another one now."""
    grown: int
    """By how many bytes all tables together are larger; 0 too where that could not be read."""

    def forecast(self) -> list[str]:
        """Who would have waited for what, in words: a phrase each, the longest first."""
        return [f"{hold.blocks} of {hold.table} wait {lasts(hold)} ({hold.mode})" for hold in self.holds]


def lasts(hold: Hold) -> str:
    """How long somebody waits for it, in words."""
    return f"about {hold.seconds:.2f} s" if hold.seconds >= SHOWN_SECONDS else "a moment"


@dataclass
class Effects:
    """All migrations of one run."""

    watched: Watched
    each: list[Effect] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    """How many rows of each table were written in the whole run."""

    def longest(self) -> list[tuple[Effect, Hold]]:
        """The hold of each migration that others would have waited for longest, longest first."""
        found = [(one, one.holds[0]) for one in self.each if one.holds]
        return sorted(found, key=lambda pair: -pair[1].seconds)

    def tell(self, report: Report) -> None:
        """Put into evidence and measurements what was seen."""
        for one in self.each:
            said = one.forecast() or ["nobody was seen to have to wait"]
            if one.rewritten:
                said.append(f"written anew: {', '.join(one.rewritten)}")
            if one.grown:
                said.append(f"{one.grown / 1e6:+.1f} MB")
            report.evidence(one.name, f"{one.seconds:.2f} s; {'; '.join(said)}")
        written = [(n, t) for t, n in self.rows.items() if n]
        if written:
            lines = [f"{table}: {rows}" for rows, table in sorted(written, reverse=True)[:10]]
            report.evidence("rows written", lines)
        slow = [f"{s:.2f} s: {text}" for s, text in self.watched.slowest() if s >= SHOWN_SECONDS]
        if slow:
            report.evidence("slowest statements seen", slow)
        if self.watched.error:
            report.evidence("the watching ended early", self.watched.error)
        if longest := self.longest():
            report.measure("migrations.longest_block_seconds", longest[0][1].seconds, "seconds")


class Recorder:
    """Finds out what each migration of one run did, once the run is over."""

    def __init__(
        self, alias: str, connection: BaseDatabaseWrapper, watched: Watched, told: Path
    ) -> None:
        self._alias, self._connection = alias, connection
        self.told = told
        """Where the process that migrates tells of its locks, and of each migration's end."""
        self.effects = Effects(watched)
        self._tables = locks.tables(connection)
        self._size = locks.size(connection)
        self._rows = locks.written(connection)
        self._heard: dict[str, tuple[Recorded, int | None]] = {}
        self._began = time.monotonic()

    def ended(self, name: str) -> None:
        """The migration `name` has been applied. Never in its way: what fails here is told."""
        now = time.monotonic()
        try:
            # Seen from here, for what is recorded under other names: a squashed migration.
            seen = Recorded(name, now, "", locks.tables(self._connection))
            self._heard[name] = seen, locks.size(self._connection)
        except Error as error:
            self._missed(error)

    def close(self, planned: Collection[str]) -> None:
        """Work out what each of the planned migrations did, once the process that migrates is gone.

        Not all of them were heard: what a migration prints tears migrate's lines.
        """
        recorded, told = locks.told(self.told, self._alias, self._tables)
        found = self._heard | {
            one.name: (one, self._heard.get(one.name, (one, None))[1])
            for one in recorded
            if one.name in planned
        }
        each = sorted(found.values(), key=lambda pair: pair[0].at)
        transactions = {one.transaction for one, _ in each}
        holds = [*self.effects.watched.holds, *told]
        began, before, size_before = self._began, self._tables, self._size
        for one, size in each:
            effect = Effect(
                name=one.name,
                seconds=one.at - began,
                holds=locks.held_for(holds, began, one, transactions),
                rewritten=sorted(
                    name
                    for oid, (name, file) in before.items()
                    if oid in one.tables and one.tables[oid][1] != file
                ),
                grown=0 if size is None or size_before is None else size - size_before,
            )
            self.effects.each.append(effect)
            began, before, size_before = one.at, one.tables, size
        try:
            written = locks.written(self._connection)
        except Error as error:
            self._missed(error)
            return
        for oid, count in written.items():
            if oid in before and (more := count - self._rows.get(oid, 0)):
                self.effects.rows[before[oid][0]] = more

    def _missed(self, error: Error) -> None:
        self.effects.watched.error = (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def recorded(alias: str, application: str, report: Report) -> Iterator[Recorder | None]:
    """Record what sessions called `application` do to a database meanwhile.

    None where only PostgreSQL could tell.
    """
    if connections[alias].vendor != "postgresql":
        report.evidence("locks", f"not watched: {connections[alias].vendor} cannot tell")
        yield None
        return
    if "application_name" in connections[alias].settings_dict["OPTIONS"]:
        report.evidence("locks", "of all sessions: the project gives its own a name")
        application = ""
    at = of(alias)
    with (
        tempfile.TemporaryDirectory(prefix="rehearsal-") as folder,
        closing(at.connect()) as connection,
        locks.watching(at, application) as watched,
    ):
        yield Recorder(alias, connection, watched, Path(folder) / "locks")


def session_variables(
    alias: str, application: str, lock_timeout: int, report: Report
) -> dict[str, str]:
    """The variables by which migrate's own session has a name, gives up waiting, and ends with its
    client.

    A pooler hands the same session to others, so nothing is set through one.
    """
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return {}
    named = {"PGAPPNAME": application}
    if connection.settings_dict["OPTIONS"].get("options"):
        report.evidence("lock timeout", "not set: the project sets options of its own")
        return named
    if is_pooled(connection):
        report.evidence("lock timeout", "not set: a pooler stands between; migrate directly")
        return named
    wanted = {"lock_timeout": f"{lock_timeout}s", "client_connection_check_interval": "500ms"}
    options = [os.environ.get("PGOPTIONS", "")]
    with closing(of(alias).connect()) as trial, trial.cursor() as cursor:
        for name, value in wanted.items():
            # Not every server, nor every platform that one runs on, knows both.
            with suppress(Error):
                cursor.execute(f"SET {name} = '{value}'")
                options.append(f"-c {name}={value}")
    report.evidence("lock timeout", f"{lock_timeout} s" if lock_timeout else "none")
    return {**named, "PGOPTIONS": " ".join(filter(None, options))}
