"""Counts what each test asks of its databases: in the test itself, not in making databases for it.

Queries are known by their text with placeholders; no parameter is looked at, so no value is told.
"""

from __future__ import annotations

import heapq
import re
import sys
import time
import unittest
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from .events import LONGEST_TEXT, tell

NAMED = 3
"""How many of the slowest and of the most repeated queries of a test are told."""
COLUMNS = re.compile(r"^(SELECT (?:DISTINCT )?).{60,}?( FROM )", re.DOTALL)


class Account:
    """The queries of one test."""

    def __init__(self) -> None:
        self.counts = True
        self.count = 0
        self.seconds = 0.0
        self.texts: Counter[str] = Counter()
        self.slowest: list[tuple[float, str]] = []

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Wrap one query, as an `execute_wrapper` of Django does."""
        if not self.counts:
            return execute(sql, params, many, context)
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            took = time.perf_counter() - began
            text = sql if isinstance(sql, str) else str(sql)
            self.count += 1
            self.seconds += took
            self.texts[text] += 1
            push = heapq.heappush if len(self.slowest) < NAMED else heapq.heappushpop
            push(self.slowest, (took, text))

    def told(self) -> dict[str, Any]:
        repeated = [(count, text) for text, count in self.texts.most_common(NAMED) if count > 1]
        return {
            "queries": self.count,
            "query_seconds": round(self.seconds, 4),
            "slowest": [(round(took, 4), short(text)) for took, text in sorted(self.slowest)[::-1]],
            "repeated": [(count, short(text)) for count, text in repeated],
        }


def short(sql: str) -> str:
    """A query on one line, without the names of all the columns it fetches."""
    return COLUMNS.sub(r"\1…\2", " ".join(sql.split()))[:LONGEST_TEXT]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count while a test's own body runs; a connection that it opens meanwhile counts too."""
    if "django.db" not in sys.modules:
        return (yield)
    from django.conf import settings

    if not settings.configured:
        return (yield)
    from django.db import connections
    from django.db.backends.signals import connection_created

    account = Account()
    only_in_run(item, account)
    counted: list[Any] = []

    def count(connection: Any, **_: Any) -> None:
        if account not in connection.execute_wrappers:
            # Innermost, so that it counts what reaches the database and nothing that is blocked.
            connection.execute_wrappers.append(account)
            counted.append(connection)

    for connection in connections.all(initialized_only=True):
        count(connection)
    connection_created.connect(count, weak=False)
    try:
        return (yield)
    finally:
        connection_created.disconnect(count)
        for connection in counted:
            if account in connection.execute_wrappers:
                connection.execute_wrappers.remove(account)
        if account.count:
            tell(event="queries", node=item.nodeid, **account.told())


def only_in_run(item: pytest.Item, account: Account) -> None:
    """In a unittest.TestCase, count setUp, the test and tearDown alone.

    Around these, Django's own classes begin transactions and empty tables.
    """
    case = getattr(item, "instance", None)
    if not isinstance(case, unittest.TestCase):
        return
    run = case.run
    account.counts = False

    def counted(*args: Any, **options: Any) -> Any:
        account.counts = True
        try:
            return run(*args, **options)
        finally:
            account.counts = False

    case.run = counted  # type: ignore[method-assign]
