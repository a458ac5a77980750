"""Markup and control characters in whatever others write, shown by a real browser without a policy.

The page forbids scripts by its policy; here none is sent, so that only what we escape protects.
"""

# ruff: noqa: E501  a vector is read best on one line
from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test.testcases import LiveServerThread

from rehearsal import plan, sealing, tasks, views
from rehearsal.checks.base import ACKNOWLEDGE, Report
from rehearsal.journal import change
from rehearsal.models import CheckItem, Choice, Rehearsal, Status
from tests.browser.conftest import browser, window  # noqa: F401
from tests.checks.projects import make_report

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"]),
    pytest.mark.usefixtures("no_worker"),
]

RUN = "window.harmed=(window.harmed||0)+1"
BREAK_OUT = [
    "", "'>", '">', "</pre>", "</title>", "</textarea>", "</script>", "</style>", "-->", "</code>",
    "</td></table>", "{{ x }}", "{% x %}", "&lt;", "\\\">", "'\"><b>",
]  # fmt: skip
HARM = [
    f'<img src=x onerror="{RUN}" data-harm>', f'<svg onload="{RUN}" data-harm></svg>',
    f"<script data-harm>{RUN}</script>", f'<a href="javascript:{RUN}" data-harm>x</a>',
    f'<details open ontoggle="{RUN}" data-harm>x</details>', '<iframe srcdoc="x" data-harm></iframe>',
    f'<form action="javascript:{RUN}" data-harm><button>x</button></form>',
    '<meta http-equiv="refresh" content="0;url=/harmed" data-harm>', "<base href=//evil.example data-harm>",
    '<div hx-get="/harmed" hx-trigger="load" data-harm>x</div>',
    f'<div hx-on:htmx:load="{RUN}" data-harm>x</div>', '<link rel=stylesheet href="/harmed" data-harm>',
    '<p id="item-1-1" hx-swap-oob="true" data-harm>x</p>', f'<math><mi xlink:href="javascript:{RUN}" data-harm>x',
]  # fmt: skip
VECTORS = [before + harm for before in BREAK_OUT for harm in HARM]
ANSI = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "\x9b2J",
    "\x1b[2J\x1b[H", "\x1bc", "\x1b[8mhidden", "\x07\x08\x08", "a\rb", "\x1bPq#0\x1b\\", "\x00", "\x7f",
]  # fmt: skip


@pytest.fixture
def site(browser: Any, transactional_db: None) -> Iterator[str]:  # noqa: F811
    """The tests' project with no policy at all."""
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait(timeout=20)
    assert thread.error is None, thread.error
    yield f"http://127.0.0.1:{thread.port}"
    thread.terminate()


def unescaped(text: str) -> str:
    """Without backslashes: Markdown takes one away from a line's text."""
    return text.replace("\\", "")


def planted() -> Rehearsal:
    """A rehearsal in which every text that somebody else writes holds every vector.

    Each vector has a line. Every other one is waived, the rest wait for a person; of both kinds,
    the first holds all.
    """
    lines = [f"- [ ] {vector} <!-- check: tests.sample_checks.Ends -->\n" for vector in VECTORS]
    rehearsal = tasks.start(f"## 1. {VECTORS[5]}\n" + "".join(lines), by=VECTORS[0], revision="abc")
    for number, item in enumerate(rehearsal.items.all()):
        held = VECTORS[number : number + 1] if number > 1 else VECTORS
        item.output = item.summary = item.note = "\n".join(held)
        item.worker, item.attempt = held[0][:200], 1
        item.evidence = {**{vector: vector for vector in held}, "all": held}
        if number % 2 == 0:
            item.status = Status.FAILED
            item.waived_by, item.waiver_reason = held[0][:200], "\n".join(held)
            item.waived_at = rehearsal.started_at
        else:
            item.status = Status.ACTION_REQUIRED
            item.evidence |= {ACKNOWLEDGE: held}
        item.save()
        for vector in held:
            item.measurements.create(
                rehearsal=rehearsal, name=vector[:200], value=1, unit=vector[:40]
            )
    with change(rehearsal.number, VECTORS[1][:200]) as made:
        for item in rehearsal.items.all()[:3]:
            for vector in VECTORS:
                made.note(vector, item=item)
        made.vote(VECTORS[2][:200], Choice.NO_GO, VECTORS[3], sealing.outcomes(rehearsal))
    return rehearsal


def test_there_are_two_hundred() -> None:
    assert len(VECTORS) >= 200
    assert len(set(VECTORS)) == len(VECTORS)


@pytest.mark.security(
    "markup in every text that others write, in a browser",
    promised="it is shown as text",
)
def test_no_vector_becomes_a_part_of_a_page(window: Any, record_property: Any) -> None:  # noqa: F811
    record_property("tried", len(VECTORS))
    rehearsal = planted()
    at = f"/rehearsal/{rehearsal.number}/"
    opened = window()
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(request.url))
    number = rehearsal.number
    journal = range(-(-rehearsal.events.count() // views.ENTRIES))
    pages = (
        "", "items/1.1/", "items/1.2/", "report.html",
        *(f"journal/?page={page + 1}" for page in journal), f"../compare/{number}/{number}/", "../", "../trends/",
        f"/admin/rehearsal/rehearsal/{number}/change/", "/admin/rehearsal/rehearsal/", "?cancelled",
    )  # fmt: skip
    shown = {
        "": [".rehearsal-line", ".rehearsal-summary"],
        "items/1.1/": ["pre", ".rehearsal-note", ".rehearsal-waiver", ".rehearsal-evidence"],
        "items/1.2/": ["pre", ".rehearsal-note", ".rehearsal-acknowledge"],
        pages[-3]: [".field-text", ".field-summary", ".field-waiver_reason", ".field-message"],
    }
    for path in pages:
        if path == "?cancelled":
            Rehearsal.objects.update(cancelled_by=VECTORS[4][:200])
        if path.endswith("report.html"):  # handed out as a file, and opened from a disk
            opened.page.set_content(opened.page.context.request.get(at + path).text())
        else:
            answer = opened.page.goto(urljoin(at, path))
            assert answer.status == 200, path
        assert opened.page.locator("[data-harm]").count() == 0, path
        assert not opened.page.evaluate("window.harmed || 0"), path
        for place in shown.get(path, []):
            text = unescaped("\n".join(opened.page.locator(place).all_text_contents()))
            missed = [vector for vector in VECTORS if unescaped(vector) not in text]
            assert missed == [], (path, place)
    assert not [url for url in asked if "harmed" in url or "evil.example" in url]


@pytest.mark.security("escape sequences in what a check says", promised="none is kept")
@pytest.mark.parametrize("place", ["output", "said", "evidence"])
def test_no_check_steers_a_terminal_or_a_page(place: str, record_property: Any) -> None:
    record_property("tried", len(ANSI))
    made = make_report("A line.")
    report = Report("A line.", made.rehearsal)
    for text in ANSI:
        report.write(f"before {text} after")
        report.progress(f"before {text} after")
        report.evidence("key", f"before {text} after")
        told = {"output": report.output, "said": report.said, "evidence": str(report.facts["key"])}
        assert all(letter.isprintable() or letter in "\n\t" for letter in told[place]), text


@pytest.mark.security("escape sequences in a name", promised="it is refused")
def test_no_name_steers_a_terminal(record_property: Any) -> None:
    record_property("tried", len(ANSI))
    for text in ANSI:
        with pytest.raises(plan.StartError):
            tasks.start("## A\n- [ ] a\n", by=f"somebody {text}", revision="abc")
    assert not CheckItem.objects.exists()
