"""The variables that tests are given: chosen, and written down by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

from django.db import connections

from rehearsal.checks.base import Report
from rehearsal.conf import configuration
from rehearsal.databases.snapshots import clients

SETTINGS = "DJANGO_SETTINGS_MODULE"
DROPPED = {
    "OLDPWD", "PWD", "SHLVL", "_",  # of a shell and its folder
    "DJANGO_AUTO_RELOAD", "RUN_MAIN",  # of a development server
    "CELERY_LOADER", "FORKED_BY_MULTIPROCESSING",  # of a worker
    "COVERAGE_PROCESS_START", "TOX_PARALLEL_ENV",  # of another test run
    "PYTHONOPTIMIZE",  # takes asserts away
}  # fmt: skip
DROPPED_PREFIXES = ("PYTEST_", "REHEARSAL_PYTEST_", "CELERY_LOG_", "_MP_FORK_")
"""What would add to the line's command, or speaks to a process that pytest is not."""


def environment(report: Report, private: Path, token: str) -> dict[str, str]:
    """What the process of pytest gets; noted as evidence by names, never by values.

    It is what somebody would have who typed the command where the worker was started, without what
    speaks to other processes, and with what REHEARSAL['TEST_ENVIRONMENT'] sets or, by None, takes
    out. The worker's settings module counts only where neither the line nor pytest's configuration
    names one.
    """
    here = configuration()
    chosen = here.test_environment
    started = as_started()
    settings = started.pop(SETTINGS, "")
    given = {
        name: value
        for name, value in {**started, **chosen}.items()
        if value is not None and name not in DROPPED and not name.startswith(DROPPED_PREFIXES)
    }
    report.evidence("environment", sorted(given))
    if chosen:
        said = [
            f"{name} {'set' if value is not None else 'taken out'}"
            for name, value in chosen.items()
        ]
        report.evidence("environment chosen", sorted(said))
    path = [str(private), *filter(None, [given.get("PYTHONPATH")])]
    return {
        **given,
        "PYTHONPATH": os.pathsep.join(path),
        "REHEARSAL_PYTEST_PROGRESS": str(private / "progress"),
        "REHEARSAL_PYTEST_TOKEN": token,
        "REHEARSAL_PYTEST_SETTINGS": "" if SETTINGS in chosen else settings,
        "REHEARSAL_PYTEST_TEST_DATABASE": here.test_database,
        "REHEARSAL_PYTEST_REAL_DATABASES": json.dumps(real_databases()),
        "REHEARSAL_PYTEST_POSTGRESQL_BIN": newest_clients()
        if here.test_database == "schema"
        else "",
    }


def real_databases() -> list[str]:
    """The names of the databases that this environment lives on."""
    return sorted({str(one.settings_dict["NAME"]) for one in connections.all()})


def newest_clients() -> str:
    """The folder of the newest PostgreSQL clients: an older pg_dump refuses a newer server."""
    newest = max(clients.candidates("pg_dump"), key=clients.version, default=None)
    return str(newest.parent) if newest else ""


def as_started() -> dict[str, str]:
    """The variables this process was started with, without what its code has set since.

    A project's celery.py, its settings and Celery itself all set some. Where the system does not
    tell, they cannot be told apart.
    """
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    entries = (entry.partition("=") for entry in os.fsdecode(raw).split("\0"))
    found = {name: value for name, equals, value in entries if name and equals}
    # Libraries that show a title for their process write it over these.
    return found if found.get("PATH", "") == os.environ.get("PATH") else dict(os.environ)
