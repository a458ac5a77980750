"""What migrations lock, write anew and take, on a real PostgreSQL with something in its tables.

The migrations are planted; for each it is known from PostgreSQL's documentation what it locks, and
whether it writes its table anew. Writers beside them measure how long they really waited.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.checks.host import SETTINGS, Answer, Host
from tests.databases.test_replacement import databases, execute

APPLY = "Apply migrations: `python manage.py migrate`."
PLAN = "Run `python manage.py showmigrations --plan` and review output."
SERVER = urlsplit(os.environ["TEST_POSTGRESQL_URL"])
POSTGRESQL = f"""
DATABASES["default"] = {{
    "ENGINE": "django.db.backends.postgresql", "NAME": "stock_staging",
    "HOST": "{SERVER.hostname}", "PORT": "{SERVER.port}", "USER": "{SERVER.username}",
    "PASSWORD": os.environ["HOST_PASSWORD"]}}
del DATABASES["audit"], DATABASES["legacy"]
INSTALLED_APPS.remove("audit")
DATABASE_ROUTERS.pop()
"""


@dataclass(frozen=True)
class Planted:
    """A migration, and what it must be seen to do to stock_item."""

    name: str
    operation: str
    blocks: str = ""
    """Who waits: `writers`, `readers and writers`, or nobody."""
    rewrites: bool = False
    atomic: bool = True


SQL = 'migrations.RunSQL("{}", "SELECT 1")'
BACKFILL = "migrations.RunPython(backfill, migrations.RunPython.noop)"
PLANTED = (
    Planted("index", 'migrations.AddIndex("item", models.Index(fields=["name"], name="by_name"))',
            "writers"),
    Planted("concurrent_index", "operations.AddIndexConcurrently(\"item\", models.Index("
            'fields=["price"], name="by_price"))', "", atomic=False),
    Planted("foreign_key", 'migrations.AddField("item", "shelf", models.ForeignKey("stock.Shelf",'
            " models.CASCADE, null=True, db_index=False))", "readers and writers"),
    Planted("not_null", 'migrations.AlterField("item", "note", models.TextField())',
            "readers and writers"),
    Planted("rewrite", SQL.format("ALTER TABLE stock_item ADD stamp timestamptz DEFAULT"
            " clock_timestamp()"), "readers and writers", rewrites=True),
    Planted("wider_text", SQL.format("ALTER TABLE stock_item ALTER name TYPE varchar(80)"),
            "readers and writers"),
    Planted("type_change", SQL.format("ALTER TABLE stock_item ALTER price TYPE bigint"),
            "readers and writers", rewrites=True),
    Planted("backfill", SQL.format("UPDATE stock_item SET note = note || '!'"), ""),
    Planted("trigger", SQL.format("CREATE TRIGGER t BEFORE UPDATE ON stock_item FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"), "writers"),
    Planted("irreversible", 'migrations.RunSQL("ANALYZE stock_item")', ""),
    Planted("rename", 'migrations.RenameField("item", "note", "remark")', "readers and writers"),
    Planted("drop", 'migrations.RemoveField("item", "remark")', "readers and writers"),
    Planted("default", SQL.format("ALTER TABLE stock_item ADD kind varchar(9) NOT NULL DEFAULT"
            " 'plain'"), "readers and writers"),
    Planted("other_table", SQL.format("CREATE TABLE stock_more (id bigint PRIMARY KEY)"), ""),
)  # fmt: skip
FIRST = (
    'migrations.CreateModel("Shelf", [("id", models.BigAutoField(primary_key=True))]), '
    'migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True)), '
    '("name", models.CharField(max_length=50)), ("price", models.IntegerField(default=0)), '
    '("note", models.TextField(null=True))])'
)
MIGRATION = """
from django.contrib.postgres import operations
from django.db import migrations, models
class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("stock", "{after}")]
    operations = [{operation}]
"""


def name(number: int, planted: Planted) -> str:
    return f"{number:04}_{planted.name}"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A project on PostgreSQL that stands before its planted migrations."""
    host = Host(tmp_path, {"HOST_PASSWORD": SERVER.password or ""})
    host.write("host/settings.py", SETTINGS + POSTGRESQL)
    for old in (tmp_path / "stock" / "migrations").glob("0*.py"):
        old.unlink()
    host.write(
        "stock/models.py", "from django.db import models\nclass Shelf(models.Model):\n    pass\n"
    )
    host.migration("stock", "0001_initial", FIRST)
    for app in ("rehearsal", "django_celery_results"):
        host.manage("migrate", "--database", "rehearsal", app)
    execute("DROP DATABASE IF EXISTS stock_staging WITH (FORCE)")
    execute("CREATE DATABASE stock_staging")
    host.manage("migrate", "stock")
    yield host
    for one in databases():
        if one.startswith("stock_staging"):
            execute(f'DROP DATABASE "{one}" WITH (FORCE)')


def plant(host: Host, chosen: tuple[Planted, ...], rows: int) -> None:
    execute(
        "INSERT INTO stock_item (name, price, note) SELECT 'name ' || n, n, repeat('x', 100)"
        f" FROM generate_series(1, {rows}) n",
        "stock_staging",
    )
    after = "0001_initial"
    for number, one in enumerate(chosen, start=2):
        written = MIGRATION.format(atomic=one.atomic, after=after, operation=one.operation)
        after = name(number, one)
        host.write(f"stock/migrations/{after}.py", written)


class Writer:
    """Writes a row of stock_item again and again, and remembers how long each time took."""

    def __init__(self) -> None:
        self.waits: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        url = f"{os.environ['TEST_POSTGRESQL_URL'].rpartition('/')[0]}/stock_staging"
        with psycopg.connect(url, autocommit=True) as connection:
            while not self._done.is_set():
                began = time.monotonic()
                connection.execute("UPDATE stock_item SET price = price WHERE id = 1")
                self.waits.append((began, time.monotonic() - began))
                time.sleep(0.002)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def seen(answer: Answer, number: int, one: Planted) -> dict[str, float]:
    """Who waits for stock_item in a migration, and for how long, as the evidence has it."""
    said = str(answer.facts[f"stock.{name(number, one)}"])
    found: dict[str, float] = {}
    for who, seconds in re.findall(
        r"((?:readers and )?writers) of stock_item wait about ([\d.]+)", said
    ):
        found[who] = max(found.get(who, 0), float(seconds))
    return found


def check(answer: Answer, chosen: tuple[Planted, ...]) -> None:
    for number, one in enumerate(chosen, start=2):
        said = str(answer.facts[f"stock.{name(number, one)}"])
        waits = seen(answer, number, one)
        assert set(waits) <= ({one.blocks, "writers"} if one.blocks else set()), (one.name, said)
        assert ("written anew: stock_item" in said) is one.rewrites, (one.name, said)


SLOW = tuple(
    one for one in PLANTED if one.name in {"index", "rewrite", "type_change", "concurrent_index"}
)


def test_what_is_locked_is_seen(host: Host) -> None:
    """A few of the migrations, on a table that is large enough for a wait to be noticed."""
    plant(host, SLOW, 150_000)
    answer = host.perform("migrations.Apply", APPLY)
    assert answer.status == "passed", answer.message
    check(answer, SLOW)
    index = seen(answer, 2, SLOW[0])
    assert set(index) == {"writers"}, answer.facts
    assert "Longest wait:" in answer.message
    assert answer.facts["lock timeout"] == "30 s"
    assert any("CREATE INDEX" in line for line in answer.facts["slowest statements seen"])


@pytest.mark.long
def test_every_planted_migration_on_a_million_rows(host: Host) -> None:
    plant(host, PLANTED, 1_000_000)
    with Writer() as writer:
        answer = host.perform("migrations.Apply", APPLY)
    assert answer.status in {"passed", "action_required"}, answer.message
    check(answer, PLANTED)
    expected = {one.name for one in PLANTED if one.blocks and one.name in {
        "index", "not_null", "rewrite", "type_change"}}  # fmt: skip
    waited = {
        one.name: max(seen(answer, number, one).values())
        for number, one in enumerate(PLANTED, start=2)
        if seen(answer, number, one)
    }
    assert expected <= set(waited), waited
    # The longest waits of the writer are those of the migrations that were said to cause them.
    measured = sorted((seconds for _, seconds in writer.waits), reverse=True)
    for said, real in zip(sorted(waited.values(), reverse=True)[:3], measured, strict=False):
        assert abs(said - real) <= max(0.2 * real, 0.06), (waited, measured[:8])


def test_a_long_wait_is_for_a_person_to_accept(host: Host) -> None:
    planted = (Planted("hold", SQL.format("LOCK TABLE stock_item; SELECT pg_sleep(5.2)"), "r"),)
    plant(host, planted, 10)
    answer = host.perform("migrations.Apply", APPLY)
    assert answer.status == "action_required"
    assert (
        "readers and writers of stock_item wait about 5.2 s for stock.0002_hold" in answer.message
    )
    assert "at most 5 s is accepted by itself" in answer.message


def test_killed_in_the_middle(host: Host) -> None:
    """Migrate is killed: the item says which stood where, and no session goes on."""
    sleeping = SQL.format("SELECT pg_sleep(60)")
    plant(host, (Planted("quick", SQL.format("SELECT 1")), Planted("slow", sleeping)), 10)
    done: list[Answer] = []
    thread = threading.Thread(target=lambda: done.append(host.perform("migrations.Apply", APPLY)))
    thread.start()
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    deadline = time.monotonic() + 90
    while execute(asleep) != [(1,)]:
        assert time.monotonic() < deadline, "the slow migration did not begin"
        time.sleep(0.05)
    subprocess.run(["pkill", "-KILL", "-f", f"{sys.executable} manage.py migrate"], check=True)
    killed = time.monotonic()
    while execute(asleep) != [(0,)]:
        assert time.monotonic() < killed + 2, "the session of the killed migrate goes on"
        time.sleep(0.05)
    thread.join()
    (answer,) = done
    assert answer.status == "failed"
    assert "after 1 of 2 migrations" in answer.message, answer.message
    assert answer.facts["applied"] == ["stock.0002_quick"]
    assert answer.facts["unapplied"] == ["stock.0003_slow"]
