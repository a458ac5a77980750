"""What pytest and our plugin in it tell, and what neither would: it is never a pass."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal.checks.base import Failed, Inconclusive, Outcome
from rehearsal.checks.pytest_account import Seen, passed_in
from rehearsal.checks.smoke import _compare, _judge
from rehearsal.command import Ending, Finished
from tests.checks.projects import make_report
from tests.fuzzing import ANYTHING, cases, corpus

TOLD: list[dict[str, Any]] = [
    {
        "event": "configured", "pytest": "9.0", "python": "python", "markers": "", "keywords": "",
        "maxfail": 0, "collect_only": False, "setup_only": False, "only_failed": False,
    },
    {"event": "session", "settings": "site.settings"},
    {"event": "collected", "count": 1, "kept": 1},
    {"event": "selected", "count": 1},
    {"event": "started", "node": "test_a.py::test_b"},
    {
        "event": "test", "node": "test_a.py::test_b", "outcome": "passed", "seconds": 0.1,
        "tail": "", "called": 1, "skipped_parts": 0, "reason": "",
    },
    {"event": "finished"},
]  # fmt: skip
JUNIT = '<testsuites><testsuite><testcase name="test_b"/></testsuite></testsuites>'
ENDED = Finished(0, Ending.EXITED, 1.0, 0)
XML = st.lists(
    st.sampled_from(
        [
            *("<testsuites>", "</testsuites>", "<testcase>", "</testcase>", "<testcase/>"),
            *("<failure/>", "<skipped>", "</skipped>", "<error a='1'/>", "<!DOCTYPE x>", "&#0;"),
            *('<?xml version="1.0" encoding="utf-16"?>', "<![CDATA[", "]]>", "&amp;", "\x00"),
        ]
    )
    | st.text(max_size=10),
    max_size=12,
).map("".join)


def verdict(folder: Path, events: bytes, junit: str = JUNIT) -> str:
    (folder / "progress").write_bytes(events)
    (folder / "junit.xml").write_text(junit)
    seen = Seen()
    try:
        seen.read(folder / "progress")
        seen.record(make_report("`pytest`"), ENDED)
        _judge(seen, ENDED, folder / "junit.xml", "python", 60)
    except Outcome as outcome:
        return outcome.status
    return "passed"


def lines(events: list[Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("account")


def test_two_that_agree_pass(folder: Path) -> None:
    assert verdict(folder, lines(TOLD)) == "passed"


@pytest.mark.parametrize("code", [1, -signal.SIGKILL])
def test_an_exit_code_is_enough_to_fail(folder: Path, code: int) -> None:
    (folder / "progress").write_bytes(lines(TOLD))
    seen = Seen()
    seen.read(folder / "progress")
    with pytest.raises(Failed):
        _judge(seen, Finished(code, Ending.EXITED, 1.0, 0), folder / "junit.xml", "python", 60)


ASKED = {
    "event": "queries", "node": "test_a.py::test_b", "queries": 1, "query_seconds": 0.1,
    "slowest": [[0.1, "SELECT"]], "repeated": [[2, "SELECT"]],
}  # fmt: skip
DATABASE = {
    "event": "database", "alias": "default", "vendor": "sqlite", "host": "", "port": "",
    "name": "a",
}  # fmt: skip
OF_A_KIND = [None, True, -1, 10**400, float("nan"), "x", [], [[1]], [[1, 2]], {}]


@pytest.mark.parametrize("event", [*TOLD, ASKED, DATABASE], ids=lambda event: event["event"])
def test_a_value_of_another_kind_is_a_sentence(folder: Path, event: dict[str, Any]) -> None:
    """Whatever stands where, it is no traceback; and what the plugin cannot have told, no pass."""
    for key in event.keys() - {"event"}:
        for value in OF_A_KIND:
            told = lines([{**event, key: value}])
            assert verdict(folder, lines(TOLD) + told) in {"passed", "inconclusive", "failed"}
        lacking = {name: said for name, said in event.items() if name != key}
        assert verdict(folder, lines([lacking, *TOLD])) in {"passed", "inconclusive"}
    if event in (ASKED, DATABASE):
        assert verdict(folder, lines([{**event, "queries": "x", "vendor": 5}, *TOLD])) == (
            "inconclusive"
        )


def test_events_that_a_test_removed_are_a_sentence(folder: Path) -> None:
    seen = Seen()
    seen.read(folder / "there is none")
    assert seen.unreadable.startswith("its file is gone")


@cases(60)
@given(st.lists(ANYTHING | st.sampled_from(TOLD), max_size=6), st.binary(max_size=20))
@example([[1]], b"")
@example([{"event": "test", "node": "a"}], b"{")
def test_rubbish_beside_what_was_told_is_no_pass(
    folder: Path, more: list[Any], bytes_: bytes
) -> None:
    strange = [event for event in more if event not in TOLD]
    found = verdict(folder, lines(TOLD) + lines(more) + bytes_ + b"\n")
    if strange or bytes_:
        assert found == "inconclusive"


@pytest.mark.parametrize("file", corpus("pytest_events"))
def test_events_that_once_broke_it_are_inconclusive(folder: Path, file: Path) -> None:
    assert verdict(folder, lines(TOLD) + file.read_bytes()) == "inconclusive"
    assert verdict(folder, file.read_bytes()) == "inconclusive"


@cases(40)
@given(st.lists(st.sampled_from(TOLD), max_size=9))
def test_no_order_of_what_is_told_breaks_it(folder: Path, told: list[dict[str, Any]]) -> None:
    if verdict(folder, lines(told)) == "passed":
        names = [event["event"] for event in told]
        assert {"test", "selected", "finished"} <= set(names)


@cases(100)
@given(XML | st.text(max_size=30))
def test_any_report_is_read_or_refused(folder: Path, text: str) -> None:
    junit = folder / "junit.xml"
    junit.write_bytes(text.encode("utf-8", "surrogatepass"))
    seen = Seen(plain=3)
    try:
        _compare(seen, junit)
    except Inconclusive as outcome:
        assert "JUnit" in str(outcome)
    else:
        assert passed_in(junit) == 3


@pytest.mark.parametrize("file", corpus("junit"))
def test_a_report_that_once_broke_it_is_inconclusive(folder: Path, file: Path) -> None:
    with pytest.raises(Inconclusive, match="no readable JUnit report"):
        _compare(Seen(plain=1), file)
