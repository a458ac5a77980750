"""What each migration did to the tables, and who would have waited for it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.checks.base import Report
from rehearsal.databases import locks
from rehearsal.databases.address import of
from rehearsal.databases.locks import Hold, Watched
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
    """Is told when a migration has ended, and looks then at what it left."""

    def __init__(
        self, alias: str, connection: BaseDatabaseWrapper, watched: Watched, told: Path
    ) -> None:
        self._alias, self._connection = alias, connection
        self.told = told
        """Where the process that migrates tells of its locks."""
        self.effects = Effects(watched)
        self._tables = locks.tables(connection)
        self._size = locks.size(connection)
        self._rows = locks.written(connection)
        self._since = time.monotonic()

    def ended(self, name: str) -> None:
        """The migration `name` has been applied. Never in its way: what fails here is told."""
        now = time.monotonic()
        try:
            before, self._tables = self._tables, locks.tables(self._connection)
            size = locks.size(self._connection)
        except Error as error:
            self.effects.watched.error = (str(error).splitlines() or [""])[0]
            return
        told = locks.told(self.told, self._alias, before, self._since, now)
        known = {oid: table for oid, table in before.items() if oid in self._tables}
        self.effects.each.append(
            Effect(
                name=name,
                seconds=now - self._since,
                holds=self.effects.watched.between(self._since, now, told),
                rewritten=sorted(
                    table.name for oid, table in known.items() if self._tables[oid].file != table.file
                ),
                grown=0 if size is None or self._size is None else size - self._size,
            )
        )
        self._since, self._size = now, size

    def close(self) -> None:
        """Count the rows written, once the process that wrote them has told the server."""
        try:
            now = locks.written(self._connection)
        except Error as error:
            self.effects.watched.error = (str(error).splitlines() or [""])[0]
            return
        for oid, count in now.items():
            if oid in self._tables and (more := count - self._rows.get(oid, 0)):
                self.effects.rows[self._tables[oid].name] = more


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
