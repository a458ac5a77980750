"""A line that names any management command: run, and judged by a person."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehearsal.checks.base import Failed
from rehearsal.checks.commands import words
from tests.checks.host import MANAGE, Host
from tests.fuzzing import cases

CHECK = "commands.ManagementCommand"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.write("stock/management/__init__.py", "")
    host.write("stock/management/commands/__init__.py", "")
    host.write(
        "stock/management/commands/count.py",
        "from django.core.management.base import BaseCommand, CommandError\n"
        "class Command(BaseCommand):\n"
        "    def add_arguments(self, parser):\n"
        "        parser.add_argument('words', nargs='*')\n"
        "    def handle(self, words, **options):\n"
        "        open('ran', 'w').close()\n"
        "        print(len(words), 'words:', words)\n"
        "        if 'nothing' in words: raise CommandError('there is nothing to count')\n",
    )
    return host


def test_exit_code_0_waits_for_a_person(host: Host) -> None:
    found = host.perform(CHECK, "Count with `python manage.py count 'a b' '$HOME;ls'` first.")
    assert found.status == "action_required"
    assert "ran with exit code 0" in found.message
    # As the line says, and through no shell.
    assert "2 words: ['a b', '$HOME;ls']" in found.output
    assert found.facts["exit code"] == 0
    assert "default.sqlite3" in found.facts["database"]


def test_another_exit_code_fails_and_quotes_the_last_line(host: Host) -> None:
    found = host.perform(CHECK, "`python manage.py count nothing`")
    assert found.status == "failed"
    assert "exit code 1" in found.message
    assert "CommandError: there is nothing to count" in found.message


def test_a_command_that_is_unknown_fails(host: Host) -> None:
    found = host.perform(CHECK, "`python manage.py cuont`")
    assert found.status == "failed"
    assert "cuont" in found.message


def test_nothing_runs_on_another_database(host: Host) -> None:
    host.write("manage.py", MANAGE.format(extra='os.environ["HOST_DATABASE"] = "other.sqlite3"'))
    found = host.perform(CHECK, "`python manage.py count`")
    assert found.status == "failed"
    assert "other.sqlite3" in found.message
    assert not (host.path / "ran").exists()


def test_without_manage_py_the_remedy_is_named(host: Host) -> None:
    (host.path / "manage.py").unlink()
    found = host.perform(CHECK, "`python manage.py count`")
    assert found.status == "failed"
    assert "REHEARSAL['MANAGE']" in found.message


@cases(100)
@given(st.lists(st.text("ab -=$;'\"\\é", min_size=1), min_size=1))
def test_a_line_gives_its_own_arguments(arguments: list[str]) -> None:
    assert words(f"Run `python manage.py {shlex.join(arguments)}` now.") == arguments


@cases(100)
@given(st.text("`'\" \\pm", max_size=30) | st.text())
def test_any_other_line_is_a_sentence_with_the_remedy(line: str) -> None:
    with pytest.raises(Failed, match="`python manage.py migrate …`"):
        words(line, "migrate")
