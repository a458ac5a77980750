"""How code and databases stand to each other, as the project's own manage.py says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS

from rehearsal.checks.base import Failed, Inconclusive, Report
from rehearsal.checks.commands import ASK_SECONDS, ask, prove_databases


@dataclass(frozen=True)
class State:
    """How code and databases stand to each other; see `rehearsal.databases.migrations`."""

    identities: dict[str, dict[str, str]]
    databases: dict[str, dict[str, Any]]
    conflicts: dict[str, list[str]]
    changes: list[str]
    foreseen: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the unapplied migrations will do, by alias; see `rehearsal.databases.foreseen`."""

    def known(self) -> int:
        return sum(len(one.get("known", ())) for one in self.databases.values())

    def named(self, key: str) -> list[str]:
        """All migrations under `key`, each with its alias unless that is the default one."""
        return [
            name if alias == DEFAULT_DB_ALIAS else f"{name} ({alias})"
            for alias, found in self.databases.items()
            for name in found.get(key, ())
        ]

    def of(self, alias: str, key: str) -> list[str]:
        return cast(list[str], self.databases.get(alias, {}).get(key, []))

    def lacks(self) -> str:
        """What the database has not though every migration is recorded as applied, as a sentence."""
        absent = self.named("absent")
        # A model that changed without a migration is another matter.
        if not absent or self.changes:
            return ""
        shown = f"{', '.join(absent[:5])}{f' and {len(absent) - 5} more' if absent[5:] else ''}"
        return (
            f"Every migration is recorded as applied, and the database lacks {shown}: one of them "
            "was only recorded, or changes the state alone. Restore the database, and correct it."
        )

    def wrong(self) -> list[str]:
        """What no `migrate` would put right, a sentence each."""
        found = [
            f"{app} has several last migrations, {' and '.join(names)}: "
            "merge them with `makemigrations --merge`."
            for app, names in self.conflicts.items()
        ]
        for alias, one in self.databases.items():
            if "error" in one:
                found.append(f"The migrations recorded in {alias} cannot be read: {one['error']}.")
            if one.get("inconsistent"):
                found.append(f"In {alias}: {one['inconsistent']}")
        if unmigrated := self.named("unmigrated"):
            found.append(
                f"Installed, with models and without migrations: {', '.join(unmigrated)}. Put the "
                "app's migrations package back, __init__.py included, run `makemigrations` for "
                "it, or take it out of MIGRATION_MODULES."
            )
        if lacks := self.lacks():
            found.append(lacks)
        if missing := self.named("missing"):
            found.append(
                f"Recorded as applied but absent in the code: {', '.join(missing)}. Deploy the "
                "code that has them, or take the records away with `migrate --prune`."
            )
        return found


def state(report: Report, arguments: Sequence[str] = (), *, foresee: bool = False) -> State:
    """Ask the project's manage.py, and prove that it works on this environment's databases."""
    question = ["rehearsal_migrations", *(["--foresee"] if foresee else [])]
    # The models of large projects take minutes to be made anew for each operation.
    answer = ask(report, question, arguments, timeout=(2 if foresee else 1) * ASK_SECONDS)
    if broken := answer.pop("broken", ""):
        raise Failed(
            f"The project's migrations cannot be loaded: {broken}. Put back what is missing, or "
            "correct what the migration names."
        )
    try:
        found = State(**answer)
    except TypeError:
        raise Failed(
            f"manage.py {question[0]} answered with {', '.join(sorted(answer))}, and "
            f"{', '.join(one.name for one in fields(State))} were expected: let the project's "
            "manage.py have the same release of rehearsal as this worker."
        ) from None
    prove_databases(report, found.identities)
    if found.known() == 0:
        raise Inconclusive(
            "The project has no migrations at all, so nothing was looked at; "
            "see that INSTALLED_APPS holds its apps."
        )
    if left := found.named("left"):
        report.evidence("recorded for apps that are gone", left)
    return found


def count(names: Sequence[str]) -> str:
    return f"{len(names)} migration{'' if len(names) == 1 else 's'}"
