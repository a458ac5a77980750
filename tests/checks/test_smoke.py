"""The pytest check, by running it on small projects: no vacuous command may pass."""

# ruff: noqa: E501  a case is read best on a line of its own
from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.db import connections
from django.test import override_settings

from rehearsal.checks.base import Failed, Inconclusive, Outcome, Report
from rehearsal.checks.pytest_account import passed_in
from rehearsal.checks.smoke import Pytest
from tests.checks.projects import (
    DJANGO,
    INI,
    SETTINGS,
    USES_DATABASE,
    Result,
    Run,
    databases_like,
    make_report,
    postgresql_settings,
    started_with,
    stopping_at,
)
from tests.conftest import wait_for

PASSES = "def test_passes():\n    assert True\n"
FAILS = "def test_fails():\n    assert 1 == 2, 'planted'\n"


# Nothing was looked at

TWO = {"test_a.py": PASSES + "\ndef test_other():\n    pass\n"}
MARKED = {
    "pytest.ini": "[pytest]\nmarkers =\n    slow: takes its time\n",
    "test_a.py": "import pytest\n\n@pytest.mark.slow\ndef test_slow():\n    pass\n",
}
BROKEN = {"test_broken.py": "import a_module_nobody_has\n" + PASSES}
SKIPPED = {"test_a.py": "import pytest\n\n@pytest.mark.skip('no printer here')\n" + PASSES}
XFAILED = {"test_a.py": "import pytest\n\n@pytest.mark.xfail(reason='known bug 12')\n" + FAILS}
XPASSED = {"test_a.py": "import pytest\n\n@pytest.mark.xfail(reason='known bug 12')\n" + PASSES}

VACUOUS = [
    ("pytest", {}, "no test ran|selected, none ran", "no files at all"),
    ("pytest -m smoke", TWO, "2 deselected by -m 'smoke'", "a mark that nothing carries"),
    ("pytest -k calendar", TWO, "2 deselected by -k 'calendar'", "a name that nothing has"),
    ("pytest -m slow -k fast", MARKED, "1 deselected by -m 'slow' and -k 'fast'", "both"),
    ("pytest -m smoke", TWO | BROKEN, r"2 deselected.*1 errors? during collection: .*a_module_nobody_has", "the real host's 3.1"),
    ("pytest test_missing.py", TWO, "file or directory not found: test_missing.py", "no file"),
    ("pytest test_a.py::test_nobody", TWO, "not found: .*test_nobody", "no such test"),
    ("pytest 'test_*.py'", TWO, r"file or directory not found: test_\*\.py", "a shell's glob"),
    ("pytest test_a.py && true", TWO, "not found: &&", "a shell's operator"),
    ("pytest", BROKEN, "1 errors? during collection: test_broken.py .*No module named 'a_module_nobody_has'", "import error"),
    ("pytest", {"test_a.py": "def test_x(:\n"}, "errors? during collection: .*SyntaxError", "typo"),
    ("pytest", SKIPPED, r"1 skipped.*no printer here", "all skipped"),
    ("pytest", {"test_a.py": "import pytest\npytest.skip('no map server', allow_module_level=True)\n" + PASSES}, "no map server", "module-level skip"),
    ("pytest", {"test_a.py": "import pytest\npytest.importorskip('module_of_nobody')\n" + PASSES}, "could not import 'module_of_nobody'", "importorskip"),
    ("pytest", {"test_a.py": "import pytest\ndef test_x():\n    pytest.skip('not today')\n"}, "not today", "skip in the body"),
    ("pytest", XFAILED, "known bug 12", "only an expected failure"),
    ("pytest", XPASSED, "No test passed that was expected to pass: 1 xpassed", "only xpassed"),
    ("pytest --collect-only", TWO, "only to collect", "--collect-only"),
    ("pytest --co -q", TWO, "only to collect", "--co"),
    ("pytest --setup-plan", TWO, "only to collect or to plan", "--setup-plan"),
    ("pytest --setup-only", TWO, "only to collect or to plan", "--setup-only"),
    ("pytest --version", TWO, "pytest [0-9]", "--version"),
    ("pytest --help", TWO, "ran no test", "--help"),
    ("pytest --fixtures", TWO, "ran no test", "--fixtures"),
    ("pytest --markers", TWO, "ran no test", "--markers"),
    ("pytest -p no:junitxml", TWO, "unrecognized arguments: --junitxml", "no JUnit plugin"),
    ("pytest --no-such-option", TWO, "unrecognized arguments: --no-such-option", "an option"),
    ("pytest --cov=src", TWO, "Install pytest-cov in", "an option with a value, likewise"),
    ("pytest -k 'and and'", TWO, "Wrong expression", "an expression that cannot be read"),
    ("pytest --ds=nobody.settings", TWO, "nobody", "settings that cannot be imported"),
    ("pytest", {"pytest.ini": "[pytest]\naddopts = --strict-markers\n", "test_a.py": MARKED["test_a.py"]}, "'slow' not found in `markers`", "unknown mark, strictly"),
    ("pytest", {"conftest.py": "import a_module_nobody_has\n", **TWO}, "a_module_nobody_has", "a conftest.py that cannot be imported"),
    ("pytest", {"test_a.py": "import pytest\n@pytest.fixture\ndef server():\n    raise OSError('refused')\ndef test_x(server):\n    pass\n"}, "errors? before a test began: .*refused", "every test's setup fails"),
    ("pytest --deselect test_a.py", TWO, "2 deselected", "--deselect"),
    ("pytest --ignore=test_a.py", TWO, "ran no test", "--ignore"),
    ("pytest --lf --lfnf=none", TWO, "ran no test", "--last-failed with none failed"),
    ("pytest", {"conftest.py": "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n"}, "ran no test", "exit code 5 turned into 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "files", "quoted"),
    [case[:3] for case in VACUOUS],
    ids=[f"{case[0]}, {case[3]}" for case in VACUOUS],
)
def test_a_command_that_looks_at_nothing_says_why(
    run: Run, command: str, files: dict[str, str], quoted: str
) -> None:
    result = run(command, files)
    assert result.verdict == "inconclusive", result.why
    assert re.search(quoted, result.why, re.IGNORECASE), result.why
    assert result.why.endswith(".")


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        ("python manage.py test", "A pytest command was expected"),
        ("SETTINGS=x pytest", "A pytest command was expected"),
        ("pytest -k 'open", "No closing quotation"),
    ],
)
def test_a_line_without_a_pytest_command(run: Run, command: str, quoted: str) -> None:
    result = run(command, TWO)
    assert (result.verdict, result.report.output) == ("inconclusive", "")
    assert quoted in result.why


def test_a_line_without_code(run: Run) -> None:
    result = run("", TWO, report=make_report("Run the smoke tests."))
    assert result.verdict == "inconclusive"
    assert "found no code" in result.why


def test_an_interpreter_without_pytest_is_named(run: Run, tmp_path: Path) -> None:
    python = tmp_path / "bare-python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    python.chmod(0o755)
    result = run("pytest", TWO, python=str(python))
    assert result.verdict == "inconclusive"
    assert f"pytest is not installed in {python}" in result.why


def test_an_interpreter_that_is_not_there(run: Run) -> None:
    result = run("pytest", TWO, python="/nonexistent/python")
    assert result.verdict == "inconclusive"
    assert "/nonexistent/python" in result.why


# Tests ran

UNITTEST = """
import unittest
class Cases(unittest.TestCase):
    def test_one(self): self.assertEqual(1, 1)
    def test_parts(self):
        for number in range(3):
            with self.subTest(number=number): self.assertLess(number, {limit})
"""
SUBTESTS = """
import pytest
def test_parts(subtests):
    for number in range(3):
        with subtests.test(number=number):
            if number == {skipped}: pytest.skip("that one")
            assert number < {limit}
"""
FIXTURE = "import pytest\n@pytest.fixture\ndef thing():\n    {body}\n"
USING = "def test_uses(thing):\n    pass\n"
FIVE = (
    "import pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_n(n):\n    assert n != {no}\n"
)
CLASSES = "class TestThings:\n    def test_a(self): pass\n    def test_b(self): pass\n"


def ini(addopts: str) -> dict[str, str]:
    return {"pytest.ini": f"[pytest]\naddopts = {addopts}\n"}


PASSING = [
    ("pytest -m slow", MARKED, "1 passed", "a mark"),
    ("python -m pytest", TWO, "2 passed", "the long head"),
    ("pytest -k other", TWO, "1 passed", "a name"),
    ("pytest test_a.py::test_other", TWO, "1 passed", "a test's own name"),
    ("pytest test_a.py::TestThings", {"test_a.py": CLASSES + PASSES}, "2 passed", "a class"),
    ("pytest 'test_a.py::test_n[3]'", {"test_a.py": FIVE.format(no=9)}, "1 passed", "a parameter"),
    ("pytest", {"test_a.py": UNITTEST.format(limit=3)}, "2 passed", "unittest"),
    ("pytest", {"test_a.py": SUBTESTS.format(skipped=9, limit=3)}, "1 passed", "subtests"),
    ("pytest", {"test_a.py": SUBTESTS.format(skipped=1, limit=3)}, "1 passed", "a subtest skips"),
    ("pytest --doctest-modules", {"m.py": '"""\n>>> 1 + 1\n2\n"""\n'}, "1 passed", "doctest"),
    ("pytest", {"test_a.py": "import warnings\ndef test_x():\n    warnings.warn('old')\n"}, "1 passed", "a warning"),
    ("pytest", {"test_a.py": SKIPPED["test_a.py"] + "def test_more(): pass\n"}, "1 passed, 1 skipped", "one skipped"),
    ("pytest", {"test_a.py": XPASSED["test_a.py"] + "def test_more(): pass\n"}, "1 passed, 1 xpassed", "one xpassed"),
    ("pytest", TWO | ini("-q -q"), "2 passed", "addopts -q -q"),
    ("pytest", TWO | ini("-p no:terminal"), "2 passed", "addopts without a terminal"),
    ("pytest", TWO | ini("--no-header --no-summary"), "2 passed", "addopts --no-header"),
    ("pytest -- test_a.py", TWO, "2 passed", "after --"),
    ("pytest --junitxml=their.xml -p no:cacheprovider", TWO, "2 passed", "a JUnit report of theirs"),
    ("pytest", TWO | {"pytest.ini": "[pytest]\njunit_family = xunit1\njunit_logging = all\n"}, "2 passed", "JUnit options"),
    ("pytest -k 'a < b or passes'", TWO, "", "an odd expression"),
    ("pytest -s", {"test_a.py": "def test_x():\n    print('\\x1b[31mred\\x00')\n"}, "1 passed", "odd output"),
]  # fmt: skip
PASSING = [case for case in PASSING if case[2]]


@pytest.mark.parametrize(
    ("command", "files", "summary"),
    [case[:3] for case in PASSING],
    ids=[f"{case[0]}, {case[3]}" for case in PASSING],
)
def test_tests_that_pass(run: Run, command: str, files: dict[str, str], summary: str) -> None:
    result = run(command, files)
    assert result.verdict == "passed", result.why
    assert re.fullmatch(rf"{re.escape(summary)} in \d+\.\d s", result.report.said)
    assert result.report.facts["exit code"] == 0
    measured = {one.name: one.value for one in result.report.measurements}
    assert measured["tests.passed"] == int(summary.split()[0])
    assert measured["tests.seconds"] > 0


FAILING = [
    ("pytest", {"test_a.py": PASSES + FAILS}, r"1 failed: test_a.py::test_fails \(.*planted", "one"),
    ("pytest", {"test_a.py": FIVE.format(no=2)}, r"test_n\[2\]", "a parameter"),
    ("pytest", {"test_a.py": UNITTEST.format(limit=2)}, "1 failed: .*test_parts", "a unittest part"),
    ("pytest", {"test_a.py": SUBTESTS.format(skipped=9, limit=2)}, "1 failed: .*test_parts", "a subtest"),
    ("pytest", {"test_a.py": FIXTURE.format(body="raise OSError('refused')") + USING + PASSES}, "test_uses .*refused", "setup"),
    ("pytest", {"test_a.py": FIXTURE.format(body="yield; raise OSError('stuck')") + USING + PASSES}, "test_uses .*stuck", "teardown"),
    ("pytest", {"test_a.py": FIXTURE.format(body="yield; raise OSError('stuck')") + "def test_uses(thing): assert 0\n" + PASSES}, "1 failed", "body and teardown"),
    ("pytest --maxfail=1", {"test_a.py": FIVE.format(no=1)}, "only 2 of 5 tests ran", "--maxfail"),
    ("pytest", {"test_a.py": "import sys\ndef test_x(): sys.exit(0)\n" + PASSES}, "SystemExit", "sys.exit(0)"),
    ("pytest --continue-on-collection-errors", TWO | BROKEN, "1 errors? during collection: test_broken.py", "a broken module"),
    ("pytest", {"conftest.py": "def pytest_sessionfinish(session): session.exitstatus = 0\n", "test_a.py": PASSES + FAILS}, "1 failed", "exit code 1 turned into 0"),
    ("pytest -W error", {"test_a.py": "import warnings\ndef test_x():\n    warnings.warn('old')\n"}, "UserWarning: old", "warnings as errors"),
    ("pytest -s", {"test_a.py": "def test_x():\n    print('==== 5 passed in 0.01s ====')\n    assert 0\n"}, "1 failed", "a false summary"),
    ("pytest", {"test_a.py": "import os\ndef test_x(): os._exit(3)\n"}, "exit code 3.*at test_a.py::test_x", "os._exit(3)"),
    ("pytest", {"test_a.py": "import os\ndef test_x(): os.kill(os.getpid(), 11)\n"}, "SIGSEGV.*at test_a.py::test_x", "a crash"),
    ("pytest", {"test_a.py": "import pytest\n@pytest.mark.xfail(strict=True)\n" + PASSES}, "1 failed", "strict xfail"),
    ("pytest", {"test_a.py": "import pytest\ndef test_x(): pass\ndef test_y(): pytest.exit('enough', returncode=4)\n"}, "only 1 of 2", "pytest.exit"),
    ("pytest", {"conftest.py": "def pytest_sessionfinish(session): session.exitstatus = 9\n", **TWO}, "exit code 9: no test failed", "only the exit code"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "files", "named"),
    [case[:3] for case in FAILING],
    ids=[f"{case[0]}, {case[3]}" for case in FAILING],
)
def test_tests_that_fail_are_named(
    run: Run, command: str, files: dict[str, str], named: str
) -> None:
    result = run(command, files)
    assert result.verdict == "failed", result.why
    assert re.search(named, result.why), result.why


LYING = [
    ("pytest", {"test_a.py": PASSES + "import os\ndef test_x(): os._exit(0)\n"}, "middle of its session, with 1 passed", "os._exit(0) in a test"),
    ("pytest", {"test_a.py": PASSES + "import unittest\nclass Case(unittest.TestCase):\n    async def test_x(self): assert 0\n"}, "1 test returned something.*Case::test_x", "a coroutine that nobody awaits"),
    ("pytest", {"test_a.py": PASSES + "import unittest\nclass Case(unittest.TestCase):\n    def test_x(self): assert 0; yield\n"}, "1 test returned something.*Case::test_x", "a generator that nobody runs"),
    ("pytest", {"test_a.py": PASSES + "def test_x(): return 1 == 2\n"}, "1 test returned something.*test_x", "a test that returns what it found"),
    ("pytest -p no:warnings", {"test_a.py": PASSES + "import unittest\nclass Case(unittest.TestCase):\n    async def test_x(self): assert 0\n"}, "1 test returned something.*Case::test_x", "a coroutine, and nobody hears of warnings"),
    ("pytest", {"pytest.ini": "[pytest]\nfilterwarnings = ignore\n", "test_a.py": PASSES + "def test_x(): return 1 == 2\n"}, "1 test returned something.*test_x", "a test that returns, and warnings are ignored"),
    ("pytest", {"conftest.py": "import pytest\n@pytest.hookimpl(hookwrapper=True)\ndef pytest_runtest_makereport():\n    report = (yield).get_result()\n    report.outcome = 'passed'\n", "test_a.py": PASSES + FAILS}, "1 test raised something and were reported as passed: test_a.py::test_fails", "a conftest.py that excuses"),
    ("pytest", {"pytest.ini": "[pytest]\naddopts = --lf\n", **TWO, ".pytest_cache/v/cache/lastfailed": '{"test_a.py::test_other": true}'}, "Only what failed", "what failed in an earlier run"),
    ("pytest test_a.py test_b.py", {**TWO, "test_b.py": "import pytest\npytest.skip('no map server', allow_module_level=True)\n"}, r"No test passed of test_b.py.*no map server", "one of two files skips itself"),
    ("pytest test_a.py::test_other test_a.py::test_skipped", {"test_a.py": TWO["test_a.py"] + "import pytest\n@pytest.mark.skip\ndef test_skipped(): pass\n"}, "No test passed of test_a.py::test_skipped", "one of two tests is skipped"),
    ("pytest", {"conftest.py": "import os\ndef pytest_runtest_teardown(): os._exit(0)\n", **TWO}, "middle of its session", "os._exit(0) in conftest.py"),
    ("pytest", {"test_a.py": "import pytest\ndef test_x(): pass\ndef test_y(): pytest.exit('enough', returncode=0)\n"}, "1 of 2 selected tests", "pytest.exit with 0"),
    ("pytest", {"conftest.py": "def pytest_sessionstart(session):\n    from _pytest.junitxml import xml_key\n    stash = session.config.stash\n    session.config.pluginmanager.unregister(stash[xml_key])\n    del stash[xml_key]\n", **TWO}, "no readable JUnit report", "no JUnit plugin"),
    ("pytest", {"conftest.py": "import pytest\n@pytest.hookimpl(trylast=True)\ndef pytest_unconfigure(config):\n    open(config.option.xmlpath, 'w').write('<testsuites/>')\n", **TWO}, "the JUnit report has 0 tests that passed", "another JUnit report"),
    ("pytest", {"conftest.py": "import pytest\n@pytest.hookimpl(trylast=True)\ndef pytest_unconfigure(config):\n    open(config.option.xmlpath, 'w').write('<testsuites><testcase>')\n", **TWO}, "no readable JUnit report .no element found", "half a JUnit report"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "files", "quoted"),
    [case[:3] for case in LYING],
    ids=[case[3] for case in LYING],
)
def test_an_exit_code_0_alone_convinces_nobody(
    run: Run, command: str, files: dict[str, str], quoted: str
) -> None:
    result = run(command, files)
    assert result.verdict == "inconclusive", result.why
    assert re.search(quoted, result.why), result.why


def test_tests_taken_out_in_silence_are_counted(run: Run) -> None:
    drops = "def pytest_collection_modifyitems(items): items[:] = items[:1]\n"
    result = run("pytest test_a.py test_a.py::test_passes", {**TWO, "conftest.py": drops})
    assert result.verdict == "passed", result.why
    assert "1 collected tests were taken out of the run in silence" in result.report.said


def test_a_line_with_two_commands_is_not_proven_by_the_first(run: Run) -> None:
    result = run("pytest test_a.py` and `pytest test_b.py", {**TWO, "test_b.py": FAILS})
    assert result.verdict == "inconclusive"
    assert "found 'pytest test_a.py' and 'pytest test_b.py'" in result.why
    assert run("pytest test_a.py` writes `pytest`.`pytest.log", TWO).verdict == "passed"


def test_asserts_are_not_optimised_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started_with(monkeypatch, PYTHONOPTIMIZE="1")
    helper = {"helper.py": "def is_one(number):\n    assert number == 1\n"}
    test = "from helper import is_one\ndef test_x(): is_one(2)\n"
    result = run("python -m pytest", {**helper, "test_a.py": test})
    assert result.verdict == "failed", result.why


def test_the_code_on_disk_is_the_commit_that_is_rehearsed(run: Run, tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "a"], check=True)
    result = run("pytest", TWO, report=make_report("`pytest`", "0" * 40))
    assert result.verdict == "inconclusive"
    assert "and 000000000000 is rehearsed" in result.why
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    report = make_report("`pytest`", head[:10])
    assert run("pytest", TWO, report=report).verdict == "passed"


def test_an_entity_bomb_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "junit.xml"
    bomb.write_text('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>')
    with pytest.raises(ValueError, match="document type"):
        passed_in(bomb)


# What runs, and what is said meanwhile


def test_only_the_line_says_what_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started_with(monkeypatch, PYTEST_ADDOPTS="-k passes", PYTEST_PLUGINS="plugin_of_nobody")
    result = run("pytest test_a.py", TWO)
    assert result.verdict == "passed", result.why
    assert result.report.said.startswith("2 passed")
    assert str(result.report.facts["command"]).endswith("-m pytest test_a.py")


@pytest.mark.parametrize(("head", "verdict"), [("pytest", "inconclusive"), ("python -m pytest", "passed")])  # fmt: skip
def test_the_working_directory_is_importable_as_by_hand(run: Run, head: str, verdict: str) -> None:
    files = {"helper.py": "", "tests/test_a.py": "import helper\n" + PASSES}
    assert run(head, files).verdict == verdict


def test_our_modules_do_not_shadow_the_projects(run: Run) -> None:
    files = {"pytest.ini": "[pytest]\npythonpath = src\n", "src/base.py": "MINE = 1\n"}
    result = run("pytest", files | {"test_a.py": "import base\ndef test_x(): assert base.MINE\n"})
    assert result.verdict == "passed", result.why


def test_progress_is_said_while_it_runs(run: Run, tmp_path: Path) -> None:
    waits = (
        "import pathlib, time\ndef test_a(): assert 0\ndef test_b():\n"
        "    until = time.monotonic() + 20\n"
        "    while not pathlib.Path('go').exists() and time.monotonic() < until: time.sleep(0.05)\n"
    )

    class Listening(Report):
        heard: list[str]

        def progress(self, sentence: str) -> None:
            super().progress(sentence)
            self.__dict__.setdefault("heard", []).append(sentence)
            if sentence.startswith("1 of 2 tests, 1 failed: test_a.py::test_a"):
                (tmp_path / "go").touch()

    report = Listening("`pytest`", make_report("").rehearsal)
    result = run("pytest", {"test_a.py": waits}, report=report)
    assert result.verdict == "failed"
    assert (tmp_path / "go").exists(), report.heard


HANGS = "import pathlib, time\ndef test_hangs():\n    pathlib.Path('begun').touch()\n    time.sleep(60)\n"


def test_a_stopped_run_is_no_verdict(run: Run, tmp_path: Path) -> None:
    report = make_report("`pytest`")
    with stopping_at(tmp_path / "begun", report):
        result = run("pytest", {"test_a.py": HANGS}, report=report)
    assert result.verdict == "inconclusive"
    assert "stopped" in result.why
    assert "It was at test_a.py::test_hangs" in result.why


@pytest.mark.fault("pytest beyond its time", promised="failed, and it names the test it was at")
def test_a_run_that_takes_too_long_has_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pytest, "timeout", 3)
    result = run("pytest", {"test_a.py": HANGS})
    assert isinstance(result.outcome, Failed)
    assert "timed out after 3 s" in result.why


def test_what_the_project_can_see_of_us(run: Run, tmp_path: Path) -> None:
    looks = (
        "import json, os, pathlib, stat\ndef test_x():\n"
        "    path = pathlib.Path(os.environ['REHEARSAL_PYTEST_PROGRESS'])\n"
        "    seen = [str(path), stat.S_IMODE(path.parent.stat().st_mode)]\n"
        "    pathlib.Path('seen').write_text(json.dumps(seen))\n"
    )
    assert run("pytest", {"test_a.py": looks}).verdict == "passed"
    path, mode = json.loads((tmp_path / "seen").read_text())
    assert mode == stat.S_IRWXU
    assert not os.path.exists(path)


# Django


def test_a_django_project_tells_its_settings(run: Run) -> None:
    result = run("pytest --ds=settings", DJANGO)
    assert result.verdict == "passed", result.why
    assert result.report.facts["settings"] == "settings (from --ds)"
    assert result.report.facts["test databases"] == ["sqlite: in memory"]


def test_settings_from_the_configuration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    files = DJANGO | {"pytest.ini": INI + "DJANGO_SETTINGS_MODULE = settings\n"}
    assert run("pytest", files).report.facts["settings"] == "settings (from pytest)"
    started_with(monkeypatch, DJANGO_SETTINGS_MODULE="settings_of_the_worker")
    assert run("pytest", files).report.facts["settings"] == "settings (from pytest)"
    started_with(monkeypatch, DJANGO_SETTINGS_MODULE="settings")
    assert run("pytest", DJANGO).report.facts["settings"] == "settings (from the environment)"


def test_a_test_database_in_a_file_is_this_runs_own(run: Run, tmp_path: Path) -> None:
    files = DJANGO | {
        "settings.py": SETTINGS + 'DATABASES["default"]["TEST"] = {"NAME": "theirs.sqlite3"}\n'
    }
    (tmp_path / "theirs.sqlite3").write_text("another run's")
    result = run("pytest --ds=settings --reuse-db", files)
    assert result.verdict == "passed", result.why
    assert (tmp_path / "theirs.sqlite3").read_text() == "another run's"
    assert [path.name for path in tmp_path.glob("*.sqlite3")] == ["theirs.sqlite3"]


def told_database(result: Result) -> str:
    told = result.report.facts["test databases"]
    assert isinstance(told, list)
    assert len(told) == 1
    return str(told[0])


@pytest.mark.parametrize("option", ["", " --reuse-db"])
def test_a_test_database_on_a_server_is_this_runs_own(run: Run, server: str, option: str) -> None:
    from django.db import connection

    theirs = f"test_{server}"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{theirs}"')
    try:
        result = run(
            f"pytest --ds=settings{option}", DJANGO | {"settings.py": postgresql_settings(server)}
        )
        assert result.verdict == "passed", result.why
        assert databases_like(server) == {theirs}
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{theirs}"')
    told = told_database(result)
    assert re.fullmatch(rf"postgresql: test_{server}_rehearsal_[0-9a-f]{{14}}", told)


def test_a_long_name_keeps_its_token(run: Run, server: str) -> None:
    name = server + "é" * 24
    result = run("pytest --ds=settings", DJANGO | {"settings.py": postgresql_settings(name)})
    assert result.verdict == "passed", result.why
    told = told_database(result)
    assert re.search(r"_rehearsal_[0-9a-f]{14}$", told)
    assert len(told.removeprefix("postgresql: ").encode()) <= 57


def test_five_at_once_do_not_clash(run: Run, server: str) -> None:
    files = DJANGO | {"settings.py": postgresql_settings(server)}
    results: list[Result] = []
    first = run("pytest --ds=settings", files)
    from django.conf import settings

    def again() -> None:
        report = make_report("`pytest --ds=settings`")
        try:
            Pytest().run(report)
        except Outcome as outcome:
            results.append(Result(report, outcome))
        else:
            results.append(Result(report, None))

    root = str(first.report.facts["directory"])
    with override_settings(REHEARSAL={**settings.REHEARSAL, "ROOT": root}):
        threads = [threading.Thread(target=again) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [result.why for result in results] == ["None"] * 5
    assert databases_like(server) == set()


@pytest.mark.fault("pytest cancelled in the middle", promised="no test database is left")
def test_a_cancelled_run_leaves_no_database(run: Run, server: str, tmp_path: Path) -> None:
    hangs = (
        USES_DATABASE + "    import pathlib, time; pathlib.Path('begun').touch(); time.sleep(60)\n"
    )
    files = {"settings.py": postgresql_settings(server), "test_a.py": hangs}
    report = make_report("`pytest --ds=settings`")
    with stopping_at(tmp_path / "begun", report):
        result = run("", DJANGO | files, report=report)
    assert "stopped" in result.why
    assert "was left over and is dropped" in report.output, report.output
    assert databases_like(server) == set()


@pytest.mark.fault(
    "pytest killed amid its tests (SIGKILL)", promised="failed, and no test database is left"
)
def test_a_killed_run_has_failed_and_leaves_no_database(
    run: Run, server: str, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    hangs = (
        f"{PASSES}{USES_DATABASE}    import os, pathlib, time\n"
        "    pathlib.Path('begun').write_text(str(os.getpid()))\n    time.sleep(60)\n"
    )
    seen: set[str] = set()

    def kill() -> None:
        pid = wait_for(lambda: begun.exists() and begun.read_text())
        seen.update(databases_like(server))
        connections.close_all()
        os.kill(int(pid), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    files = {"settings.py": postgresql_settings(server), "test_a.py": hangs}
    result = run("pytest --ds=settings", DJANGO | files)
    thread.join()
    assert len(seen) == 1
    assert result.verdict == "failed"
    assert "SIGKILL" in result.why
    assert databases_like(server) == set()


def test_a_database_of_a_lost_run_is_dropped_by_a_later_one(run: Run, server: str) -> None:
    from django.db import connection

    old = f"test_{server}_rehearsal_{0x5F000000:08x}abcdef"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{old}"')
    result = run("pytest --ds=settings", DJANGO | {"settings.py": postgresql_settings(server)})
    assert result.verdict == "passed", result.why
    assert databases_like(server) == set()


def test_a_role_that_may_not_create_databases(run: Run, server: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {server} LOGIN PASSWORD 'test'")
    try:
        text = postgresql_settings(server) + (
            f"DATABASES['default'].update(USER={server!r}, PASSWORD='test')\n"
        )
        result = run("pytest --ds=settings", DJANGO | {"settings.py": text})
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP ROLE {server}")
    assert isinstance(result.outcome, Inconclusive), result.why
    assert "permission denied to create database" in result.why
