"""Markdown as people write it, read without loss and returned without a byte changed."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import rehearsal
from rehearsal.checklist import (
    PERSON_CONFIRMS,
    Binding,
    Checklist,
    ChecklistError,
    Outcome,
    bind,
    first_code_span,
    parse,
    render,
)
from tests.fuzzing import cases

ADOPTED = Path(rehearsal.__file__).parent / "checklists" / "staging.md"
OFFICE = Path(__file__).parent / "data" / "staging_rehearsal_checklist.md"
PYTEST = "rehearsal.checks.smoke.Pytest"
MANAGE = "rehearsal.checks.commands.ManagementCommand"


def under_heading(*lines: str) -> Checklist:
    return parse("## 1. Section\n" + "\n".join(lines) + "\n")


def texts(*lines: str) -> list[str]:
    return [item.text for item in under_heading(*lines).items]


def refusal(text: str | bytes) -> str:
    with pytest.raises(ChecklistError) as caught:
        parse(text)
    message = str(caught.value)
    assert re.match(r"Line [1-9]\d*: expected .+\.\Z", message)
    return message


def bound(line: str) -> Binding:
    (binding,) = bind(under_heading(f"- [ ] {line}"), parse(ADOPTED.read_bytes()))
    return binding


def facts(checklist: Checklist) -> list[tuple[str, str, str | None, dict[str, object]]]:
    return [(item.ref, item.text, item.check, item.options) for item in checklist.items]


# The two shipped documents


def test_the_adopted_document_without_its_comments_is_the_offices_to_the_byte() -> None:
    stripped = re.sub(rb" <!-- check: [\w.]+ -->$", b"", ADOPTED.read_bytes(), flags=re.MULTILINE)
    assert stripped == OFFICE.read_bytes()


def test_the_offices_document_runs_as_it_is() -> None:
    office, adopted = parse(OFFICE.read_bytes()), parse(ADOPTED.read_bytes())
    bindings = bind(office, adopted)
    assert [len(section.items) for section in office.sections] == [4, 3, 4, 4, 3, 3, 3]
    assert office.sections[0].title == "Environment & Data Snapshot"
    assert [binding.item for binding in bindings] == list(office.items)
    assert [(b.item.ref, b.check, b.options) for b in bindings] == [
        (item.ref, item.check, item.options) for item in adopted.items
    ]
    assert {binding.note for binding in bindings} == {""}
    assert bindings == tuple(bind(office, adopted))


def test_the_hash_is_of_the_bytes_of_the_file() -> None:
    for data in (OFFICE.read_bytes(), b"\xef\xbb\xbf" + OFFICE.read_bytes()):
        assert parse(data).sha256 == hashlib.sha256(data).hexdigest()


# Reading


@pytest.mark.parametrize("bullet", ["-", "*", "+", "1.", "1)", "  -", "-\t", "-   ", "   7."])
@pytest.mark.parametrize(("box", "ticked"), [("[ ]", False), ("[x]", True), ("[X]", True)])
def test_every_bullet_and_box(bullet: str, box: str, ticked: bool) -> None:
    (item,) = under_heading(f"{bullet} {box} Do *this*.").items
    assert (item.ref, item.text, item.line, item.ticked) == ("1.1", "Do *this*.", 1, ticked)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_ending(end: str) -> None:
    checklist = parse(end.join(["\ufeff## A", "", "- [ ] a\x0bb\x0cc\x85d\u2028e\0f", "- [ ] g"]))
    assert [(item.text, item.line) for item in checklist.items] == [
        ("a\x0bb\x0cc\x85d\u2028e\ufffdf", 2),
        ("g", 3),
    ]


def test_nested_items_come_in_document_order() -> None:
    lines = ("- [ ] a", "    1. [ ] b", "       - [ ] c", "- [ ] d", "- plain", "  - [ ] e")
    assert texts(*lines) == ["a", "b", "c", "d", "e"]
    assert texts("- - [ ] a", "  - [ ] b") == ["a", "b"]


def test_continuation_lines_belong_to_the_text() -> None:
    assert texts("- [ ] a", "  b", "lazy", "", "  another paragraph", "- [ ]", "  c") == [
        "a b lazy another paragraph",
        "c",
    ]
    assert texts("- [ ] a <!-- check: x.Y -->", "", "  two", "  - x", "", "  three", "- [ ] b") == [
        "a two three",
        "b",
    ]
    (item,) = under_heading("- [ ] a", "  b <!-- check: x.Y -->").items
    assert (item.text, item.check) == ("a b", "x.Y")


@pytest.mark.parametrize(
    "lines",
    [
        ("```", "- [ ] no", "```"),
        ("~~~", "- [ ] no", "~~~"),
        ("text", "", "    - [ ] no"),
        ("<div>", "", "</div>", ""),
        ("<!--", "- [ ] no", "-->"),
        ("- a", "", "      - [ ] no"),
        ("- [link](x) `[ ]`", "- [ ](x)", "- [x][y]"),
    ],
)
def test_what_is_not_a_box(lines: tuple[str, ...]) -> None:
    assert texts("- [ ] yes", "", *lines, "", "- [ ] also") == ["yes", "also"]


def test_sections_take_their_own_numbers_where_all_have_one() -> None:
    own = parse("## 3. A\n- [ ] a\n## Notes\ntext\n## 7) B\n### Sub\n- [ ] b\n- [ ] c\n")
    assert [(section.number, section.title) for section in own.sections] == [(3, "A"), (7, "B")]
    assert [item.ref for item in own.items] == ["3.1", "7.1", "7.2"]
    for second in ("B\n---", "## 3. B"):
        ordered = parse(f"## 3. A\n- [ ] a\n\n{second}\n- [ ] b\n")
        assert [(s.number, s.title) for s in ordered.sections] == [(1, "A"), (2, "B")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Line 1: expected at least one line such as"),
        ("## A\n- a\n", "Line 1: expected at least one line such as"),
        ("# T\n\n- [ ] a\n", 'Line 3: expected every box under a "## " heading'),
        ("## A\n- [ ] a\n# T\n- [ ] a\n", 'Line 4: expected every box under a "## " heading'),
        ("## A\n- [ ]\n", "Line 2: expected words"),
        ("## A\n- [ ] <!-- check: a.B -->\n", "Line 2: expected words"),
        ("## A\n- [ ] a\n\n```\n\n- [ ] b\n", "Line 4: expected an end to what begins here"),
        ("## A\n- [ ] a\n  ~~~\n  - [ ] b\n- [ ] c\n", "Line 3: expected an end"),
        ("## A\n- [ ] a\n\n<!-- x\n\n- [ ] b\n", "Line 4: expected an end to what begins here"),
        ("## A\n- [ ] a\n\n<pre>\n\n- [ ] b\n", "Line 4: expected an end to what begins here"),
        ("## A\n- [ ] a\n\n<div>\n- [ ] b\n</div>\n", "Line 4: expected no box in HTML"),
        ("## A\n- [ ] a\n\n<details>\n<summary>x</summary>\n* [x] b\n", "Line 4: expected no box"),
        ("## A\n> - [ ] a\n", "Line 2: expected a plain list, found a box in a blockquote"),
        ("## A\n- [] a\n", "Line 2: expected `- [ ] text`"),
        ("## A\n- [ ] a\n  ---\n", "Line 2: expected `- [ ] text`"),
        ("## A\n- ## [ ] a\n", "Line 2: expected `- [ ] text`"),
        ("## A\n- [ ]a\n", "Line 2: expected `- [ ] text`"),
        ("## A\n-[ ] a\n", "Line 2: expected `- [ ] text`"),
        ("## A\n• [ ] a\n", "Line 2: expected `- [ ] text`"),
        ("## A\n- [ ] a\n      - [ ] b\n", "Line 3: expected `- [ ] text`"),
        ("## A\ntext\n2. [ ] b\n", "Line 3: expected `- [ ] text`"),
        ("## A\n- \x0c[ ] a\n", "Line 2: expected `- [ ] text`, found a stray character"),
        ("## A\n" + "".join("  " * n + "- a\n" for n in range(30)), "expected simple lists"),
        ("## A\n" + "- " * 18 + "[ ] a\n", "Line 2: expected simple lists"),
        (b"## A\n- [ ] caf\xe9\n", "Line 2: expected UTF-8, found byte 0xe9 at byte offset 14"),
        ("## A\n- [ ] a\ud800\n", "Line 2: expected text, found half a surrogate"),
        ("## A".encode("utf-16"), "Line 1: expected UTF-8"),
    ],
)
def test_a_document_that_cannot_be_performed_is_refused(text: str | bytes, words: str) -> None:
    assert words in refusal(text)


def test_ten_thousand_items_are_read_and_rendered_in_seconds() -> None:
    lines = [f"- [ ] Do {n} `pytest x{n}`. <!-- check: a.B n={n} -->\n" for n in range(10_000)]
    started = time.perf_counter()
    checklist = parse("## A\n" + "".join(lines))
    parsed = time.perf_counter() - started
    assert len(checklist.items) == 10_000
    rendered = render(checklist, {item.ref: Outcome(True, ("e",)) for item in checklist.items})
    assert len(rendered.splitlines()) == 20_001
    # Far above what it takes, far below what a quadratic pass would.
    assert parsed < 10


# Binding comments


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {}),
        ("n=3 f=1.5 t=true z=null", {"n": 3, "f": 1.5, "t": True, "z": None}),
        ('a="two words" b=word c=', {"a": "two words", "b": "word", "c": ""}),
        ("""l='["a", 1]' d='{"k": "v"}'""", {"l": ["a", 1], "d": {"k": "v"}}),
        ("a=NaN b=1e999 c=-Infinity", {"a": "NaN", "b": "1e999", "c": "-Infinity"}),
        ("a=x=y", {"a": "x=y"}),
    ],
)
def test_options_are_json_where_they_can_be(options: str, expected: dict[str, object]) -> None:
    (item,) = under_heading(f"- [ ] Do `it`. <!-- check: a.b.C {options} -->").items
    assert (item.text, item.check, item.options) == ("Do `it`.", "a.b.C", expected)


@pytest.mark.parametrize(
    "line",
    [
        "a <!-- note -->",
        "a `<!-- check: a.B -->`",
        r"a \<!-- check: a.B -->",
        "a <!-- Check: a -->",
    ],
)
def test_what_is_no_binding_is_text(line: str) -> None:
    (item,) = under_heading(f"- [ ] {line}").items
    assert (item.text, item.check) == (line, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("- [ ] a <!-- check: -->", "expected a check in the binding comment, found nothing"),
        ("- [ ] a <!-- check: a -->", "expected the dotted path of a check, found 'a'"),
        ("- [ ] a <!-- check: a..B -->", "expected the dotted path of a check, found 'a..B'"),
        ("- [ ] a <!-- check: a.B-c -->", "expected the dotted path of a check, found 'a.B-c'"),
        ("- [ ] a <!-- check: a.B x -->", "expected an option name=value, found 'x'"),
        ("- [ ] a <!-- check: a.B 1=x -->", "expected an option name=value, found '1=x'"),
        ("- [ ] a <!-- check: a.B x=1 x=2 -->", "expected each option once, found `x` twice"),
        ('- [ ] a <!-- check: a.B x="1 -->', "expected closed quotes"),
        ("- [ ] a <!-- check: a.B", "expected the binding comment to end with `-->`"),
        ("- [ ] a <!-- check: a.B --> b", "found text after it: move the comment to the end"),
        ("- [ ] **a <!-- check: a.B -->**", "found text after it: move the comment to the end"),
        ("- [ ] a <!-- check: a.B --> <!-- check: a.C -->", "found text after it"),
        ("- [ ] a\n  <!-- check: a.B -->", "found it on a line of its own"),
        ("- a <!-- check: a.B -->", "found it on a line without one"),
    ],
)
def test_a_malformed_binding_is_refused(line: str, words: str) -> None:
    message = refusal(f"## A\n{line}\n")
    assert words in message
    assert message.startswith("Line 2:") or "\n" in line


# Binding


def test_a_lines_own_comment_comes_first() -> None:
    binding = bound("Snapshot current production database. <!-- check: own.Check a=1 -->")
    assert (binding.check, binding.options, binding.note) == ("own.Check", {"a": 1}, "")


@pytest.mark.parametrize(
    "line",
    [
        "Apply migrations: `python manage.py migrate`.",
        "apply  **migrations:** python manage.py _migrate_",
        "[Apply migrations](x.md): ``python manage.py migrate``!",
    ],
)
def test_an_equal_line_takes_the_adopted_binding(line: str) -> None:
    assert (bound(line).check, bound(line).note) == ("rehearsal.checks.migrations.Apply", "")


@pytest.mark.parametrize(
    ("line", "adopted"),
    [
        ("Create/refresh Project Central workflow and verify tasks render with filters.", "4.1"),
        ("Verify Redis, Celery workers and the beat processes are online", "1.4"),
        ("Confirm no pending database migrations remain.", "2.3"),
        ("Apply the migrations: `python manage.py migrate`.", "2.2"),
        ("Execute `pytest src/other.py` to capture timings.", None),
    ],
)
def test_a_reworded_line_takes_the_adopted_binding_and_says_so(
    line: str, adopted: str | None
) -> None:
    binding = bound(line)
    if adopted is None:
        assert binding.check == PYTEST
        return
    (original,) = [i for i in parse(ADOPTED.read_bytes()).items if i.ref == adopted]
    assert binding.check == original.check
    assert binding.note == f'reworded: taken for the adopted line "{original.text}"'


@pytest.mark.parametrize(
    "line",
    [
        "Snapshot current staging database.",
        "Restore snapshot to production (do **not** reset user credentials).",
        "Restore snapshot to staging (do reset user credentials).",
        "Sync `.env.production` secrets with latest queue/API credentials.",
        "Verify Redis, Celery workers, and beat processes are offline.",
        "Verify Memcached, Celery workers, and beat processes are online.",
        "Stop Redis, Celery workers, and beat processes are online.",
        "Confirm pending migrations remain.",
        "Confirm no pending tasks remain.",
        "Create a WorkItem with resource booking spec and confirm booking appears.",
        "Create/refresh Budget Portal workflow and verify tasks render with filters.",
        "Update `docs/testing/OTHER.md` with outcomes.",
        "Confirm no pending migrations remain: `python manage.py flush`.",
        "Never run `python manage.py flush`.",
        "`python manage.py flush` must not be run here.",
        "`python manage.py unclosed 'quote`",
        "Run `rm -rf /` and `python manage.py migrate`.",
        "Water the plants.",
        # Another thing in the place of one, or beside it.
        "Verify Redis, Celery workers, and web processes are online.",
        "Verify Redis, Celery workers, web and beat processes are online.",
        "Verify Redis, Celery workers, and beat processes are online and monitored.",
        "Verify Redis, Celery workers, and beat processes are online for tenants.",
        "Create a StaffTask with resource booking spec and confirm booking disappears.",
        "Confirm no pending migrations remain unreviewed.",
        # A command that is spoken of, or one of several.
        "Run `pytest a.py` and `pytest b.py`.",
        "Run `pytest -m smoke` and then `python manage.py check`.",
        "Apply migrations: `python manage.py migrate` and `python manage.py migrate --plan`.",
        "Pin `pytest` in the requirements.",
        "Write down when `python manage.py flush` was last used.",
        "Confirm that `pytest tests/test_bug.py` still fails.",
        "`pytest tests/test_bug.py` fails as before.",
        # More than a command's exit shows, or what it shows elsewhere.
        "Run `pytest -m smoke` and email the director.",
        "Deploy to the QA box and run `pytest -m smoke`.",
        "`pytest -m smoke` passes, and the tunnel is up.",
        "Run `pytest a.py` then restart nginx",
        "`pytest a.py` passes on the production server.",
        "If the feature is enabled, run `pytest a.py`.",
        "Run ``pytest 'a b'`` and read `x`.",
        # More than the line in a paragraph below it.
        "Apply migrations: `python manage.py migrate`.\n\n  Not before the office has closed.",
        "Run `pytest -m smoke`.\n\n  Then restart the tunnel.",
    ],
)
def test_anything_else_is_a_persons(line: str) -> None:
    binding = bound(line)
    assert (binding.check, binding.options) == (PERSON_CONFIRMS, {})
    assert binding.note == "no check is bound to this line: a person confirms it"


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("`pytest -k new`", PYTEST),
        ("Core routes \u2014 `pytest -k new`", PYTEST),
        ("Ensure that `pytest -k new` passes.", PYTEST),
        ("Smoke tests via `pytest -k new`", PYTEST),
        ("Run ``pytest 'a b'`` (see `x`, and its notes).", PYTEST),
        ("Run `pytest -k new` and confirm that all tests pass.", PYTEST),
        ("Routes, interfaces and pages: `pytest -k new`", PYTEST),
        ("`python manage.py check --deploy` shows no issues.", MANAGE),
        ("Apply migrations: `python manage.py flush`.", MANAGE),
        ("Apply migrations: `python manage.py migrate --fake`.", MANAGE),
        ("Run `python manage.py showmigrations` and review output.", MANAGE),
        ("Look at pending migrations: `python manage.py migrate --check`.", MANAGE),
    ],
)
def test_a_command_is_run_as_the_line_says(line: str, check: str) -> None:
    binding = bound(line)
    assert (binding.check, binding.options) == (check, {})
    assert binding.note == "not an adopted line: the command it names is run"


@pytest.mark.parametrize(
    ("words", "adopted_words", "bound_alike"),
    [
        (("staging", "production"), ("production", "staging"), False),
        (("table_a", "here"), ("table_b", "here"), False),
        (("node3", "here"), ("node4", "here"), False),
        (("there", "here"), ("yonder", "here"), False),
        (("there", "here"), ("there right", "here"), True),
    ],
)
def test_direction_and_identifiers_are_part_of_what_a_line_says(
    words: tuple[str, str], adopted_words: tuple[str, str], bound_alike: bool
) -> None:
    line = "- [ ] Copy the attached files of the week of the release from {} to {} and compare them"
    adopted = under_heading(line.format(*adopted_words) + " <!-- check: a.B -->")
    (binding,) = bind(under_heading(line.format(*words)), adopted)
    assert binding.check == ("a.B" if bound_alike else PERSON_CONFIRMS)


@pytest.mark.parametrize(
    ("heading", "check"),
    [
        ("8. Production", PERSON_CONFIRMS),
        ("8. Go live", PERSON_CONFIRMS),
        ("8. Production data on staging", "rehearsal.checks.migrations.Apply"),
        ("8. Productivity", "rehearsal.checks.migrations.Apply"),
    ],
)
def test_the_same_words_about_production_are_a_persons(heading: str, check: str) -> None:
    line = "- [ ] Apply migrations: `python manage.py migrate`."
    (binding,) = bind(parse(f"## {heading}\n{line}\n"), parse(ADOPTED.read_bytes()))
    assert binding.check == check
    own = parse(f"## {heading}\n{line} <!-- check: a.B -->\n{line}\n")
    assert [one.check for one in bind(own, parse(ADOPTED.read_bytes()))] == ["a.B", check]


@pytest.mark.parametrize(
    ("above", "check"),
    [
        ("# Production\n## 1. A\n", PERSON_CONFIRMS),
        ("# Production\n## 1. On staging\n", "rehearsal.checks.migrations.Apply"),
        ("## 1. A\n### Production\n", PERSON_CONFIRMS),
        ("## 1. A\n### Production\n### Notes\n", "rehearsal.checks.migrations.Apply"),
        ("## 1. A\n- In production:\n  ", PERSON_CONFIRMS),
        ("## 1. A\n- Production:\n  - x\n- Here:\n  ", "rehearsal.checks.migrations.Apply"),
    ],
)
def test_what_stands_under_production_is_about_production(above: str, check: str) -> None:
    text = f"{above}- [ ] Apply migrations: `python manage.py migrate`.\n"
    assert [one.check for one in bind(parse(text), parse(ADOPTED.read_bytes()))] == [check]


def test_an_adopted_line_serves_one_rewording_the_closest() -> None:
    close = "- [ ] Verify Redis, Celery workers, and the beat processes are online."
    closer = "- [ ] Verify Redis, Celery workers, and beat processes are all right online."
    adopted = parse(ADOPTED.read_bytes())
    checks = [b.check for b in bind(under_heading(close, close), adopted)]
    assert checks == ["rehearsal.checks.environment.ServicesOnline", PERSON_CONFIRMS]
    equal = "- [ ] Verify Redis, Celery workers, and beat processes are online."
    bindings = bind(under_heading(close, equal, equal, closer), adopted)
    assert [b.check == PERSON_CONFIRMS for b in bindings] == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a `b c` `d`", "b c"),
        ("`` a`b ``", "a`b"),
        (r"\`a` b", None),
        ("<a title='`'> `b`", "b"),
        ("[`a`](x)", "a"),
        ("none", None),
    ],
)
def test_the_first_code_span_is_commonmarks(text: str, span: str | None) -> None:
    assert first_code_span(text) == span


# Rendering


def rendered(text: str, *evidence: str, ticked: bool = True) -> str:
    checklist = parse(text)
    outcomes = {item.ref: Outcome(ticked, evidence) for item in checklist.items}
    result = render(checklist, outcomes)
    assert facts(parse(result)) == facts(checklist)
    return result


def test_only_the_box_changes_and_evidence_is_added() -> None:
    checklist = parse("\ufeff## A\r\n- [ ] a <!-- check: a.B -->\r\n* [X] b\r\n* [ ] c\r\n")
    outcomes = {"1.1": Outcome(True, ("4 passed", "in\n3 s")), "1.2": Outcome(False)}
    assert render(checklist, outcomes) == (
        "\ufeff## A\r\n- [x] a <!-- check: a.B -->\r\n"
        "  - `4 passed`\r\n  - `in 3 s`\r\n* [ ] b\r\n* [ ] c\r\n"
    )


def test_evidence_stays_inside_its_item_and_outside_what_follows() -> None:
    assert rendered("## A\n1.\t[ ] a\n   b\n    - [ ] c\n", "e") == (
        "## A\n1.\t[x] a\n   b\n    - `e`\n    - [x] c\n      - `e`\n"
    )
    assert rendered("## A\n- [ ] a\n    ```\n  - [ ] no\n    ```", "e") == (
        "## A\n- [x] a\n  - `e`\n  <!-- -->\n    ```\n  - [ ] no\n    ```"
    )
    assert rendered("## A\r- [ ] a\r\r      - [ ] code", "e") == (
        "## A\r- [x] a\r  - `e`\r  <!-- -->\r\r      - [ ] code"
    )


def test_a_last_line_without_an_ending_keeps_to_the_documents() -> None:
    assert rendered("## A\r\n- [ ] a", "e", "f") == ("## A\r\n- [x] a\r\n  - `e`\r\n  - `f`")


@pytest.mark.parametrize(
    ("evidence", "line"),
    [
        ("redis.memory: 12 bytes", "  - redis.memory: `12 bytes`"),
        ("a: - [ ] b: c", "  - a: `- [ ] b: c`"),
        ("www.example.com: x", "  - `www.example.com: x`"),
        ("`a`", "  - `` `a` ``"),
        ("a``b", "  - ```a``b```"),
        ("- [ ] no\n## no\n```", "  - ```` - [ ] no ## no ``` ````"),
        ("<!-- check: a.B -->", "  - `<!-- check: a.B -->`"),
        ("a\x1b[0m\0\u2028b\u202e\ud800", "  - `a [0m b\ufffd\ufffd`"),
    ],
)
def test_evidence_is_quoted_verbatim(evidence: str, line: str) -> None:
    assert rendered("## A\n- [ ] a\n", evidence) == f"## A\n- [x] a\n{line}\n"


def test_evidence_of_nothing_adds_nothing() -> None:
    assert rendered("## A\n- [ ] a\n", " \n ") == "## A\n- [x] a\n"


def test_an_outcome_of_another_checklist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found 4\.1: render the outcomes"):
        render(parse("## A\n- [ ] a\n"), {"4.1": Outcome(True)})


# Whatever people write. No deadlines: a busy machine is not a slow reader.

PIECES = st.sampled_from(
    [
        *("- [ ] a", "* [x] b", "+ [X] `c`", "1. [ ] d", "2) [ ] e", "- f", "-", "-\t[ ] g"),
        *("[ ] h", "- [ ]", "- [ ] i <!-- check: a.B x=1 -->", "- - [ ] j", "> - [ ] k", "> l"),
        *("## 1. M", "# N", "### O", "text", "===", "---", "```", "~~~", "<div>", "</div>", "<!--"),
        *("-->", "[r]: /x", "[x]: /y", "'title", "| a | b |", "|---|---|", "\x0c", "\0", "\u2028"),
    ]
)
LINES = st.builds(
    lambda indent, piece, end: indent + piece + end,
    st.sampled_from(["", "", "", " ", "  ", "   ", "    ", "      ", "\t", " \t", "          "]),
    PIECES | st.just("") | st.text(max_size=8),
    st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", ""]),
)
MARKDOWN = st.builds(
    lambda mark, lines: mark + "## A\n- [ ] a\n" + "".join(lines),
    st.sampled_from(["", "", "\ufeff", "\ufeff\ufeff"]),
    st.lists(LINES, max_size=12),
)
EVIDENCE = st.lists(st.text(max_size=12) | PIECES, max_size=2).map(tuple)
BLOCKS = MarkdownIt("commonmark", {"maxNesting": 100})


def parsed_or_none(text: str | bytes) -> Checklist | None:
    """Only a ChecklistError may come instead of a checklist."""
    try:
        return parse(text)
    except ChecklistError as error:
        assert str(error).startswith("Line ")
        return None


@cases(100)
@given(st.text() | st.binary() | MARKDOWN)
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    checklist = parsed_or_none(text)
    if checklist is not None:
        data = text if isinstance(text, bytes) else text.encode()
        assert checklist.text.encode() == data
        assert len(bind(checklist, parse(ADOPTED.read_bytes()))) == len(checklist.items)


@cases(400)
@given(MARKDOWN)
def test_rendering_an_unperformed_checklist_is_the_identity(text: str) -> None:
    checklist = parsed_or_none(text)
    if checklist is not None:
        assert render(checklist, {}) == text
        boxes = {item.ref: Outcome(item.ticked) for item in checklist.items}
        assert render(checklist, boxes) == text


def without_evidence(text: str) -> str:
    """What a reader sees, less our bullets: to see that nothing else changed its place."""
    # To a renderer without boxes, "[x]" would be a link where the document defines one.
    text = re.sub(r"\[[xX]\](?!:)", "[ ]", text.removeprefix("\ufeff"))
    html = str(BLOCKS.render(text))
    html = re.sub(
        r"<li>\s*(<p>)?(?:[A-Za-z][\w .-]*: )?<code>.*?</code>(</p>)?\s*</li>", "", html, flags=re.S
    )
    html = html.replace("<!-- -->", "")
    # A list may become loose, begin earlier or be cut in two; what is in it may not change.
    return re.sub(r"\s+|</?p>|</?[uo]l[^>]*>", "", html)


@cases(1500)
@given(MARKDOWN, st.lists(EVIDENCE, min_size=3, max_size=3), st.booleans())
@example("## A\n- [ ] a\n\n      - [ ] code\n", [("e",)] * 3, True)
@example("## A\n-\n     [ ] a\n\n        - [ ] code\n", [("e",)] * 3, True)
@example("## A\n- [ ] a\n - [ ] b\n  - [ ] c\n   - [ ] d\n    e\n", [("e",)] * 3, True)
@example("## A\n- [ ] a\n\n     [r]: /x\n      - [ ] no\n", [("e",)] * 3, True)
@example("\ufeff\ufeff- [ ] a\n## B\n- [ ] b", [("e",)] * 3, True)
def test_rendering_changes_no_item(
    text: str, evidence: list[tuple[str, ...]], ticked: bool
) -> None:
    checklist = parsed_or_none(text)
    if checklist is None:
        return
    outcomes = {
        item.ref: Outcome(ticked, evidence[number % len(evidence)])
        for number, item in enumerate(checklist.items)
    }
    once = render(checklist, outcomes)
    again = parse(once)
    assert facts(again) == facts(checklist)
    assert [item.ticked for item in again.items] == [ticked] * len(checklist.items)
    assert [section.title for section in again.sections] == [s.title for s in checklist.sections]
    assert without_evidence(once) == without_evidence(text)
    twice = parse(render(again, outcomes))
    assert facts(twice) == facts(checklist)


@cases(100)
@given(st.text())
def test_any_evidence_is_one_bullet_with_one_code_span(evidence: str) -> None:
    html = BLOCKS.render(rendered("## A\n- [ ] a\n  - [ ] b\n\n- [ ] c\n", evidence))
    # Folding may leave nothing to show; else it is one bullet under each of the three items.
    assert html.count("<code>") in (0, 3)
    assert html.count("<li>") == 3 + html.count("<code>")
    assert len(
        re.findall(r"<li>\s*(?:<p>)?(?:[A-Za-z][\w .-]*: )?<code>[^<]+</code>", html)
    ) == html.count("<code>")
