"""Results test by test, what weakens a run, and the variables that tests are given."""

# ruff: noqa: E501  a test within a test is read best as it is
from __future__ import annotations

import json
from pathlib import Path

import pytest

from rehearsal import conf
from tests.checks.host import Host
from tests.checks.projects import DJANGO, INI, SETTINGS, Result, Run

USERS = """
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase

@pytest.fixture
def users(db):
    User.objects.bulk_create(User(username=f"user {number}") for number in range(7))

def test_asks_for_each(users):
    for user in User.objects.all():
        User.objects.filter(pk=user.pk).values_list("username").get()

def test_asks_slowly(db):
    connection.connection.create_function("wait", 1, lambda seconds: __import__("time").sleep(seconds))
    connection.cursor().execute("SELECT wait(0.2)")

def test_asks_nothing():
    pass

class Case(TestCase):
    @classmethod
    def setUpTestData(cls):
        User.objects.create(username="someone")
    def test_counts(self):
        with self.assertNumQueries(1):
            self.assertEqual(User.objects.count(), 1)
    def test_fails(self):
        expected = "the planted reason"
        self.assertEqual("a wrong value", expected)
"""


def facts(result: Result, name: str) -> list[str]:
    found = result.report.facts.get(name, [])
    assert isinstance(found, list)
    return found


def test_results_test_by_test(run: Run) -> None:
    result = run("pytest --ds=settings --tb=no -q", DJANGO | {"test_a.py": USERS})
    assert result.verdict == "failed"
    measured = {one.name: one.value for one in result.report.measurements}
    assert measured["test.queries test_a.py::test_asks_for_each"] == 8
    assert measured["test.queries test_a.py::test_asks_nothing"] == 0
    # In the test itself: what its class sets up, and savepoints around it, are not its own.
    assert measured["test.queries test_a.py::Case::test_counts"] == 1
    assert measured["tests.queries"] == 10
    assert 0.2 <= measured["test.seconds test_a.py::test_asks_slowly"] < 2
    assert "0.2" in facts(result, "slowest queries")[0]
    assert "SELECT wait(0.2) (test_a.py::test_asks_slowly)" in facts(result, "slowest queries")[0]
    (repeated,) = facts(result, "most repeated queries")
    assert repeated.startswith('7 times SELECT "auth_user"."username"')
    assert "%s" in repeated
    assert "user 3" not in json.dumps(result.report.facts), "no parameter of a query is shown"
    assert "test_asks_slowly" in facts(result, "slowest tests")[0]
    assert "8 queries test_a.py::test_asks_for_each" in facts(result, "most queries")
    lines = result.report.output.splitlines()
    assert any(
        line.startswith("passed ") and line.endswith("1 queries  test_a.py::Case::test_counts")
        for line in lines
    )
    # pytest itself was told to show no traceback.
    assert "test_a.py::Case::test_fails failed:" in lines
    assert "AssertionError: 'a wrong value' != 'the planted reason'" in result.report.output


def test_queries_are_counted_in_the_workers_of_xdist(run: Run) -> None:
    result = run("pytest --ds=settings -n 2 -k for_each", DJANGO | {"test_a.py": USERS})
    assert result.verdict == "passed", result.why
    measured = {one.name: one.value for one in result.report.measurements}
    assert measured["test.queries test_a.py::test_asks_for_each"] == 8


EAGER = """
from celery import Celery
app = Celery("site")
app.config_from_object({"task_always_eager": %s})
@app.task
def task():
    return 1
def test_task():
    if app.conf.task_always_eager:
        assert task.delay().get() == 1
"""


@pytest.mark.parametrize("eager", [True, False])
def test_eager_celery_is_a_finding(run: Run, eager: bool) -> None:
    result = run("pytest", {"test_a.py": EAGER % eager})
    assert result.verdict == "passed"
    assert any("Celery ran tasks eagerly" in one for one in facts(result, "findings")) is eager
    assert ("weaker than it looks" in result.report.said) is eager


def test_other_findings(run: Run) -> None:
    five = "import pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_n(n): assert n < 1\n"
    result = run("pytest --ds=settings --maxfail=2 --nomigrations", DJANGO | {"test_a.py": five})
    assert result.verdict == "failed"
    said = " ".join(facts(result, "findings"))
    assert "The run ended at 2 failures (--maxfail or -x) after 3 of 5 tests" in said
    assert "not from migrations (--nomigrations)" in said
    enough = run("pytest --ds=settings --maxfail=9", DJANGO | {"test_a.py": five})
    assert not any("maxfail" in one for one in facts(enough, "findings"))


# The environment

LOOKS = """
import json, os, pathlib
def test_x():
    pathlib.Path("seen.json").write_text(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.write("test_a.py", LOOKS)
    host.write("host/celery.py", "import os\nos.environ['SET_BY_CODE'] = '1'\n")
    host.write("pytest.ini", INI)
    return host


def test_tests_get_what_the_worker_was_started_with(host: Host) -> None:
    settings = (host.path / "host/settings.py").read_text()
    chosen = {"CHOSEN": "a value nobody shows", "TAKEN_OUT": None, "DEBUG": "1"}
    host.write("host/settings.py", f"{settings}\nREHEARSAL['TEST_ENVIRONMENT'] = {chosen!r}\n")
    given = {
        "STAGING": "1",
        "DEBUG": "0",
        "TAKEN_OUT": "1",
        "PYTEST_ADDOPTS": "--co",
        "CELERY_LOADER": "x",
        "RUN_MAIN": "true",
    }
    answer = host.perform("smoke.Pytest", "`pytest -p no:hypothesispytest`", **given)
    assert answer.status == "passed", answer.message
    seen = json.loads((host.path / "seen.json").read_text())
    assert (seen["STAGING"], seen["DEBUG"], seen["CHOSEN"]) == ("1", "1", chosen["CHOSEN"])
    assert not {"SET_BY_CODE", "TAKEN_OUT", "PYTEST_ADDOPTS", "CELERY_LOADER", "RUN_MAIN"} & set(
        seen
    )
    assert {"STAGING", "DEBUG", "CHOSEN", "PATH"} <= set(answer.facts["environment"])
    assert answer.facts["environment chosen"] == ["CHOSEN set", "DEBUG set", "TAKEN_OUT taken out"]
    assert "a value nobody shows" not in json.dumps(answer.facts)
    # Neither the line nor pytest.ini names settings, so the worker's count.
    assert answer.facts["settings"] == "host.settings (from the environment)"


def test_settings_can_be_chosen_for_tests(run: Run) -> None:
    files = DJANGO | {
        "pytest.ini": INI + "DJANGO_SETTINGS_MODULE = settings\n",
        "other.py": SETTINGS,
    }
    result = run("pytest", files, TEST_ENVIRONMENT={"DJANGO_SETTINGS_MODULE": "other"})
    assert result.report.facts["settings"] == "other (chosen for tests)"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("TEST_DATABASE", "template", "'migrations' or 'schema' or 'plain' was expected"),
        ("TEST_ENVIRONMENT", "DEBUG=1", "a dict of variables was expected"),
        ("TEST_ENVIRONMENT", {"DEBUG": 1}, "each a string or None"),
    ],
)
def test_wrong_settings(key: str, value: object, expected: str) -> None:
    ((said, _remedy),) = conf.read({key: value})[1]
    assert expected in said
