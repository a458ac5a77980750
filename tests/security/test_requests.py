"""Where our requests go: to the address that a setting names, and nowhere it points to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rehearsal import conf, decisions
from rehearsal.checks.base import Inconclusive
from rehearsal.checks.environment.sink import Sink
from rehearsal.checks.observability.web import NoAnswer, get_json
from rehearsal.checks.signoff.forges import ForgeError, HandOver, forge
from rehearsal.checks.visitor import Visitor

HARMFUL = [
    "file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1:6379/_FLUSHALL", "//127.0.0.1/a",
    "javascript:alert(1)", "data:text/plain,a", "http://user:secret@127.0.0.1/", "http://127.0.0.1:0",
    "http://[::1", "http://", "jar:http://127.0.0.1!/", "http://a b/", "http://127.0.0.1/?token=a",
]  # fmt: skip


@contextmanager
def serving(location: str = "") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that sends everybody elsewhere, or answers `{}`; and the headers it was sent."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(dict(self.headers.items()))
            self.send_response(302 if location else 200)
            self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def pointed() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that points to another one, and what that other one was asked."""
    with ExitStack() as stack:
        address, asked = stack.enter_context(serving())
        pointing, _ = stack.enter_context(serving(f"{address}/elsewhere"))
        yield pointing, asked


@pytest.mark.security("a monitor that redirects", promised="it is not followed")
def test_a_monitor_that_points_elsewhere_is_not_followed(pointed: Any) -> None:
    with pytest.raises(NoAnswer, match="redirect"):
        get_json(f"{pointed[0]}/api/v1/rules", {"Authorization": "Bearer secret"})
    assert pointed[1] == []


@pytest.mark.security("a release ticket that redirects", promised="it is not followed")
@pytest.mark.parametrize("ticket", ["/o/r/issues/1", "/o/r/-/issues/1", "/browse/REL-1"])
def test_a_ticket_that_points_elsewhere_is_not_followed(ticket: str, pointed: Any) -> None:
    with pytest.raises((ForgeError, HandOver)):
        forge(pointed[0] + ticket, "secret").prove_open()
    assert pointed[1] == []


@pytest.mark.security("a mail catcher that redirects", promised="it is not followed")
def test_a_mail_catcher_that_points_elsewhere_is_not_followed(pointed: Any, settings: Any) -> None:
    settings.REHEARSAL = {"MAIL_SEEN_IN": pointed[0] + "/search?query={address}"}
    with pytest.raises(Inconclusive, match="302"):
        Sink(0)
    assert pointed[1] == []


@pytest.mark.security("a page that redirects", promised="it is not followed")
def test_a_page_that_points_elsewhere_is_not_followed(pointed: Any) -> None:
    answer = Visitor(pointed[0], {"sessionid": "secret"}, "token", "rehearsal").get("/a")
    assert (answer.status, answer.location) == (302, "/elsewhere")
    assert pointed[1] == []


@pytest.mark.security("harmful addresses in settings", promised="they are refused")
@pytest.mark.parametrize("address", HARMFUL)
def test_what_is_no_web_address_is_refused_by_the_settings(address: str) -> None:
    for setting in ({"SITE_URL": address}, {"MONITORING": [{"kind": "grafana", "url": address}]}):
        assert conf.read(setting)[1], setting


@pytest.mark.security("harmful addresses of tickets", promised="a person attaches the files")
@pytest.mark.parametrize("address", HARMFUL)
def test_what_is_no_ticket_is_handed_to_a_person(address: str) -> None:
    with pytest.raises(HandOver):
        forge(address + "/o/r/issues/1", "secret")


@pytest.mark.security("tickets without https", promised="no token is sent")
@pytest.mark.parametrize(
    "address", ["http://office.example/o/r/issues/1", "http://10.0.0.1/o/r/issues/1"]
)
def test_a_token_never_goes_unencrypted_to_another_machine(address: str) -> None:
    with pytest.raises(HandOver, match="not reached by https"):
        forge(address, "secret")


@pytest.mark.security("tickets named to reach elsewhere", promised="they are refused")
@pytest.mark.parametrize(
    "name", ["../x", "1/../2", "evil.example/a", "@evil", "1?a", "1#a", "%2e%2e", "a\n1"]
)
def test_nobody_who_decides_makes_an_address(name: str) -> None:
    with pytest.raises(decisions.Refused, match="number or key"):
        decisions.decide(1, "go", by="owner", reason="x", seen="", ticket=name)


@pytest.mark.security("modes of folders and files", promised="they are for their user alone")
def test_what_is_kept_is_for_its_user_alone_whoever_made_the_folder(
    settings: Any, tmp_path: Path
) -> None:
    top = tmp_path / "open to all"
    top.mkdir(mode=0o755)
    top.chmod(0o755)
    settings.REHEARSAL = {"FOLDER": top}
    made = conf.folder("snapshots", "staging", "rehearsal-1")
    for folder in (made, made.parent, made.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
