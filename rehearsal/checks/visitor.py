"""Asks the running web server for pages, as a user whose password nobody needs to know.

Over HTTP, because what is wrong with the web server (its address, its settings, another database)
is seen by nothing else, and because only there do two requests really meet. That it serves this
environment is proven by the way: it knows a session that was written into this database.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib import import_module
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import connection
from django.shortcuts import resolve_url
from django.test.client import Client
from django.test.utils import CaptureQueriesContext
from django.utils.crypto import get_random_string, salted_hmac

from rehearsal.checks.base import Inconclusive
from rehearsal.conf import configuration

ANSWER_SECONDS = 60
"""How long the web server may be silent."""
LARGEST_ANSWER = 64 * 1024 * 1024
SESSION_SECONDS = 600
"""How long a session of ours is good for, should nobody be left to remove it."""
BACKEND = "django.contrib.auth.backends.ModelBackend"


@dataclass(frozen=True)
class Row:
    """A row of a table: the attributes of its `<tr>`, its words, and the `id` of its table."""

    attributes: Mapping[str, str]
    text: str
    table: str


@dataclass(frozen=True)
class Answer:
    """What the web server said."""

    path: str
    status: int
    text: str
    location: str
    """The path it sends its visitor on to; empty where it does not."""
    seconds: float
    htmx: bool = False
    """Whether it was asked for as a fragment."""

    @property
    def is_whole_page(self) -> bool:
        """Whether it is a document, and not a fragment for htmx to put into one."""
        return "<html" in self.text[:2000].lower()

    @property
    def rows(self) -> list[Row]:
        """The rows with data cells; one cell across the whole table is a remark, and not a row."""
        reader = _Rows()
        reader.feed(self.text)
        reader.close()
        return reader.rows


class _Rows(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self._table = ""
        self._row: dict[str, str] | None = None
        self._cells = 0
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "table":
            self._finish()
            self._table = attributes.get("id", "")
        elif tag == "tr":
            self._finish()
            self._row, self._cells, self._words = attributes, 0, []
        elif tag == "td" and self._row is not None:
            self._cells += 0 if attributes.get("colspan", "1") != "1" else 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("tr", "table"):
            self._finish()

    def handle_data(self, data: str) -> None:
        self._words.append(data)

    def close(self) -> None:
        super().close()
        self._finish()

    def _finish(self) -> None:
        if self._row is not None and self._cells:
            words = " ".join(" ".join(self._words).split())
            self.rows.append(Row(self._row, words, self._table))
        self._row = None


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks for pages, signed in where there are cookies; see `visit`."""

    address: str
    """Scheme, host and port of the web server."""
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    csrf_token: str = field(default="", repr=False)
    agent: str = "rehearsal"
    """Its User-Agent, by which its requests are found in the web server's log."""

    def get(
        self, path: str, data: Mapping[str, str] | None = None, *, htmx: bool = False
    ) -> Answer:
        """Ask for a page; raises Inconclusive where nobody answers, or nobody knows us."""
        return self._ask("GET", f"{path}?{urlencode(data)}" if data else path, htmx=htmx)

    def post(self, path: str, data: Mapping[str, str] | None = None) -> Answer:
        """Send a form; raises Inconclusive where nobody answers, or nobody knows us."""
        return self._ask("POST", path, body=urlencode(data or {}))

    def _ask(
        self, method: str, path: str, *, body: str | None = None, htmx: bool = False
    ) -> Answer:
        at = urlsplit(self.address)
        over = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
        headers = self._headers(htmx)
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        began = time.monotonic()
        try:
            with closing(over(at.hostname or "", at.port, timeout=ANSWER_SECONDS)) as server:
                server.request(method, path, body, headers)
                response = server.getresponse()
                said = response.read(LARGEST_ANSWER + 1)
                if len(said) <= LARGEST_ANSWER and response.length:
                    raise http.client.IncompleteRead(said, response.length)
        except (UnicodeError, http.client.InvalidURL):
            raise Inconclusive(
                f"{path!r} cannot be asked for: write it as addresses are written, in ASCII and "
                "without spaces."
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # a length below 0
            raise Inconclusive(
                f"The web server at {self.address} did not answer to {path} "
                f"({type(error).__name__}: {error}): start it, or correct REHEARSAL['SITE_URL']."
            ) from None
        if len(said) > LARGEST_ANSWER:
            raise Inconclusive(f"{path} answers with more than {LARGEST_ANSWER} bytes: page it.")
        location = response.headers.get("Location", "") if 300 <= response.status < 400 else ""
        try:
            sent_on_to = _path(urljoin(path, location)) if location else ""
        except ValueError:
            raise Inconclusive(
                f"{path} sends its visitor on to {location[:200]!r}, which is no address: correct "
                "the view."
            ) from None
        answer = Answer(
            path,
            response.status,
            _text(said, response.headers.get_content_charset() or "utf-8"),
            sent_on_to,
            time.monotonic() - began,
            htmx,
        )
        self._must_be_served(answer, location)
        return answer

    def _headers(self, htmx: bool) -> dict[str, str]:
        headers = {"Accept": "text/html", "User-Agent": self.agent}
        scheme = urlsplit(self.address).scheme
        if settings.SECURE_PROXY_SSL_HEADER:
            # As the proxy would say it that stands before this server.
            name, value = settings.SECURE_PROXY_SSL_HEADER
            headers[name.removeprefix("HTTP_").replace("_", "-")] = value
            scheme = "https"
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        if self.csrf_token:
            headers[settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-")] = (
                self.csrf_token
            )
            headers["Referer"] = f"{scheme}://{urlsplit(self.address).netloc}/"
        if htmx:
            headers["HX-Request"] = "true"
        return headers

    def _must_be_served(self, answer: Answer, location: str) -> None:
        if answer.status == 400 and answer.path and "Bad Request" in answer.text[:2000]:
            raise Inconclusive(
                f"The web server refuses {answer.path} as a bad request: put "
                f"{urlsplit(self.address).hostname} into ALLOWED_HOSTS, or correct "
                "REHEARSAL['SITE_URL']."
            )
        if (
            location.startswith("https://")
            and urlsplit(self.address).scheme == "http"
            and (_path(location) == answer.path)
        ):
            raise Inconclusive(
                f"The web server answers {answer.path} only over https: name its https address in "
                "REHEARSAL['SITE_URL'], or set SECURE_PROXY_SSL_HEADER."
            )
        if self.cookies and answer.location.partition("?")[0] == _path(
            resolve_url(settings.LOGIN_URL)
        ):
            raise Inconclusive(
                f"The web server at {self.address} asks a user with a session of this database to "
                f"sign in for {answer.path}: it serves another database or SECRET_KEY (correct "
                "REHEARSAL['SITE_URL']), or it lets no such user in."
            )

    def cause(self, answer: Answer) -> str:
        """Why a page that was asked for by GET is answered with 500, in words; asks it once more.

        The web server tells its visitors nothing, so the same request is made in this process.
        """
        client = self._client()
        asked_by = {"HX-Request": "true"} if answer.htmx else {}
        response = client.get(answer.path, headers={"Accept": "text/html", **asked_by})
        error = response.exc_info[1] if response.exc_info else None
        if error is None:
            return f"in this process it answers {response.status_code}: see the web server's log"
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

    def queries(self, path: str, *, htmx: bool = False) -> int:
        """How many queries the page takes from the default database, asked in this process."""
        client = self._client()
        with CaptureQueriesContext(connection) as captured:
            client.get(path, headers={"HX-Request": "true"} if htmx else {})
        return len(captured)

    def _client(self) -> Any:
        at = urlsplit(self.address)
        extra: dict[str, Any] = {"SERVER_NAME": at.hostname or ""}
        if settings.SECURE_PROXY_SSL_HEADER:
            extra |= dict([settings.SECURE_PROXY_SSL_HEADER])
        client: Any = Client(raise_request_exception=False, **extra)
        client.cookies.load(dict(self.cookies))
        return client


def _text(said: bytes, charset: str) -> str:
    try:
        return said.decode(charset, "replace")
    except (LookupError, ValueError):  # a browser guesses too where it knows no such charset
        return said.decode("utf-8", "replace")


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def address() -> str:
    """The address of the running web server; raises Inconclusive where none is named."""
    if not (found := configuration().site_url):
        raise Inconclusive(
            "No page could be asked for: name the address of the running web server in "
            "REHEARSAL['SITE_URL'], such as https://staging.example.org."
        )
    return found


@contextmanager
def visit(user: Any = None, purpose: str = "", *, agent: str = "rehearsal") -> Iterator[Visitor]:
    """Somebody who asks for pages, signed in as `user` until the block is left.

    The key of the session follows from the purpose, so that the next visit for the same one removes
    what a crash has left. Raises Inconclusive where no web server is named.
    """
    at = address()
    if user is None:
        yield Visitor(at, agent=agent)
        return
    engine: Any = import_module(settings.SESSION_ENGINE)
    key = salted_hmac("rehearsal.visitor", purpose, algorithm="sha256").hexdigest()
    session = engine.SessionStore()
    session.delete(key[:32])
    token = get_random_string(32)
    backends = settings.AUTHENTICATION_BACKENDS
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = BACKEND if BACKEND in backends else backends[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session["_csrftoken"] = token
    session.set_expiry(SESSION_SECONDS)
    session._session_key = key[:32]  # after the first access, which forgets a key it cannot find
    session.save(must_create=True)
    cookies = {settings.SESSION_COOKIE_NAME: session.session_key or ""}
    if not settings.CSRF_USE_SESSIONS:
        cookies[settings.CSRF_COOKIE_NAME] = token
    try:
        yield Visitor(at, cookies, token, agent)
    finally:
        session.delete()


__all__ = ["Answer", "Row", "Visitor", "address", "visit"]
