"""The page in a real browser, under a strict policy, with a real worker behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session

from rehearsal import access, tasks
from rehearsal.journal import change
from rehearsal.models import CheckItem, Event, Measurement, Rehearsal, Status
from tests.browser.conftest import CUT, Window, sync_api
from tests.conftest import WorkerProcess, document, wait_for
from tests.test_trends import past

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"]),
    pytest.mark.usefixtures("no_worker"),  # where a worker performs, the test names it
]
expect = sync_api.expect

Open = Callable[..., Window]
WITHIN = 10_000
"""Milliseconds in which a change must be seen, also where the machine does much else; how soon it
is seen where it does not, benchmarks/live.py measures."""


def begin(*checks: str) -> Rehearsal:
    return tasks.start(document(*checks), by="tester", revision="abc")


def address(rehearsal: Rehearsal) -> str:
    return f"/rehearsal/{rehearsal.number}/"


def settle(rehearsal: Rehearsal, position: int) -> None:
    """Perform one item in this process, as a worker would."""
    item = CheckItem.objects.get(rehearsal=rehearsal, position=position)
    tasks.perform.apply((item.pk, item.attempt))


def words(page: object) -> list[str]:
    return page.locator(".rehearsal-item .rehearsal-word").all_inner_texts()  # type: ignore[attr-defined]


def test_rows_tick_without_a_reload_soon_after_the_worker_reports(
    window: Open, own_worker: WorkerProcess, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    rehearsal = begin("Passes", f'Runs line="while ! test -e {go}; do sleep .05; done"')
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.evaluate("window.loadedOnce = true")
    second = opened.page.locator("#item-1-2 .rehearsal-word")
    expect(second).to_have_text("running")
    go.touch()
    wait_for(lambda: CheckItem.objects.filter(pk=rehearsal.items.get(number=2).pk, status="passed"))
    expect(second).to_have_text("passed", timeout=WITHIN)
    expect(opened.page.locator(".rehearsal-headline")).to_have_text("Green", timeout=WITHIN)
    expect(opened.page.get_by_role("status")).to_contain_text("Green: 2 of 2 settled.")
    expect(opened.page).to_have_title(re.compile("Green"))
    assert opened.page.evaluate("window.loadedOnce"), "the page was loaded again"
    assert opened.complaints == []


def test_an_opened_line_stays_open_and_what_is_typed_stays_typed(window: Open) -> None:
    rehearsal = begin("Ends how=failed", "Passes", "Passes")
    settle(rehearsal, 0)
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.locator("#item-1-1 > summary").click()
    opened.page.locator("#item-1-1").get_by_text("Waive …").click()
    opened.page.get_by_label("Why is it acceptable that 1.1").fill("known since")
    opened.page.locator("#item-1-2 > summary").click()
    settle(rehearsal, 1)
    expect(opened.page.locator("#item-1-2 .rehearsal-word")).to_have_text("passed", timeout=WITHIN)
    assert opened.page.locator("#item-1-2").get_attribute("open") is not None
    expect(opened.page.locator("#item-1-2-detail")).to_contain_text("everything")
    expect(opened.page.get_by_label("Why is it acceptable that 1.1")).to_have_value("known since")
    assert opened.complaints == []


def test_the_output_of_a_running_line_is_seen_while_it_is_written(window: Open) -> None:
    rehearsal = begin("Passes")
    item = rehearsal.items.get()
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.locator("#item-1-1 > summary").click()
    for said in ("1 of 2 tables", "2 of 2 tables"):
        with change(rehearsal.number, "a worker") as made:
            made.move(item, Status.RUNNING, summary=said, output=f"restored {said}\n")
        expect(opened.page.locator("#item-1-1-detail pre")).to_have_text(
            f"restored {said}\n", timeout=WITHIN
        )
        expect(opened.page.locator("#item-1-1 .rehearsal-summary")).to_have_text(said)
    assert opened.complaints == []


def test_a_line_fetches_its_trends_when_it_is_opened_and_no_other_does(window: Open) -> None:
    for number in (1, 2):
        made = past(number, seconds=number)
    item = CheckItem.objects.create(
        rehearsal=made, section=made.sections.get(), position=1, number=2, text="Other.",
        status=Status.PASSED, check_path="tests.sample_checks.Passes",
    )  # fmt: skip
    Measurement.objects.create(rehearsal=made, item=item, name="seconds", value=1, unit="s")
    opened = window()
    asked: list[str] = []
    opened.page.on("request", lambda one: asked.append(one.url))
    opened.page.goto(address(made), wait_until="networkidle")
    for _ in range(2):  # closed and opened again, it has them
        opened.page.locator("#item-1-1 > summary").click()
        expect(opened.page.locator("#item-1-1").get_by_role("img")).to_have_count(1)
        opened.page.locator("#item-1-1 > summary").click()
    assert [one for one in asked if "trends" in one] == [
        opened.page.url + "items/1.1/trends/"
    ]  # fmt: skip
    assert opened.complaints == []


def test_without_javascript_a_reload_shows_the_same_and_every_form_works(window: Open) -> None:
    rehearsal = begin("Passes", "Ends how=failed", "ListsTwo")
    scripted, plain = window(), window(java_script_enabled=False)
    for opened in (scripted, plain):
        opened.page.goto(address(rehearsal))
        assert words(opened.page) == ["queued"] * 3
    for position in range(3):
        settle(rehearsal, position)
    expect(scripted.page.locator("#item-1-3 .rehearsal-word")).to_have_text("waits for a person")
    plain.page.reload()
    assert words(plain.page) == words(scripted.page)
    for part in (".rehearsal-verdict", "#item-1-2-head", "#section-1-state"):
        assert plain.page.inner_text(part) == scripted.page.inner_text(part)
    plain.page.click("#item-1-3 > summary")
    plain.page.get_by_label("rename 'd'").check()
    plain.page.get_by_role("button", name="confirm 1.3").click()
    assert words(plain.page) == words(scripted.page)  # the browser asks for the other one too
    plain.page.get_by_label("drop <b>a</b>, b & c").check()
    plain.page.get_by_role("button", name="confirm 1.3").click()
    plain.page.click("#item-1-2 > summary")
    plain.page.locator("#item-1-2").get_by_text("Waive …").click()
    plain.page.get_by_label("Why is it").fill("the next release mends it")
    plain.page.get_by_role("button", name="Waive 1.2").click()
    assert words(plain.page) == ["passed", "waived", "confirmed"]
    expect(plain.page.locator(".rehearsal-headline")).to_have_text("Green")


def test_with_javascript_an_answer_changes_the_line_in_place(window: Open) -> None:
    rehearsal = begin("Ends how=action_required", "Ends how=failed")
    settle(rehearsal, 0)
    settle(rehearsal, 1)
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.evaluate("window.loadedOnce = true")
    opened.page.click("#item-1-1 > summary")
    opened.page.get_by_role("button", name="confirm 1.1").click()
    expect(opened.page.locator("#item-1-1 .rehearsal-word")).to_have_text("confirmed")
    expect(opened.page.locator("#rehearsal-messages")).to_contain_text("1.1 is confirmed by")
    assert opened.page.locator("#item-1-1").get_attribute("open") is not None
    # The polling had ended with the last answer; running a line again takes it up.
    expect(opened.page.locator("#rehearsal-cursor[hx-get]")).to_have_count(0)
    opened.page.get_by_role("button", name="Run again what did not pass").click()
    expect(opened.page.locator("#item-1-2 .rehearsal-word")).to_have_text("queued")
    settle(rehearsal, 1)
    expect(opened.page.locator("#item-1-2 .rehearsal-word")).to_have_text("failed", timeout=WITHIN)
    assert opened.page.evaluate("window.loadedOnce"), "the page was loaded again"
    assert opened.complaints == []


def test_a_poll_that_an_answer_overtook_does_not_end_the_polling(window: Open) -> None:
    rehearsal = begin("Passes", "Ends how=failed")
    settle(rehearsal, 0)
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.click("#item-1-1 > summary")
    held: list[sync_api.Route] = []
    opened.page.route("**/rows/?*", lambda route: held.append(route), times=1)
    for _ in range(100):  # until the page asks, which it does each second
        if not held:
            opened.page.wait_for_timeout(50)
    settle(rehearsal, 1)
    late = held[0].fetch()
    assert late.status == 286
    opened.page.locator("#item-1-1").get_by_role("button", name="again").click()
    word = opened.page.locator("#item-1-1 .rehearsal-word")
    expect(word).to_have_text("queued")
    with opened.page.expect_response("**/rows/?*"):
        held[0].fulfill(response=late)
    settle(rehearsal, 0)
    expect(word).to_have_text("passed", timeout=WITHIN)
    assert opened.complaints == []


def test_what_asks_whether_one_really_means_it_stays_open_while_rows_tick(window: Open) -> None:
    rehearsal = begin("Passes", "Passes")
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.get_by_text("Cancel …").click()
    settle(rehearsal, 0)
    expect(opened.page.locator("#item-1-1 .rehearsal-word")).to_have_text("passed", timeout=WITHIN)
    opened.page.get_by_role("button", name="Yes, cancel rehearsal").click(timeout=WITHIN)
    expect(opened.page.locator(".rehearsal-headline")).to_have_text("Cancelled")
    expect(opened.page.get_by_text("Cancel …")).to_have_count(0)
    assert opened.complaints == []


def test_a_decided_rehearsal_is_not_asked_for_again(window: Open) -> None:
    rehearsal = begin("Passes")
    opened = window()
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(request.url))
    opened.page.goto(address(rehearsal))
    settle(rehearsal, 0)
    expect(opened.page.locator(".rehearsal-headline")).to_have_text("Green", timeout=WITHIN)
    polls = len(asked)
    opened.page.wait_for_timeout(2_500)  # nothing can be waited for: nothing may come
    assert len(asked) == polls


def test_the_line_and_the_list_are_live_too(window: Open) -> None:
    rehearsal = begin("Passes", "Passes")
    line, listing = window(), window()
    line.page.goto(address(rehearsal) + "items/1.1/")
    listing.page.goto("/rehearsal/")
    settle(rehearsal, 0)
    expect(line.page.locator(".rehearsal-word")).to_have_text("passed", timeout=WITHIN)
    expect(line.page.locator("#rehearsal-journal")).to_contain_text("running → passed")
    expect(listing.page.locator(".rehearsal-number")).to_have_text("1", timeout=WITHIN)
    assert line.complaints == listing.complaints == []


def test_who_confirms_by_the_keyboard_stays_at_the_line(window: Open) -> None:
    rehearsal = begin("Ends how=action_required", "Ends how=action_required")
    settle(rehearsal, 0)
    settle(rehearsal, 1)
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.locator("#item-1-1 > summary").press("Enter")
    opened.page.get_by_role("button", name="confirm 1.1").press("Enter")
    expect(opened.page.locator("#item-1-1 .rehearsal-word")).to_have_text("confirmed")
    expect(opened.page.locator("#item-1-1 > summary")).to_be_focused()
    expect(opened.page.locator(".rehearsal-message")).to_be_in_viewport()
    assert opened.complaints == []


def test_who_decides_when_signed_out_meanwhile_is_told_that_nothing_was_done(window: Open) -> None:
    rehearsal = begin("Passes")
    settle(rehearsal, 0)
    opened = window()
    opened.page.goto(address(rehearsal))
    reason = opened.page.get_by_label("What does your decision rest on?")
    reason.fill("seen on staging")
    opened.page.get_by_label("Your password, once more").fill("my own password")
    Session.objects.all().delete()
    opened.page.get_by_role("button", name="Go", exact=True).click()
    expect(opened.page.locator(".rehearsal-message")).to_contain_text("nothing was done")
    expect(reason).to_have_value("seen on staging")


def test_who_is_signed_out_meanwhile_is_told_and_brought_back_to_where_they_were(
    window: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LATELY_SECONDS", 3)
    rehearsal = begin("Passes")
    opened = window()
    with opened.page.expect_response("**/rows/**"):
        opened.page.goto(address(rehearsal))
    kept = opened.page.context.cookies(opened.page.url + "rows/")
    assert access.LATELY in {one["name"] for one in kept}
    assert access.LATELY not in opened.page.evaluate("document.cookie")
    Session.objects.all().delete()
    said = opened.page.locator(".rehearsal-message")
    expect(said).to_contain_text("You are signed out, and this page stands still")
    said.get_by_role("link").click()
    opened.page.wait_for_url(f"**/admin/login/?next={address(rehearsal)}")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        *(
            pytest.param(*one, marks=pytest.mark.long)
            for one in ((390, "light"), (1280, "light"), (1280, "dark"))
        ),
    ],
)
def test_nothing_is_wider_than_the_screen_and_the_policy_holds(
    window: Open, scheme: str, width: int
) -> None:
    text = document("Passes", "Ends how=failed") + (
        "- [ ] `pytest src/project_central/tests/test_views.py::MyTasksWithProjectsViewTests` "
        "<!-- check: tests.sample_checks.Passes -->\n"
    )
    rehearsal = tasks.start(text, by="staff-member-12", revision="f" * 40)
    for position in range(3):
        settle(rehearsal, position)
    assert Event.objects.filter(rehearsal=rehearsal).exists()
    opened = window(viewport={"width": width, "height": 800}, color_scheme=scheme)
    number, here = rehearsal.number, address(rehearsal)
    others = (f"{here}items/1.3/", f"{here}journal/", f"/rehearsal/compare/{number}/{number}/")
    for path in ("/rehearsal/", here, *others):
        opened.page.goto(path)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert opened.page.evaluate(CUT) == [], path
    assert opened.complaints == []


@pytest.mark.parametrize("scripted", [True, False])
def test_a_person_decides_on_the_page_and_it_finishes(
    window: Open, settings: Any, scripted: bool
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast
    person = get_user_model().objects.get(username="staff-member-12")
    person.set_password("my own password")
    person.save()
    session = SessionStore(Session.objects.get().session_key)
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.save()
    rehearsal = begin("Passes", "SignsOff")
    settle(rehearsal, 0)
    opened = window(java_script_enabled=scripted)
    opened.page.goto(address(rehearsal))
    opened.page.get_by_label("What does your decision rest on?").fill("seen on staging")
    password = opened.page.get_by_label("Your password, once more")
    password.fill("not my password")
    opened.page.get_by_role("button", name="Go", exact=True).click()
    expect(opened.page.locator(".rehearsal-message")).to_contain_text("The password is not yours")
    opened.page.get_by_label("What does your decision rest on?").fill("seen on staging")
    password.fill("my own password")
    opened.page.get_by_role("button", name="Go", exact=True).click()
    decision = opened.page.locator("#rehearsal-decision")
    expect(decision).to_contain_text("staff-member-12 said go")
    expect(decision).to_contain_text("Sealed and intact")
    settle(rehearsal, 1)
    if not scripted:
        opened.page.reload()
    expect(opened.page.locator(".rehearsal-headline")).to_have_text("Green", timeout=WITHIN)
    assert opened.complaints == []
