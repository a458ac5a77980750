"""Where captured mail is seen: Django's files, a worker's log, a mail catcher's search."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from django.core import mail

from rehearsal.checks.base import Inconclusive
from rehearsal.checks.environment.mail import default_mailer
from rehearsal.checks.environment.sink import Sink
from tests.mailers import FILES

ADDRESS = "someone-4711@rehearsal-check.invalid"
OTHER = "nobody@example.invalid"


@pytest.fixture
def seen_in(settings: Any) -> Any:
    """Names where captured mail is seen."""

    def name(where: object) -> Sink:
        settings.REHEARSAL = {**settings.REHEARSAL, "MAIL_SEEN_IN": where}
        return Sink(since=time.time())

    return name


def test_the_files_of_django_need_not_be_named(
    mail_by: Callable[..., None], tmp_path: Path
) -> None:
    mail_by(FILES, file_path=str(tmp_path / "mail"))
    sink = Sink(since=time.time())
    with default_mailer() as connection:
        for to in ([ADDRESS], [ADDRESS], [OTHER, f"x{ADDRESS}"]):
            connection.send_messages([mail.EmailMessage("Of you", f"Not To: {OTHER}", to=to)])
    assert sink.count([ADDRESS]) == {ADDRESS: 3}
    assert sink.count([OTHER, "else@example.invalid"]) == {OTHER: 1, "else@example.invalid": 0}


def test_a_backend_that_cannot_be_imported_writes_no_files(mail_by: Callable[..., None]) -> None:
    mail_by("nowhere.Backend")
    with pytest.raises(Inconclusive, match="Captured mail cannot be seen"):
        Sink(since=time.time())


def test_a_log_file_of_a_worker(seen_in: Any, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text(
        f"[2025-10-03 10:00:00,000: WARNING/ForkPoolWorker-1] To: {ADDRESS}\n"
        f"[2025-10-03 10:00:00,000: WARNING/ForkPoolWorker-1] Delivered-To: {OTHER}\n"
    )
    assert seen_in(log).count([ADDRESS, OTHER]) == {ADDRESS: 1, OTHER: 0}


def test_what_was_written_before_does_not_count(seen_in: Any, tmp_path: Path) -> None:
    (tmp_path / "old").write_text(f"To: {ADDRESS}\n")
    sink = seen_in(tmp_path)
    sink._since = time.time() + 60
    assert sink.count([ADDRESS]) == {ADDRESS: 0}


@contextmanager
def catcher(held: list[str], *, echoes: bool = False) -> Iterator[str]:
    """A mail catcher that holds mail to these addresses; one that `echoes` repeats the question."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = unquote(self.path.rpartition("to:")[2])
            said: dict[str, object] = {"messages": [{"To": one} for one in held if one == asked]}
            if echoes:
                said["query"] = asked
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *arguments: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/v1/search?query=to:{{address}}"
        server.shutdown()
        thread.join()


def test_a_mail_catcher(seen_in: Any) -> None:
    with catcher([ADDRESS]) as url:
        assert seen_in(url).count([ADDRESS, OTHER]) == {ADDRESS: 1, OTHER: 0}
    with pytest.raises(Inconclusive, match="cannot be asked"):
        seen_in(url)


def test_a_catcher_that_says_yes_to_everything_shows_nothing(seen_in: Any) -> None:
    with (
        catcher([], echoes=True) as url,
        pytest.raises(Inconclusive, match="to an address that nobody has"),
    ):
        seen_in(url)


@pytest.mark.parametrize("where", ["", "http://127.0.0.1:1/search"])
def test_nothing_is_named_to_look_into(seen_in: Any, where: str) -> None:
    with pytest.raises(Inconclusive, match="REHEARSAL\\['MAIL_SEEN_IN'\\]"):
        seen_in(where)
