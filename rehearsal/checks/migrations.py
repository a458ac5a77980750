"""Section 2, the migration dry run: what would be applied, applying it, and nothing left over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.core.management import CommandError, get_commands, load_command_class
from django.db import DEFAULT_DB_ALIAS

from rehearsal.checks.base import Check, Failed, Inconclusive, Outcome, Report
from rehearsal.checks.commands import ASK_SECONDS, Ran, ask, manage, prove_databases, words
from rehearsal.command import Ending
from rehearsal.databases import describe

APPLYING = re.compile(r"\s*Applying (?P<name>[\w.]+)\.\.\.(?P<end> OK| FAKED)?")


@dataclass(frozen=True)
class State:
    """How code and databases stand to each other; see `rehearsal.databases.migrations`."""

    identities: dict[str, dict[str, str]]
    databases: dict[str, dict[str, Any]]
    conflicts: dict[str, list[str]]
    changes: list[str]

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
        if missing := self.named("missing"):
            found.append(
                f"Recorded as applied but absent in the code: {', '.join(missing)}. Deploy the "
                "code that has them, or take the records away with `migrate --prune`."
            )
        return found


def state(report: Report, arguments: Sequence[str] = ()) -> State:
    """Ask the project's manage.py, and prove that it works on this environment's databases."""
    found = State(**ask(report, "rehearsal_migrations", arguments))
    prove_databases(report, found.identities)
    if found.known() == 0:
        raise Inconclusive(
            "The project has no migrations at all, so nothing was looked at; "
            "see that INSTALLED_APPS holds its apps."
        )
    if left := found.named("left"):
        report.evidence("recorded for apps that are gone", left)
    return found


@dataclass(frozen=True)
class Plan(Check):
    """The line's `showmigrations` goes to the output; what it means is read from the loader."""

    timeout = 600
    needs = ("rehearsal.checks.environment.Restore",)
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        arguments = words(report.line, "showmigrations", "migrate")
        if arguments[0] == "migrate" and not {"--plan", "--check"} & set(arguments):
            raise Failed("The line would migrate; write `python manage.py showmigrations --plan`.")
        report.progress("Reading the migrations of code and databases.")
        found = state(report, arguments)
        unapplied, changes = found.named("unapplied"), found.changes
        report.measure("migrations.known", found.known(), "migrations")
        report.measure("migrations.unapplied", len(unapplied), "migrations")
        report.measure("migrations.model_changes", len(changes), "changes")
        report.evidence("unapplied, in their order", unapplied)
        if changes:
            report.evidence("model changes without a migration", changes)
        ran = manage(report, arguments, timeout=self.timeout - ASK_SECONDS - 60)
        if ran.code != 0 and "--check" not in arguments:
            raise Failed(f"manage.py {arguments[0]} {ran.ending()}. Correct what it says.")
        if wrong := found.wrong():
            raise Failed(" ".join(wrong))
        will = f"{_count(unapplied)} to apply" if unapplied else "nothing to apply"
        drift = f"; model changes without a migration: {len(changes)}" if changes else ""
        report.progress(f"{found.known()} migrations known, {will}{drift}.")


@dataclass(frozen=True)
class Apply(Check):
    """The line's `migrate` is run, and what the database then records as applied is compared."""

    timeout = 3600
    # Itself as well: of two such lines, the second waits for the first.
    needs = ("rehearsal.checks.migrations.Plan", "rehearsal.checks.migrations.Apply")

    def run(self, report: Report) -> None:
        arguments = words(report.line, "migrate")
        alias = _alias(arguments)
        report.progress("Reading the migrations of code and databases.")
        before = state(report, arguments)
        if alias not in before.databases:
            raise Failed(f"Nothing is migrated in the alias {alias!r}; name another in the line.")
        planned = before.of(alias, "unapplied")
        report.progress(f"{_count(planned)} to apply in {describe(before.identities[alias])}.")
        heard = _Heard(report, planned)
        limit = self.timeout - 2 * ASK_SECONDS - 60
        ran = manage(report, [*arguments, "--no-input"], timeout=limit, hear=heard)
        if ran.finished.ending is Ending.STOPPED:
            raise Inconclusive(f"manage.py migrate {ran.ending()}; see what is applied by now.")
        try:
            after = state(report, arguments)
        except Outcome as outcome:
            raise Failed(f"migrate {ran.ending()}. What is applied is unknown: {outcome}") from None
        _judge(report, alias, before, after, ran, heard)


def _judge(
    report: Report, alias: str, before: State, after: State, ran: Ran, heard: _Heard
) -> None:
    planned, applied = before.of(alias, "unapplied"), set(after.of(alias, "applied"))
    done = [name for name in planned if name in applied and name not in heard.faked]
    rest = [name for name in planned if name not in applied]
    undone = [name for name in before.of(alias, "applied") if name not in applied]
    report.evidence("applied", done)
    report.evidence("unapplied", rest)
    report.measure("migrations.applied", len(done), "migrations")
    where = describe(after.identities[alias])
    if ran.code != 0:
        at = f" at {heard.running}" if heard.running in rest else ""
        raise Failed(
            f"migrate failed{at}, after {len(done)} of {_count(planned)}: it {ran.ending()}. "
            "Correct the migration; the database may need to be restored first."
        )
    if undone:
        raise Failed(f"migrate took back {', '.join(undone)} in {where}; correct the line.")
    if heard.faked:
        raise Failed(
            f"Recorded as applied without being run: {', '.join(heard.faked)}. "
            "Restore the database, and take the faking out of the line."
        )
    if rest:
        raise Inconclusive(
            f"migrate ended with exit code 0 and left {_count(rest)} unapplied, first {rest[0]}; "
            "let the line say `python manage.py migrate`."
        )
    if not planned:
        if (count := len(after.of(alias, "known"))) == 0:
            raise Inconclusive(
                f"No migration belongs in {where}, so nothing was applied and nothing looked at; "
                "see that the project's apps have their migrations, or name another alias."
            )
        report.progress(f"Nothing was there to apply: all {count} are recorded in {where}.")
        return
    report.measure("migrations.seconds", ran.finished.seconds, "seconds")
    report.progress(f"{_count(done)} applied to {where} in {ran.finished.seconds:.1f} s.")


class _Heard:
    """Follows migrate's own lines: how far it has come, and what it only recorded."""

    def __init__(self, report: Report, planned: list[str]) -> None:
        self.report = report
        self.planned = planned
        self.done = 0
        self.running = ""
        """The migration that was begun and not ended."""
        self.faked: list[str] = []

    def __call__(self, line: str) -> None:
        if (found := APPLYING.match(line)) is None:
            return
        name, end = found["name"], found["end"]
        if end == " FAKED" and name in self.planned:
            self.faked.append(name)
        self.running = "" if end else name
        if end and name in self.planned:
            # Django also runs through the apps that belong in another database.
            self.done += 1
            self.report.progress(f"{self.done} of {len(self.planned)} applied, last {name}.")


def _alias(arguments: Sequence[str]) -> str:
    """The alias that a `migrate` line works on; raises Failed for a line that only records."""
    given = load_command_class(get_commands()["migrate"], "migrate")
    try:
        asked = given.create_parser("manage.py", "migrate").parse_args(list(arguments[1:]))
    except CommandError as error:
        raise Failed(f"The line's command cannot be read ({error}); correct the line.") from None
    if asked.fake or (asked.fake_initial and asked.verbosity < 1):
        raise Failed(
            "The line only records migrations as applied, without running them; nothing was done. "
            "Take --fake out of the line."
        )
    return str(asked.database)


@dataclass(frozen=True)
class NonePending(Check):
    """Every database has every migration that belongs there, and every model its migrations."""

    timeout = 300
    needs = ("rehearsal.checks.migrations.Apply",)
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        report.progress("Reading the migrations of code and databases.")
        found = state(report)
        unapplied, changes = found.named("unapplied"), found.changes
        report.measure("migrations.known", found.known(), "migrations")
        report.measure("migrations.unapplied", len(unapplied), "migrations")
        report.measure("migrations.model_changes", len(changes), "changes")
        for alias, one in found.databases.items():
            if one.get("known"):
                counts = f"{len(one['applied'])} of {len(one['known'])} applied"
                report.evidence(f"migrations in {alias}", counts)
        wrong = found.wrong()
        if unapplied:
            report.evidence("unapplied", unapplied)
            wrong.append(f"{_count(unapplied)} pending, first {unapplied[0]}: run `migrate`.")
        if changes:
            report.evidence("model changes without a migration", changes)
            wrong.append(
                f"Model changes without a migration: {'; '.join(changes)}. Run `makemigrations`."
            )
        if wrong:
            raise Failed(" ".join(wrong))
        report.progress(
            f"None of {found.known()} migrations is pending, and no model has changed without one."
        )


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} migration{'' if len(names) == 1 else 's'}"
