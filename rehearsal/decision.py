"""What the page shows of a decision: what it is about, who said what, and whether it is intact."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rehearsal import sealing
from rehearsal.conf import configuration
from rehearsal.models import ACTIVE, Choice, Seal, Verdict, Vote
from rehearsal.page import Overview, Row
from rehearsal.sentences import translated


@dataclass
class Decision:
    """A rehearsal's decision, taken or to be taken."""

    overview: Overview
    asked: bool
    """Whether somebody can vote now."""
    can_go: bool = False
    outcomes: str = ""
    """The digest of what a vote is about, to be sent back with it."""
    votes: list[Vote] = field(default_factory=list)
    missing: int = 0
    """How many more people have to say go."""
    seal: Seal | None = None
    broken: list[str] = field(default_factory=list)
    """What speaks against the seal."""

    @classmethod
    def of(cls, overview: Overview) -> Decision:
        """The decision of a rehearsal as its page shows it."""
        rehearsal = overview.rehearsal
        if rehearsal.decision:
            return cls(
                overview,
                asked=False,
                votes=list(rehearsal.votes.all()),
                seal=rehearsal.seals.last(),
                broken=[translated(said) for said in sealing.broken(rehearsal)],
            )
        stands = overview.before_sign_off
        signs_off = any(row.item.sign_off for row in overview.rows)
        busy = any(row.item.status in ACTIVE for row in overview.rows)
        asked = (
            not (busy or rehearsal.cancelled_by or stands == Verdict.RUNNING)
            and (signs_off or stands == Verdict.GREEN)
        )  # fmt: skip
        if not asked:
            return cls(overview, asked=False)
        outcomes = sealing.outcomes(rehearsal)
        votes = list(rehearsal.votes.filter(outcomes_sha256=outcomes))
        goes = sum(vote.choice == Choice.GO for vote in votes)
        missing = max(0, configuration().quorum - goes)
        can_go = stands == Verdict.GREEN
        return cls(overview, True, can_go, outcomes, votes, missing)

    @property
    def choice(self) -> str:
        return self.overview.rehearsal.decision

    @property
    def waived(self) -> list[Row]:
        return [row for row in self.overview.rows if row.item.waived and not row.item.sign_off]

    @property
    def confirmed(self) -> list[Row]:
        return [
            row for row in self.overview.rows if row.sign == "confirmed" and not row.item.sign_off
        ]

    @property
    def by_others(self) -> bool:
        """Whether a go is for others to say than who started the rehearsal."""
        return not configuration().starter_may_decide

    @property
    def asks_ticket(self) -> bool:
        """Whether the release ticket has to be named by who decides."""
        return bool(re.search(r"\{ticket\}", configuration().ticket))
