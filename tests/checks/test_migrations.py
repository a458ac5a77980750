"""Section 2 against small real projects, each with something planted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rehearsal.checks.base import Failed
from rehearsal.checks.migrations.state import state
from tests.checks.host import MANAGE, STOCK_MODELS, Host
from tests.checks.projects import make_report

PLAN = "Run `python manage.py showmigrations --plan` and review output."
APPLY = "Apply migrations: `python manage.py migrate`."
NONE = "Confirm no pending migrations remain."
TWO = ["stock.0001_initial", "stock.0002_price"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def recorded(host: Host, name: str = "default.sqlite3") -> list[str]:
    with closing(sqlite3.connect(host.path / name)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'django_migrations'"):
            return []
        return [
            f"{app}.{name}"
            for app, name in connection.execute("SELECT app, name FROM django_migrations")
        ]


def record(host: Host, app: str, name: str) -> None:
    with closing(sqlite3.connect(host.path / "default.sqlite3")) as connection, connection:
        connection.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES (?, ?, '2026-01-01')",
            (app, name),
        )


def test_plan_then_apply_then_none_pending(host: Host) -> None:
    host.prepare("rehearsal", "audit")
    plan = host.perform("migrations.Plan", PLAN)
    assert plan.status == "passed"
    assert plan.facts["unapplied, in their order"] == TWO
    assert plan.numbers["migrations.unapplied"] == 2
    assert "[ ]  stock.0002_price" in plan.output
    assert "2 migrations to apply" in plan.message

    pending = host.perform("migrations.NonePending", NONE)
    assert pending.status == "failed"
    assert "2 migrations pending, first stock.0001_initial" in pending.message

    apply = host.perform("migrations.Apply", APPLY)
    assert (apply.status, apply.facts["applied"]) == ("passed", TWO)
    assert "2 migrations applied to SQLite file" in apply.message
    assert "1 of 2 applied, last stock.0001_initial." in apply.said
    assert set(TWO) <= set(recorded(host))

    again = host.perform("migrations.Apply", APPLY)
    assert again.status == "passed"
    assert again.message.startswith("Nothing was there to apply: all 2 are recorded")
    assert "nothing to apply" in host.perform("migrations.Plan", PLAN).message

    none = host.perform("migrations.NonePending", NONE)
    assert none.status == "passed"
    assert none.facts["migrations in audit"] == "1 of 1 applied"
    # Django would record all of the project's there; only ours and Celery's results belong.
    assert "migrations in legacy" not in none.facts
    assert none.facts["migrations in default"] == "2 of 2 applied"


def test_another_alias_that_is_behind_is_pending(host: Host) -> None:
    host.prepare("default", "rehearsal", "audit")
    host.migration("audit", "0002_more", "migrations.RunPython(lambda apps, editor: None)")
    found = host.perform("migrations.NonePending", NONE)
    assert found.status == "failed"
    assert "1 migration pending, first audit.0002_more (audit)" in found.message


def test_conflicting_migrations(host: Host) -> None:
    host.migration("stock", "0002_other", "", after="0001_initial")
    found = host.perform("migrations.Plan", PLAN)
    assert found.status == "failed"
    assert "stock has several last migrations, 0002_other and 0002_price" in found.message
    applied = host.perform("migrations.Apply", APPLY)
    assert applied.status == "failed"
    assert "Conflicting migrations" in applied.output
    assert "makemigrations --merge" in applied.message


def test_a_database_that_is_ahead_of_the_code(host: Host) -> None:
    host.prepare("default", "rehearsal", "audit")
    record(host, "stock", "0003_from_a_later_release")
    record(host, "an_app_that_was_removed", "0001_initial")
    for check, line in (("Plan", PLAN), ("NonePending", NONE)):
        found = host.perform(f"migrations.{check}", line)
        assert found.status == "failed"
        assert "absent in the code: stock.0003_from_a_later_release." in found.message
        gone = found.facts["recorded for apps that are gone"]
        assert gone == ["an_app_that_was_removed.0001_initial"]


def test_a_model_change_without_a_migration(host: Host) -> None:
    host.prepare("default", "rehearsal", "audit")
    models = host.path / "stock" / "models.py"
    # Not nullable and without a default: makemigrations would ask somebody.
    models.write_text(models.read_text() + "    weight = models.IntegerField()\n")
    plan = host.perform("migrations.Plan", PLAN)
    assert plan.status == "passed"
    assert "model changes without a migration: 1." in plan.message
    found = host.perform("migrations.NonePending", NONE)
    assert found.status == "failed"
    assert "without a migration: stock: Add field weight to item" in found.message


def test_a_migration_that_fails_names_itself_and_how_far_it_came(host: Host) -> None:
    host.migration("stock", "0003_broken", 'migrations.RunSQL("INSERT INTO nowhere VALUES (1)")')
    host.migration("stock", "0004_after", 'migrations.RunSQL("SELECT 1")')
    found = host.perform("migrations.Apply", APPLY)
    assert found.status == "failed"
    assert (
        "failed at stock.0003_broken, which was rolled back, after 2 of 4 migrations"
    ) in found.message
    assert "no such table: nowhere" in found.message
    assert found.facts["applied"] == TWO
    assert found.facts["unapplied"] == ["stock.0003_broken", "stock.0004_after"]


@pytest.mark.parametrize("options", ["--plan", "stock 0001"])
def test_a_line_that_leaves_migrations_unapplied_is_no_tick(host: Host, options: str) -> None:
    found = host.perform("migrations.Apply", f"`python manage.py migrate {options}`")
    assert found.status == "inconclusive"
    assert "unapplied, first stock.000" in found.message


def test_a_line_that_only_records_is_refused(host: Host) -> None:
    found = host.perform("migrations.Apply", "`python manage.py migrate --fake`")
    assert found.status == "failed"
    assert "Take --fake out of the line" in found.message
    assert not (host.path / "default.sqlite3").exists()


def test_an_initial_migration_that_was_only_recorded_is_seen(host: Host) -> None:
    host.manage("migrate", "stock", "0001")
    with closing(sqlite3.connect(host.path / "default.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM django_migrations WHERE app = 'stock'")
    (host.path / "stock/migrations/0001_initial.py").write_text(
        (host.path / "stock/migrations/0001_initial.py")
        .read_text()
        .replace("dependencies", "initial = True\n    dependencies")
    )
    found = host.perform("migrations.Apply", "`python manage.py migrate --fake-initial`")
    assert found.status == "failed"
    assert "without being run: stock.0001_initial." in found.message


def test_a_column_that_was_only_recorded_is_missed(host: Host) -> None:
    host.prepare("rehearsal", "audit")
    models = host.path / "stock" / "models.py"
    models.write_text(models.read_text() + "    weight = models.IntegerField(null=True)\n")
    add = 'migrations.AddField("item", "weight", models.IntegerField(null=True))'
    host.migration(
        "stock", "0003_weight", f"migrations.SeparateDatabaseAndState(state_operations=[{add}])"
    )
    for check, line in (("Apply", APPLY), ("NonePending", NONE)):
        found = host.perform(f"migrations.{check}", line)
        assert found.status == "failed"
        assert "recorded as applied, and the database lacks stock_item.weight" in found.message


def test_a_line_that_takes_back(host: Host) -> None:
    host.manage("migrate")
    found = host.perform("migrations.Apply", "`python manage.py migrate stock 0001`")
    assert found.status == "failed"
    assert "took back stock.0002_price" in found.message


@pytest.mark.parametrize(
    "check", ["Apply", *(pytest.param(n, marks=pytest.mark.long) for n in ("Plan", "NonePending"))]
)
def test_manage_py_on_another_database_is_found_before_anything_is_written(
    host: Host, check: str
) -> None:
    host.write("manage.py", MANAGE.format(extra='os.environ["HOST_DATABASE"] = "other.sqlite3"'))
    line = {"Plan": PLAN, "Apply": APPLY, "NonePending": NONE}[check]
    found = host.perform(f"migrations.{check}", line)
    assert found.status == "failed"
    assert "other.sqlite3" in found.message
    assert "default.sqlite3" in found.message
    assert "DATABASE_URL" in found.message
    for name in ("other.sqlite3", "default.sqlite3"):
        assert (host.path / name).stat().st_size == 0


def test_settings_named_in_the_line_are_those_that_are_proven(host: Host) -> None:
    host.write("host/elsewhere.py", SETTINGS_ELSEWHERE)
    line = "`python manage.py migrate --settings=host.elsewhere`"
    found = host.perform("migrations.Apply", line)
    assert found.status == "failed"
    assert "elsewhere.sqlite3" in found.message
    assert (host.path / "elsewhere.sqlite3").stat().st_size == 0


SETTINGS_ELSEWHERE = """
from host.settings import *
DATABASES["default"]["NAME"] = HERE / "elsewhere.sqlite3"
"""


@pytest.mark.parametrize(
    "how",
    [
        "no package",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("switched off", "never made")),
    ],
)
def test_an_app_that_has_lost_its_migrations_is_no_tick(host: Host, how: str) -> None:
    host.prepare("rehearsal", "audit")
    host.manage("migrate", "stock", "0001")
    settings = (host.path / "host" / "settings.py").read_text()
    match how:
        case "no package":
            (host.path / "stock" / "migrations" / "__init__.py").unlink()
        case "switched off":
            settings += "\nMIGRATION_MODULES = {'stock': None}\n"
        case "never made":
            host.manage("migrate")
            host.write("ghost/__init__.py", "")
            host.write("ghost/models.py", STOCK_MODELS)
            settings = settings.replace('"stock", "audit"]', '"stock", "audit", "ghost"]')
    host.write("host/settings.py", settings)
    app = "ghost" if how == "never made" else "stock"
    for check, line in (("Plan", PLAN), ("NonePending", NONE)):
        found = host.perform(f"migrations.{check}", line)
        assert found.status == "failed", found.message
        assert f"Installed, with models and without migrations: {app}." in found.message
    if app == "stock":
        applied = host.perform("migrations.Apply", APPLY)
        assert applied.status == "inconclusive", applied.message
        assert "No migration belongs in SQLite file" in applied.message
    # Where its tables are there, and were made without migrations, nothing is wrong.
    else:
        host.manage("migrate", "--run-syncdb")
        assert host.perform("migrations.NonePending", NONE).status == "passed"


def test_a_project_without_migrations_proves_nothing(host: Host) -> None:
    settings = host.path / "host" / "settings.py"
    settings.write_text(
        settings.read_text().replace(
            '["django_celery_results", "django_htmx", "rehearsal", "stock", "audit"]',
            '["django_htmx", "rehearsal"]',
        )
        + 'DATABASES = {"default": sqlite("default.sqlite3")}\n'
        + "DATABASE_ROUTERS = []\nMIGRATION_MODULES = {'rehearsal': None}\n"
    )
    for check, line in (("Plan", PLAN), ("Apply", APPLY), ("NonePending", NONE)):
        found = host.perform(f"migrations.{check}", line)
        assert found.status == "inconclusive"
        assert "no migrations at all" in found.message


def test_a_project_that_does_not_start_quotes_its_error(host: Host) -> None:
    host.write("manage.py", "raise SystemExit('the variable SECRET_KEY is not set')")
    found = host.perform("migrations.Plan", PLAN)
    assert found.status == "failed"
    assert "the variable SECRET_KEY is not set" in found.message
    assert "the variable SECRET_KEY is not set" in found.output


@pytest.mark.parametrize("line", ["Migrate.", "`python manage.py flush`", "`make migrate`", "`'`"])
def test_a_line_with_another_command_is_refused(host: Host, line: str) -> None:
    found = host.perform("migrations.Apply", line)
    assert found.status == "failed"
    assert "`python manage.py migrate …`" in found.message


def test_an_answer_of_another_release_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"identities": {}, "databases": {}, "wishes": {}}
    monkeypatch.setattr("rehearsal.checks.migrations.state.ask", lambda *_, **__: answer)
    with pytest.raises(Failed, match="databases, identities, wishes, and .* the same release"):
        state(make_report("`python manage.py migrate`"))
