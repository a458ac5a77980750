"""Ratios of one run, as a benchmark's last line tells them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def spread(name: str, ratios: Sequence[float]) -> dict[str, float]:
    """The median of ratios by that name, and the lowest and highest of them beside it."""
    return {
        name: round(median(ratios), 3),
        f"{name}_lowest": round(min(ratios), 3),
        f"{name}_highest": round(max(ratios), 3),
    }
