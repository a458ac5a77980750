"""The pages: who may do what, what they show, and that nothing can be smuggled in."""

from __future__ import annotations

import datetime
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connections
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from rehearsal import access, decisions, fragments, page, polling, records, tasks, views, wording
from rehearsal.conf import configuration
from rehearsal.models import CheckItem, Event, Rehearsal, Status, Verdict
from tests.conftest import document
from tests.fuzzing import cases

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])

HTMX = {"HX-Request": "true"}
PAGES = [
    *("", "{n}/", "{n}/rows/", "{n}/items/1.1/", "{n}/checklist.md", "{n}/evidence.json"),
    *("{n}/junit.xml", "{n}/report.html", "{n}/journal/", "compare/{n}/{n}/"),
]
ACTIONS = {
    "start/": "start_rehearsal",
    "{n}/cancel/": "start_rehearsal",
    "{n}/rerun/": "start_rehearsal",
    "{n}/roll-back/": "start_rehearsal",
    "{n}/decide/": "decide_rehearsal",
    "{n}/items/1.1/confirm/": "confirm_checkitem",
    "{n}/items/1.1/waive/": "waive_checkitem",
}


@pytest.fixture(autouse=True)
def _nothing_is_known() -> None:
    """What this process remembers of other tests' rehearsals, whose numbers may come again."""
    fragments._sweep_at.clear()
    polling._pace = polling.Pace(lambda: False)
    polling._standings = polling.Standings()
    polling._fragments = polling.Fragments()


def signed_in(*permissions: str) -> Client:
    user = get_user_model().objects.create_user(f"staff-{'-'.join(permissions) or 'nobody'}")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def client() -> Client:
    """Somebody who may do everything."""
    names = {"view_rehearsal", *ACTIONS.values()}
    return signed_in(*sorted(names))


def begin(*checks: str, text: str = "") -> Rehearsal:
    return tasks.start(text or document(*checks), by="tester", revision="abc123")


def work(rehearsal: Rehearsal) -> None:
    """Perform what is queued, as a worker would, until nothing is."""
    while queued := CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        for item in queued:
            tasks.perform.apply((item.pk, item.attempt))


def at(path: str, rehearsal: Rehearsal | int) -> str:
    number = rehearsal if isinstance(rehearsal, int) else rehearsal.number
    return "/rehearsal/" + path.format(n=number)


def said(response: HttpResponse) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def version(rehearsal: Rehearsal) -> int:
    return Rehearsal.objects.values_list("version", flat=True).get(pk=rehearsal.pk)


def poll(client: Client, rehearsal: Rehearsal, seen: object, **more: object) -> HttpResponse:
    asked = {"seen": seen, **more}
    return client.get(at("{n}/rows/", rehearsal), asked, headers=HTMX)


def rows_in(response: HttpResponse) -> list[str]:
    return re.findall(r'id="(item-[0-9-]+)-head" hx-swap-oob="true"', response.content.decode())


# What is asked, whatever it is.

RUBBISH = st.text(max_size=12) | st.sampled_from(
    ["-1", "0", "1", "99999999999999999999", "1e3", "\u0662", "1.1", "2.", ".1", "banner", "\x00",
     "../1.1", "1.1/", "%00", "last", "<b>", "\ud800".encode("utf-8", "replace").decode()]
)  # fmt: skip
HEADERS = ["HX-Request", "Last-Event-ID", "Accept-Language", "HX-Target", "If-None-Match", "Accept"]


@cases(25)
@given(
    path=st.sampled_from([*PAGES, "{n}/items/{ref}/", "{n}/items/{ref}/trends/", "trends/"]),
    number=st.integers(0, 2) | st.integers(0, 10**30),
    ref=RUBBISH,
    asked=st.dictionaries(
        st.sampled_from(["seen", "of", "elapsed", "page", "next", "x"]), RUBBISH, max_size=4
    ),
    headers=st.dictionaries(st.sampled_from(HEADERS), st.text("a1-*;=,/ \xe9", max_size=9)),
    cookie=RUBBISH,
)
def test_whatever_is_asked_is_answered_or_not_there(
    client: Client, path: str, number: int, ref: str, asked: dict[str, str],
    headers: dict[str, str], cookie: str,
) -> None:  # fmt: skip
    if not Rehearsal.objects.exists():
        begin("Passes")
    there = Rehearsal.objects.values_list("pk", flat=True).get()
    client.cookies[access.LATELY] = quote(cookie)
    address = "/rehearsal/" + path.format(n=number or there, ref=quote(ref, safe=""))
    assert client.get(address, asked, headers=headers).status_code in {200, 204, 286, 302, 404}


# Who may come in.


@pytest.mark.parametrize("path", PAGES)
def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(path: str) -> None:
    address = at(path, begin("Passes"))
    response = Client().get(address)
    assert response.status_code == 302
    assert response["Location"] == f"/admin/login/?next={quote(address)}"


@pytest.mark.parametrize("path", ACTIONS)
def test_a_post_without_signing_in_comes_back_to_a_page_that_can_be_read(path: str) -> None:
    rehearsal = begin("Passes")
    response = Client().post(at(path, rehearsal))
    assert response["Location"] == "/admin/login/?next=/rehearsal/"


@pytest.mark.parametrize("path", [*PAGES, *ACTIONS])
def test_the_refusal_names_the_missing_permission(path: str) -> None:
    address, nobody = at(path, begin("Passes")), signed_in()
    response = nobody.post(address) if path in ACTIONS else nobody.get(address)
    assert response.status_code == 403
    assert b"<code>rehearsal.view_rehearsal</code>" in response.content


@pytest.mark.parametrize("path", PAGES)
def test_who_may_view_sees_every_page(path: str) -> None:
    response = signed_in("view_rehearsal").get(at(path, begin("Passes")))
    assert response.status_code == 200


@pytest.mark.parametrize(("path", "needed"), ACTIONS.items())
def test_each_action_needs_its_own_permission_and_no_other(path: str, needed: str) -> None:
    rehearsal = begin("Ends how=action_required")
    before = version(rehearsal)
    others = sorted({*ACTIONS.values()} - {needed})
    refused = signed_in("view_rehearsal", *others).post(at(path, rehearsal))
    assert refused.status_code == 403
    assert f"<code>rehearsal.{needed}</code>".encode() in refused.content
    assert version(rehearsal) == before
    allowed = signed_in("view_rehearsal", needed).post(at(path, rehearsal))
    assert allowed.status_code == 302


def test_a_reader_is_offered_nothing_to_press() -> None:
    rehearsal = begin("Ends how=action_required", "Ends how=failed")
    work(rehearsal)
    reader = signed_in("view_rehearsal")
    for path in ("", "{n}/", "{n}/items/1.2/", "{n}/rows/"):
        assert b"<button" not in reader.get(at(path, rehearsal)).content, path


def test_a_fragment_that_is_refused_makes_the_page_load_again() -> None:
    response = signed_in().get(at("{n}/rows/", begin("Passes")), headers=HTMX)
    assert (response.status_code, response["HX-Refresh"]) == (403, "true")
    assert not response.content


def test_who_is_signed_out_meanwhile_is_told_and_keeps_the_page() -> None:
    rehearsal = begin("Passes")
    watching = Client().get(at("{n}/rows/", rehearsal), headers=HTMX)
    assert watching.status_code == access.STOP_POLLING
    assert "this page stands still" in watching.content.decode()
    acting = Client().post(at("{n}/decide/", rehearsal), {"reason": "all seen"}, headers=HTMX)
    assert acting.status_code == 200
    assert "<strong>nothing was done</strong>" in acting.content.decode()


@pytest.mark.parametrize("path", ACTIONS)
def test_nothing_is_done_by_a_get(client: Client, path: str) -> None:
    rehearsal = begin("Passes")
    before = version(rehearsal)
    assert client.get(at(path, rehearsal)).status_code == 405
    assert version(rehearsal) == before


def test_looking_changes_nothing(client: Client) -> None:
    rehearsal = begin("Passes", "Ends how=failed", "Passes")
    before = (version(rehearsal), Event.objects.count(), Rehearsal.objects.count())
    for path in PAGES:
        client.get(at(path, rehearsal))
    assert (version(rehearsal), Event.objects.count(), Rehearsal.objects.count()) == before


@pytest.mark.parametrize("path", ["{n}/items/1.1/confirm/", "{n}/cancel/"])
def test_a_forged_form_is_refused(path: str) -> None:
    rehearsal = begin("Passes")
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(get_user_model().objects.create_superuser("root-of-the-tests"))
    assert forger.post(at(path, rehearsal)).status_code == 403
    assert rehearsal.verdict == Verdict.RUNNING


@pytest.mark.parametrize("path", [path for path in [*PAGES, *ACTIONS] if "{n}" in path])
@pytest.mark.parametrize("number", [0, 987654, 10**25])
def test_an_unknown_rehearsal_is_not_found(client: Client, path: str, number: int) -> None:
    address = at(path, number)
    response = client.post(address) if path in ACTIONS else client.get(address)
    assert response.status_code == 404


@pytest.mark.parametrize("ref", ["1.2", "9", "1.1.1", "%0A", "..", "<script>"])
def test_an_unknown_item_is_not_found(client: Client, ref: str) -> None:
    assert client.get(at("{n}/items/" + quote(ref) + "/", begin("Passes"))).status_code == 404


@pytest.mark.parametrize("of", ["1.2", "\x00"])
def test_a_fragment_about_an_unknown_item_is_not_found(client: Client, of: str) -> None:
    rehearsal = begin("Passes")
    assert client.get(at("{n}/rows/", rehearsal), {"of": of}, headers=HTMX).status_code == 404


def test_a_reason_that_cannot_be_stored_is_a_sentence(client: Client) -> None:
    rehearsal = begin("Ends how=failed")
    work(rehearsal)
    response = client.post(at("{n}/items/1.1/waive/", rehearsal), {"reason": "a\x00b"})
    assert "cannot hold this" in said(response)
    assert not rehearsal.items.get().waived_by


# What is seen.


def test_the_banner_says_what_where_who_and_how_far(client: Client) -> None:
    rehearsal = begin("Passes", "Ends how=failed", "Ends how=skipped")
    work(rehearsal)
    text = client.get(at("{n}/", rehearsal)).content.decode()
    for expected in (
        '<span class="rehearsal-headline">Red</span>', "of staging", "abc123", "tester",
        "1 failed, 1 passed, 1 not applicable here.",
        '<span class="rehearsal-number">2</span> of 3',
    ):  # fmt: skip
        assert expected in text


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("failed", "failed"), ("inconclusive", "inconclusive"),
        ("skipped", "not applicable here"), ("action_required", "waits for a person"),
    ],
)  # fmt: skip
def test_every_status_has_its_own_sign_and_word(client: Client, how: str, word: str) -> None:
    rehearsal = begin(f"Ends how={how}")
    work(rehearsal)
    row = client.get(at("{n}/", rehearsal)).content.decode().split('id="item-1-1-head"')[1]
    assert f'<span class="rehearsal-word">{word}</span>' in row
    assert "#rehearsal-sign-passed" not in row


def test_a_waived_item_is_never_shown_as_a_tick(client: Client) -> None:
    rehearsal = begin("Ends how=failed")
    work(rehearsal)
    client.post(at("{n}/items/1.1/waive/", rehearsal), {"reason": "known since last week"})
    row = page.Overview(page.shown(rehearsal.number).get()).rows[0]
    assert (row.sign, row.word) == ("waived", "waived")
    text = client.get(at("{n}/", rehearsal)).content.decode()
    assert "known since last week" in text
    assert "#rehearsal-sign-waived" in text
    assert "#rehearsal-sign-passed" not in text.split('id="item-1-1"')[1]


def test_every_sign_that_an_item_can_have_is_drawn(client: Client) -> None:
    text = client.get("/rehearsal/").content.decode()
    for name in wording.WORDS:
        assert f'id="rehearsal-sign-{name}"' in text


def test_the_item_shows_its_output_evidence_measurements_and_journal(client: Client) -> None:
    rehearsal = begin("Passes", "Ends how=breaks")
    work(rehearsal)
    first = client.get(at("{n}/items/1.1/", rehearsal)).content.decode()
    for expected in ("looked at", "everything", "answer", "42 things", "tests.sample_checks"):
        assert expected in first
    second = client.get(at("{n}/items/1.2/", rehearsal)).content.decode()
    assert "RuntimeError: planted" in second
    assert "queued → running" in second and "running → failed" in second


def test_the_row_holds_the_end_of_a_long_output_and_the_item_page_all_of_it(client: Client) -> None:
    rehearsal = begin("Passes")
    work(rehearsal)
    long = "the beginning" + "x" * page.TAIL + "the end"
    CheckItem.objects.filter(rehearsal=rehearsal).update(output=long)
    row = client.get(at("{n}/", rehearsal)).content.decode()
    assert "the end" in row and "the beginning" not in row
    assert "20 characters come before it" in row
    assert "the beginning" in client.get(at("{n}/items/1.1/", rehearsal)).content.decode()


def test_celerys_record_is_linked_for_those_who_may_see_it(client: Client) -> None:
    from django_celery_results.models import TaskResult

    rehearsal = begin("Passes")
    work(rehearsal)
    item = rehearsal.items.get()
    record = TaskResult.objects.get(task_id=item.task_id)
    link = f"/admin/django_celery_results/taskresult/{record.pk}/change/"
    address = at("{n}/items/1.1/", rehearsal)
    assert link not in client.get(address).content.decode()
    owner = Client()
    owner.force_login(get_user_model().objects.create_superuser("owner"))
    assert link in owner.get(address).content.decode()


def test_the_exports_are_those_of_the_records(client: Client) -> None:
    rehearsal = begin("Passes", "Ends how=failed")
    work(rehearsal)
    document = client.get(at("{n}/checklist.md", rehearsal))
    assert document["Content-Type"] == "text/markdown; charset=utf-8"
    assert f"rehearsal-{rehearsal.number}-checklist.md" in document["Content-Disposition"]
    assert "- [x] Line 1." in document.content.decode()
    evidence = client.get(at("{n}/evidence.json", rehearsal))
    assert json.loads(evidence.content) == records.as_json(rehearsal)


def test_the_history_comes_in_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "HISTORY", 2)
    numbers = []
    for _ in range(3):
        rehearsal = begin("Passes")
        work(rehearsal)
        numbers.append(rehearsal.number)
    first = client.get("/rehearsal/").content.decode()
    assert f'/rehearsal/{numbers[2]}/">{numbers[2]}</a>' in first
    assert f'/rehearsal/{numbers[0]}/">' not in first and "?page=2" in first
    assert f'/rehearsal/{numbers[0]}/">' in client.get("/rehearsal/?page=2").content.decode()
    assert client.get("/rehearsal/?page=nonsense").status_code == 200


@pytest.mark.parametrize("many", [1, 6])
def test_the_number_of_queries_does_not_grow(
    client: Client, django_assert_max_num_queries: Any, many: int
) -> None:
    for _ in range(many):
        work(begin(*["Passes"] * many))
    number = Rehearsal.objects.values_list("pk", flat=True).first()
    for path, limit in (("", 15), ("{n}/", 14), ("{n}/rows/?seen=0", 16)):
        client.get(at(path, number))
        with django_assert_max_num_queries(limit, using="rehearsal"):
            client.get(at(path, number))


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"


def test_nothing_that_a_document_or_a_check_says_becomes_markup(client: Client) -> None:
    text = (
        "# Sample\n\n## 1. A <b>bold</b> section\n"
        f"- [ ] `{EVIL}` {EVIL} [link](javascript:alert(1)) ![picture](http://evil.example/x.png)"
        " <!-- check: tests.sample_checks.Passes -->\n"
    )
    rehearsal = begin(text=text)
    work(rehearsal)
    CheckItem.objects.filter(rehearsal=rehearsal).update(
        status=Status.FAILED, summary=EVIL, output=EVIL, note=EVIL, worker=EVIL,
        evidence={EVIL: [EVIL]}, waived_by=EVIL, waiver_reason=EVIL, waived_at=timezone.now(),
    )  # fmt: skip
    Rehearsal.objects.filter(pk=rehearsal.pk).update(started_by=EVIL, revision=EVIL)
    for path in ("", "{n}/", "{n}/items/1.1/", "{n}/rows/", "{n}/rows/?of=1.1"):
        shown = client.get(at(path, rehearsal)).content.decode()
        assert "&lt;script&gt;" in shown, path
        for forbidden in ("<script>alert", "<img", "<b>", 'href="javascript'):
            assert forbidden not in shown, (path, forbidden)


def test_code_emphasis_and_web_links_in_a_line_are_rendered() -> None:
    assert wording.inline("Run `a < b` **now**") == "Run <code>a &lt; b</code> <strong>now</strong>"
    assert wording.inline("[x](https://a.example/)") == '<a href="https://a.example/">x</a>'
    assert "<a" not in wording.inline("[x](data:text/html,x)")


def test_the_page_asks_for_a_worker_when_none_takes_the_next_check(client: Client) -> None:
    rehearsal = begin("Passes")
    long_ago = timezone.now() - datetime.timedelta(seconds=page.WITHOUT_WORKER_AFTER + 5)
    assert "rehearsal_worker" not in client.get(at("{n}/", rehearsal)).content.decode()
    CheckItem.objects.filter(rehearsal=rehearsal).update(queued_at=long_ago)
    assert "rehearsal_worker" in client.get(at("{n}/", rehearsal)).content.decode()


# What is done.


@pytest.fixture
def short_checklist(settings: Any, tmp_path: Path) -> Path:
    path = tmp_path / "short.md"
    path.write_text(document("Passes"))
    settings.REHEARSAL = {**settings.REHEARSAL, "CHECKLIST": path}
    return path


@pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])
def test_a_start_leads_to_the_new_rehearsal_and_says_that_no_worker_is_there(
    client: Client, short_checklist: Path, no_worker: None
) -> None:
    response = client.post("/rehearsal/start/")
    started = Rehearsal.objects.get()
    assert response["Location"] == f"/rehearsal/{started.number}/"
    assert (
        started.started_by
        == "staff-confirm_checkitem-decide_rehearsal-start_rehearsal-view_rehearsal-waive_checkitem"
    )
    assert started.revision == configuration().revision
    assert "No worker takes checks from the queue 'rehearsal'" in said(response)


def test_a_start_without_a_broker_says_so_and_waits(client: Client, short_checklist: Path) -> None:
    from celery import current_app

    before = current_app.conf.broker_url
    current_app.conf.broker_url = "redis://127.0.0.1:1/0"
    try:
        response = client.post("/rehearsal/start/")
    finally:
        current_app.conf.broker_url = before
    assert "The broker cannot be reached" in said(response)
    assert Rehearsal.objects.get().verdict == Verdict.RUNNING


def test_a_second_start_leads_to_the_open_rehearsal(client: Client, short_checklist: Path) -> None:
    opened = begin("Passes")
    response = client.post("/rehearsal/start/")
    assert response["Location"] == f"/rehearsal/{opened.number}/"
    assert f"rehearsal {opened.number} is open" in said(response)
    assert Rehearsal.objects.count() == 1


@pytest.mark.parametrize("text", ["no boxes at all", "## 1. A\n- [ ] x <!-- check: no.Such -->\n"])
def test_a_document_that_cannot_be_used_is_a_sentence(
    client: Client, short_checklist: Path, text: str
) -> None:
    short_checklist.write_text(text)
    response = client.post("/rehearsal/start/", follow=True)
    assert response.status_code == 200
    assert "rehearsal-message-error" in response.content.decode()
    assert not Rehearsal.objects.exists()


def test_a_missing_document_is_a_sentence_with_its_remedy(
    client: Client, short_checklist: Path
) -> None:
    short_checklist.unlink()
    assert "cannot be read" in said(response := client.post("/rehearsal/start/"))
    assert response["Location"] == "/rehearsal/"


def test_a_confirmation_ticks_in_the_persons_name(client: Client) -> None:
    rehearsal = begin("Ends how=action_required")
    work(rehearsal)
    response = client.post(at("{n}/items/1.1/confirm/", rehearsal))
    assert response["Location"] == f"/rehearsal/{rehearsal.number}/#item-1-1"
    item = rehearsal.items.get()
    assert item.status == Status.PASSED and item.confirmed_by.startswith("staff-")
    assert wording.sign(item) == "confirmed"


def test_what_is_listed_is_a_checkbox_each(client: Client) -> None:
    rehearsal = begin("ListsTwo")
    work(rehearsal)
    text = client.get(at("{n}/", rehearsal)).content.decode()
    names = re.findall(r'name="acknowledged" value="([^"]*)" required', text)
    assert [html.unescape(name) for name in names] == ["drop <b>a</b>, b & c", "rename 'd'"]
    sent = {"acknowledged": [html.unescape(names[0])]}
    assert "Tick each of them" in said(client.post(at("{n}/items/1.1/confirm/", rehearsal), sent))
    sent = {"acknowledged": [html.unescape(name) for name in names]}
    assert "1.1 is confirmed" in said(client.post(at("{n}/items/1.1/confirm/", rehearsal), sent))
    assert rehearsal.items.get().status == Status.PASSED


def test_a_plain_form_returns_to_the_page_it_was_on(client: Client) -> None:
    rehearsal = begin("Ends how=action_required")
    work(rehearsal)
    response = client.post(at("{n}/items/1.1/confirm/", rehearsal), {"of": "1.1"})
    assert response["Location"] == f"/rehearsal/{rehearsal.number}/items/1.1/"
    assert client.post(at("{n}/rerun/", rehearsal), {"of": "banner"})["Location"] == "/rehearsal/"


def test_an_answer_says_which_attempt_it_is_about(client: Client) -> None:
    rehearsal = begin("Ends how=action_required", "Ends how=failed")
    work(rehearsal)
    page = client.get(at("{n}/", rehearsal)).content.decode()
    assert page.count('<input type="hidden" name="attempt" value="1">') == 2
    for ref, sent in (("1.1", {}), ("1.2", {"reason": "known"})):
        verb = "waive" if sent else "confirm"
        path = at(f"{{n}}/items/{ref}/{verb}/", rehearsal)
        assert "ran again" in said(client.post(path, {**sent, "attempt": "0"}))
        assert f"{ref} is " in said(client.post(path, {**sent, "attempt": "1"}))


@pytest.mark.parametrize(
    ("reason", "why"),
    [("", "needs a reason"), ("   ", "needs a reason"), ("x" * 2001, "shorten it")],
)
def test_a_waiver_without_a_reason_that_can_be_kept_is_refused_in_words(
    client: Client, reason: str, why: str
) -> None:
    rehearsal = begin("Ends how=failed")
    work(rehearsal)
    response = client.post(at("{n}/items/1.1/waive/", rehearsal), {"reason": reason})
    assert why in said(response)
    assert not rehearsal.items.get().waived_by


@pytest.mark.parametrize("path", ["{n}/items/1.1/confirm/", "{n}/items/1.1/waive/",
                                  "{n}/items/7.7/waive/"])  # fmt: skip
def test_what_cannot_be_done_now_is_a_sentence(client: Client, path: str) -> None:
    rehearsal = begin("Passes")
    work(rehearsal)
    response = client.post(at(path, rehearsal), {"reason": "because"}, follow=True)
    assert response.status_code == 200
    assert "rehearsal-message-error" in response.content.decode()


def test_one_line_or_all_that_did_not_pass_run_again(client: Client) -> None:
    rehearsal = begin("Passes", "Ends how=failed", "Ends how=inconclusive")
    work(rehearsal)
    client.post(at("{n}/rerun/", rehearsal), {"ref": "1.1"})
    attempts = rehearsal.items.values_list("attempt", flat=True)
    assert list(attempts) == [2, 1, 1]
    work(rehearsal)
    client.post(at("{n}/rerun/", rehearsal))
    assert list(attempts.all()) == [2, 2, 2]


def test_a_cancelled_rehearsal_says_who_cancelled_it_and_offers_nothing(client: Client) -> None:
    rehearsal = begin("Passes")
    client.post(at("{n}/cancel/", rehearsal))
    rehearsal.refresh_from_db()
    assert rehearsal.verdict == Verdict.CANCELLED
    text = client.get(at("{n}/", rehearsal)).content.decode()
    assert "Cancelled by staff-" in text and "<button" not in text
    assert "nothing left to cancel" in said(client.post(at("{n}/cancel/", rehearsal)))


def test_an_action_by_htmx_brings_what_changed_and_what_to_say(client: Client) -> None:
    rehearsal = begin("Ends how=action_required", "Ends how=action_required")
    work(rehearsal)
    response = client.post(
        at("{n}/items/1.2/confirm/", rehearsal), {"seen": version(rehearsal)}, headers=HTMX
    )
    assert (response.status_code, rows_in(response)) == (200, ["item-1-2"])
    assert "1.2 is confirmed by" in response.content.decode()


def test_a_rerun_by_htmx_starts_the_polling_again(client: Client) -> None:
    rehearsal = begin("Ends how=failed")
    work(rehearsal)
    asked = {"seen": version(rehearsal)}
    response = client.post(at("{n}/rerun/", rehearsal), asked, headers=HTMX)
    assert 'hx-trigger="every 1s"' in response.content.decode()


@pytest.mark.parametrize("ref", ["1.1\r\nSet-Cookie: a=b", "//evil.example", "<x>"])
def test_a_reference_from_outside_stays_an_anchor(client: Client, ref: str) -> None:
    rehearsal = begin("Passes")
    location = client.post(at("{n}/rerun/", rehearsal), {"ref": ref})["Location"]
    assert location.startswith(f"/rehearsal/{rehearsal.number}/#item-")
    assert "\n" not in location


# Inside another project.

HOST = (
    "<!doctype html><title>{% block title %}{% endblock %}</title>"
    "<header>The host</header>{% block content %}{% endblock %}"
)


def test_the_pages_stand_inside_the_projects_own_template(client: Client, settings: Any) -> None:
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                **settings.TEMPLATES[0]["OPTIONS"],
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"host.html": HOST}),
                    "django.template.loaders.app_directories.Loader",
                ],
            },
        }
    ]
    settings.REHEARSAL = {**settings.REHEARSAL, "BASE_TEMPLATE": "host.html"}
    for path in ("", "{n}/"):
        text = client.get(at(path, begin("Passes") if path else 0)).content.decode()
        assert text.startswith("<!doctype html>") and "The host" in text
        assert "rehearsal/rehearsal.css" in text and "htmx-2.min.js" in text


@pytest.fixture
def project_database_away(no_worker: None) -> Iterator[None]:
    """The project's database refuses everybody, as it does while a restore swaps it."""
    if connections["default"].vendor != "postgresql":
        pytest.skip("Only a server can be away.")
    name = connections["default"].settings_dict["NAME"]
    with connections["rehearsal"].cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        yield
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    connections["default"].close()


@pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"])
@pytest.mark.fault(
    "project's database away, page asked for", promised="503 with Retry-After, no 500"
)
def test_while_the_projects_database_is_swapped_the_page_asks_for_patience(
    client: Client, no_worker: None, request: pytest.FixtureRequest
) -> None:
    rehearsal = begin("Passes")
    request.getfixturevalue("project_database_away")
    response = client.get(at("{n}/", rehearsal))
    assert (response.status_code, response["Retry-After"]) == (503, "3")
    assert b'http-equiv="refresh"' in response.content
    assert client.post(at("{n}/cancel/", rehearsal)).status_code == 503


def test_measurements_lose_nothing_that_is_whole_and_show_no_noise() -> None:
    shown = [
        wording.measured(*one)
        for one in [(400.0, "accounts"), (1136550.0, "bytes"), (0.51668818, "seconds"),
                    (0.0285278, "seconds"), (1234.56789, "ms"), (0.0, "rows"), (-3.0, "rows")]
    ]  # fmt: skip
    assert shown == [
        "400 accounts", "1136550 bytes (1.1 MB)", "0.517 seconds", "0.0285 seconds",
        "1234.568 ms", "0 rows", "-3 rows",
    ]  # fmt: skip


@pytest.mark.parametrize("lines", [1, 24, 100, 101, 250])
def test_the_bar_of_progress_has_a_part_for_each_line_or_the_most_urgent_of_several(
    lines: int,
) -> None:
    rehearsal = begin(*["Passes"] * lines)
    CheckItem.objects.filter(rehearsal=rehearsal).update(status=Status.PASSED)
    CheckItem.objects.filter(rehearsal=rehearsal, position=lines - 1).update(status=Status.FAILED)
    parts = page.Overview(page.shown(rehearsal.number).get()).segments
    assert len(parts) == lines if lines <= page.MOST_SEGMENTS else len(parts) <= page.MOST_SEGMENTS
    assert set(parts[:-1]) <= {"passed"} and parts[-1] == "failed"


def took(item: CheckItem, seconds: float) -> None:
    ended = item.started_at + datetime.timedelta(seconds=seconds)  # type: ignore[operator]
    CheckItem.objects.filter(pk=item.pk).update(finished_at=ended)


def test_each_line_says_how_long_it_took_last_time() -> None:
    numbered = "".join(
        f"- [ ] Line {n}. <!-- check: tests.sample_checks.Passes -->\n" for n in "123"
    )
    before = begin(text="## 1. First\n" + numbered + "- [ ] Somebody looks.\n")
    for item in before.items.all():
        tasks.perform.apply((item.pk, item.attempt))
    decisions.confirm(before.number, "1.4", by="hand")
    for item, seconds in zip(before.items.all(), (1.2, 75, 3600, 9999), strict=True):
        took(item, seconds)
    # The second line moved, the third was bound anew, and one was added.
    after = begin(
        text="## 1. First\n- [ ] New. <!-- check: tests.sample_checks.Passes -->\n"
        "- [ ]  line  2. <!-- check: tests.sample_checks.Passes -->\n"
        "- [ ] Line 1. <!-- check: tests.sample_checks.Passes -->\n"
        "- [ ] Line 3. <!-- check: tests.sample_checks.Ends how=failed -->\n- [ ] Somebody looks.\n"
    )
    client = signed_in("view_rehearsal", "start_rehearsal")

    def shown() -> dict[str, str]:
        with CaptureQueriesContext(connections["rehearsal"]) as asked:
            html = client.get(after.get_absolute_url()).content.decode()
        counts.append(len(asked))
        heads = re.findall(r'id="item-1-(\d)-head".*?</span>\n</span>', html, re.DOTALL)
        rows = re.split(r'id="item-1-\d-head"', html)[1:]
        found = {
            n: re.search(r"last time ([^<]+)<", row) for n, row in zip(heads, rows, strict=True)
        }
        return {n: told[1] for n, told in found.items() if told}

    counts: list[int] = []
    assert shown() == {}  # nothing has begun
    for item in after.items.all():
        tasks.perform.apply((item.pk, item.attempt))
    assert shown() == {"2": "1 min 15 s", "3": "1.2 s"}
    assert counts[1] <= counts[0] + 1
    CheckItem.objects.filter(rehearsal=after, number=3).update(status="running", finished_at=None)
    assert shown()["3"] == "1.2 s"
    tasks.cancel(begin("Passes").number, by="tester")  # it is not compared with
    assert page.Overview(page.shown(begin("Passes").number).get()).previous == after.number


def test_the_journal_is_on_the_page_the_newest_first_and_whole_on_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "JOURNAL", 2)
    monkeypatch.setattr(views, "ENTRIES", 3)
    rehearsal = begin("Ends how=action_required")
    work(rehearsal)
    client = signed_in("view_rehearsal")

    def told(html: str) -> list[str]:
        body = html[html.index('id="rehearsal-journal"') :]
        return re.findall(r">([^<]*)</td><td>[^<]*</td></tr>", body)

    shown = client.get(at("{n}/", rehearsal)).content.decode()
    assert told(shown) == ["running → action required", "queued → running"]
    rehearsal.refresh_from_db()
    assert f"has {rehearsal.journal_length} entries" in shown
    whole = client.get(at("{n}/journal/", rehearsal)).content.decode()
    assert told(whole) == ["", "pending → queued", "queued → running"]
    rest = client.get(at("{n}/journal/?page=2", rehearsal)).content.decode()
    assert told(rest)[-1] == "running → action required"
    # A poll brings what is new, and nothing of it when only the clock went on.
    assert b"rehearsal-journal" in poll(client, rehearsal, 0).content
    assert (
        b"rehearsal-journal" not in poll(client, rehearsal, version(rehearsal), elapsed=0).content
    )
