"""An office's production and staging, on which section 1 is performed."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.hashers import make_password
from django.core.management import call_command

from demo import servers
from rehearsal.checks import base
from rehearsal.checks.environment import survey
from rehearsal.databases.address import Address
from rehearsal.databases.snapshots import contents
from tests.conftest import _end_shared as end_shared_worker
from tests.databases.test_replacement import address, databases, execute, made

USERS = """
CREATE TABLE auth_user (id integer PRIMARY KEY, username varchar(150) NOT NULL,
 password varchar(128) NOT NULL, is_active boolean NOT NULL, is_staff boolean NOT NULL,
 is_superuser boolean NOT NULL);
CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
 expire_date timestamptz NOT NULL);
INSERT INTO auth_user SELECT n, 'user' || n, '{password}', true, n % 2 = 0, n = 1
 FROM generate_series(1, {count}) n;
"""
PASSWORD = make_password("correct horse", hasher="pbkdf2_sha256")


@pytest.fixture
def allow_databases(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        yield


@pytest.fixture
def no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is on the tests' broker, so nobody needs seconds to answer."""
    end_shared_worker()
    monkeypatch.setattr(survey, "CONTROL_SECONDS", 0.1)


@pytest.fixture
def pair(
    tmp_path: Path,
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
    allow_databases: None,
    no_worker_is_waited_for: None,
) -> Iterator[tuple[Address, Address]]:
    """Production and an enrolled staging with a few accounts, as the configuration names them."""
    made("office_production", "production")
    made("office_staging", "old")
    both = address("office_production"), address("office_staging")
    for one in both:
        execute(USERS.format(password=PASSWORD, count=6), one.name)
        url = f"postgresql://{one.user}:{one.password}@{one.host}:{one.port}/{one.name}"
        monkeypatch.setenv(f"{one.name.upper()}_URL", url)
    settings.REHEARSAL = {  # type: ignore[attr-defined]
        **settings.REHEARSAL,  # type: ignore[attr-defined]
        "FOLDER": str(tmp_path / "kept"),
        "POSTGRESQL_BIN": str(servers.binaries()),
        "SOURCE": "OFFICE_PRODUCTION_URL",
        "TARGET": "OFFICE_STAGING_URL",
    }
    call_command("rehearsal_enroll", yes="office_staging")
    yield both
    for name in databases():
        if name.startswith("office_"):
            execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def perform(
    check: str, number: int = 7, keep: Callable[[], bool] = lambda: True
) -> tuple[str, str, base.Report]:
    """Status, sentence and report of a check of section 1."""
    now = datetime.datetime.now(datetime.UTC)
    report = base.Report("a line", base.Rehearsed(number, "0" * 40, now), keep=keep)
    try:
        base.build(f"rehearsal.checks.environment.{check}", {}).run(report)
    except base.Outcome as outcome:
        return outcome.status, str(outcome), report
    return "passed", report.said, report


def measured(report: base.Report) -> dict[str, float]:
    return {one.name: one.value for one in report.measurements}


def held(at: Address) -> str:
    """Everything a database holds, in counts and digests."""
    with contents.session(at) as connection:
        said = [contents.structure(connection), contents.sequences(connection)]
    return json.dumps([contents.rows(at, stop=threading.Event(), say=str), *said], sort_keys=True)
