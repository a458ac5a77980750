"""Sections in a report of people: theirs stays to the byte, ours is written once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rehearsal.checks.base import Failed
from rehearsal.checks.report_section import cell, markers, report_path, write_section
from tests.checks.projects import make_report

HUMAN = b"# Report\r\n\r\nKept by hand.  \r\n| a | b |\r\n"
BEGIN, END = (marker.encode() for marker in markers("outcomes"))


def write(path: Path, body: str = "- one\n- two\n", name: str = "outcomes") -> bool:
    return write_section(make_report("A line."), path, name, body)


def test_a_section_is_added_once_and_the_rest_stays_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "REPORT.md"
    path.write_bytes(HUMAN)
    assert write(path)
    first = path.read_bytes()
    assert first == HUMAN + b"\r\n" + b"\r\n".join([BEGIN, b"- one", b"- two", END]) + b"\r\n"
    assert not write(path)
    assert write(path, "- three")
    assert path.read_bytes() == first.replace(b"- one\r\n- two", b"- three")
    assert write(path, "other", name="regressions")
    assert path.read_bytes().startswith(HUMAN)
    assert write(path)
    assert path.read_bytes().count(BEGIN) == 1


@hypothesis(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.sampled_from("<!->\n\r #x")))
def test_any_report_and_any_body_survive(tmp_path_factory, human: str, body: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("report") / "REPORT.md"
    path.write_bytes(human.encode())
    assert write(path, body)
    assert path.read_bytes().startswith(human.encode())
    assert not write(path, body)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "not UTF-8"),
        (BEGIN, "found 1 and 0"),
        (END + b"\n" + BEGIN, "found 1 and 1"),
        (BEGIN + END + BEGIN + END, "found 2 and 2"),
    ],
)
def test_what_cannot_be_written_is_left_alone_with_a_sentence(
    tmp_path: Path, there: bytes | None, said: str
) -> None:
    path = tmp_path / "REPORT.md"
    if there is not None:
        path.write_bytes(there)
    with pytest.raises(Failed, match=said):
        write(path)
    assert (path.read_bytes() if path.exists() else None) == there


def test_uncommitted_words_of_people_are_not_mixed_with_ours(tmp_path: Path) -> None:
    path = tmp_path / "REPORT.md"
    path.write_bytes(HUMAN)
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
    identity |= {name.replace("AUTHOR", "COMMITTER"): said for name, said in identity.items()}
    for command in ("init -q", "add .", "commit -q -m one"):
        environ = os.environ | identity
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True, env=environ)
    assert write(path)
    assert write(path, "ours alone has changed since the commit")
    path.write_bytes(path.read_bytes() + b"A person goes on writing.\n")
    with pytest.raises(Failed, match="nobody committed"):
        write(path, "other")
    assert b"other" not in path.read_bytes()


def test_no_secret_is_written(tmp_path: Path) -> None:
    path = tmp_path / "REPORT.md"
    path.write_bytes(HUMAN)
    report = make_report("A line.")
    report._redact = lambda text: text.replace("hunter2", "[redacted]")
    write_section(report, path, "outcomes", "the word is hunter2")
    assert b"hunter2" not in path.read_bytes()


def test_the_line_names_the_report(tmp_path: Path) -> None:
    with override_settings(REHEARSAL={"ROOT": tmp_path}):
        assert report_path("Update `docs/R.md` now.") == tmp_path.resolve() / "docs" / "R.md"
        for line in ("Update the report.", "Update `../../etc/R.md`.", "Run `pytest`."):
            with pytest.raises(Failed):
                report_path(line)


@hypothesis(max_examples=40, deadline=None)
@given(st.text())
def test_a_cell_is_text_and_nothing_else(text: str) -> None:
    html = MarkdownIt("commonmark").enable("table").render(f"| a |\n|---|\n| x{cell(text)}x |\n")
    assert html.count("<td>") == 1
    inside = html.partition("<td>x")[2].partition("x</td>")[0]
    assert "<" not in inside
