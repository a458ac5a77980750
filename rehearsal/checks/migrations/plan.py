"""What would be applied, and what it would do to the tables that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS

from rehearsal.checks.base import ActionRequired, Check, Failed, Inconclusive, Report
from rehearsal.checks.commands import ASK_SECONDS, manage, words
from rehearsal.checks.migrations import flags, linters
from rehearsal.checks.migrations.flags import Foreseen, Limits
from rehearsal.checks.migrations.state import State, count, state

STATEMENT = 2000
"""Characters of a statement that are shown."""


@dataclass(frozen=True)
class Plan(Check):
    """The line's `showmigrations` goes to the output; what it means is read from the loader.

    A dangerous operation is one that a person acknowledges by its name; without any, the line
    passes.
    """

    timeout = 900
    needs = ("rehearsal.checks.environment.Restore",)
    safe_to_repeat = True

    large_rows: int = 100_000
    """From how many rows on a table's lock counts, if it lasts longer the more rows there are."""
    downtime: bool = False
    """Whether the running release stands still meanwhile, so that nothing breaks it."""

    def run(self, report: Report) -> None:
        arguments = words(report.line, "showmigrations", "migrate")
        if arguments[0] == "migrate" and not {"--plan", "--check"} & set(arguments):
            raise Failed("The line would migrate; write `python manage.py showmigrations --plan`.")
        report.progress("Reading the migrations of code and databases.")
        found = state(report, arguments, foresee=True)
        unapplied, changes = found.named("unapplied"), found.changes
        report.measure("migrations.known", found.known(), "migrations")
        report.measure("migrations.unapplied", len(unapplied), "migrations")
        report.measure("migrations.model_changes", len(changes), "changes")
        report.evidence("unapplied, in their order", unapplied)
        if changes:
            report.evidence("model changes without a migration", changes)
        ran = manage(report, arguments, timeout=self.timeout - 2 * ASK_SECONDS - 60)
        if ran.code != 0 and "--check" not in arguments:
            raise Failed(f"manage.py {arguments[0]} {ran.ending()}. Correct what it says.")
        if wrong := found.wrong():
            raise Failed(" ".join(wrong))
        will = f"{count(unapplied)} to apply" if unapplied else "nothing to apply"
        drift = f"; model changes without a migration: {len(changes)}" if changes else ""
        report.progress(f"{found.known()} migrations known, {will}{drift}.")
        if each := self._foreseen(report, found):
            _tell(report, each)
            _judge(report, each)

    def _foreseen(self, report: Report, found: State) -> list[Foreseen]:
        """Every operation that would be run, with what speaks against running it unread."""
        limits = Limits(self.large_rows, self.downtime)
        each: list[Foreseen] = []
        for alias, plan in found.foreseen.items():
            where = "" if alias == DEFAULT_DB_ALIAS else f" in {alias}"
            if error := plan.get("error"):
                raise Inconclusive(
                    f"What the migrations would do{where} cannot be foreseen: {error}. Correct "
                    "the migration, or read its SQL by `sqlmigrate` and waive this line."
                )
            if plan["fresh"]:
                report.evidence(f"foreseen{where}", "nothing is applied yet: every table is new")
                continue
            own = flags.of_plan(plan, limits)
            linters.lint(report, own, found.identities[alias]["engine"], limits)
            each += own
        return each


def _tell(report: Report, each: Sequence[Foreseen]) -> None:
    """Write all that is known of each operation, and give the tables and verdicts as evidence."""
    tables: dict[str, str] = {}
    by_migration: dict[str, list[str]] = {}
    for one in each:
        back = "can be taken back" if one.operation["reversible"] else "CANNOT be taken back"
        report.write(f"\n-- {one.name} ({back})")
        for sql in one.operation["sql"]:
            report.write(f"{sql[:STATEMENT]}{' …' if len(sql) > STATEMENT else ''};")
        if one.operation["code"]:
            report.write("-- runs Python: what it does shows when it is run, in 2.2")
        if unknown := one.operation["unknown"]:
            report.write(f"-- its SQL cannot be known before it is run: {unknown}")
        for said in one.said():
            report.write(f"--   {said}")
        for flag in one.flags:
            report.write(f"--   FLAGGED: {flag}")
        for note in one.notes:
            report.write(f"--   linter: {note}")
        for touch in one.touches:
            if touch["table"]:
                tables[touch["table"]] = flags.size(one.tables[touch["table"]])
        does = one.said() or ["touches no table that is there"]
        by_migration.setdefault(one.migration, []).append(f"{one.operation['is']} – {', '.join(does)}")
    for name, said in by_migration.items():
        report.evidence(name, "; ".join(said))
    if tables:
        report.evidence("tables touched", [f"{name}: {said}" for name, said in tables.items()])


def _judge(report: Report, each: Sequence[Foreseen]) -> None:
    flagged = [one for one in each if one.flags]
    report.measure("migrations.flagged", len(flagged), "operations")
    if hidden := flags.unforeseen(each):
        report.evidence("what it does cannot be foreseen", hidden)
        report.progress(
            f"{report.said} {len(hidden)} of {len(each)} operations run code: what it does is seen "
            "when it is applied."
        )
    if flagged:
        raise ActionRequired(
            f"{report.said} {len(flagged)} of {len(each)} operations are dangerous, first "
            f"{flagged[0].name}: {flagged[0].flags[0]}. A person reads each and acknowledges it.",
            acknowledge=[f"{one.name} – {'; '.join(one.flags)}" for one in flagged],
        )
    if not hidden:
        report.progress(f"{report.said} None of {len(each)} operations is dangerous.")
