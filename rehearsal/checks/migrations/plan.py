"""What would be applied, and what it would do to the tables that are there."""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.checks.base import Check, Failed, Report
from rehearsal.checks.commands import ASK_SECONDS, manage, words
from rehearsal.checks.migrations.state import count, state


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
        will = f"{count(unapplied)} to apply" if unapplied else "nothing to apply"
        drift = f"; model changes without a migration: {len(changes)}" if changes else ""
        report.progress(f"{found.known()} migrations known, {will}{drift}.")
