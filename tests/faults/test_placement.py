"""Secrets planted in files, URLs, errors and output, and looked for wherever a rehearsal leaves
something: in logs, rows, pages, exports, argument lists and Redis.

Every place is also asked for a word that is no secret and must be there, so that a place that was
not looked into cannot pass.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from redis import Redis as Client

from demo import servers
from tests import servers as shared
from tests.checks.environment.test_services import beat, celery, worker
from tests.checks.host import SETTINGS, Host

SECRETS = {
    "the broker's password": "otter/9#&;7 <b>4815",
    "the database role's password": "heron@3:4%41 'q'1623",
    "the read-only role's password": "stoat+plover=4208",
    "SECRET_KEY": "a signing key with [brackets], 'quotes' and $dollars: 50 characters",
    "the API key of last month": "AIza-linnet-880-previous",
    "the latest API key": "AIza-wagtail-881-latest",
    "the API key of production": "AIza-curlew-882-production",
    "a token nobody compares": "tok_dunnock-883",
    "the password in a webhook": "whimbrel-884",
    "a key of several lines": "-----BEGIN PRIVATE KEY-----\nbWFnbm9saWE4ODU=\nc2F4aWZyYWdl\n"
    "-----END PRIVATE KEY-----",
}
TELLING = [line for value in SECRETS.values() for line in value.split("\n") if "KEY" not in line]
"""What of the secrets must be nowhere: of the one with several lines, each of its own lines."""

PLANTED = """
ROOT_URLCONF = "host.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "/static/"
LOGIN_URL = "/admin/login/"
SECRET_KEY = os.environ["SECRET_KEY"]
INSTALLED_APPS += ["django.contrib." + name for name in
                   ("admin", "auth", "contenttypes", "messages", "sessions", "staticfiles")]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
from urllib.parse import unquote, urlsplit
there = urlsplit(os.environ["STAGING_DATABASE_URL"])
DATABASES["default"] = {
    "ENGINE": "django.db.backends.postgresql", "NAME": there.path[1:], "HOST": there.hostname,
    "PORT": there.port, "USER": there.username, "PASSWORD": unquote(there.password),
}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
REHEARSAL |= {
    "SOURCE": "PRODUCTION_DATABASE_URL",
    "POSTGRESQL_BIN": os.environ["POSTGRESQL_BIN"],
    "SECRETS_SOURCE": [os.environ["PYTHON"], str(HERE / "vault.py")],
    "PRODUCTION_ENV": HERE / "production.env",
}
"""
URLS = """
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("rehearsal/", include("rehearsal.urls"))]
"""
VAULT = """
import json, sys
from pathlib import Path
told = json.loads((Path(__file__).parent / "vault.json").read_text())
print("the harbour vault says", *told.values(), file=sys.stderr)
print(json.dumps(told))
"""
SPEAKS = """
import os
from pathlib import Path

def everything():
    "What a careless program prints: its environment, its files, its errors."
    yield "the harbour is named"
    for key, value in os.environ.items():
        yield f"{key}={value}"
        yield f"the value {value} of the harbour was not expected"
        yield repr({key.lower(): value})
    for name in (".env.staging", "production.env"):
        yield from Path(name).read_text().splitlines()
    yield f"could not connect to {os.environ['CELERY_BROKER_URL']}"
"""
CHECKS = """
from dataclasses import dataclass
from rehearsal.checks.base import Check, Failed
from host.speaks import everything

@dataclass(frozen=True)
class Says(Check):
    needs = ("rehearsal.checks.environment.SecretsSynced",)
    def run(self, report):
        for number, line in enumerate(everything()):
            report.write(line)
            report.evidence(f"harbour {number} {line}", line)
            report.evidence(f"list {number}", [line])
            report.measure(f"harbour.{line}"[:90], number, "lines"[:20])
            report.progress(line)
        raise Failed(" ".join(everything()))

@dataclass(frozen=True)
class Breaks(Check):
    needs = ("rehearsal.checks.environment.SecretsSynced",)
    def run(self, report):
        raise RuntimeError("harbour " + " ".join(everything()))
"""
COMMAND = """
import sys
from django.core.management.base import BaseCommand
from host.speaks import everything

class Command(BaseCommand):
    def handle(self, **options):
        for line in everything():
            self.stdout.write(line)
            print(line, file=sys.stderr)
        raise RuntimeError("harbour " + " ".join(everything()))
"""
TEST = """
import os, time
from host.speaks import everything

def test_harbour():
    print(*everything(), sep="\\n")
    time.sleep(1)
    assert list(os.environ.items()) == list(everything())
"""
DOCUMENT = """\
# Harbour

## 1. Environment
- [ ] Snapshot. <!-- check: rehearsal.checks.environment.Snapshot -->
- [ ] Restore. <!-- check: rehearsal.checks.environment.Restore -->
- [ ] Secrets. <!-- check: rehearsal.checks.environment.SecretsSynced -->
- [ ] Services. <!-- check: rehearsal.checks.environment.ServicesOnline -->

## 2. Careless
- [ ] `python manage.py showmigrations --plan`
- [ ] Says. <!-- check: host.checks.Says -->
- [ ] Breaks. <!-- check: host.checks.Breaks -->
- [ ] `pytest test_harbour.py`
"""
BROWSE = """
import os, re, sys
import django
django.setup()
from django.contrib.auth import get_user_model
from django.test import Client
from rehearsal.models import Rehearsal
user = get_user_model().objects.create_superuser("keeper")
client = Client()
client.force_login(user)
number = Rehearsal.objects.get().number
seen, todo = set(), ["/rehearsal/", f"/rehearsal/{number}/", f"/rehearsal/{number}/rows/?seen=0",
                     "/admin/rehearsal/", "/admin/rehearsal/rehearsal/"]
while todo:
    path = todo.pop()
    answer = client.get(path, headers={"HX-Request": "true"} if "/rows/" in path else {})
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    print(path, answer.status_code, dict(answer.headers))
    print(body.decode("utf-8", "replace"))
    seen.add(path)
    links = set(re.findall(r'(?:href|hx-get)="(/(?:rehearsal|admin/(?:rehearsal|django_celery))'
                           r'[^"#?]*)"', body.decode("utf-8", "replace")))
    todo += sorted(link for link in links - seen - set(todo) if "delete" not in link)
"""


def spellings(secret: str) -> set[bytes]:
    """The ways in which a secret is written somewhere: for people, programs and documents."""
    forms = {secret, quote(secret), quote(secret, safe=""), html.escape(secret), repr(secret)[1:-1]}
    forms |= {json.dumps(form)[1:-1] for form in forms} | {html.escape(form) for form in forms}
    return {form.encode() for form in forms}


def planted_in(text: bytes) -> list[str]:
    """The secrets in a text, and in what is base64 in it."""
    inside = [text]
    for word in re.findall(rb"[A-Za-z0-9+/]{16,}={0,2}", text):
        try:
            inside.append(base64.b64decode(word, validate=True))
        except ValueError:
            continue
    whole = b"\n".join(inside)
    return [secret for secret in TELLING if any(form in whole for form in spellings(secret))]


@contextmanager
def watching_arguments(seen: set[bytes]) -> Iterator[None]:
    """Note the arguments of every process there is, again and again."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    try:
                        seen.add(Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" "))
                    except OSError:
                        continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def watching_redis(url: str, seen: list[bytes]) -> Iterator[None]:
    """Note every command that Redis is given."""

    def look() -> None:
        with Client.from_url(url, socket_timeout=120) as client, client.monitor() as monitor:
            begun.set()
            for said in monitor.listen():
                seen.append(said["command"].encode())
                if "the-watch-is-over" in said["command"]:
                    return

    begun = threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    assert begun.wait(10)
    try:
        yield
    finally:
        with Client.from_url(url) as client:
            client.get("the-watch-is-over")
        thread.join()


def databases(name: str) -> dict[str, str]:
    """Production with a role that reads, and staging with a role of its own; their URLs."""
    role, reader = (quote(SECRETS[f"the {which} role's password"], safe="")
                    for which in ("database", "read-only"))  # fmt: skip
    at = f"{shared.postgresql.host}:{shared.postgresql.port}"
    with psycopg.connect(shared.postgresql.url("postgres"), autocommit=True) as connection:
        for user, rights, which in (
            (f"{name}_keeper", "SUPERUSER", "database"),
            (f"{name}_reader", "IN ROLE pg_read_all_data", "read-only"),
        ):
            secret = psycopg.sql.Literal(SECRETS[f"the {which} role's password"])
            connection.execute(f"DROP ROLE IF EXISTS {user}")
            connection.execute(
                psycopg.sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(
                    psycopg.sql.Identifier(user), psycopg.sql.SQL(rights), secret
                )
            )
        for which in ("production", "staging"):
            connection.execute(f"CREATE DATABASE {name}_{which}")
    return {
        "STAGING_DATABASE_URL": f"postgresql://{name}_keeper:{role}@{at}/{name}_staging",
        "PRODUCTION_DATABASE_URL": f"postgresql://{name}_reader:{reader}@{at}/{name}_production",
    }


def drop(name: str) -> None:
    with psycopg.connect(shared.postgresql.url("postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s",
                                   [f"{name}_%"]).fetchall()  # fmt: skip
        for (database,) in found:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        for user in ("keeper", "reader"):
            connection.execute(f"DROP ROLE IF EXISTS {name}_{user}")


def project(path: Path, urls: dict[str, str], broker: str) -> Host:
    """The project with everything planted, its databases made and enrolled."""
    latest = {"HARBOUR_API_KEY": SECRETS["the latest API key"], "CELERY_BROKER_URL": broker}
    environ = {
        **urls,
        **latest,
        "HOST_BROKER": broker,
        "PYTHON": sys.executable,
        "POSTGRESQL_BIN": str(servers.binaries()),
        "SECRET_KEY": SECRETS["SECRET_KEY"],
        "VENDOR_TOKEN": SECRETS["a token nobody compares"],
        "WEBHOOK": f"https://hook:{SECRETS['the password in a webhook']}@example.org/x",
        "DEPLOY_PRIVATE_KEY": SECRETS["a key of several lines"],
    }
    host = Host(path, environ)
    host.write("host/settings.py", SETTINGS + PLANTED)
    for name, text in (
        ("host/urls.py", URLS), ("host/speaks.py", SPEAKS), ("host/checks.py", CHECKS),
        ("stock/management/__init__.py", ""), ("stock/management/commands/__init__.py", ""),
        ("stock/management/commands/showmigrations.py", COMMAND), ("test_harbour.py", TEST),
        ("pytest.ini", "[pytest]\n"), ("vault.py", VAULT), ("vault.json", json.dumps(latest)),
        ("browse.py", BROWSE), ("checklist.md", DOCUMENT),
        (".env.staging.example", "HARBOUR_API_KEY=\nCELERY_BROKER_URL=\n"),
        (".env.staging", f"HARBOUR_API_KEY={SECRETS['the API key of last month']}\n"
                         f"CELERY_BROKER_URL='{broker}'\n"),
        ("production.env", f"HARBOUR_API_KEY={SECRETS['the API key of production']}\n"
                           "CELERY_BROKER_URL=redis://queue.example/0\n"),
    ):  # fmt: skip
        host.write(name, text)
    for which in ("STAGING", "PRODUCTION"):
        # Production is made by the role that may write.
        url = urls["STAGING_DATABASE_URL"].replace("_staging", f"_{which.lower()}")
        host.manage("migrate", STAGING_DATABASE_URL=url)
        user = "from django.contrib.auth.models import User; User.objects.create_user('ada')"
        host.manage("shell", "-c", user, STAGING_DATABASE_URL=url)
    host.prepare("rehearsal")
    return host


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """What a rehearsal with secrets planted everywhere left in every place."""
    name = f"harbour{os.getpid()}"
    arguments: set[bytes] = set()
    commands: list[bytes] = []
    with ExitStack() as stack:
        stack.callback(drop, name)
        redis = stack.enter_context(servers.redis(password=SECRETS["the broker's password"]))
        host = project(tmp_path_factory.mktemp("placement"), databases(name), redis.url())
        host.manage("rehearsal_enroll", "--yes", f"{name}_staging")
        stack.enter_context(watching_redis(redis.url(), commands))
        stack.enter_context(watching_arguments(arguments))
        stack.enter_context(worker(host, "staging", "celery"))
        checks = ["worker", "-Q", "rehearsal", "-c", "3", "-n", "checks@here", "-l", "INFO"]
        stack.enter_context(celery(host, *checks))
        stack.enter_context(beat(host))
        ran = subprocess.run(
            [
                *(sys.executable, "manage.py", "start_rehearsal", "--by", "harbour", "--json"),
                *("--checklist", "checklist.md", "--timeout", "150"),
                *("--output", "ticked.md", "--junit", "junit.xml"),
            ],
            cwd=host.path,
            env=host.variables(),
            capture_output=True,
            timeout=200,
        )
        browsed = subprocess.run(
            [sys.executable, "browse.py"],
            cwd=host.path,
            env=host.variables(DJANGO_SETTINGS_MODULE="host.settings"),
            capture_output=True,
            timeout=60,
        )
        assert browsed.returncode == 0, browsed.stderr.decode()
        with Client.from_url(redis.url()) as client:
            left = b"\n".join(client.scan_iter())
        kept = host.path / ".rehearsal"
        found = {
            "standard output": ran.stdout,
            "standard error": ran.stderr,
            "the ticked document": (host.path / "ticked.md").read_bytes(),
            "the JUnit file": (host.path / "junit.xml").read_bytes(),
            "pages": browsed.stdout,
            "rows": b"".join(one.read_bytes() for one in host.path.glob("records.sqlite3*")),
            "logs": b"".join(one.read_bytes() for one in host.path.glob("*.log")),
            "manifests": b"".join(one.read_bytes() for one in kept.rglob("*.json")),
            "arguments": b"\n".join(arguments),
            "Redis": b"\n".join([*commands, left]),
        }
        yield found


@pytest.mark.security(
    "secrets in a whole rehearsal: arguments, Redis, rows, pages, logs", promised="none is there"
)
@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("standard output", rb"the harbour is named"),
        ("standard error", rb"2\.1"),
        ("the ticked document", rb"# Harbour"),
        ("the JUnit file", rb"the harbour is named"),
        ("pages", rb"(?s)the harbour is named.*HTTP_|/items/2.1/"),
        ("rows", rb"the harbour is named"),
        ("logs", rb"Task rehearsal\.identify"),
        ("manifests", rb"auth_user"),
        ("arguments", rb"test_harbour\.py"),
        ("Redis", rb"rehearsal\.identify"),
    ],
)
def test_no_planted_secret_is_in(places: dict[str, bytes], place: str, word: bytes) -> None:
    assert re.search(word, places[place]), places[place][-3000:]
    assert planted_in(places[place]) == []


def test_everything_that_was_planted_came_into_use(places: dict[str, bytes]) -> None:
    told = {item["ref"]: item for item in
            (item for section in json.loads(places["standard output"])["sections"]
             for item in section["items"])}  # fmt: skip
    statuses = {ref: item["status"] for ref, item in told.items()}
    passed, failed = dict.fromkeys(["1.1", "1.2", "1.3", "1.4"], "passed"), "failed"
    summaries = json.dumps({ref: item["summary"] for ref, item in told.items()}, indent=1)
    assert statuses == {**passed, "2.1": failed, "2.2": failed, "2.3": failed, "2.4": failed}, (
        summaries
    )
    assert "HARBOUR_API_KEY" in told["1.3"]["evidence"]["changed"][0]
    assert b"[redacted]" in places["rows"]


@pytest.mark.parametrize("secret", TELLING)
def test_the_search_finds_what_it_looks_for(secret: str) -> None:
    for text in (secret, quote(secret), f"<p>{html.escape(secret)}</p>", json.dumps([secret])):
        assert planted_in(text.encode()) == [secret]
        assert planted_in(base64.b64encode(f'{{"body": "{text}"}}'.encode())) == [secret]
