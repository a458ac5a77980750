"""The way back is tried on a copy, and staging keeps what was applied to it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import migrations as django

from demo import servers
from rehearsal.databases.migrations import reversible
from tests import mailers
from tests.checks.host import Answer, Host
from tests.checks.planted import APPLY, NAME, Planted, chosen, on_postgresql, plant, sql
from tests.databases.test_replacement import databases, execute

PRODUCTION = f"{NAME}_production"
SECTION_1 = f"""
DATABASES["production"] = {{**DATABASES["default"], "NAME": "{PRODUCTION}"}}
REHEARSAL |= {{
    "FOLDER": HERE / "kept", "POSTGRESQL_BIN": "{servers.binaries()}",
    "SOURCE": "production", "TARGET": "default",
}}
"""
ON_SQLITE = """
DATABASES["production"] = sqlite("production.sqlite3")
REHEARSAL |= {"FOLDER": HERE / "kept", "SOURCE": "production", "TARGET": "default"}
"""
BROKEN = Planted("broken", 'migrations.RunPython(migrations.RunPython.noop, lambda a, b: a["x"])')


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with on_postgresql(tmp_path_factory.mktemp("host")) as host:
        settings = host.path / "host" / "settings.py"
        settings.write_text(settings.read_text() + SECTION_1)
        yield host


Applied = Callable[..., Answer]


@pytest.fixture
def applied(host: Host) -> Applied:
    """Plant migrations, take a snapshot of what is before them, and apply them."""

    def apply(*each: Planted, snapshot: bool = True) -> Answer:
        execute(f"DROP DATABASE IF EXISTS {PRODUCTION} WITH (FORCE)")
        plant(host, each, 100)
        execute(f"CREATE DATABASE {PRODUCTION} TEMPLATE {NAME}")
        host.manage("rehearsal_enroll", "--yes", NAME)
        taken = host.perform("environment.Snapshot", "Take a snapshot.")
        assert taken.status == "passed", taken.message
        if not snapshot:
            (folder,) = (host.path / "kept" / "snapshots" / "staging").iterdir()
            (folder / "manifest.json").unlink()
        return host.perform("migrations.Apply", APPLY, {"reverse": True})

    return apply


def columns() -> set[str]:
    found = execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'stock_item'", NAME
    )
    return {name for (name,) in found}


def test_all_that_says_so_is_taken_back(applied: Applied) -> None:
    """What cannot be taken back is passed by, with what it needs."""
    answer = applied(
        *chosen("foreign_key", "irreversible"),
        Planted("more", 'migrations.AddField("item", "more", models.TextField(default=""))'),
        *chosen("concurrent_index"),
    )
    assert answer.status == "passed", answer.message
    assert "On a copy, 2 of 4 were taken back in " in answer.message
    assert answer.message.endswith("; 1 cannot be.")
    back = [line.partition(":")[0] for line in answer.facts["taken back on a copy"]]
    assert back == ["stock.0005_concurrent_index", "stock.0004_more"]
    assert answer.facts["cannot be taken back"] == ["stock.0003_irreversible"]
    (kept,) = [facts for name, facts in answer.facts.items() if name.startswith("kept, ")]
    assert kept == ["stock.0002_foreign_key"]
    assert "migrations.reverse_seconds" in answer.numbers
    # Staging itself went one way alone, and nothing is left of the copy.
    assert {"more", "shelf_id"} <= columns()
    assert not [name for name in databases() if "_rehearsal_" in name]


@pytest.mark.long  # several processes of manage.py each
def test_what_a_rollback_would_lose_is_told(applied: Applied) -> None:
    column = sql("ALTER TABLE stock_item ADD forgotten integer")
    answer = applied(Planted("forgets", column), *chosen("backfill"))
    assert answer.status == "passed", answer.message
    assert "were taken back" in answer.message
    assert "it then differs from the snapshot, first: table public.stock_item has" in answer.message
    differs = " ".join(answer.facts["the copy then differs from the snapshot"])
    assert "table public.stock_item has other contents" in differs
    assert "forgotten" in differs


@pytest.mark.long  # several processes of manage.py each
def test_what_leads_back_to_the_very_same_differs_in_nothing(applied: Applied) -> None:
    answer = applied(*chosen("index"))
    assert answer.status == "passed", answer.message
    assert answer.facts["the copy then differs from the snapshot"] == "in nothing"


def test_a_reverse_that_breaks_fails_the_item(applied: Applied) -> None:
    answer = applied(BROKEN, *chosen("index"))
    assert answer.status == "failed"
    assert "On a copy, stock.0002_broken says that it can be taken back, and could not" in (
        answer.message
    )
    assert "TypeError" in answer.message and "after 1 others" in answer.message
    assert not [name for name in databases() if "_rehearsal_" in name]


@pytest.mark.long  # several processes of manage.py each
def test_without_a_snapshot_nothing_was_seen(applied: Applied) -> None:
    answer = applied(*chosen("index"), snapshot=False)
    assert answer.status == "inconclusive"
    assert "whether they can be taken back was not seen: There is no snapshot" in answer.message


@pytest.mark.long  # several processes of manage.py each
def test_on_sqlite(tmp_path: Path) -> None:
    host = Host(tmp_path, {"HOST_DATABASE": "staging.sqlite3"})
    settings = host.path / "host" / "settings.py"
    settings.write_text(settings.read_text() + ON_SQLITE)
    host.prepare("rehearsal")
    for name in ("staging.sqlite3", "production.sqlite3"):
        host.manage("migrate", "stock", "0001", HOST_DATABASE=name)
    host.manage("rehearsal_enroll", "--yes", str(tmp_path / "staging.sqlite3"))
    taken = host.perform("environment.Snapshot", "Take a snapshot.")
    assert taken.status == "passed", taken.message
    answer = host.perform("migrations.Apply", APPLY, {"reverse": True})
    assert answer.status == "passed", answer.message
    assert "stock.0002_price" in " ".join(answer.facts["taken back on a copy"])
    assert not list(tmp_path.glob("*scratch*"))


BACK_TO_THE_DEFAULT = """migrations.RunPython(
    migrations.RunPython.noop,
    lambda apps, editor: apps.get_model("audit", "Entry").objects.using("default").count(),
)"""
BACKEND = """
import os
from django.db.backends.sqlite3 import base
class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self):
        return {**super().get_connection_params(), "database": os.environ["HOST_ALWAYS"]}
"""


@pytest.fixture
def audited(tmp_path: Path) -> Host:
    """A project whose target is not its default database; its scratch is an empty file."""
    host = Host(tmp_path, {"HOST_ALWAYS": ""})
    settings = host.path / "host" / "settings.py"
    settings.write_text(settings.read_text() + 'REHEARSAL["TARGET"] = "audit"\n')
    host.migration("audit", "0002_back", BACK_TO_THE_DEFAULT)
    host.write("host/backend/__init__.py", "")
    host.write("host/backend/base.py", BACKEND)
    for name in ("default", "audit"):
        (host.path / f"{name}.sqlite3").touch()
    return host


QUESTION = ("rehearsal_reverse", "--database", "audit", "--number", "1", "--token", "0")


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


def test_the_way_back_reaches_no_other_database(audited: Host) -> None:
    assert json.loads(audited.manage(*QUESTION)) == {"reached": "default"}
    assert not tables(audited.path / "audit.sqlite3"), "the target itself was migrated"
    assert "audit_entry" in tables(audited.path / "audit.sqlite3.rehearsal-1-scratch-0")


@pytest.mark.parametrize("way", mailers.WAYS)
def test_what_the_copys_migrations_send_reaches_nobody(audited: Host, way: str) -> None:
    send = """
from celery import current_app
from django.core.mail import send_mail
from django.db import migrations
def send(apps, editor):
    send_mail("a", "b", "c@example.org", ["d@example.org"])
    current_app.send_task("remind")
class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(send, send)]
"""
    audited.write("audit/migrations/0002_back.py", send)
    audited.write("host/__init__.py", "from host.celery import app as celery_app\n")
    settings = (audited.path / "host" / "settings.py").read_text()
    mail = mailers.said(way, mailers.FILES, file_path=str(audited.path / "mail"))
    queue = """
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = dict.fromkeys(
    ("data_folder_in", "data_folder_out", "control_folder"), str(HERE / "broker"))
"""
    audited.write("host/sending.py", settings + mailers.as_text(mail) + queue)
    answer = json.loads(audited.manage(*QUESTION, "--settings=host.sending"))
    assert [one["name"] for one in answer["reversed"]] == ["audit.0002_back", "audit.0001_initial"]
    assert not (audited.path / "mail").exists() and not (audited.path / "broker").exists()


def test_where_the_alias_leads_elsewhere_nothing_is_done(audited: Host) -> None:
    """As with a backend of the project that asks a vault, or a pool that is there already."""
    settings = audited.path / "host" / "settings.py"
    own = settings.read_text() + 'DATABASES["audit"]["ENGINE"] = "host.backend"\n'
    audited.write("host/elsewhere.py", own)
    target = audited.path / "audit.sqlite3"
    with pytest.raises(AssertionError, match="so nothing was done"):
        audited.manage(*QUESTION, "--settings=host.elsewhere", HOST_ALWAYS=str(target))
    assert not tables(target)


def test_what_cannot_be_taken_back_within_another_operation_cannot_be() -> None:
    def nested(*back: str) -> bool:
        return reversible(django.SeparateDatabaseAndState([django.RunSQL("SELECT 1", *back)]))

    assert nested("SELECT 1") and not nested()
