"""Whether one side is slower than the other, or whether the samples cannot tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

LEAST_BLOCKS = 8
"""With fewer, no order of the blocks is so rare that it could not be chance."""
CONFIDENCE = 0.99
WORSE = 1.08
"""The least change of processor time that counts."""
NOISE = 1.03
"""What the lower end of the range must be beyond: less than that is no change, however sure."""
SAME = 1.15
"""A range that stays within this, up and down, is the same."""
WORSE_ELAPSED, NOISE_ELAPSED = 1.5, 1.25
"""The same for elapsed time, which also waits for the database, and for whoever is busy."""


class Change(StrEnum):
    """What became of a page."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Times:
    """The change of a time: the median of the blocks' ratios, and the range it lies in."""

    change: Change
    ratio: float
    low: float
    high: float
    blocks: int

    def __str__(self) -> str:
        return f"× {self.ratio:.2f} ({self.low:.2f} to {self.high:.2f}, {self.blocks} blocks)"


def compare(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    *,
    worse: float = WORSE,
    noise: float = NOISE,
) -> Times:
    """Compare blocks of seconds that were taken in turns: the first of both, the second, and on.

    Each pair of blocks stands next to each other in time, so that what slows the machine slows
    both; their ratio is what is looked at, and its median, with a range from the order of the
    ratios alone: no distribution is assumed.
    """
    ratios = sorted(
        median(second) / median(first)
        for first, second in zip(before, after, strict=True)
        if first and second and median(first) > 0
    )
    if len(ratios) < LEAST_BLOCKS:
        return Times(Change.INCONCLUSIVE, median(ratios) if ratios else 1.0, 0.0, math.inf,
                     len(ratios))  # fmt: skip
    ratio = median(ratios)
    rank = _rank(len(ratios))
    low, high = ratios[rank], ratios[-1 - rank]
    change = Change.INCONCLUSIVE
    if low > noise and ratio >= worse:
        change = Change.WORSE
    elif high < 1 / noise and ratio <= 1 / worse:
        change = Change.BETTER
    elif low > 1 / SAME and high < SAME:
        change = Change.SAME
    return Times(change, ratio, low, high, len(ratios))


def compare_elapsed(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Times:
    """The same for elapsed time, where only what is large can be told from chance."""
    return compare(before, after, worse=WORSE_ELAPSED, noise=NOISE_ELAPSED)


def _rank(count: int) -> int:
    """How many of the sorted ratios lie outside of each end of the median's range."""
    outside, rank, chance = (1 - CONFIDENCE) / 2, -1, 0.0
    for k in range(count):
        chance += math.comb(count, k) / 2**count
        if chance > outside:
            break
        rank = k
    return max(rank, 0)
