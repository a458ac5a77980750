"""Asking PostgreSQL what an ALTER TABLE or CREATE INDEX would do, on empty shadows of the tables.

A shadow is a temporary table made like the real one and called like it, so that the very statement
reaches it and nothing else. The server says at the level DEBUG1 what it does with a table's rows:
it verifies, rewrites or indexes them, or it has no need to. Everything is rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.databases.foreseen.statements import NAME, bare, outline

SAFE = re.compile(
    r"(ALTER\s+TABLE|CREATE\s+(UNIQUE\s+)?INDEX(?!\s+CONCURRENTLY)|CREATE\s+TABLE|DROP\s+TABLE)\s",
    re.IGNORECASE,
)
"""What reaches tables by their names alone, and no index or type that has no shadow."""
ROWS = re.compile(r"(verifying|rewriting) table|building index|validating foreign key constraint")
REWRITES = "rewriting table"
LIMITS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '20s'"


class Probe:
    """Shadows of tables, which change as the plan's statements are put to them in their order."""

    def __init__(self, connection: BaseDatabaseWrapper, tables: Sequence[str]) -> None:
        self._connection = connection
        self._real = set(tables)
        self._shadows: set[str] = set()
        self._said: list[str] = []

    def ask(self, sql: str) -> tuple[bool, bool] | None:
        """Whether a statement reads all rows of a table, and whether it writes them anew.

        None where the server was not asked, or refused the statement.
        """
        text = outline(sql)
        if not SAFE.match(text):
            return None
        named = {bare(word) for word in re.findall(rf"{NAME}(?:\s*\.\s*{NAME})?", text)}
        if any("." in one for one in named):
            return None  # by its schema the real table would be reached
        try:
            with self._attempt() as cursor:
                for table in sorted((named & self._real) - self._shadows):
                    self._shadow(cursor, table)
                self._said.clear()
                cursor.execute(re.sub(r"(?i)^\s*CREATE\s+TABLE", "CREATE TEMPORARY TABLE", sql))
        except Error:
            return None
        said = " ".join(self._said)
        return bool(ROWS.search(said)), REWRITES in said

    def _shadow(self, cursor: Any, table: str) -> None:
        quoted = self._connection.ops.quote_name(table)
        cursor.execute(f"CREATE TEMPORARY TABLE {quoted} (LIKE {quoted} INCLUDING ALL)")
        # The copy of a constraint that was never checked counts as checked.
        cursor.execute(
            "SELECT conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid"
            " WHERE c.contype = 'c' AND NOT c.convalidated AND t.relname = %s"
            " AND t.relpersistence <> 't'",
            [table],
        )
        for (name,) in cursor.fetchall():
            name = self._connection.ops.quote_name(name)
            cursor.execute(f"ALTER TABLE {quoted} DROP CONSTRAINT IF EXISTS {name}")
        self._shadows.add(table)

    @contextmanager
    def _attempt(self) -> Iterator[Any]:
        shadows = set(self._shadows)
        with self._connection.cursor() as cursor:
            cursor.execute("SAVEPOINT probe")
            try:
                yield cursor
            except Error:
                cursor.execute("ROLLBACK TO SAVEPOINT probe")
                self._shadows = shadows
                raise
            cursor.execute("RELEASE SAVEPOINT probe")

    def heard(self, message: str) -> None:
        self._said.append(message)


@contextmanager
def probing(connection: BaseDatabaseWrapper, tables: Sequence[str]) -> Iterator[Probe]:
    """A probe in a transaction that is rolled back. Raises django.db.Error."""
    probe = Probe(connection, tables)
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            cursor.execute(LIMITS)
            with _listening(connection.connection, probe.heard):
                cursor.execute("SET LOCAL client_min_messages = debug1")
                yield probe
        finally:
            cursor.execute("ROLLBACK")


@contextmanager
def _listening(raw: Any, hear: Callable[[str], None]) -> Iterator[None]:
    """Hear the server's messages on a connection of psycopg, or of psycopg2."""
    if hasattr(raw, "add_notice_handler"):

        def handle(diagnostic: Any) -> None:
            hear(diagnostic.message_primary or "")

        raw.add_notice_handler(handle)
        try:
            yield
        finally:
            raw.remove_notice_handler(handle)
        return

    class Notices(list):  # type: ignore[type-arg]
        def append(self, message: str) -> None:
            hear(message)

    before, raw.notices = raw.notices, Notices()
    try:
        yield
    finally:
        raw.notices = before
