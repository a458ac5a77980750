"""Nothing left over: no migration unapplied, no model changed without one."""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.checks.base import Check, Failed, Report
from rehearsal.checks.migrations.state import count, state


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
            wrong.append(f"{count(unapplied)} pending, first {unapplied[0]}: run `migrate`.")
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
