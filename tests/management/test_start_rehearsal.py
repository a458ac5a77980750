"""The door for deploy scripts, as a deploy script uses it: a process with an exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pytest
from django.core.management import execute_from_command_line
from django.db import connections, transaction

from rehearsal import broker, tasks
from rehearsal.management.commands.start_rehearsal import Command
from rehearsal.management.console import Console
from rehearsal.models import CheckItem, Rehearsal, Status, Verdict
from tests import servers
from tests.conftest import ROOT, WorkerProcess, document, statuses, wait_for

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])


_begun: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _no_script_outlives_its_test(transactional_db: None) -> Iterator[None]:
    yield  # and what it leaves is removed by the database's own fixture, which ends after this one
    while _begun:
        process = _begun.pop()
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=10)


class Script:
    """A process of start_rehearsal for a document of sample checks."""

    def __init__(self, folder: Path, *argv: str, text: str = "", **environ: str) -> None:
        path = folder / "checklist.md"
        path.write_text(text or document("Passes"))
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "django", "start_rehearsal", "--by", "script"),
                *("--checklist", str(path), *argv),
            ],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        _begun.append(self.process)

    def end(self) -> tuple[int, str, str]:
        """Its exit code, what it wrote to stdout, and what to stderr."""
        out, err = self.process.communicate(timeout=90)
        assert "Traceback" not in err
        return self.process.returncode, out, err


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        (["Passes", "Ends how=skipped"], 0),
        (["Passes", "Ends how=failed"], 1),
        (["Ends how=inconclusive"], 1),
        (["Passes", "Ends how=action_required"], 3),
        (["Ends how=action_required", "PassesAfterAll"], 3),
        (["Passes", "SignsOff"], 3),
    ],
)
def test_the_exit_code_says_the_verdict(
    worker: WorkerProcess, tmp_path: Path, checks: list[str], code: int
) -> None:
    found, out, _err = Script(tmp_path, text=document(*checks)).end()
    assert found == code
    assert "1.1" in out


def test_json_junit_and_the_ticked_document_are_written(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    ticked, junit = tmp_path / "ticked.md", tmp_path / "junit.xml"
    text = document("Passes", "Ends how=failed")
    code, out, err = Script(
        tmp_path, "--json", "--output", str(ticked), "--junit", str(junit), text=text
    ).end()
    assert code == 1
    result = json.loads(out)
    assert (result["schema"], result["verdict"], result["environment"]) == (1, "red", "staging")
    (section,) = result["sections"]
    first, second = section["items"]
    assert first["measurements"] == [{"name": "answer", "value": 42.0, "unit": "things"}]
    assert (second["ref"], second["status"]) == ("1.2", "failed")
    assert "✗ 1.2 failed" in err
    lines = ticked.read_text().splitlines()
    assert [line for line in lines if re.match(r"- \[.\]", line)] == [
        text.splitlines()[3].replace("[ ]", "[x]"),
        text.splitlines()[4],
    ]
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--checklist", "/does/not/exist.md"], "cannot be read"),
        (["--only", "7.7"], "no item 7.7"),
        (["--output", "/does/not/exist/file.md"], "cannot be written"),
        (["--worker", "--no-wait"], "--worker"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--revision", "a" * 101], "The revision is 'aaa"),
        (["--by", "\udcff"], "The starter's name is"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_use_is_a_sentence_and_exits_with_2(
    worker: WorkerProcess, tmp_path: Path, argv: list[str], says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "checklist.md"
    path.write_text(document("Passes"))
    command = ["manage.py", "start_rehearsal", "--by", "script", "--checklist", str(path), *argv]
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(command)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert not Rehearsal.objects.exists()


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ("django.contrib.sites.models.Site", "Line 2: the check .* cannot be imported"),
        (r'tests.sample_checks.Ends how="\"\\u0000\""', "cannot hold this"),
    ],
)
def test_a_binding_that_breaks_is_a_sentence_and_exits_with_2(
    worker: WorkerProcess, tmp_path: Path, check: str, says: str
) -> None:
    code, _out, err = Script(tmp_path, text=f"## A\n- [ ] B. <!-- check: {check} -->\n").end()
    assert code == 2
    assert re.search(says, err), err


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redsi://127.0.0.1:1/0", "No such transport: redsi"),
        ("redis://:pass/word@127.0.0.1:1/0", "its address cannot be read"),
    ],
)
def test_a_broker_address_with_a_typo_exits_with_5(
    no_worker: None, tmp_path: Path, url: str, says: str
) -> None:
    code, _out, err = Script(tmp_path, TEST_REDIS_URL=url).end()
    assert code == 5
    assert says in err
    assert "pass" not in err


def test_the_result_does_not_depend_on_what_stdout_can_hold(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    text = "## A\n- [ ] Grüße \x1b[31m✓. <!-- check: tests.sample_checks.Passes -->\n"
    code, out, err = Script(tmp_path, "--json", text=text, PYTHONIOENCODING="ascii").end()
    assert code == 0
    assert json.loads(out)["sections"][0]["items"][0]["text"] == "Grüße \x1b[31m✓."
    assert "\x1b" not in err


@pytest.mark.fault("reader of `--wait` gone", promised="the verdict and its exit code stay")
def test_a_reader_that_goes_away_changes_nothing(worker: WorkerProcess, tmp_path: Path) -> None:
    script = Script(tmp_path, text=document("Runs line='sleep 1'", "Ends how=failed"))
    assert script.process.stdout is not None
    script.process.stdout.readline()
    script.process.stdout.close()
    script.process.stdout = None
    assert script.end()[0] == 1
    assert statuses(Rehearsal.objects.get()) == ["passed", "failed"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("start_rehearsal --timeout 0 >&- 2>&-", 2),
        ("start_rehearsal --json >&-", 2),  # nobody would get what was asked for
        ("rehearsal_gate --max-age 0 >&- 2>&-", 2),
        ("rehearsal_gate --revision abc >&-", 1),
    ],
)
def test_streams_that_are_closed_change_no_exit_code(line: str, code: int) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m django {line}"],
        cwd=ROOT, env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stderr=subprocess.PIPE, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False)
    assert not Rehearsal.objects.exists()


def test_a_pipe_takes_the_document_and_a_link_stays_one(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    pipe, real, link = tmp_path / "pipe", tmp_path / "real.xml", tmp_path / "link.xml"
    os.mkfifo(pipe)
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    script = Script(tmp_path, "--output", str(pipe), "--junit", str(link))
    with pipe.open() as reader:
        assert "- [x]" in reader.read()
    assert script.end()[0] == 0
    assert pipe.is_fifo() and link.is_symlink()
    assert "<testsuites" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_green_rehearsal_whose_document_is_not_written_is_not_0(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    code, out, _err = Script(tmp_path, "--output", str(tmp_path / ("x" * 252))).end()
    assert code == 2
    assert "could not be written: File name too long" in out


def test_a_document_without_boxes_exits_with_2(worker: WorkerProcess, tmp_path: Path) -> None:
    code, _out, err = Script(tmp_path, text="# Nothing to do\n").end()
    assert code == 2
    assert "Line" in err or "heading" in err


def test_another_open_rehearsal_exits_with_4(worker: WorkerProcess, tmp_path: Path) -> None:
    opened = tasks.start(document("Runs line='sleep 300'"), by="tester", revision="")
    code, _out, err = Script(tmp_path).end()
    tasks.cancel(opened.number, by="tester")
    assert code == 4
    assert f"rehearsal {opened.number} is open" in err


def test_no_worker_exits_with_5_and_says_how_to_have_one(no_worker: None, tmp_path: Path) -> None:
    code, _out, err = Script(tmp_path).end()
    assert code == 5
    assert "rehearsal_worker" in err
    assert not Rehearsal.objects.exists()


@pytest.mark.fault("no broker for `start_rehearsal`", promised="exit code 5 and a sentence")
def test_no_broker_exits_with_5(no_worker: None, tmp_path: Path) -> None:
    servers.redis.stop()
    try:
        code, _out, err = Script(tmp_path).end()
    finally:
        servers.redis.start()
    assert code == 5
    assert "broker" in err


def test_a_worker_of_its_own_comes_and_goes_with_the_command(
    no_worker: None, tmp_path: Path
) -> None:
    code, out, _err = Script(tmp_path, "--worker", text=document("Passes", "PassesAfterAll")).end()
    assert code == 0, out
    assert wait_for(lambda: not broker.consumers())


def test_cancelled_meanwhile_exits_with_6(worker: WorkerProcess, tmp_path: Path) -> None:
    script = Script(tmp_path, text=document("Runs line='sleep 300'"))
    wait_for(lambda: Rehearsal.objects.filter(items__status=Status.RUNNING).exists())
    tasks.cancel(Rehearsal.objects.get().number, by="tester")
    assert script.end()[0] == 6


@pytest.mark.fault("cancel between two looks of `--wait`", promised="exit code 6, not red")
def test_cancelled_between_two_looks_is_not_taken_for_red(
    no_worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rehearsal = tasks.start(document("Passes"), by="tester", revision="")
    read = tasks.items_of

    def items_of(number: int) -> list[CheckItem]:
        monkeypatch.setattr(tasks, "items_of", read)
        tasks.cancel(number, by="somebody else")
        return read(number)

    monkeypatch.setattr(tasks, "items_of", items_of)
    stands = Command()._wait(rehearsal, Console(StringIO()), "tester", 30)
    assert stands == Verdict.CANCELLED


@pytest.mark.fault("`--timeout` over", promised="exit code 7, nothing runs")
def test_too_long_exits_with_7_and_leaves_nothing_running(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    text = document(f"Runs line='sleep 300; : {marker}'", "PassesAfterAll")
    code, _out, _err = Script(tmp_path, "--timeout", "3", text=text).end()
    assert code == 7
    rehearsal = Rehearsal.objects.get()
    assert statuses(rehearsal) == ["inconclusive", "skipped"]
    wait_for(lambda: subprocess.run(["pgrep", "-f", str(marker)], check=False).returncode == 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.fault("SIGINT, SIGTERM, SIGHUP to `--wait`", promised="cancelled, exit code 130")
def test_a_signal_cancels_and_exits_with_130(
    worker: WorkerProcess, tmp_path: Path, number: signal.Signals
) -> None:
    script = Script(tmp_path, text=document("Runs line='sleep 300'"))
    wait_for(lambda: Rehearsal.objects.filter(items__status=Status.RUNNING).exists())
    script.process.send_signal(number)
    assert script.end()[0] == 130
    assert Rehearsal.objects.get().cancelled_by == "script"


@pytest.mark.skipif(connections["rehearsal"].vendor != "postgresql", reason="SQLite has no server")
@pytest.mark.fault("SIGTERM amid a query of `--wait`", promised="cancelled, exit code 130")
def test_a_signal_amid_a_query_cancels_too(worker: WorkerProcess, tmp_path: Path) -> None:
    def waits(kind: str) -> bool:
        with psycopg.connect(servers.postgresql.url("postgres")) as watch:
            sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
            return watch.execute(sql, [f'{kind} %"rehearsal_rehearsal"%']).fetchone() is not None

    script = Script(tmp_path, text=document("Runs line='sleep 300'"))
    wait_for(lambda: Rehearsal.objects.filter(items__status=Status.RUNNING).exists())
    with transaction.atomic(using="rehearsal"), connections["rehearsal"].cursor() as cursor:
        cursor.execute("LOCK TABLE rehearsal_rehearsal IN ACCESS EXCLUSIVE MODE")
        wait_for(lambda: waits("SELECT"))
        script.process.send_signal(signal.SIGTERM)
        wait_for(lambda: waits("UPDATE") or script.process.poll() is not None)
    assert script.end()[0] == 130
    assert Rehearsal.objects.get().cancelled_by == "script"


def test_build_services_get_annotations_and_plain_lines(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    text = document("Ends how=failed")
    _code, out, _err = Script(tmp_path, text=text, GITHUB_ACTIONS="true").end()
    assert "\x1b" not in out
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ✗ 1\.1 failed", out, re.MULTILINE)
    assert re.search(r"^::error title=1\.1 Line 1\.::It was told to end failed", out, re.MULTILINE)
