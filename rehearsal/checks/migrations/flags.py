"""Which operations of a plan somebody has to look at, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rehearsal.databases.foreseen.statements import BREAKS, CODE, LOSES, UNKNOWN

BY_KIND = {
    "DeleteModel": (LOSES, "drops the table with its rows"),
    "RemoveField": (LOSES, "drops the column with its values"),
    "RenameModel": (BREAKS, "renames the table"),
    "RenameField": (BREAKS, "renames the column"),
    "AlterModelTable": (BREAKS, "renames the table"),
}
"""What Django's own operations do, where the SQL does not tell: on other databases than PostgreSQL,
and where it cannot be known."""


@dataclass
class Foreseen:
    """One operation of the plan, with what was found."""

    migration: str
    operation: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    flags: list[str] = field(default_factory=list)
    """Why somebody has to look at it."""
    notes: list[str] = field(default_factory=list)
    """What a linter says that is known here already, or that does not hold here."""

    @property
    def name(self) -> str:
        return f"{self.migration}: {self.operation['is']}"

    @property
    def touches(self) -> list[dict[str, Any]]:
        """What it does to tables that are there; those that the plan makes are nobody's yet."""
        return [
            touch
            for touch in self.operation["touches"]
            if touch["table"] in self.tables or not touch["table"]
        ]

    def sized(self, table: str) -> str:
        return f"{table} ({size(self.tables[table])})" if table in self.tables else table

    def said(self) -> list[str]:
        """What it does to each table, in words."""
        found = []
        for touch in self.touches:
            text = f"{self.sized(touch['table'])} {touch['does']}".strip()
            if touch["blocks"]:
                lasts = "as long as that lasts" if touch["grows"] else "for a moment"
                text += f": {touch['mode']}, {touch['blocks']} wait {lasts}"
            if touch["rewrites"]:
                text += ", and the table is written anew"
            found.append(text)
        return found


@dataclass(frozen=True)
class Limits:
    """From where on somebody has to look."""

    large_rows: int
    downtime: bool
    """Whether no other release runs meanwhile."""


def of_plan(found: dict[str, Any], limits: Limits) -> list[Foreseen]:
    """Every operation of a database's plan with its flags."""
    each = []
    for migration in found["migrations"]:
        own = [
            Foreseen(migration["name"], operation, found["tables"])
            for operation in migration["operations"]
        ]
        for one in own:
            one.flags += _flags(one, limits)
        does = [one for one in own if one.operation["sql"] or one.operation["code"]]
        if not migration["atomic"] and len(does) > 1:
            for one in does:
                one.flags.append(
                    f"is one of {len(does)} operations that are no transaction: what fails between "
                    "them stays half done"
                )
        each += own
    return each


def _flags(one: Foreseen, limits: Limits) -> Iterator[str]:
    operation = one.operation
    if not operation["reversible"]:
        yield "cannot be taken back"
    if not operation["read"]:
        for kind, (danger, does) in BY_KIND.items():
            if kind in operation["kind"] and (danger == LOSES or not limits.downtime):
                yield does
    for touch in one.touches:
        rows = one.tables.get(touch["table"], {}).get("rows", 0)
        danger = touch["danger"]
        large = touch["grows"] and rows >= limits.large_rows
        if (
            large
            or danger == UNKNOWN
            or (danger == LOSES and (rows or not limits.downtime))
            or (danger == BREAKS and not limits.downtime)
        ):
            anew = ", is written anew" if touch["rewrites"] else ""
            waits = f", {touch['blocks']} wait" if large and touch["blocks"] else ""
            yield f"{one.sized(touch['table'])} {touch['does']}{anew}{waits}".strip()


def unforeseen(each: list[Foreseen]) -> list[str]:
    """The operations whose doing only shows when they are run."""
    return [
        one.name
        for one in each
        if one.operation["code"]
        or one.operation["unknown"]
        or any(touch["danger"] == CODE for touch in one.touches)
    ]


def size(table: dict[str, Any]) -> str:
    rows = f"{'' if table['exact'] else 'about '}{table['rows']:,} rows"
    return f"{rows}, {table['bytes'] / 1e6:.1f} MB" if table["bytes"] else rows
