"""7.2: the owners are told by a real mail server what was decided, and never more than is so."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.core.mail.backends import locmem
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend

from rehearsal.checks.base import Exports, Failed, Inconclusive, Rehearsed, Report
from rehearsal.checks.signoff import OwnersTold
from tests.checks.signoff.site import free_port
from tests.mailers import CONSOLE, SMTP

PASSED = {"ref": "1.1", "text": "One.", "status": "passed", "summary": "Seen.", "waiver": None,
          "evidence": {"regressions": ["calendar: 19 to 25 queries"]}}  # fmt: skip
WAIVED = {"ref": "1.2", "text": "Two.", "status": "failed", "summary": "Broke.",
          "waiver": {"reason": "known", "by": "keeper", "expires_at": "2026-12-31T15:59:59"},
          "evidence": {}}  # fmt: skip


class Sink:
    """Takes mail for everybody but `nobody@`."""

    def __init__(self) -> None:
        self.mail: list[tuple[list[str], Any]] = []

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 no such person here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mail.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"


@pytest.fixture
def sink(settings: Any) -> Iterator[Sink]:
    handler, port = Sink(), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "OWNERS": ["owner-1@example.org", "owner-2@example.org"],
        "OWNERS_MAIL": {"HOST": "127.0.0.1", "PORT": port, "FROM": "rehearsal@example.org"},
        "SITE_URL": "https://staging.example.org",
    }
    yield handler
    controller.stop()


def told(choice: str = "go", *items: dict[str, Any]) -> dict[str, Any]:
    vote = {"by": "owner", "choice": choice, "reason": "it is fine"}
    return {
        "rehearsal": 7,
        "environment": "staging",
        "revision": "f" * 40,
        "path": "/rehearsal/7/",
        "decision": {"choice": choice, "by": ["owner"], "votes": [vote]},
        "sections": [{"items": list(items) or [PASSED]}],
    }


def run(rehearsed: dict[str, Any]) -> Report:
    now = datetime.datetime(2025, 10, 3, tzinfo=datetime.UTC)
    files = {"checklist.md": "- [x] One. é\n"}
    report = Report("x", Rehearsed(7, "f", now), exports=lambda: Exports(rehearsed, files))
    OwnersTold().run(report)
    return report


def test_every_owner_is_told_by_himself_with_verdict_link_and_regressions(sink: Sink) -> None:
    report = run(told())
    assert report.said == "2 owners were told: green."
    recipients = [who for who, _mail in sink.mail]
    assert recipients == [["owner-1@example.org"], ["owner-2@example.org"]]
    mail = sink.mail[0][1]
    assert mail["Subject"] == f"[staging] Rehearsal 7: go, green ({'f' * 12})"
    assert mail["From"] == "rehearsal@example.org"
    text = mail.get_body().get_content()
    assert "https://staging.example.org/rehearsal/7/" in text
    assert "1.1 regressions: calendar: 19 to 25 queries" in text
    assert "owner (go): it is fine" in text
    (attached,) = mail.iter_attachments()
    assert attached.get_filename() == "checklist.md"
    assert "é" in attached.get_content()


def test_green_is_never_said_without_what_was_waived(sink: Sink) -> None:
    report = run(told("go", PASSED, WAIVED))
    mail = sink.mail[0][1]
    assert "go, green, with 1 line waived" in mail["Subject"]
    assert "1.2 Two.: known (by keeper until 2026-12-31)" in mail.get_body().get_content()
    assert report.said.endswith("green, with 1 line waived.")


def test_a_no_go_is_told_and_the_line_about_green_is_not_ticked(sink: Sink) -> None:
    with pytest.raises(Failed, match="Staging is not green: no-go by owner"):
        run(told("no-go"))
    assert "no-go, not green" in sink.mail[0][1]["Subject"]


def test_who_was_refused_is_named_and_the_others_are_told(sink: Sink, settings: Any) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "OWNERS": ["nobody@example.org", "b@example.org"]}
    with pytest.raises(Failed, match=r"Not told: nobody@example.org .*550.*Told: b@example.org"):
        run(told())
    assert [who for who, _mail in sink.mail] == [["b@example.org"]]


def test_a_server_that_is_away_tells_nobody(settings: Any) -> None:
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "OWNERS": ["a@example.org"],
        "OWNERS_MAIL": {"HOST": "127.0.0.1", "PORT": free_port()},
    }
    with pytest.raises(Failed, match=r"a@example.org \(ConnectionRefusedError"):
        run(told())


def test_the_environments_own_password_goes_to_no_other_server(
    sink: Sink, mail_by: Callable[..., None]
) -> None:
    # The sink offers no login: whoever tries one fails.
    mail_by(SMTP, host="a", username="staging", password="of-staging-alone", use_tls=True)
    assert run(told()).said == "2 owners were told: green."


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        ({}, "No owners are configured"),
        ({"OWNERS": ["a@example.org"]}, "Mail reaches nobody from here"),
        ({"OWNERS": ["a@example.org"], "OWNERS_MAIL": {"PORT": 25}}, "names no HOST"),
        ({"OWNERS": ["a@example.org"], "OWNERS_MAIL": {"BACKEND": SMTP}}, "names no HOST"),
        (
            {
                "OWNERS": ["a@example.org"],
                "OWNERS_MAIL": {"BACKEND": CONSOLE},
            },
            "Mail reaches nobody from here",
        ),
    ],
)
def test_told_is_only_who_can_be_reached(
    configured: dict[str, Any], said: str, settings: Any
) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, **configured}
    with pytest.raises(Inconclusive, match=said):
        run(told())


def test_the_environments_own_server_is_used_where_none_is_given(
    sink: Sink, settings: Any, mail_by: Callable[..., None]
) -> None:
    given = settings.REHEARSAL["OWNERS_MAIL"]
    mail_by(SMTP, host=given["HOST"], port=given["PORT"])
    settings.REHEARSAL = {**settings.REHEARSAL, "OWNERS_MAIL": {"FROM": given["FROM"]}}
    assert run(told()).said == "2 owners were told: green."
    assert len(sink.mail) == 2


def test_the_environments_own_sink_reaches_no_owner(
    settings: Any, mail_by: Callable[..., None]
) -> None:
    mail_by(SMTP, host="sink.example.org")
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "OWNERS": ["a@example.org"],
        "MAIL_SINKS": ["sink.example.org"],
    }
    with pytest.raises(Inconclusive, match="a sink by MAIL_SINKS"):
        run(told())


class Derived(locmem.EmailBackend):
    """What a project may make of a backend that captures."""


class Sends(EmailBackend):
    """What a project may make of SMTP's."""


class Queues(BaseEmailBackend):
    """A project's own way."""

    def send_messages(self, email_messages: Any) -> int:
        return len(email_messages)


def test_a_backend_made_of_smtps_may_lead_to_a_sink_too(
    settings: Any, mail_by: Callable[..., None]
) -> None:
    mail_by(f"{__name__}.{Sends.__qualname__}", host="sink.example.org")
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "OWNERS": ["a@example.org"],
        "OWNERS_MAIL": {},
        "MAIL_SINKS": ["sink.example.org"],
    }
    with pytest.raises(Inconclusive, match="a sink by MAIL_SINKS"):
        run(told())


def test_a_projects_own_way_is_named(settings: Any) -> None:
    backend = f"{__name__}.{Queues.__qualname__}"
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "OWNERS": ["a@example.org"],
        "OWNERS_MAIL": {"BACKEND": backend},
    }
    assert run(told()).facts["handed to"] == f"{backend}, which may deliver it later"


@pytest.mark.parametrize("given", [True, False])
def test_a_backend_made_of_one_that_captures_tells_no_owner(
    given: bool, settings: Any, mail_by: Callable[..., None]
) -> None:
    backend = f"{__name__}.{Derived.__qualname__}"
    mail_by(backend)
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "OWNERS": ["a@example.org"],
        "OWNERS_MAIL": {"BACKEND": backend} if given else {},
    }
    with pytest.raises(Inconclusive, match="cannot be told"):
        run(told())


# apprise imports a module that Python 3.13 lacks, and looks elsewhere then.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
def test_apprise_tells_its_services_and_names_those_that_refuse(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(403 if self.path == "/closed" else 200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as hook:
        thread = threading.Thread(target=hook.serve_forever, args=(0.02,))
        thread.start()
        at = f"json://someone:hidden-word@127.0.0.1:{hook.server_address[1]}"
        settings.REHEARSAL = {**settings.REHEARSAL, "OWNERS_APPRISE": "TEST_APPRISE"}
        monkeypatch.setenv("TEST_APPRISE", f"{at}/open")
        try:
            report = run(told("go", WAIVED))
            assert report.facts["told"] == ["json 1"]
            assert "with 1 line waived" in heard[0]["title"]
            monkeypatch.setenv("TEST_APPRISE", f"{at}/open {at}/closed nonsense")
            with pytest.raises(Failed, match=r"json 2 \(it refused\); unknown 3 \(its") as refused:
                run(told())
            assert "hidden-word" not in str(refused.value) + report.output
        finally:
            hook.shutdown()
            thread.join(10)
