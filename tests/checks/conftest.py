"""What tests of checks need: a project to run pytest in, and a name on the tests' PostgreSQL."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from demo import servers
from rehearsal.checks.base import Outcome, Report
from rehearsal.checks.smoke import Pytest
from tests.checks.projects import QUICK, Result, Run, make_report, started_with


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Write a project's files, run the check for a command in it."""
    started_with(monkeypatch)

    def run(
        command: str,
        files: dict[str, str],
        *,
        python: str = "",
        report: Report | None = None,
        **setting: Any,
    ) -> Result:
        for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
            if name == "pytest.ini":
                begin, _, rest = text.partition("addopts = ")
                text = f"{begin}addopts = {QUICK} {rest}" if rest else f"{text}addopts = {QUICK}\n"
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        report = report or make_report(f"`{command}` (a smoke test).")
        setting |= {"ROOT": tmp_path, "PYTHON": python or sys.executable}
        with override_settings(REHEARSAL={"POSTGRESQL_BIN": servers.binaries(), **setting}):
            try:
                Pytest().run(report)
            except Outcome as outcome:
                return Result(report, outcome)
        return Result(report, None)

    return run


@pytest.fixture
def server(transactional_db: None) -> Iterator[str]:
    """A database name of this test's own, on the tests' PostgreSQL server."""
    from django.db import connection

    if connection.vendor != "postgresql":
        pytest.skip("the tests run on SQLite")
    name = f"site{uuid.uuid4().hex[:8]}"
    yield name
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"%{name}%"])
        for (left,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{left}"')
