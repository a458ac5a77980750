"""What is made of whatever a server answers: an answer, or a sentence of what came instead."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal.checks.base import Inconclusive
from rehearsal.checks.environment.sink import Sink
from rehearsal.checks.observability.web import NoAnswer, get_json
from rehearsal.checks.signoff.forges import ForgeError, HandOver, forge
from rehearsal.checks.visitor import Answer, Visitor
from tests.fuzzing import ANYTHING, cases

DEEP = b"[" * 200_000
"""What Python's json gives up on, but not as it does on other rubbish."""
FILES = {"checklist.md": b"# Done\n", "evidence.json": b"{}", "evidence.seal": b"{}"}


class Server:
    """A server that answers everybody with the very bytes that it was given last."""

    def __init__(self) -> None:
        self.says = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                asked = b""
                while b"\r\n\r\n" not in asked and (piece := connection.recv(65536)):
                    asked += piece
                connection.sendall(self.says)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    def close(self) -> None:
        # A shutdown wakes the thread that waits for the next one.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


STATUS = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 302 Found", b"HTTP/1.1 201 Created"),
        *(b"HTTP/1.1 500 Error", b"HTTP/1.1 204 None", b"HTTP/1.1 100 Continue", b"HTTP/1.1 999"),
        *(b"HTTP/1.1 -1 OK", b"HTTP/9.9 200 OK", b"220 smtp ready", b"", b"HTTP/1.1 304"),
    ]
)
HEADER = st.sampled_from(
    [
        *(b"Content-Type: application/json", b"Content-Type: text/html; charset=klingon"),
        *(b"Content-Type: text/html; charset=utf-16", b"Content-Type: text/html; charset=rot13"),
        *(b"Content-Type: text/html; charset=", b"Content-Type: text/html; charset=utf-8\x00"),
        *(b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 1e3", b"Content-Length:"),
        *(b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked", b": nothing"),
        *(b"Content-Encoding: gzip", b"Location: http://[::1", b"Location: //"),
        *(b"Location: /a?b", b"Location: https://127.0.0.1/", b"Location: http://a b/"),
        *(b"Location: \xff",),
        *(b"Location: http://\xe2\x84\x80/", b"no colon", b" folded: line", b"X: " + b"y" * 70_000),
    ]
)  # fmt: skip
BODY = (
    st.binary(max_size=60)
    | ANYTHING.map(lambda said: json.dumps(said).encode())
    | st.sampled_from(
        [
            *(DEEP, b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"-1\r\n\r\n", b"<tr><td>\xff"),
            *(b'{"state": "open", "id": 1, "body": {}}', b'{"state": "opened", "markdown": [], '),
            *(b'{"fields": {"status": {"statusCategory": {"key": []}}}}', b'[{"content": 5}]'),
            *(b'{"message": "' + b"x" * 300 + b'"}', b"NaN", b"1e999", b"1" * 5000),
        ]
    )  # fmt: skip
)


@st.composite
def answers(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """What looks like an answer, mostly, and is damaged somewhere."""
    whole = b"\r\n".join([draw(STATUS), *draw(st.lists(HEADER, max_size=4)), b"", draw(BODY)])
    if draw(st.booleans()):
        return whole
    cut = draw(st.integers(0, len(whole)))
    return bytes(whole[:cut] + draw(st.binary(max_size=6)))


def page(address: str) -> Answer:
    return Visitor(address, {"sessionid": "a"}).get("/")


def ticket(address: str) -> None:
    found = forge(address, "a-token")
    found.prove_open()
    for one in found.attach("rehearsal-1", FILES).values():
        assert isinstance(found.fetch("rehearsal-1", one), bytes)


READERS: dict[str, tuple[Callable[[str], object], type[Exception], type[Exception]]] = {
    "page": (page, Inconclusive, Inconclusive),
    "monitor": (lambda at: get_json(at, {}), NoAnswer, NoAnswer),
    "mail catcher": (lambda at: Sink(0.0), Inconclusive, Inconclusive),
    "github": (lambda at: ticket(f"{at}/office/site/issues/7"), ForgeError, HandOver),
    "gitlab": (lambda at: ticket(f"{at}/office/site/-/issues/7"), ForgeError, HandOver),
    "jira": (lambda at: ticket(f"{at}/browse/SITE-7"), ForgeError, HandOver),
}


def test_half_a_page_is_none(server: Server) -> None:
    server.says = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<html>the begin"
    with pytest.raises(Inconclusive, match="IncompleteRead"):
        page(server.address)


@pytest.mark.parametrize("path", ["/ñ", "/a b/"])
def test_a_path_that_nobody_can_ask_for_is_not_the_servers_fault(server: Server, path: str) -> None:
    with pytest.raises(Inconclusive, match=f"'{path}' cannot be asked for"):
        Visitor(server.address).get(path)


@pytest.mark.parametrize("reader", READERS)
@cases(15)
@given(says=answers())
@example(says=b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=klingon\r\n\r\nx")
@example(says=b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=rot13\r\n\r\nx")
@example(says=b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n")
@example(says=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut off")
@example(says=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n")
@example(says=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + DEEP)
@example(says=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b"1" * 5000)
def test_whatever_comes_is_an_answer_or_a_sentence(
    reader: str, server: Server, says: bytes
) -> None:
    read, *refusals = READERS[reader]
    server.says = says
    search = f"{server.address}/?to={{address}}"
    with override_settings(REHEARSAL={"MAIL_SEEN_IN": search}):
        try:
            read(server.address)
        except tuple(refusals) as error:
            assert str(error).endswith((".", "?")) or reader == "monitor"  # whose caller ends it
            assert "a-token" not in str(error)
