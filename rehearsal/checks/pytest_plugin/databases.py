"""Names of this run's own for its test databases, and a guard before any other database.

Host, port, user and all else of the connections stay the project's; so do `TEST` dictionaries,
mirrors and what pytest-xdist appends.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from . import templates
from .events import TOKEN, tell

NAME_BYTES = 63 - len("building_") - len("_gw999")
"""A longer name PostgreSQL would cut, and with it what we put before and pytest-xdist after it."""
REAL = frozenset(json.loads(os.environ.get("REHEARSAL_PYTEST_REAL_DATABASES", "[]")))
"""Names of the databases that this environment lives on."""
GUARDED = {"postgresql", "mysql", "sqlite"}

refused: set[str] = set()
asking = threading.local()
"""Whether this thread is only asking a server, for which Django may use any of its databases."""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    prepare()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish() -> None:
    # Again: settings may have been configured by a conftest.py that was only now imported.
    prepare()


def prepare() -> None:
    """Name the test databases, prepare how they are made, refuse all others; harmless twice."""
    if not TOKEN or "django" not in sys.modules:
        return
    from django.conf import settings

    if not settings.configured:
        return
    from django.db import connections
    from django.db.backends.base.base import BaseDatabaseWrapper

    if not hasattr(BaseDatabaseWrapper.connect, "unguarded"):
        # The one place that all connections pass, whoever asks for them.
        BaseDatabaseWrapper.connect = guarded(BaseDatabaseWrapper.connect)  # type: ignore[method-assign]
    for alias in connections:
        try:
            connection: Any = connections[alias]
        except Exception:  # a database that cannot be used is the tests' to report
            continue
        if connection.settings_dict.setdefault("TEST", {}).get("MIRROR"):
            continue
        name_test_database(connection)
        if connection.vendor == "postgresql" and not hasattr(connection, "asked"):
            connection._nodb_cursor = only_asking(connection._nodb_cursor)
            connection.asked = True
        templates.install(connection, name_test_database)


# Names


def name_test_database(connection: Any) -> None:
    """Make the name of a connection's test database this run's own; harmless to do twice."""
    database = connection.settings_dict
    test = database["TEST"]
    name = str(test.get("NAME") or "")
    if TOKEN in name:
        return
    if connection.vendor != "sqlite":
        name = test["NAME"] = unique(name or str(database["NAME"]))
    elif not name or name == ":memory:" or "mode=memory" in name:
        name = "in memory"
    else:
        root, extension = os.path.splitext(os.path.abspath(name))
        name = test["NAME"] = f"{root}_{TOKEN}{extension}"
    tell(
        event="database",
        alias=connection.alias,
        vendor=connection.vendor,
        host=str(database.get("HOST") or ""),
        port=str(database.get("PORT") or ""),
        name=name,
    )


def unique(name: str) -> str:
    """The name with this run's token, short enough for a server's catalogue."""
    return f"test_{shortened(name.removeprefix('test_'), len(f'test__{TOKEN}'))}_{TOKEN}"


def shortened(name: str, taken: int) -> str:
    """The name in at most NAME_BYTES less those that are taken; what is cut leaves its hash."""
    room = NAME_BYTES - taken
    if len(name.encode()) <= room:
        return name
    cut = hashlib.sha256(name.encode()).hexdigest()[:6]
    return name.encode()[: room - len(cut)].decode(errors="ignore") + cut


# The guard


def is_test_database(vendor: str, name: str) -> bool:
    """Whether tests may work on it: it has this run's token, or was surely made to test on."""
    if vendor == "sqlite" and (name in ("", ":memory:") or "mode=memory" in name):
        return True
    return TOKEN in name or (name.startswith("test_") and name not in REAL)


def guarded(connect: Callable[..., None]) -> Callable[..., None]:
    """`BaseDatabaseWrapper.connect`, but it leads to test databases alone."""
    from django.db import OperationalError
    from django.db.backends.base.base import NO_DB_ALIAS

    @functools.wraps(connect)
    def checked(self: Any) -> None:
        name = str(self.settings_dict["NAME"] or "")
        serves = self.alias == NO_DB_ALIAS or getattr(asking, "now", False)
        if self.vendor in GUARDED and not serves and not is_test_database(self.vendor, name):
            if name not in refused:
                refused.add(name)
                tell(event="refused", alias=self.alias, name=name)
            raise OperationalError(
                f"{self.alias!r} would lead to {name!r}, which is not a test database: refused."
            )
        connect(self)

    checked.unguarded = connect  # type: ignore[attr-defined]
    return checked


def only_asking(cursor: Callable[[], Any]) -> Callable[[], Any]:
    """`_nodb_cursor`, marked: where it may not use `postgres`, it uses the project's database."""

    @contextmanager
    def marked() -> Iterator[Any]:
        with ExitStack() as stack:
            asking.now = True
            try:
                found = stack.enter_context(cursor())
            finally:
                asking.now = False
            yield found

    return marked
