"""Twelve commands that prove nothing and twelve that do, in a Django project on PostgreSQL.

The quick cases are in test_smoke.py; these have databases, and go through clones of a template.
"""

# ruff: noqa: E501  a case is read best on a line of its own
from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.db import connection

from tests.checks.projects import INI, Run, databases_like
from tests.checks.test_pytest_databases import REAL, shop

pytestmark = pytest.mark.long

HEAD = "import pytest\nfrom django.test import LiveServerTestCase, TestCase, TransactionTestCase\nfrom shop.models import Item\n"
ONE = HEAD + "@pytest.mark.django_db\ndef test_item():\n    assert Item.objects.count() == 1\n"
CASE = (
    HEAD
    + "class Case(TestCase):\n    def test_item(self):\n        self.assertEqual(Item.objects.count(), 1)\n"
)
CLOSED = "DATABASES['default'].update(HOST='127.0.0.1', PORT='1')\n"
POOR = "DATABASES['default'].update(USER='poor_{server}', PASSWORD='poor')\n"

VACUOUS = [
    ("pytest -m smoke", {"test_a.py": ONE}, "1 deselected by -m 'smoke'", "nothing carries the mark"),
    ("pytest -k calendar_aggregation", {"test_a.py": ONE}, "1 deselected by -k", "nothing has the name"),
    ("pytest src/shop/tests.py", {"test_a.py": ONE}, "file or directory not found", "a file that moved"),
    ("pytest --ds=settings.staging", {"test_a.py": ONE}, "settings.staging", "settings that are not there"),
    ("pytest", {"test_a.py": HEAD + "pytest.skip('no GDAL here', allow_module_level=True)\n"}, "no GDAL here", "a module that skips itself"),
    ("pytest", {"test_a.py": ONE.replace("def test", "@pytest.mark.skipif(\"__import__('django.db').db.connection.vendor == 'postgresql'\", reason='SQLite only')\ndef test")}, "SQLite only", "for another database only"),
    ("pytest", {"test_a.py": ONE, "more": CLOSED}, "errors? before a test began", "a server that does not answer"),
    ("pytest", {"test_a.py": ONE, "more": POOR}, "permission denied to create database", "a role that may not create databases"),
    ("pytest", {"test_a.py": ONE, "body": "raise RuntimeError('planted')"}, "planted", "a migration that fails"),
    ("pytest", {"test_a.py": ONE, "conftest.py": REAL}, "not a test database and was refused", "the real database"),
    ("pytest", {"test_a.py": CASE.replace("def test_item", "async def test_item").replace("(TestCase)", "(__import__('unittest').TestCase)") + "def test_more(): pass\n"}, "returned something", "a coroutine that nobody awaits"),
    ("pytest", {"test_a.py": ONE + "    import os; os._exit(0)\n"}, "middle of its session", "a test that ends its process with 0"),
]  # fmt: skip

TRANSACTIONS = (
    HEAD
    + "class Case(TransactionTestCase):\n    serialized_rollback = True\n    def test_a(self):\n        Item.objects.all().delete()\n    def test_b(self):\n        self.assertEqual(Item.objects.count(), 1)\n"
)
LIVE = (
    HEAD
    + "import urllib.request\nclass Case(LiveServerTestCase):\n    def test_count(self):\n        Item.objects.create(name='x')\n        with urllib.request.urlopen(self.live_server_url + '/') as answer:\n            self.assertEqual(answer.read(), b'1' if not Item.objects.filter(name='seeded') else b'2')\n"
)
URLS = "from django.http import HttpResponse\nfrom django.urls import path\nfrom shop.models import Item\nurlpatterns = [path('', lambda request: HttpResponse(str(Item.objects.count())))]\n"
LOADS = "import pytest\n@pytest.fixture(scope='session')\ndef django_db_setup(django_db_setup, django_db_blocker):\n    from shop.models import Item\n    with django_db_blocker.unblock():\n        Item.objects.create(name='loaded')\n"
THREAD = (
    HEAD
    + "import threading\n@pytest.mark.django_db(transaction=True)\ndef test_thread():\n    seen = []\n    def look():\n        from django.db import connection\n        seen.append(Item.objects.count()); connection.close()\n    one = threading.Thread(target=look); one.start(); one.join()\n    assert seen == [1]\n"
)
ASYNC = (
    HEAD
    + "class Case(TestCase):\n    async def test_item(self):\n        self.assertEqual(await Item.objects.acount(), 1)\n"
)

HONEST = [
    ("pytest", {"test_a.py": ONE}, "a mark of pytest-django"),
    ("pytest test_a.py::Case", {"test_a.py": CASE}, "a class by name"),
    ("pytest", {"test_a.py": TRANSACTIONS}, "transactions with serialized rollback"),
    ("pytest", {"test_a.py": LIVE, "shop/urls.py": URLS, "more": "ROOT_URLCONF = 'shop.urls'\nSTATIC_URL = '/static/'; MEDIA_URL = '/media/'\n"}, "a live server in a thread"),
    ("pytest", {"test_a.py": ONE.replace("== 1", "== 2"), "conftest.py": LOADS}, "a fixture that fills the database"),
    ("pytest", {"test_a.py": THREAD}, "a connection of another thread"),
    ("pytest", {"test_a.py": ASYNC}, "a coroutine that Django awaits"),
    ("pytest --reuse-db", {"test_a.py": ONE}, "--reuse-db"),
    ("pytest --create-db --ds=settings", {"test_a.py": CASE}, "--create-db"),
    ("pytest --nomigrations", {"test_a.py": ONE.replace("== 1", "== 0")}, "--nomigrations"),
    ("pytest -n 2", {"test_a.py": ONE, "test_b.py": CASE}, "pytest-xdist"),
    ("python -m pytest -k item", {"test_a.py": ONE + "def test_other(): assert 0\n"}, "one by its name"),
]  # fmt: skip


def project(server: str, files: dict[str, str]) -> dict[str, str]:
    base = shop(
        server, body=files.pop("body", "pass"), more=files.pop("more", "").format(server=server)
    )
    files = {name: text.replace("{name!r}", repr(server)) for name, text in files.items()}
    return base | {"pytest.ini": INI + "DJANGO_SETTINGS_MODULE = settings\n"} | files


@pytest.fixture
def poor(server: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE poor_{server} LOGIN PASSWORD 'poor'")
        cursor.execute(f'CREATE DATABASE "{server}"')
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE poor_{server}")


@pytest.mark.usefixtures("poor")
@pytest.mark.parametrize(
    ("command", "files", "quoted"), [case[:3] for case in VACUOUS], ids=[c[3] for c in VACUOUS]
)
def test_nothing_was_proven(
    run: Run, server: str, command: str, files: dict[str, str], quoted: str
) -> None:
    result = run(command, project(server, dict(files)))
    assert result.verdict == "inconclusive", result.why
    assert re.search(quoted, result.why), result.why
    assert databases_like(server) == {server}


@pytest.mark.parametrize(
    ("command", "files"), [case[:2] for case in HONEST], ids=[c[2] for c in HONEST]
)
def test_something_was_proven(
    run: Run, server: str, tmp_path: Path, command: str, files: dict[str, str]
) -> None:
    for _ in range(2):  # the second time, the template is there
        result = run(command, project(server, dict(files)))
        assert result.verdict == "passed", (result.why, result.report.output)
    assert all("as a clone" in one for one in result.report.facts["test databases made"])  # type: ignore[union-attr]
    assert databases_like(server) == set()
