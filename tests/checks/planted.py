"""A project on PostgreSQL with planted migrations, each known by PostgreSQL's documentation.

What it locks, whether it writes its table anew, and whether somebody has to acknowledge it where
the table is large.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.checks.host import SETTINGS, Host
from tests.databases.test_replacement import databases, execute

APPLY = "Apply migrations: `python manage.py migrate`."
PLAN = "Run `python manage.py showmigrations --plan` and review output."
SERVER = urlsplit(os.environ["TEST_POSTGRESQL_URL"])
NAME = "stock_staging"
"""The database that is migrated; it is on the server of this test process alone."""
POSTGRESQL = f"""
DATABASES["default"] = {{
    "ENGINE": "django.db.backends.postgresql", "NAME": "{NAME}",
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
    operations: str
    mode: str = ""
    """The strongest lock on stock_item that blocks readers or writers."""
    besides: tuple[str, ...] = ()
    """Weaker ones that it takes too."""
    long: bool = False
    """Whether that lock lasts the longer the more rows there are."""
    rewrites: bool = False
    flagged: str = ""
    """A part of why somebody has to acknowledge it; harmless, when empty."""
    atomic: bool = True


def sql(statement: str) -> str:
    return f'migrations.RunSQL("{statement}", migrations.RunSQL.noop)'


ALL, TRIGGERS, INDEX = "AccessExclusiveLock", "ShareRowExclusiveLock", "ShareLock"
KEY = "models.BigAutoField(primary_key=True)"
PLANTED = (
    Planted("index", 'migrations.AddIndex("item", models.Index(fields=["name"], name="by_name"))',
            INDEX, long=True, flagged="gets an index, writers wait"),
    Planted("concurrent_index", 'operations.AddIndexConcurrently("item", models.Index('
            'fields=["price"], name="by_price"))', atomic=False),
    Planted("foreign_key", 'migrations.AddField("item", "shelf", models.ForeignKey("stock.Shelf",'
            " models.CASCADE, null=True, db_index=False))", ALL, besides=(TRIGGERS,)),
    Planted("foreign_key_checked", sql("ALTER TABLE stock_item ADD CONSTRAINT box_fk FOREIGN KEY"
            " (box) REFERENCES stock_shelf (id)"),
            TRIGGERS, long=True, flagged="is checked for a foreign key, writers wait"),
    Planted("not_null", 'migrations.AlterField("item", "note", models.TextField())',
            ALL, long=True, flagged="is checked for nulls in note"),
    Planted("rewrite", sql("ALTER TABLE stock_item ADD stamp timestamptz DEFAULT"
            " clock_timestamp()"),
            ALL, besides=(INDEX,), long=True, rewrites=True,
            flagged="gets the column stamp, is written anew"),
    Planted("wider_text", 'migrations.AlterField("item", "name", models.CharField(max_length=80))',
            ALL, besides=(INDEX,)),
    Planted("type_change", 'migrations.AlterField("item", "price", models.BigIntegerField('
            "default=0))",
            ALL, besides=(INDEX,), long=True, rewrites=True,
            flagged="has the type of price changed, is written"),
    Planted("backfill", sql("UPDATE stock_item SET note = note || '!'"),
            flagged="who writes the same rows waits"),
    Planted("trigger", sql("CREATE TRIGGER t BEFORE UPDATE ON stock_item FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"), TRIGGERS),
    Planted("irreversible", 'migrations.RunSQL("ANALYZE stock_item")',
            flagged="cannot be taken back"),
    Planted("rename", 'migrations.RenameField("item", "note", "remark")',
            ALL, flagged="has the column note renamed"),
    Planted("drop", 'migrations.RemoveField("item", "remark")',
            ALL, flagged="loses the column remark"),
    Planted("default", sql("ALTER TABLE stock_item ADD kind varchar(9) NOT NULL DEFAULT 'plain'"),
            ALL),
    Planted("other_table", 'migrations.CreateModel("More", [("id", models.BigAutoField('
            'primary_key=True)), ("name", models.CharField(max_length=9, db_index=True))])'),
    Planted("non_atomic", sql("ALTER TABLE stock_item ADD half integer") + ", "
            + sql("ALTER TABLE stock_item ADD half integer"),
            ALL, flagged="stays half done", atomic=False),
)  # fmt: skip
"""The last one fails, halfway."""
FIRST = (
    f'migrations.CreateModel("Shelf", [("id", {KEY})]), '
    f'migrations.CreateModel("Item", [("id", {KEY}), '
    '("name", models.CharField(max_length=50)), ("price", models.IntegerField(default=0)), '
    '("box", models.BigIntegerField(null=True)), ("note", models.TextField(null=True))])'
)
MODELS = "from django.db import models\nclass Shelf(models.Model):\n    pass\n"
MIGRATION = """
from django.contrib.postgres import operations
from django.db import migrations, models
class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("stock", "{after}")]
    operations = [{operations}]
"""


def chosen(*names: str) -> tuple[Planted, ...]:
    return tuple(one for one in PLANTED if one.name in names)


def named(place: int, one: Planted) -> str:
    return f"stock.{place:04}_{one.name}"


@contextmanager
def on_postgresql(path: Path) -> Iterator[Host]:
    """A project that stands before its planted migrations; its database is a template as well."""
    host = Host(path, {"HOST_PASSWORD": SERVER.password or ""})
    host.write("host/settings.py", SETTINGS + POSTGRESQL)
    for old in (path / "stock" / "migrations").glob("0*.py"):
        old.unlink()
    host.write("stock/models.py", MODELS)
    host.migration("stock", "0001_initial", FIRST)
    execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    execute(f"CREATE DATABASE {NAME}")
    host.prepare("rehearsal")
    host.manage("migrate", "stock")
    try:
        yield host
    finally:
        for one in databases():
            if one.startswith(NAME):
                execute(f'DROP DATABASE "{one}" WITH (FORCE)')


def plant(host: Host, each: tuple[Planted, ...], rows: int) -> None:
    """Put the database back to before any of it, with `rows` rows, and write these migrations."""
    template = f"{NAME}_planted"
    if template not in databases():
        execute(f"CREATE DATABASE {template} TEMPLATE {NAME}")
    execute(f"DROP DATABASE {NAME} WITH (FORCE)")
    execute(f"CREATE DATABASE {NAME} TEMPLATE {template}")
    for old in (host.path / "stock" / "migrations").glob("0*.py"):
        if old.stem != "0001_initial":
            old.unlink()
    execute("INSERT INTO stock_shelf VALUES (1)", NAME)
    execute(
        "INSERT INTO stock_item (name, price, note, box) SELECT 'name ' || n, n, repeat('x', 100),"
        f" 1 FROM generate_series(1, {rows}) n",
        NAME,
    )
    after = "0001_initial"
    for place, one in enumerate(each, start=2):
        text = MIGRATION.format(atomic=one.atomic, after=after, operations=one.operations)
        after = named(place, one).partition(".")[2]
        host.write(f"stock/migrations/{after}.py", text)
