"""The table of what is compared with peers, from what benchmarks answer; what chaos counts."""

from __future__ import annotations

import importlib.util
import re
from types import SimpleNamespace

import pytest

from benchmarks import _marks, chaos
from benchmarks import all as benchmarks
from rehearsal.models import CheckItem, Section
from tests import proof

HISTORY = {
    f"{name}{end}": value
    for name, values in {
        "list_growth": (3.0, 2.0, 4.0),
        "trend_growth": (10.5, 9.0, 11.0),
        "admin_list_growth": (12.0, 11.0, 13.0),
        **{f"{one}_over_limit": (0.1, 0.1, 0.2) for one in ("list", "trend")},
        "admin_list_over_limit": (1.2, 1.1, 1.3),
    }.items()
    for end, value in zip(("", "_lowest", "_highest"), values, strict=True)
}


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_a_row_says_whether_we_are_ahead_and_where_not_why() -> None:
    _, _, *told = rows(benchmarks.table("", {"history": HISTORY}, "now"))
    said = {row[1]: row[3:] for row in told}
    assert [re.match(r"\w+[.:]", row[6])[0] for row in told] == [
        *("ahead.", "level:", "behind:", "ahead.", "ahead.", "behind:"),
    ]
    reason = next(row for row in benchmarks.ROWS if row.key == "admin_list_over_limit")
    assert said[reason.what] == [
        *("1.20", "1.10 to 1.30", "1"),
        f"behind: {reason.behind}; the aim is missed. {reason.note[:1].upper()}{reason.note[1:]}.",
        "now",
    ]


def test_a_peer_that_cannot_be_had_is_in_the_table_with_the_reason() -> None:
    row = next(row for row in benchmarks.ROWS if row.key == "ours_over_prefect")
    answer = {row.key: None, f"{row.key}_missing": "prefect on Python 3.20: no such | version"}
    [told] = rows(benchmarks.line(row, answer, "now"))
    assert told[3:5] == ["–", "–"]
    assert told[6].startswith("not measured: prefect on Python 3.20: no such / version. ")


def test_rows_of_other_benchmarks_stay_as_they_were_measured() -> None:
    first = benchmarks.table("Not written yet.", {"history": HISTORY}, "then")
    live = {row.key: 0.5 for row in benchmarks.ROWS if row.benchmark == "live"}
    second = benchmarks.table(first, {"live": live}, "now")
    assert {(row[0], row[-1]) for row in rows(second)[2:]} == {("history", "then"), ("live", "now")}
    assert benchmarks.table(second, {"history": HISTORY}, "then") == second


def test_every_row_is_of_a_benchmark_and_the_page_has_a_place_for_them() -> None:
    for name in benchmarks.NAMES:
        assert importlib.util.find_spec(f"benchmarks.{name}")
    assert len({row.key for row in benchmarks.ROWS}) == len(benchmarks.ROWS)
    assert proof.read(benchmarks.PART)


def test_a_part_is_written_into_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "proof.md"
    page.write_text("a\n<!-- begin one -->\nold\n<!-- end one -->\nz\n")
    monkeypatch.setattr(proof, "PAGE", page)
    proof.write("one", "new\n\\1")
    assert proof.read("one") == "new\n\\1\n"
    assert page.read_text() == "a\n<!-- begin one -->\nnew\n\\1\n<!-- end one -->\nz\n"
    with pytest.raises(ValueError, match="one part 'two'"):
        proof.read("two")


def counted(
    log: list[str], *, check: str = "MarksSafely", again: int = 0, **stands: object
) -> list[int]:
    """What must be 0 of one line in its second attempt: doubled, repeated, wrongly green."""
    stands = {"status": "passed", "attempt": 2, **stands}
    path = f"benchmarks._marks.{check}"
    section = Section(number=1)
    item = CheckItem(
        rehearsal_id=7, section=section, number=1, text="Line 1.", check_path=path, **stands
    )
    marks = "".join(f"{what} 7 {attempt} 99 Line 1.\n" for what, attempt in map(str.split, log))
    found = chaos.compared(_marks.read(marks), [item], {"1.1": again}, green=False)
    return [found[name] for name in ("doubled", "unsafe repeated", "wrong greens")]


@pytest.mark.parametrize(
    ("log", "stands", "found"),
    [
        (["began 1", "began 2", "saw 2"], {}, [0, 0, 0]),
        (["began 2", "began 2", "saw 2"], {}, [1, 0, 0]),  # and the first never began
        (["began 1", "saw 1", "began 2"], {}, [0, 0, 1]),
        (["began 1", "saw 1", "began 2"], {"status": "failed"}, [0, 0, 0]),
        (["began 2", "saw 2"], {"options": {"well": False}}, [0, 0, 1]),
        (["began 1", "began 2", "saw 2"], {"check": "Marks"}, [0, 1, 0]),
        (["began 1", "began 2", "saw 2"], {"check": "Marks", "again": 1}, [0, 0, 0]),
    ],
)
def test_chaos_counts_each_attempt_by_itself(log, stands, found) -> None:  # type: ignore[no-untyped-def]
    assert counted(log, **stands) == found


def test_chaos_counts_no_fault_that_found_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = SimpleNamespace(children=list)  # and nothing that could be killed
    monkeypatch.setattr(chaos.Chaos, "worker", lambda self: starting)
    made = chaos.Chaos(seed=1)
    faults = made.kill_child, made.stop_and_continue, made.kill_group, made.kill_main
    assert not any(fault() for fault in faults)
