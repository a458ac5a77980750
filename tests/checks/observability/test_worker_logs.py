"""Worker logs: what Celery and tasks write, and a real worker that leaves its line."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from rehearsal.checks.base import Outcome, Rehearsed, Report
from rehearsal.checks.observability import WorkerLogs, worker_logs
from rehearsal.conf import redactor
from tests.checks.observability.test_sources import OLD, SINCE, line
from tests.checks.projects import Result
from tests.conftest import ROOT, wait_for

ONE = "0f8fad5b-d9cb-469f-a165-70867728950e"
TWO = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
RAISED = (
    "Traceback (most recent call last):\n"
    '  File "tasks.py", line 1, in remind\n'
    "django.core.exceptions.FieldError: Cannot resolve keyword 'due'\n"
)
PROOF = line(f"Task rehearsal.identify[{TWO}] received", 0)
Look = Callable[..., Result]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Perform the check on a log; the workers are said to have executed our task just now."""
    asked = {"site@here": frozenset({TWO})}
    monkeypatch.setattr(worker_logs, "_ask_workers", lambda report: asked)
    monkeypatch.setattr(worker_logs, "SEEN_SECONDS", 0)

    def look(*lines: str, proof: str = PROOF, **setting: Any) -> Result:
        (tmp_path / "worker.log").write_text("".join([OLD, *lines, proof]))
        report = Report("Tail.", Rehearsed(1, "", SINCE), redact=redactor().redact)
        setting = {"ROOT": tmp_path, "WORKER_LOGS": ["worker.log"], **setting}
        with override_settings(REHEARSAL=setting):
            try:
                WorkerLogs().run(report)
            except Outcome as outcome:
                return Result(report, outcome)
        return Result(report, None)

    return look


def test_a_log_without_errors_passes(look: Look) -> None:
    found = look(
        line(f"Task common.tasks.remind[{ONE}] received"),
        line(f"Task common.tasks.remind[{ONE}] succeeded in 0.1s: 'error'"),
    )
    assert found.verdict == "passed", found.why
    assert "3 entries without an error, 2 tasks received" in found.report.said
    assert "common.tasks.remind" in found.report.output
    assert "before" not in found.report.output


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [line(f"Task common.tasks.remind[{ONE}] raised: X()", -1, "ERROR") + RAISED],
            "1 errors of this rehearsal's time: common.tasks.remind. The last: django.core",
        ),
        # A task that swallows its error and tells of success.
        (
            [line(f"common.tasks.remind[{ONE}]: it went wrong", -1, "WARNING") + RAISED,
             line(f"Task common.tasks.remind[{ONE}] succeeded in 0.1s: None")],
            "common.tasks.remind",
        ),
        (
            [line("Process 'ForkPoolWorker-1' exited with 'signal 9'", -1, "ERROR")],
            "outside of a task",
        ),
        (
            [line(f"Task a.b[{ONE}] raised", -1, "ERROR"), line("c", -1, "CRITICAL"),
             line(f"Task a.b[{TWO}] raised", -1, "ERROR")],
            "3 errors of this rehearsal's time: a.b (2), outside of a task",
        ),
    ],
)  # fmt: skip
def test_errors_and_tracebacks_fail_and_are_counted_by_task(
    look: Look, lines: list[str], said: str
) -> None:
    found = look(*lines)
    assert found.verdict == "failed"
    assert said in found.why
    assert "What speaks against the workers" in found.report.output


def test_an_error_before_the_rehearsal_is_not_held_against_it(look: Look) -> None:
    found = look(line("old", -30, "ERROR") + RAISED)
    assert found.verdict == "passed", found.why


def test_a_retry_is_well_only_when_the_task_was_done_in_the_end(look: Look) -> None:
    retry = line(f"Task common.tasks.remind[{ONE}] retry: Retry in 30s: OSError()", -3) + RAISED
    found = look(retry)
    assert found.verdict == "inconclusive"
    assert "common.tasks.remind" in found.why
    done = line(f"Task common.tasks.remind[{ONE}] succeeded in 0.1s: None", -2)
    found = look(retry, done)
    assert found.verdict == "passed", found.why
    assert "tried again and then done: common.tasks.remind" in found.report.said
    gave_up = line(f"Task common.tasks.remind[{ONE}] raised unexpected", -2, "ERROR")
    assert look(retry, gave_up).verdict == "failed"


@pytest.mark.parametrize("setting", [{"WORKER_LOGS": []}, {"WORKER_LOGS": ["other.log"]}])
def test_no_line_at_all_is_the_wrong_source(look: Look, setting: dict[str, Any]) -> None:
    found = look(**setting)
    assert found.verdict == "inconclusive"
    assert "REHEARSAL['WORKER_LOGS']" in found.why


def test_a_log_that_lacks_our_own_task_is_not_the_workers(look: Look) -> None:
    found = look(line("some other program"), proof="")
    assert found.verdict == "inconclusive"
    assert "none of these logs says so" in found.why


def test_a_worker_whose_log_is_not_named_is_no_tick(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two workers leaves its line; whatever went wrong in the other is in no log here."""
    asked = {"site@here": frozenset({TWO}), "mail@there": frozenset({ONE})}
    monkeypatch.setattr(worker_logs, "_ask_workers", lambda report: asked)
    found = look()
    assert found.verdict == "inconclusive"
    assert "sent to mail@there, and none of these logs says so" in found.why


def test_a_log_in_another_time_zone_is_not_believed(look: Look) -> None:
    wrong = line("x", 60 * 8, "ERROR")
    found = look(wrong, proof="")
    assert found.verdict == "inconclusive"


def test_known_noise_is_shown_with_its_reason_until_its_day(look: Look) -> None:
    error = line(f"Task common.tasks.remind[{ONE}] raised", -1, "ERROR") + RAISED
    noise = {"match": "resolve keyword 'due'", "reason": "ticket 7", "until": "2999-01-01"}
    found = look(error, KNOWN_NOISE=[noise])
    assert found.verdict == "passed", found.why
    assert "1 known and accepted (ticket 7)" in found.report.said
    found = look(error, KNOWN_NOISE=[{**noise, "until": "2020-01-01"}])
    assert found.verdict == "failed"
    assert "no longer accepted as known noise" in found.report.facts


@contextmanager
def celery_worker(log: Path) -> Iterator[str]:
    """A worker of the tests' project that writes into a file; gives the queue it consumes."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker"),
                *("-Q", "site", "-c", "1", "-n", "site@%h", "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle"),
            ],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_for(lambda: " ready." in log.read_text())
        yield "site"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


@pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])
def test_a_real_worker_leaves_the_line_of_our_task(
    no_worker: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is read through a command, as that of a container is."""
    monkeypatch.setattr(worker_logs, "SEEN_SECONDS", 3)
    log, other = tmp_path / "worker.log", tmp_path / "other.log"
    verdicts = {}
    with celery_worker(log) as queue:
        now = datetime.datetime.now(datetime.UTC)
        other.write_text(line("another program", 1))
        for path in (log, other):
            report = Report("Tail.", Rehearsed(1, "", now))
            setting = {"ROOT": tmp_path, "QUEUES": [queue], "WORKER_LOGS": [["cat", str(path)]]}
            with override_settings(REHEARSAL=setting):
                try:
                    WorkerLogs().run(report)
                    verdicts[path.stem] = "passed"
                except Outcome as outcome:
                    verdicts[path.stem] = f"{outcome.status}: {outcome}"
    assert verdicts["worker"] == "passed"
    assert verdicts["other"].startswith("inconclusive"), verdicts
