"""The adopted document, performed: what it says is what runs, and no line ticks for nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rehearsal import records, tasks
from rehearsal.models import CheckItem, Status

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])

ADOPTED = Path(__file__).parent / "data" / "staging_rehearsal_checklist.md"
VACUOUS = {
    "3.1": ("pytest -k nothing_has_this_name", "deselected"),
    "3.2": ("pytest test_skipped.py", "skipped"),
    "3.3": ("pytest test_one.py::test_that_is_missing", "not found"),
    "3.4": ("pytest --collect-only", "no test"),
    "5.1": ("pytest -m a_marker_nobody_registered", "deselected"),
}
HONEST = dict.fromkeys(VACUOUS, ("pytest test_one.py", "1 passed"))


def performed(text: str) -> dict[str, CheckItem]:
    """Every pytest line of the document, performed in this process."""
    rehearsal = tasks.start(text, by="tester", revision="abc", only=tuple(VACUOUS))
    for item in CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        tasks.perform.apply((item.pk, item.attempt))
    items = CheckItem.objects.filter(rehearsal=rehearsal).select_related("section")
    return {item.ref: item for item in items}


def with_commands(commands: dict[str, tuple[str, str]]) -> str:
    """The adopted document with another command in each of its pytest lines."""
    wanted = iter(command for command, _said in commands.values())
    text, count = re.subn(r"`pytest [^`]*`", lambda _: f"`{next(wanted)}`", ADOPTED.read_text())
    assert count == len(commands)
    return text


@pytest.fixture(autouse=True)
def project(tmp_path: Path, settings: Any) -> None:
    """A project with one test that passes and one that is skipped."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_one.py").write_text("def test_one():\n    assert True\n")
    skipped = "import pytest\n\n@pytest.mark.skip\ndef test_two():\n    pass\n"
    (tmp_path / "test_skipped.py").write_text(skipped)
    settings.REHEARSAL = {**settings.REHEARSAL, "ROOT": tmp_path}


def test_commands_that_prove_nothing_tick_nothing_and_say_why() -> None:
    items = performed(with_commands(VACUOUS))
    for ref, (_command, said) in VACUOUS.items():
        assert items[ref].status == Status.INCONCLUSIVE, items[ref].summary
        assert said in items[ref].summary.lower(), items[ref].summary
    assert "[x]" not in records.ticked(items["3.1"].rehearsal)


def test_commands_that_prove_something_tick_their_lines() -> None:
    items = performed(with_commands(HONEST))
    assert {items[ref].status for ref in HONEST} == {Status.PASSED}
    ticked = records.ticked(items["3.1"].rehearsal)
    assert ticked.count("- [x]") == len(HONEST)
    assert "  - passed: `1 passed in" in ticked


def test_a_tick_that_came_with_the_document_goes_until_it_is_earned() -> None:
    text = ADOPTED.read_text().replace("- [ ]", "- [x]")
    rehearsal = tasks.start(text, by="tester", revision="abc")
    assert "pending" in set(rehearsal.items.values_list("status", flat=True))
    assert "[x]" not in records.ticked(rehearsal)


def test_a_title_with_control_characters_is_still_xml() -> None:
    rehearsal = tasks.start("## A\x1bB\n- [ ] Water the plants.\n", by="tester", revision="abc")
    (suite,) = ElementTree.fromstring(records.as_junit(rehearsal))
    assert suite.get("name") == "1. AB"


@pytest.mark.parametrize(
    "line",
    [
        "- [ ] Apply migrations: `python manage.py migrate`.\n",
        "- [ ] Restore snapshot to staging (do **not** reset user credentials).\n",
    ],
)
def test_two_lines_that_change_a_database_do_so_one_after_the_other(line: str) -> None:
    rehearsal = tasks.start(f"## A\n{line}## B\n{line}", by="tester", revision="abc")
    assert list(rehearsal.items.values_list("status", flat=True)) == ["queued", "pending"]
