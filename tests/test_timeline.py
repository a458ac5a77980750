"""The timeline: nothing outside it, nothing invisible, the longest kept."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from rehearsal.models import CheckItem, Section, Status
from rehearsal.timeline import MOST, WIDTH, timeline

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


def item(pk: int, queued: float, waited: float, took: float) -> CheckItem:
    return CheckItem(
        pk=pk,
        section=Section(number=1),
        number=pk,
        status=Status.PASSED,
        queued_at=at(queued),
        started_at=at(queued + waited),
        finished_at=at(queued + waited + took),
    )


def test_what_runs_ends_now_and_what_did_not_run_is_not_there() -> None:
    running, pending = item(1, 0, 10, 0), CheckItem(pk=2, status=Status.PENDING)
    running.status, running.finished_at = Status.RUNNING, None
    found = timeline([running, pending, item(3, 0, 0, 20)], at(40))
    assert [(bar.item.pk, bar.queued, bar.start, bar.width) for bar in found.bars] == [
        (1, 0, 250, 750), (3, 0, 0, 500)
    ]  # fmt: skip
    assert (found.duration, found.left_out) == ("40 s", 0)
    assert timeline([pending], at(1)).bars == ()


SECONDS = st.floats(0, 1e6)


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), min_size=1, max_size=MOST + 20))
def test_bars_are_seen_whole_and_the_longest_are_kept(times: list[tuple[float, ...]]) -> None:
    items = [item(number, *one) for number, one in enumerate(times)]
    found = timeline(items, at(0))
    assert len(found.bars) + found.left_out == len(items)
    assert len(found.bars) == min(MOST, len(items))
    for bar in found.bars:
        assert bar.queued >= 0 and bar.waited >= 0 and bar.width > 0
        assert bar.start + bar.width <= WIDTH + 2
    shown = {bar.item.pk for bar in found.bars}
    out = [one.seconds or 0 for one in items if one.pk not in shown]
    assert max(out, default=0) <= min(bar.seconds for bar in found.bars) + 1e-6
