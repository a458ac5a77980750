"""What well-kept linters say of a plan's SQL: django-migration-linter and squawk, where installed.

They see the SQL alone. Where this database was asked how large the table is and what it would do,
their warning of a lock is a note; what they know besides is a flag.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rehearsal import command
from rehearsal.checks.base import Report
from rehearsal.checks.migrations.flags import Foreseen, Limits
from rehearsal.conf import redactor

SECONDS = 60
DECIDED_HERE = {
    *("CREATE_INDEX", "CREATE_INDEX_EXCLUSIVE", "DROP_INDEX", "REINDEX", "ALTER_COLUMN"),
    *("ADD_UNIQUE", "NOT_NULL"),
    *("adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field"),
    *("adding-serial-primary-key-field", "changing-column-type", "constraint-missing-not-valid"),
    *("disallowed-unique-constraint", "require-concurrent-index-creation"),
    *("require-concurrent-index-deletion", "require-concurrent-reindex"),
}
"""Rules about locks and defaults: their weight hangs on the table, which was looked at."""
BREAK = {
    *("RENAME_TABLE", "RENAME_COLUMN"),
    *("renaming-table", "renaming-column", "adding-required-field", "ban-set-schema"),
}
"""Rules about a release that still runs."""
DANGER = {
    *("ban-alter-system", "ban-drop-column", "ban-drop-database", "ban-drop-domain"),
    *("ban-drop-extension", "ban-drop-schema", "ban-drop-table", "ban-drop-type", "ban-drop-view"),
    *("ban-truncate-cascade", "ban-uncommitted-transaction", "transaction-nesting"),
    *(rule for rule in DECIDED_HERE | BREAK if rule.islower()),
}
"""squawk's rules about danger; its others are about style."""


@dataclass(frozen=True)
class Finding:
    """A rule that a linter sees broken by an operation."""

    linter: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.linter} {self.rule}: {self.message}"


def lint(report: Report, each: list[Foreseen], vendor: str, limits: Limits) -> None:
    """Add to the operations what the linters say of them; what ran is evidence."""
    ran = []
    for name, found in (("django-migration-linter", _django), ("squawk-cli", _squawk)):
        try:
            at = version(name)
        except PackageNotFoundError:
            continue
        ran.append(f"{name} {at}")
        try:
            for one, finding in found(report, each, vendor):
                _weigh(one, finding, limits)
        except LinterError as error:
            ran[-1] += f" (without an answer: {error})"
    report.evidence("linters", ran or "none installed: pip install 'rehearsal[migrations]'")


class LinterError(Exception):
    """A linter that could not be asked."""


def _weigh(one: Foreseen, finding: Finding, limits: Limits) -> None:
    known = one.flags or not one.touches  # flagged already, or about what the plan itself makes
    if known or finding.rule in DECIDED_HERE or (finding.rule in BREAK and limits.downtime):
        one.notes.append(str(finding))
    else:
        one.flags.append(str(finding))


def _made(each: list[Foreseen]) -> list[str]:
    """The plan's CREATE TABLE statements: linters let new tables pass where they see them made."""
    return [sql for one in each for sql in one.operation["sql"] if sql.startswith("CREATE TABLE")]


Findings = Iterator[tuple[Foreseen, Finding]]


def _django(report: Report, each: list[Foreseen], vendor: str) -> Findings:
    try:
        from django_migration_linter.sql_analyser.analyser import (
            analyse_sql_statements,
            get_sql_analyser_class,
        )

        analyser = get_sql_analyser_class(vendor)
    except (ImportError, ValueError) as error:
        raise LinterError(str(error)) from None
    made = _made(each)
    for one in each:
        rest = [sql for sql in one.operation["sql"] if sql not in made]
        errors, _, warnings = analyse_sql_statements(analyser, [*made, *rest])
        for issue in (*errors, *warnings) if rest else ():
            yield one, Finding("django-migration-linter", issue.code, issue.message)


def _squawk(report: Report, each: list[Foreseen], vendor: str) -> Findings:
    if vendor != "postgresql":
        raise LinterError("it reads PostgreSQL's SQL alone")
    beside = str(Path(sys.executable).parent)
    folders = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    if (program := shutil.which("squawk", path=folders)) is None:
        raise LinterError("its program is not on PATH")
    made = [f"{' '.join(sql.split())};" for sql in _made(each)]
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        files = {}
        for number, one in enumerate(each):
            # A line each, so that a line's number tells which were made before.
            rest = [f"{' '.join(sql.split())};" for sql in one.operation["sql"]]
            if rest := [sql for sql in rest if sql not in made]:
                name = f"{number:05}.sql"
                (Path(folder) / name).write_text("\n".join([*made, *rest, ""]))
                files[name] = one
        if not files:
            return
        said: list[str] = []
        finished = command.run(
            [program, "--reporter", "json", "--no-error-on-unmatched-pattern", "*.sql"],
            cwd=Path(folder),
            env={"PATH": folders, "HOME": folder},
            timeout=SECONDS,
            write=said.append,
            stop=report.stop,
            redactor=redactor(),
        )
        try:
            found = json.loads("\n".join(line for line in said if line.startswith("[")))
        except ValueError:
            raise LinterError(f"it ended with {finished.code} and no list") from None
    for finding in found:
        if finding["rule_name"] in DANGER and finding["line"] >= len(made):
            message = " ".join(finding["message"].split())
            one = files[Path(finding["file"]).name]
            yield one, Finding("squawk", finding["rule_name"], message)
