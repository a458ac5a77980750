"""What runs of pytest leave on a server: databases of dead runs, templates nobody needs."""

from __future__ import annotations

import glob
import json
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.checks.base import Report

TEMPLATE_DAYS = 7
"""A template that no run has cloned for so long is dropped."""
TEMPLATES_KEPT = 3
"""Of one project's templates, only those that were used last are kept."""


def drop_left_over(
    databases: list[dict[str, str]], token: str, lifetime: float, report: Report
) -> None:
    """Drop the test databases that this run left, and those of runs begun `lifetime` seconds ago.

    pytest drops them itself unless it was killed or told to keep them. Only names that carry our
    token are touched; whatever cannot be dropped is said in the output. Templates go by the rule of
    TEMPLATE_DAYS and TEMPLATES_KEPT.
    """
    servers = {(one["host"], one["port"]) for one in databases if one["vendor"] == "postgresql"}
    for host, port in servers:
        here = [
            one
            for one in connections.all()
            if one.vendor == "postgresql"
            and (str(one.settings_dict["HOST"] or ""), str(one.settings_dict["PORT"] or ""))
            == (host, port)
        ]
        if not here:
            report.write(
                f"No connection here leads to {host}:{port}: a test database whose name ends in "
                f"{token} may be left there; drop it."
            )
            continue
        own = here[0].copy()
        own.settings_dict["OPTIONS"] = {**own.settings_dict["OPTIONS"], "connect_timeout": 5}
        try:
            _drop_from_server(own, token, lifetime, report)
        except DatabaseError as error:
            report.write(f"Test databases named like *{token} may be left: {error}; drop them.")
    for one in databases:
        if one["vendor"] == "sqlite" and token in one["name"]:
            path = Path(one["name"])  # with it go its journal and what pytest-xdist appended
            for left in path.parent.glob(f"{glob.escape(path.name)}*"):
                left.unlink(missing_ok=True)


def _drop_from_server(
    own: BaseDatabaseWrapper, token: str, lifetime: float, report: Report
) -> None:
    with own._nodb_cursor() as cursor:
        cursor.execute("SET statement_timeout = '20s'")
        cursor.execute(
            "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '')"
            " FROM pg_database WHERE datname LIKE 'test%%'"
            " AND pg_has_role(datdba, 'USAGE')"
        )
        there: list[tuple[str, str]] = cursor.fetchall()
        left = [name for name, _ in there if _is_left_over(name, token, lifetime)]
        for name in left:
            cursor.execute(f"DROP DATABASE IF EXISTS {own.ops.quote_name(name)} WITH (FORCE)")
            report.write(f"The test database {name} was left over and is dropped.")
        for name in unneeded_templates(there, time.time()):
            # Without force: whoever is cloning it may end first, and a later run drops it.
            with suppress(DatabaseError):
                cursor.execute(f"DROP DATABASE IF EXISTS {own.ops.quote_name(name)}")
                report.write(f"The template {name} is no longer used and is dropped.")


def _is_left_over(name: str, token: str, lifetime: float) -> bool:
    if token in name:
        return True
    ours = re.fullmatch(r"test_.*_rehearsal_([0-9a-f]{8})[0-9a-f]{6}(_gw\d+)?", name)
    return ours is not None and time.time() - int(ours[1], 16) > lifetime


def unneeded_templates(databases: list[tuple[str, str]], now: float) -> list[str]:
    """Which of the databases, given by name and comment, are templates that may go."""
    families: dict[str, list[tuple[float, str]]] = {}
    for name, comment in databases:
        named = re.fullmatch(r"(test_.*_template)_[0-9a-f]{16}", name)
        if named and (facts := _note(comment)).get("rehearsal") == "template":
            used = facts.get("used")
            families.setdefault(named[1], []).append((used if isinstance(used, int) else 0, name))
    return [
        name
        for family in families.values()
        for place, (used, name) in enumerate(sorted(family, reverse=True))
        if place >= TEMPLATES_KEPT or now - used > TEMPLATE_DAYS * 86400
    ]


def _note(comment: str) -> dict[str, Any]:
    try:
        facts = json.loads(comment)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
