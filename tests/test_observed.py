"""Logs, pages, monitors and known noise, as the setting names them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehearsal import conf
from rehearsal.observed import SINCE, KnownNoise, LogSource, Monitor, PageName, web_address
from tests.fuzzing import cases

NOISE = {"match": "FieldError", "reason": "ticket 7", "until": "2999-01-01"}
MONITOR = {"kind": "prometheus", "url": "http://prometheus:9090/"}


def test_a_source_is_files_a_unit_or_a_command() -> None:
    assert LogSource.read("/var/log/*.log").files == "/var/log/*.log"
    assert SINCE in LogSource.read("journal:obcms-worker.service").arguments
    assert LogSource.read(["docker", "logs", "--since", SINCE]).name.startswith("docker logs")


def test_a_page_is_a_name_or_a_path_with_its_query() -> None:
    page = PageName.read("htmx common:tasks?status=open")
    assert (page.target, page.query, page.htmx) == ("common:tasks", "status=open", True)
    assert page.name == "htmx common:tasks?status=open"
    assert PageName.read("/calendar/") == PageName("/calendar/")


def test_a_monitor_never_shows_its_tokens_variable_in_full() -> None:
    monitor = Monitor.read({**MONITOR, "token": "A_VARIABLE"})
    assert monitor.url == "http://prometheus:9090"
    assert "A_VARIABLE" not in repr(monitor)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WORKER_LOGS", [""]), ("WORKER_LOGS", ["journal:-x"]), ("WORKER_LOGS", [[]]),
        ("WORKER_LOGS", "worker.log"), ("WORKER_LOGS", [["logs", "--token=abcd1234efgh"]]),
        ("PAGES", ["a b"]), ("PAGES", ["https://elsewhere.example/"]), ("PAGES", ["htmx"]),
        ("ROLES", {"staff": ""}), ("ROLES", ["staff"]),
        ("KNOWN_NOISE", [{**NOISE, "match": "("}]), ("KNOWN_NOISE", [{**NOISE, "match": ".*x?"}]),
        ("KNOWN_NOISE", [{**NOISE, "reason": " "}]), ("KNOWN_NOISE", [{**NOISE, "until": "soon"}]),
        ("KNOWN_NOISE", [{"match": "FieldError"}]),
        ("MONITORING", [{**MONITOR, "kind": "nagios"}]), ("MONITORING", [{"kind": "grafana"}]),
        ("MONITORING", [{**MONITOR, "url": "prometheus:9090"}]),
        ("MONITORING", [{**MONITOR, "token": "glsa_abcd-1234"}]),
        ("MONITORING", [{**MONITOR, "match": {"a": 1}}]), ("MONITORING", [{**MONITOR, "x": 1}]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key_and_without_a_secret(key: str, value: Any) -> None:
    _configuration, wrong = conf.read({key: value})
    ((said, remedy),) = wrong
    assert key in said
    assert "expected" in said or "names" in said or "is" in said
    assert remedy
    assert "abcd1234efgh" not in said
    assert "glsa_abcd-1234" not in said


READERS = (LogSource.read, KnownNoise.read, PageName.read, Monitor.read, web_address)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*NOISE]), inner),
)


@cases(40)
@given(ANY)
def test_any_value_is_read_or_refused(value: object) -> None:
    for read in READERS:
        try:
            read(value)
        except (TypeError, ValueError) as error:
            assert str(error)
