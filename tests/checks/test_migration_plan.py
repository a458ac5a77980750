"""What 2.1 foresees of planted migrations, before any of them is applied."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.checks.host import Host
from tests.checks.planted import (
    APPLY,
    NAME,
    PLAN,
    PLANTED,
    Planted,
    chosen,
    named,
    on_postgresql,
    plant,
    sql,
)
from tests.databases.test_replacement import execute


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with on_postgresql(tmp_path_factory.mktemp("host")) as host:
        yield host


def test_dangerous_operations_are_acknowledged_by_name_and_harmless_ones_are_not(
    host: Host,
) -> None:
    plant(host, PLANTED, 1200)
    answer = host.perform("migrations.Plan", PLAN, {"large_rows": 1000})
    assert answer.status == "action_required", answer.message
    for place, one in enumerate(PLANTED, start=2):
        flags = [name for name in answer.acknowledge if name.startswith(named(place, one))]
        assert bool(flags) is bool(one.flagged), (one.name, flags)
        assert all(one.flagged in flag for flag in flags), (one.name, flags)
        said = answer.facts[named(place, one)]
        assert set(re.findall(r"stock_item [^:]*: (\w+Lock)", said)) == ({one.mode} - {""}), said
        assert ("wait as long as that lasts" in said) is one.long, (one.name, said)
        assert ("written anew" in said) is one.rewrites, (one.name, said)
    assert "stock_item: 1,200 rows" in answer.facts["tables touched"][0]
    assert 'CREATE INDEX "by_name" ON "stock_item" ("name");' in answer.output
    # Nothing was done.
    assert execute("SELECT count(*) FROM django_migrations WHERE app = 'stock'", NAME) == [(1,)]


def test_what_is_worse_than_it_looks(host: Host) -> None:
    """What a look at words alone would take for harmless."""
    each = (
        Planted("renamed", 'migrations.RenameModel("Item", "Thing")',
                flagged="is called stock_thing"),
        Planted("then_dropped", sql("ALTER TABLE stock_thing DROP box"),
                flagged="loses the column"),
        Planted("by_schema", sql("DROP TABLE public . stock_shelf"), flagged="is dropped with its"),
        Planted("by_hand", "At.once()"),
        Planted("default_gone", 'migrations.AddField("thing", "n", models.IntegerField(default=0))',
                flagged="must not be null and keeps no default"),
        Planted("commented", sql("/* ALTER */ -- x\\n TRUNCATE stock_thing"),
                flagged="loses all its"),
        Planted("state", "migrations.SeparateDatabaseAndState([migrations.RunSQL('ANALYZE')], [])",
                flagged="cannot be taken back"),
        Planted("commits", sql("COMMIT"), flagged="is not known to be harmless: COMMIT"),
        Planted("code", "migrations.RunPython(print, print)"),
        Planted("proven", ", ".join(map(sql, (
            "ALTER TABLE stock_thing ADD CONSTRAINT full CHECK (price IS NOT NULL) NOT VALID",
            "ALTER TABLE stock_thing VALIDATE CONSTRAINT full",
            "ALTER TABLE stock_thing ALTER price SET NOT NULL"))), flagged="must not be null"),
    )  # fmt: skip
    plant(host, each, 1200)
    at = host.path / "stock" / "migrations" / "0005_by_hand.py"
    at.write_text(at.read_text().replace("class Migration", AT_ONCE + "class Migration", 1))
    answer = host.perform("migrations.Plan", PLAN, {"large_rows": 1000})
    for place, one in enumerate(each, start=2):
        flags = [name for name in answer.acknowledge if name.startswith(named(place, one))]
        assert bool(flags) is bool(one.flagged), (one.name, flags, answer.output)
        assert all(one.flagged in flag for flag in flags), (one.name, flags)
    # A proven constraint spares the look at every row.
    assert "wait as long as" not in answer.facts[named(11, each[9])]
    assert answer.facts["what it does cannot be foreseen"] == [
        f"{named(5, each[3])}: At",
        f"{named(10, each[8])}: Raw Python operation print",
    ]
    assert execute("SELECT to_regclass('made_at_once')", NAME) == [(None,)]
    assert execute("SELECT count(*) FROM stock_item", NAME) == [(1200,)]


AT_ONCE = """
class At(migrations.operations.base.Operation):
    reversible = True
    @classmethod
    def once(cls):
        return cls()
    def describe(self):
        return "At"
    def state_forwards(self, app_label, state):
        pass
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("CREATE TABLE made_at_once (id bigint)")

"""


def test_only_what_lasts_or_loses_counts_while_everything_stands_still(host: Host) -> None:
    each = chosen("index", "rename", "default", "drop")
    plant(host, each, 10)
    answer = host.perform("migrations.Plan", PLAN, {"downtime": True})
    assert [name.split(":")[0] for name in answer.acknowledge] == ["stock.0004_drop"]
    plant(host, chosen("index", "foreign_key", "wider_text", "trigger", "other_table"), 10)
    answer = host.perform("migrations.Plan", PLAN)
    assert answer.status == "passed", answer.acknowledge
    assert "None of 5 operations is dangerous." in answer.message


def test_migrations_that_cannot_be_loaded_are_a_sentence(host: Host) -> None:
    plant(host, chosen("index"), 0)
    at = host.path / "stock" / "migrations" / "0002_index.py"
    at.write_text(at.read_text().replace("0001_initial", "0001_lost"))
    for check, line in (("Plan", PLAN), ("Apply", APPLY), ("NonePending", "None pending.")):
        answer = host.perform(f"migrations.{check}", line)
        assert answer.status == "failed"
        assert "cannot be loaded: NodeNotFoundError" in answer.message
        assert "('stock', '0001_lost')" in answer.message
