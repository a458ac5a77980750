"""Whether one side is slower: told from blocks of seconds, or said not to be known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from rehearsal.checks.performance.statistics import Change, compare

Blocks = list[list[float]]


def blocks(
    seed: int, factor: float = 1, noise: float = 0.05, count: int = 24
) -> tuple[Blocks, Blocks]:
    """Two sides of a machine that drifts to three times its pace; the second by `factor` slower."""
    chance = random.Random(seed)
    before, after = [], []
    for number in range(count):
        pace = 1 + 2 * number / count
        for side, times in ((before, 1.0), (after, factor)):
            side.append([0.004 * pace * times * chance.lognormvariate(0, noise) for _ in range(10)])
    return before, after


def test_the_same_code_is_not_called_worse_on_a_machine_that_drifts() -> None:
    found = [compare(*blocks(seed)).change for seed in range(200)]
    assert found.count(Change.WORSE) == 0
    assert found.count(Change.SAME) > 190


def test_a_fifth_more_is_found() -> None:
    found = [compare(*blocks(seed, 1.2)).change for seed in range(200)]
    assert found.count(Change.WORSE) >= 198
    assert compare(*blocks(1, 1 / 1.2)).change == Change.BETTER


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_few_samples_cannot_tell(count: int) -> None:
    assert compare(*blocks(1, 3, count=count)).change == Change.INCONCLUSIVE


def test_samples_that_scatter_cannot_tell() -> None:
    found = {compare(*blocks(seed, 1.1, noise=1.5)).change for seed in range(20)}
    assert Change.INCONCLUSIVE in found


@hypothesis(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1e3), max_size=3), max_size=20))
def test_any_samples_are_compared(samples: Blocks) -> None:
    found = compare(samples, samples)
    assert found.change in {Change.SAME, Change.INCONCLUSIVE}
