"""Two rehearsals side by side, line by line."""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.models import Measurement
from rehearsal.page import Overview, Row
from rehearsal.wording import SETTLED, folded, measured


@dataclass(frozen=True)
class Measured:
    """A series that at least one of the two recorded."""

    name: str
    before: Measurement | None
    after: Measurement | None

    @property
    def both(self) -> tuple[str, str]:
        """The two numbers as they are read; empty where there is none."""
        before, after = (
            measured(one.value, one.unit) if one else "" for one in (self.before, self.after)
        )
        return before, after

    @property
    def differs(self) -> bool:
        """Whether the two are not the same number, or one of them is missing."""
        before, after = self.both
        return before != after

    @property
    def change(self) -> str:
        """By how much it grew, in per cent; empty where that says nothing."""
        if not (self.before and self.after and self.before.value):
            return ""
        if self.before.unit != self.after.unit or self.before.value == self.after.value:
            return ""
        return f"{100 * (self.after.value - self.before.value) / abs(self.before.value):+.1f} %"


@dataclass(frozen=True)
class Pair:
    """One line of the checklist in both; None where one of them lacks it."""

    before: Row | None
    after: Row | None

    @property
    def both(self) -> tuple[Row | None, Row | None]:
        return self.before, self.after

    @property
    def row(self) -> Row:
        found = self.after or self.before
        assert found is not None  # one of both has it, or there would be no pair
        return found

    @property
    def differs(self) -> bool:
        """Whether the line ended in another way; what has not ended in both does not differ yet."""
        if any(row and row.sign not in SETTLED for row in self.both):
            return False
        return (self.before and self.before.sign) != (self.after and self.after.sign)

    @property
    def measured(self) -> list[Measured]:
        before = {one.name: one for one in self.before.measurements} if self.before else {}
        after = {one.name: one for one in self.after.measurements} if self.after else {}
        return [
            Measured(name, before.get(name), after.get(name))
            for name in dict.fromkeys([*before, *after])
        ]


def pairs(before: Overview, after: Overview) -> list[Pair]:
    """The lines of both in the order of the later document; the same words are the same line."""
    old, new = _rows(before), _rows(after)
    left = {folded(row.item.text): row for row in old}
    found = [Pair(left.pop(folded(row.item.text), None), row) for row in new]
    by_ref = {row.item.ref: row for row in left.values()}
    for place, pair in enumerate(found):
        if pair.before is None and (reworded := by_ref.pop(pair.row.item.ref, None)):
            found[place] = Pair(reworded, pair.after)
    return found + [Pair(row, None) for row in by_ref.values()]


def _rows(overview: Overview) -> list[Row]:
    return [row for one in overview.detailed(overview.rows) for row in one.rows]
