"""What a decided rehearsal comes to, in the words that owners and readers of reports get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rehearsal.checks.base import Inconclusive, Report


@dataclass(frozen=True)
class Outcome:
    """A rehearsal by schema 1, as far as the sign-off speaks of it."""

    told: dict[str, Any]

    @classmethod
    def of(cls, report: Report) -> Outcome:
        """The outcome of the rehearsal in hand; raises Inconclusive before the decision."""
        told = report.exports().told
        if not told["decision"]:
            raise Inconclusive("Nobody has decided yet: decide go or no-go, then run this again.")
        return cls(told)

    @property
    def number(self) -> int:
        return int(self.told["rehearsal"])

    @property
    def revision(self) -> str:
        return str(self.told["revision"]) or "an unknown revision"

    @property
    def is_go(self) -> bool:
        return bool(self.told["decision"]["choice"] == "go")

    @property
    def decided(self) -> str:
        """Who decided what, in words."""
        decision = self.told["decision"]
        return f"{decision['choice']} by {', '.join(decision['by'])}"

    @property
    def reasons(self) -> list[str]:
        return [f"{vote['by']} ({vote['choice']}): {vote['reason']}"
                for vote in self.told["decision"]["votes"]]  # fmt: skip

    @property
    def items(self) -> Iterator[dict[str, Any]]:
        return (item for section in self.told["sections"] for item in section["items"])

    @property
    def settled(self) -> list[dict[str, Any]]:
        """What came of the lines so far: those of the sign-off that come later are not there."""
        open_ = {"pending", "queued", "running"}
        return [item for item in self.items if item["status"] not in open_]

    @property
    def waived(self) -> list[dict[str, Any]]:
        return [item for item in self.items if item["waiver"]]

    @property
    def not_passed(self) -> list[dict[str, Any]]:
        """What speaks against green: failed or inconclusive, and not waived."""
        bad = {"failed", "inconclusive"}
        return [item for item in self.items if item["status"] in bad and not item["waiver"]]

    @property
    def regressions(self) -> list[str]:
        """What the checks recorded as a regression, each with its line's reference."""
        return [
            f"{item['ref']} {key}: {one}"
            for item in self.items
            for key, value in item["evidence"].items()
            if "regression" in key.lower()
            for one in (value if isinstance(value, list) else [value])
        ]

    @property
    def colour(self) -> str:
        """`green`, never without saying what was waived; else `not green`."""
        if not self.is_go:
            return "not green"
        many = len(self.waived)
        return f"green, with {many} line{'s' * (many != 1)} waived" if many else "green"
