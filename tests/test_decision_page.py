"""Deciding on the page, what the page says afterwards, and what can be taken home from it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client

from rehearsal import decisions, records, sealing, tasks
from rehearsal.models import CheckItem, Measurement, Rehearsal, Status, Verdict, Vote
from tests.conftest import document

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])
PASSWORD = "correct horse battery staple"
CHECKS = ("Passes", "Ends how=failed", "Ends how=action_required", "SignsOff")


@pytest.fixture
def owner(settings: Any) -> Client:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast
    user = get_user_model().objects.create_user("owner", password=PASSWORD)
    names = ("view_rehearsal", "decide_rehearsal")
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


def begin(*checks: str) -> Rehearsal:
    rehearsal = tasks.start(document(*(checks or CHECKS)), by="starter", revision="abc")
    return work(rehearsal)


def work(rehearsal: Rehearsal) -> Rehearsal:
    while queued := CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        for item in queued:
            tasks.perform.apply((item.pk, item.attempt))
    return Rehearsal.objects.get(pk=rehearsal.pk)


def ready() -> Rehearsal:
    rehearsal = begin()
    decisions.waive(rehearsal.number, "1.2", by="keeper", reason="known <b>")
    decisions.confirm(rehearsal.number, "1.3", by="hand")
    return rehearsal


def decided() -> Rehearsal:
    rehearsal = ready()
    seen = sealing.outcomes(rehearsal)
    decisions.decide(rehearsal.number, "go", by="owner", reason="fine", seen=seen)
    return work(rehearsal)


def post(client: Client, rehearsal: Rehearsal, **data: str) -> str:
    given = {"choice": "go", "reason": "seen", "password": PASSWORD} | data
    given.setdefault("outcomes", sealing.outcomes(rehearsal))
    response = client.post(f"/rehearsal/{rehearsal.number}/decide/", given)
    assert response.status_code == 302
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def text(client: Client, rehearsal: Rehearsal, path: str = "") -> str:
    response = client.get(f"/rehearsal/{rehearsal.number}/{path}")
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_page_asks_shows_what_is_not_sensed_and_takes_a_go(owner: Client) -> None:
    rehearsal = ready()
    shown = text(owner, rehearsal)
    assert "Go or no-go?" in shown
    assert "by keeper until" in shown
    assert "known &lt;b&gt;" in shown
    assert re.search(r"Ticked on a person’s word: <a[^>]*>1\.3</a> by hand", shown)
    outcomes = re.search(r'name="outcomes" value="(\w{64})"', shown)
    assert outcomes is not None
    assert "is decided: go" in post(owner, rehearsal, outcomes=outcomes[1])
    work(rehearsal)
    shown = text(owner, rehearsal)
    assert "Sealed and intact" in shown
    assert "<strong>owner</strong> said go" in shown
    assert "Green" in shown


def test_nothing_is_decided_without_the_own_password(owner: Client) -> None:
    rehearsal = ready()
    get_user_model().objects.create_user("other", password="another password")
    for password in ("", "wrong", "another password"):
        assert "The password is not yours" in post(owner, rehearsal, password=password)
    assert not Vote.objects.exists()
    assert PASSWORD not in json.dumps(list(rehearsal.events.values("message")))


def test_what_changed_since_the_page_was_read_is_looked_at_first(owner: Client) -> None:
    rehearsal = ready()
    outcomes = sealing.outcomes(rehearsal)
    tasks.rerun(rehearsal.number, by="x", ref="1.2")
    work(rehearsal)
    decisions.waive(rehearsal.number, "1.2", by="keeper", reason="another reason")
    assert "changed since you looked" in post(owner, rehearsal, outcomes=outcomes)


def test_a_red_one_offers_no_go_alone_and_a_running_one_nothing(owner: Client) -> None:
    shown = text(owner, begin("Ends how=failed", "SignsOff"))
    assert 'value="no-go"' in shown
    assert 'value="go"' not in shown
    running = tasks.start(document("Passes", "SignsOff"), by="x", revision="abc")
    assert "no-go" not in text(owner, running)


def test_a_broken_seal_is_named_on_the_page(owner: Client) -> None:
    rehearsal = decided()
    rehearsal.items.filter(number=1).update(summary="Changed.")
    shown = text(owner, rehearsal)
    assert "The seal is broken." in shown
    assert "1.1 summary was sealed as" in shown


def test_what_is_taken_home_is_the_sealed_document_to_the_byte(owner: Client) -> None:
    rehearsal = decided()
    evidence = owner.get(f"/rehearsal/{rehearsal.number}/evidence.json").content
    seal = json.loads(text(owner, rehearsal, "evidence.seal"))
    assert hashlib.sha256(evidence).hexdigest() == seal["sha256"]
    assert sealing.signed(evidence.decode(), seal["hmac_sha256"])
    told = json.loads(evidence)
    assert told["sections"][0]["items"][1]["waiver"]["by"] == "keeper"
    assert owner.get(f"/rehearsal/{begin('Passes').number}/evidence.seal").status_code == 404


def test_the_report_stands_alone(owner: Client) -> None:
    rehearsal = decided()
    response = owner.get(f"/rehearsal/{rehearsal.number}/report.html")
    shown = response.content.decode()
    assert (
        response["Content-Disposition"]
        == f'attachment; filename="rehearsal-{rehearsal.number}.html"'
    )
    assert not re.search(r"<(script|link|img)|src=|url\(", shown)
    assert shown.count("☑") == 3
    assert shown.count("☐") == 1
    assert "Waived</strong> by keeper" in shown
    assert "known &lt;b&gt;" in shown
    assert rehearsal.seals.last().sha256 in shown
    assert "Green, with 1 line waived" in shown
    for title, ref in (("Waived, not passed", "1.2"), ("On a person&#x27;s word", "1.3")):
        assert f"{title}</th><td>{ref}</td>" in shown
    rehearsal.items.filter(number=1).update(summary="Changed.")
    shown = owner.get(f"/rehearsal/{rehearsal.number}/report.html").content.decode()
    assert "The seal is broken" in shown
    assert "1.1 summary was sealed as" in shown
    assert 'class="verdict good"' not in shown


@pytest.mark.parametrize(
    ("choice", "line", "stands"),
    [("go", "SignsOff", "Green"), ("go", "SignsOffBadly", "Red"), ("no-go", "SignsOff", "Red")],
)
def test_the_report_that_the_sign_off_attaches_says_what_has_ended(
    choice: str, line: str, stands: str
) -> None:
    rehearsal = begin("Passes", line, "SignsOff")
    seen = sealing.outcomes(rehearsal)
    decisions.decide(rehearsal.number, choice, by="owner", reason="looked at", seen=seen)
    item = rehearsal.items.get(number=2)
    tasks.perform.apply((item.pk, item.attempt))
    rehearsal = Rehearsal.objects.get(pk=rehearsal.pk)
    assert rehearsal.verdict == Verdict.RUNNING
    shown = records.as_html(rehearsal)
    assert f'<p class="word">{stands} so far</p>' in shown
    assert 'class="verdict good"' not in shown
    assert "while the sign-off went on, without the outcome of 1.3." in shown
    assert "without the outcome of" not in records.as_html(work(rehearsal))


def test_what_is_printed_of_a_line_is_bounded_and_says_so() -> None:
    rehearsal = begin("Passes")
    item = rehearsal.items.get()
    item.evidence = {"long": "x" * 5000, "none": []}
    item.save()
    names = [f"series {number}" for number in range(20)]
    item.measurements.bulk_create(
        Measurement(rehearsal=rehearsal, item=item, name=name, value=1 / 3, unit="s")
        for name in names
    )
    shown = records.as_html(rehearsal)
    assert f"<dd>{'x' * 300} …</dd>" in shown
    assert "<dt>none</dt><dd>none</dd>" in shown
    assert "<dd>0.333 s</dd>" in shown
    assert sum(f"<dt>{name}</dt>" in shown for name in names) + 1 == 8  # and its own
    assert "13 more measurements" in shown


def test_junit_says_what_was_waived(owner: Client) -> None:
    root = ElementTree.fromstring(text(owner, decided(), "junit.xml"))
    assert "waived by keeper" in root.findall(".//failure")[0].attrib["message"]


def test_two_are_compared_line_by_line(owner: Client) -> None:
    first = begin("Passes", "Ends how=failed")
    second = begin("Ends how=failed", "Ends how=failed", "Passes")
    shown = owner.get(f"/rehearsal/compare/{first.number}/{second.number}/").content.decode()
    assert "2 of 3 lines ended in another way" in shown
    assert shown.count("<strong>changed</strong>") == 2
    assert "no such line" in shown
    assert owner.get(f"/rehearsal/compare/{first.number}/999999/").status_code == 404


def test_a_rehearsal_says_which_came_later(owner: Client) -> None:
    first, second = begin("Passes"), begin("Passes")
    assert (
        f'<a href="/rehearsal/{second.number}/">Rehearsal {second.number}</a> came later'
        in text(owner, first)
    )
    assert "came later" not in text(owner, second)
    tasks.cancel(tasks.start(document("Passes"), by="x", revision="a").number, by="x")
    assert "came later" not in text(owner, second)


def test_the_overview_says_what_the_gate_does(owner: Client, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "checklist.md").write_text(document(*CHECKS))
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "CHECKLIST": tmp_path / "checklist.md",
        "REVISION": "abc",
    }
    assert "May <code>" not in owner.get("/rehearsal/").content.decode()
    first = decided()
    standing = f"Rehearsal {first.number} is green, decided by owner, sealed and intact."
    assert standing in owner.get("/rehearsal/").content.decode()
    later = tasks.start(document(*CHECKS), by="starter", revision="abc")
    # Nobody may deploy while another runs; nothing is said of what was until it has ended.
    assert standing not in owner.get("/rehearsal/").content.decode()
    tasks.cancel(later.number, by="starter")
    shown = owner.get("/rehearsal/").content.decode()
    assert "There is no go: it was cancelled." in shown
    assert standing in shown
    begin()  # and one more of the same, with a failure
    shown = owner.get("/rehearsal/").content.decode()
    assert "which came later, failed at 1.2" in shown
    assert standing not in shown


def test_a_green_checklist_without_a_sign_off_is_not_decided_by_itself(owner: Client) -> None:
    shown = text(owner, begin("Passes"))
    assert "Not decided yet: go or no-go?" in shown
    assert "starter started it, so somebody else has to say go." in shown


def test_what_has_not_ended_does_not_differ(owner: Client) -> None:
    first = begin("Passes", "Passes")
    second = tasks.start(document("Passes", "Passes"), by="starter", revision="abc")
    shown = owner.get(f"/rehearsal/compare/{first.number}/{second.number}/").content.decode()
    assert "0 of 2 lines ended in another way" in shown


def test_a_waiver_ends_on_the_day_that_was_named(owner: Client) -> None:
    keeper = get_user_model().objects.create_superuser("keeper")
    client = Client()
    client.force_login(keeper)
    rehearsal = begin("Ends how=failed", "Ends how=failed")
    for until, said in (("2020-01-01", "is over"), ("tomorrow", "not on 'tomorrow'")):
        data = {"reason": "known", "until": until}
        response = client.post(f"/rehearsal/{rehearsal.number}/items/1.1/waive/", data)
        assert said in " ".join(str(one) for one in get_messages(response.wsgi_request))
    client.post(
        f"/rehearsal/{rehearsal.number}/items/1.1/waive/", {"reason": "x", "until": "2999-12-31"}
    )
    item = rehearsal.items.get(number=1)
    assert item.waiver["expires_at"].startswith("2999-12-31T15:59:59")
    assert "until 2999-12-31" in text(client, rehearsal, "checklist.md")
