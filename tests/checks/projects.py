"""Small projects with tests of their own, and what became of the pytest check in them."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehearsal.checks import pytest_environment
from rehearsal.checks.base import Outcome, Rehearsed, Report

QUICK = "-p no:hypothesispytest"
"""Hypothesis is most of pytest's time to start, and these projects have no use for it."""
SETTINGS = """
SECRET_KEY = "a key for these tests alone"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
USE_TZ = True
"""
USES_DATABASE = """
import pytest
from django.contrib.auth.models import User

@pytest.mark.django_db
def test_user():
    User.objects.create(username="someone")
    assert User.objects.count() == 1
"""

INI = "[pytest]\npythonpath = .\ndjango_find_project = false\n"
DJANGO = {"pytest.ini": INI, "settings.py": SETTINGS, "test_a.py": USES_DATABASE}


@dataclass
class Result:
    """What became of one run of the check."""

    report: Report
    outcome: Outcome | None

    @property
    def why(self) -> str:
        return str(self.outcome)

    @property
    def verdict(self) -> str:
        return self.outcome.status if self.outcome else "passed"


Run = Callable[..., Result]


def make_report(line: str, revision: str = "") -> Report:
    now = datetime.datetime(2025, 10, 3, tzinfo=datetime.UTC)
    return Report(line, Rehearsed(1, revision, now))


def started_with(monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    """As if this process had been started with these variables."""
    # pytest-django sets the one of this project's own tests, and pytest-xdist hands it on.
    here = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    monkeypatch.setattr(pytest_environment, "as_started", lambda: {**here, **environ})


def postgresql_settings(name: str) -> str:
    from django.db import connection

    parts = {key: connection.settings_dict[key] for key in ("HOST", "PORT", "USER", "PASSWORD")}
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": name, **parts}
    return f"{SETTINGS}\nDATABASES = {{'default': {database!r}}}\n"


def databases_like(name: str) -> set[str]:
    """The databases of that name that are no templates."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"%{name}%"])
        return {row[0] for row in cursor.fetchall() if "_template_" not in row[0]}


@contextmanager
def stopping_at(sign: Path, report: Report) -> Iterator[None]:
    """Cancel the item as soon as the file appears."""
    over = threading.Event()

    def stop() -> None:
        while not sign.exists() and not over.wait(0.05):
            pass
        report.stop.set()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
