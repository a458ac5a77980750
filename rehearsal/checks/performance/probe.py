"""Runs inside the project's own code, of this revision or of another, and asks it for pages.

Started as a program of its own with the folder of manage.py as its working directory; it knows
nothing but Django. It answers one JSON line for each it reads from the socket it is told. Whatever
a page writes is rolled back, so nothing is left behind and no two sides wait for each other.
"""

from __future__ import annotations

import gc
import json
import os
import re
import socket
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

SPACE = re.compile(r"\s+")
LISTS = re.compile(r"\(\s*(?:%s|\?|-?\d+|'[^']*')(?:\s*,\s*(?:%s|\?|-?\d+|'[^']*'))*\s*\)")
VALUES = re.compile(r"(\(…\))(?:\s*,\s*\(…\))+")
LITERALS = re.compile(r"'(?:[^']|'')*'|(?<![\w.\"])-?\d+(?:\.\d+)?(?![\w\"])")
TRANSACTION = re.compile(r"(?:SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT|SET CONSTRAINTS)\b", re.I)
LONGEST_SQL = 2000


def normalised(sql: str) -> str:
    """A query without its values: what stays the same whoever asks, for however many."""
    text = SPACE.sub(" ", sql).strip()
    text = VALUES.sub(r"\1", LISTS.sub("(…)", text))
    return LITERALS.sub("?", text)[:LONGEST_SQL]


class Queries:
    """An `execute_wrapper` that counts queries, their texts and the rows they gave."""

    def __init__(self) -> None:
        self.texts: Counter[str] = Counter()
        self.rows = 0

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        try:
            return execute(sql, params, many, context)
        finally:
            if not TRANSACTION.match(text := str(sql).lstrip()):
                self.texts[normalised(text)] += 1
                rows = getattr(context["cursor"].cursor, "rowcount", -1)
                self.rows += rows if isinstance(rows, int) and rows > 0 else 0


class Site:
    """The project's site in this process, as one account sees it."""

    def __init__(self, username: str) -> None:
        from django.conf import settings as configured
        from django.contrib.auth import get_user_model
        from django.core import mail
        from django.db import DEFAULT_DB_ALIAS, connections

        settings: Any = configured
        self.settings = settings
        # Pages are looked at; whoever would get mail by that gets none.
        dummy = "django.core.mail.backends.dummy.EmailBackend"
        if hasattr(mail, "mailers") and hasattr(settings, "MAILERS"):  # since Django 6.1
            settings.MAILERS = dict.fromkeys(settings.MAILERS, {"BACKEND": dummy})
        else:
            with warnings.catch_warnings():  # of a setting that Django gives up
                warnings.simplefilter("ignore", PendingDeprecationWarning)
                settings.EMAIL_BACKEND = dummy
        self.connection = connections[DEFAULT_DB_ALIAS]
        at = self.connection.settings_dict
        self.database = " ".join(str(at.get(key, "")) for key in ("NAME", "HOST", "PORT")).strip()
        self.user: Any = None
        if username:
            model = get_user_model()
            self.user = model._default_manager.get(**{model.USERNAME_FIELD: username})
        hosts = [host for host in settings.ALLOWED_HOSTS if not host.startswith((".", "*"))]
        self.host = hosts[0] if hosts else "localhost"

    @contextmanager
    def visited(self, page: dict[str, Any]) -> Iterator[Any]:
        """What asks for the page and returns (status, bytes); all it wrote is undone at the end."""
        from importlib import import_module

        from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
        from django.db import transaction
        from django.test import Client

        extra: dict[str, Any] = {"SERVER_NAME": self.host}
        if self.settings.SECURE_PROXY_SSL_HEADER:
            extra |= dict([self.settings.SECURE_PROXY_SSL_HEADER])
        client = Client(raise_request_exception=False, **extra)
        secure = bool(self.settings.SECURE_SSL_REDIRECT)
        headers = {"HX-Request": "true"} if page["htmx"] else {}
        with ExitStack() as stack:
            stack.enter_context(transaction.atomic())
            stack.callback(transaction.set_rollback, True)
            session: Any = None
            if self.user is not None:
                store = import_module(self.settings.SESSION_ENGINE).SessionStore
                session = store()
                session[SESSION_KEY] = self.user._meta.pk.value_to_string(self.user)
                session[BACKEND_SESSION_KEY] = self.settings.AUTHENTICATION_BACKENDS[0]
                session[HASH_SESSION_KEY] = self.user.get_session_auth_hash()
                session.set_expiry(3600)
                session.save()
                client.cookies[self.settings.SESSION_COOKIE_NAME] = session.session_key
                stack.callback(session.delete)

            def ask() -> tuple[int, int]:
                response: Any = client.get(page["path"], secure=secure, headers=headers)
                if getattr(response, "streaming", False):
                    return response.status_code, sum(len(one) for one in response.streaming_content)
                return response.status_code, len(response.content)

            yield ask

    def forget(self) -> None:
        """Empty the caches that live in this process alone: they hide what a page costs."""
        from django.core.cache import caches

        for alias, options in self.settings.CACHES.items():
            if options["BACKEND"].endswith("LocMemCache"):
                caches[alias].clear()

    def profile(self, page: dict[str, Any]) -> dict[str, Any]:
        """What one request of the page costs, by counts that no machine changes."""
        with self.visited(page) as ask:
            ask()  # imports, compiles templates, fills what is filled once
            found = {}
            for kind in ("cold", "warm"):
                if kind == "cold":
                    self.forget()
                queries = Queries()
                with self.connection.execute_wrapper(queries):
                    status, size = ask()
                found[kind] = {
                    "status": status,
                    "queries": sum(queries.texts.values()),
                    "sql": dict(queries.texts),
                    "rows": queries.rows,
                    "bytes": size,
                }
            self.forget()
            found["cold"]["calls"] = _calls(ask)
            return found

    def block(self, page: dict[str, Any]) -> dict[str, Any]:
        """Processor and elapsed seconds of some requests, one after the other.

        `burn` adds that many seconds of work to each: the slowdown that must be noticed.
        """
        taken: dict[str, list[float]] = {"cpu": [], "wall": []}
        status = 0
        with self.visited(page) as ask:
            self.forget()
            ask()
            gc.collect()
            gc.disable()
            try:
                for _ in range(page["count"]):
                    self.forget()
                    cpu, wall = time.process_time(), time.perf_counter()
                    status, _size = ask()
                    if page["burn"]:
                        _burn(page["burn"])
                    taken["cpu"].append(time.process_time() - cpu)
                    taken["wall"].append(time.perf_counter() - wall)
            finally:
                gc.enable()
        return {"status": status, **taken}


def _burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(50))


def _calls(ask: Any) -> int:
    """How many functions one request calls."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    sys.setprofile(count)
    try:
        ask()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted


def _begin(username: str) -> Site:
    # As manage.py would have it: the working directory comes first, this file's own not at all.
    sys.path[0] = os.getcwd()
    import django

    django.setup()
    import importlib

    from django.conf import settings

    urls = importlib.import_module(settings.ROOT_URLCONF)
    at = os.path.realpath(urls.__file__ or "")
    wanted = os.path.realpath(os.environ["REHEARSAL_PROBE_TREE"])
    if not at.startswith(wanted + os.sep):
        raise RuntimeError(f"the code comes from {at} and not from {wanted}")
    return Site(username)


def main() -> None:
    """Answer until the socket closes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(600)
        connection.connect(os.environ["REHEARSAL_PROBE_SOCKET"])
        site: Site | None = None
        with connection.makefile("rw", encoding="utf-8") as stream:
            for line in stream:
                order = json.loads(line)
                try:
                    match order.pop("do"):
                        case "begin":
                            site = _begin(order["username"])
                            answer: dict[str, Any] = {"database": site.database}
                        case "profile":
                            assert site is not None
                            answer = site.profile(order)
                        case _:
                            assert site is not None
                            answer = site.block(order)
                except Exception as error:
                    answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
                stream.write(json.dumps(answer) + "\n")
                stream.flush()


if __name__ == "__main__":
    main()
