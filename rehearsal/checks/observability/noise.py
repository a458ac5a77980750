"""What people know of already, with a reason and a last day."""

from __future__ import annotations

from collections import Counter

from django.utils import timezone

from rehearsal.checks.base import Report
from rehearsal.conf import configuration
from rehearsal.observed import KnownNoise


class Noise:
    """Tells what is known from what is not, and remembers how often each was met."""

    def __init__(self) -> None:
        today = timezone.localdate()
        everything = configuration().known_noise
        self._valid = [one for one in everything if one.until >= today]
        self._expired = [one for one in everything if one.until < today]
        self.met: Counter[KnownNoise] = Counter()
        self.met_expired: Counter[KnownNoise] = Counter()

    def knows(self, text: str) -> bool:
        """Whether people named this, and its last day has not passed."""
        for one in self._valid:
            if one.match.search(text):
                self.met[one] += 1
                return True
        for one in self._expired:
            if one.match.search(text):
                self.met_expired[one] += 1
        return False

    def record(self, report: Report) -> None:
        if self.met:
            said = [f"{count} x {one.sentence}" for one, count in self.met.items()]
            report.evidence("known noise", said)
        if self.met_expired:
            report.evidence(
                "no longer accepted as known noise",
                [f"{count} x {one.sentence}" for one, count in self.met_expired.items()],
            )

    def __str__(self) -> str:
        total = sum(self.met.values())
        reasons = "; ".join(one.reason for one in self.met)
        return f"{total} known and accepted ({reasons})" if total else ""
