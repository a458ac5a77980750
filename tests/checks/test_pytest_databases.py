"""Test databases as clones of a template: the same content, nobody's leftovers, no other database."""

# ruff: noqa: E501  a test within a test is read best as it is
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from rehearsal.checks.base import Outcome
from rehearsal.checks.pytest_databases import TEMPLATE_DAYS, TEMPLATES_KEPT, unneeded_templates
from rehearsal.checks.smoke import Pytest
from tests.checks.projects import (
    INI,
    SETTINGS,
    Result,
    Run,
    databases_like,
    make_report,
    postgresql_settings,
    stopping_at,
)
from tests.conftest import wait_for

MODELS = """
from django.db import models
class Item(models.Model):
    name = models.CharField(max_length=50)
"""
MIGRATION = """
import time, pathlib
from django.db import migrations, models
def seed(apps, schema_editor):
    apps.get_model("shop", "Item").objects.create(name="seeded")
    {body}
class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True, serialize=False)), ("name", models.CharField(max_length=50))]),
        migrations.RunPython(seed),
        {operation}
    ]
"""
TESTS = """
import pytest
from django.contrib.auth.models import Permission
from shop.models import Item

def test_fresh(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        assert [(one.pk, one.name) for one in Item.objects.all()] == [(1, "seeded")]
        assert Permission.objects.filter(content_type__app_label="shop").count() == 4
        assert Item.objects.create(name="left behind").pk == 2

@pytest.mark.django_db
def test_leaves():
    pass
"""


def shop(server: str, *, operation: str = "", body: str = "pass", more: str = "") -> dict[str, str]:
    """A project whose one app seeds a row by migration, on a database of that name."""
    return {
        "pytest.ini": INI + "DJANGO_SETTINGS_MODULE = settings\n",
        "settings.py": f"{postgresql_settings(server)}\nINSTALLED_APPS.append('shop')\n"
        f"DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n{more}",
        "shop/__init__.py": "",
        "shop/models.py": MODELS,
        "shop/migrations/__init__.py": "",
        "shop/migrations/0001_initial.py": MIGRATION.format(operation=operation, body=body),
        "test_a.py": TESTS,
    }


def create(name: str, **options: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')


def templates(server: str) -> dict[str, dict[str, Any]]:
    """The templates of the project's, with what their comments tell."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE datname LIKE %s",
            [f"test_{server}%\\_template\\_%"],
        )
        return {name: json.loads(comment) for name, comment in cursor.fetchall()}


def made(result: Result) -> list[str]:
    assert result.verdict == "passed", (result.why, result.report.output)
    told = result.report.facts["test databases made"]
    assert isinstance(told, list)
    return told


# The template


def test_the_second_run_gets_a_clone_and_no_leftovers(run: Run, server: str) -> None:
    files = shop(server)
    first = made(run("pytest", files))
    (template,) = templates(server)
    assert re.fullmatch(
        rf"default: as a clone in \S+ s \({template}, made now in \S+ s\)", first[0]
    )
    result = run("pytest", files)
    assert re.fullmatch(rf"default: as a clone in \S+ s \({template}\)", made(result)[0])
    assert re.search(rf"test_{server}_rehearsal_\w+", str(result.report.facts["test databases"]))
    assert databases_like(server) == set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [template])
        assert cursor.fetchone() == (False,)


@pytest.mark.long
def test_what_determines_the_content_determines_the_template(run: Run, server: str) -> None:
    files = shop(server)
    made(run("pytest", files))
    assert len(templates(server)) == 1
    for name, text in {
        "test_a.py": TESTS + "def test_more(): pass\n",
        "shop/tests/test_b.py": "def test_b(): pass\n",
        "shop/notes.log": "written while tests run",
    }.items():
        files[name] = text
        made(run("pytest", files))
        assert len(templates(server)) == 1, name
    known = set(templates(server))
    for name, text in {
        "shop/migrations/0002_more.py": "from django.db import migrations\nclass Migration(migrations.Migration):\n    dependencies = [('shop', '0001_initial')]\n",
        "shop/models.py": MODELS + "        # the label of permissions could have changed\n",
        "shop/seeds.json": "[]",
        "shop/apps.py": "import office_helpers\nfrom django.apps import AppConfig\nclass ShopConfig(AppConfig):\n    name = 'shop'\n",
        "office_helpers.py": "SEEDS = 1\n",
        "settings.py": files["settings.py"] + "LANGUAGE_CODE = 'de'\n",
    }.items():
        if name == "shop/apps.py":
            files["office_helpers.py"] = ""
        files[name] = text
        made(run("pytest", files))
        new = set(templates(server)) - known
        assert len(new) == 1, name
        known |= new
    made(run("pytest --nomigrations -k leaves", files))
    assert set(templates(server)) - known, "--nomigrations makes another database"
    assert len(templates(server)) == TEMPLATES_KEPT


@pytest.mark.parametrize(
    "options",
    [
        *(
            pytest.param(o, marks=pytest.mark.long)
            for o in ("--reuse-db", "--reuse-db --create-db")
        ),
        "-n 2",
    ],
)
def test_options_of_others(run: Run, server: str, options: str) -> None:
    files = shop(server)
    said = made(run(f"pytest {options}", files))
    assert all("as a clone" in one for one in said)
    assert sum("made now" in one for one in said) == 1
    assert databases_like(server) == set()


def test_many_at_once_make_one_template(run: Run, server: str, tmp_path: Path) -> None:
    files = shop(server, body="time.sleep(2)")
    run("pytest --version", files)
    results: list[Result] = []

    def again() -> None:
        report = make_report("`pytest`")
        try:
            Pytest().run(report)
        except Outcome as outcome:
            results.append(Result(report, outcome))
        else:
            results.append(Result(report, None))

    with override_settings(REHEARSAL={"ROOT": tmp_path}):
        threads = [threading.Thread(target=again) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted("made now" in made(one)[0] for one in results) == [False, False, False, True]
    assert databases_like(server) == set()
    assert len(templates(server)) == 1


@pytest.mark.fault("pytest ended while its template is made", promised="no half template")
def test_a_killed_making_leaves_no_template(run: Run, server: str, tmp_path: Path) -> None:
    hangs = "pathlib.Path('begun').touch(); time.sleep(0 if pathlib.Path('go').exists() else 60)"
    files = shop(server, body=hangs)
    report = make_report("`pytest`")
    with stopping_at(tmp_path / "begun", report):
        result = run("pytest", files, report=report)
    assert result.verdict == "inconclusive"
    assert (templates(server), databases_like(server)) == ({}, set())
    (tmp_path / "go").touch()
    assert "made now" in made(run("pytest", files))[0]


def test_a_migration_that_fails_is_reported_as_by_hand(run: Run, server: str) -> None:
    result = run("pytest", shop(server, body="raise RuntimeError('planted')"))
    assert result.verdict == "inconclusive"
    assert "before a test began" in result.why
    assert "planted" in result.why
    assert (templates(server), databases_like(server)) == ({}, set())


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ("""migrations.RunSQL("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''5MB''', current_database()); END $$")""", "configures the database itself"),
        ("""migrations.RunSQL("DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO public', current_database()); END $$")""", "grants rights on the database itself"),
    ],
)  # fmt: skip
def test_what_a_clone_would_lack_is_no_template(
    run: Run, server: str, operation: str, why: str
) -> None:
    said = made(run("pytest", shop(server, operation=operation)))
    assert why in said[0]
    assert (templates(server), databases_like(server)) == ({}, set())


@pytest.mark.long
def test_a_template_of_another_role_is_not_trusted(run: Run, server: str) -> None:
    files = shop(server)
    made(run("pytest", files))
    (template,) = templates(server)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {server}")
        cursor.execute(f'ALTER DATABASE "{template}" OWNER TO {server}')
    try:
        assert f"belongs to {server}" in made(run("pytest", files))[0]
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{template}"')
            cursor.execute(f"DROP ROLE {server}")


def test_plainly_where_so_configured(run: Run, server: str) -> None:
    said = made(run("pytest", shop(server), TEST_DATABASE="plain"))
    assert "plainly" in said[0]
    assert templates(server) == {}


def test_plainly_on_sqlite(run: Run) -> None:
    files = shop("unused") | {
        "settings.py": SETTINGS
        + "INSTALLED_APPS.append('shop')\nDEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n"
    }
    result = run("pytest", files)
    assert "SQLite has no templates" in made(result)[0]
    (finding,) = [one for one in result.report.facts["findings"] if "sqlite" in one]  # type: ignore[union-attr]
    assert "The tests ran on sqlite, while this environment runs on postgresql" in finding


SECOND = """
DATABASES["second"] = {**DATABASES["default"], "NAME": DATABASES["default"]["NAME"] + "_b"}
DATABASES["replica"] = {**DATABASES["default"], "TEST": {"MIRROR": "default"}}
DATABASES["default"]["TEST"] = {"TEMPLATE": "template1", "CHARSET": "UTF8"}
"""
TWO_ALIASES = """
import pytest
from shop.models import Item

@pytest.mark.django_db(databases=["default", "second", "replica"])
def test_aliases():
    assert [Item.objects.using(one).count() for one in ("default", "second")] == [1, 1]
    Item.objects.using("default").create(name="new")
    assert Item.objects.using("second").count() == 1
    from django.db import connections
    names = {one: connections[one].settings_dict["NAME"] for one in connections}
    assert names["replica"] == names["default"] != names["second"]
"""


def test_several_aliases_each_have_a_template(run: Run, server: str) -> None:
    files = shop(server, more=SECOND) | {"test_a.py": TWO_ALIASES}
    # Without `using`, this migration writes to the default database whichever it is made for.
    files["shop/migrations/0001_initial.py"] = files["shop/migrations/0001_initial.py"].replace(
        ".objects.create", ".objects.using(schema_editor.connection.alias).create"
    )
    assert len(made(run("pytest", files))) == 2
    assert len(templates(server)) == 2
    assert all("made now" not in one for one in made(run("pytest", files)))


def test_migrations_that_write_elsewhere_make_no_template(run: Run, server: str) -> None:
    wrong = "from django.db import connections; connections['default'].cursor().execute('CREATE TABLE IF NOT EXISTS stray (id int)')"
    files = shop(server, more=SECOND, body=wrong) | {
        "test_a.py": "import pytest\n@pytest.mark.django_db(databases=['default', 'second'])\ndef test_x(): pass\n"
    }
    said = made(run("pytest", files))
    assert "its migrations also wrote to default" in "".join(said)
    assert len(templates(server)) == 1


# The schema of the migrated database


def test_a_template_from_the_schema(run: Run, server: str, tmp_path: Path) -> None:
    files = shop(server)
    files["test_a.py"] = TESTS.replace('[(1, "seeded")]', "[]").replace("pk == 2", "pk == 1")
    create(server)
    made(run("pytest -k leaves", files))
    migrated = subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--settings=settings", "--verbosity=0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert migrated.returncode == 0, migrated.stderr
    for again in (False, True):
        result = run("pytest", files, TEST_DATABASE="schema")
        said = made(result)
        assert ("made now" in said[0]) is not again, said
        assert f"the schema of {server}" in str(result.report.facts["findings"])
    assert databases_like(server) == {server}


def test_a_schema_that_cannot_be_had(run: Run, server: str) -> None:
    said = made(run("pytest", shop(server), TEST_DATABASE="schema"))
    assert "plainly" in said[0]
    assert f"pg_dump failed on {server}: " in said[0]


# What is kept


def test_which_templates_may_go() -> None:
    now = 1_000_000_000.0
    day = 86400
    key = "0123456789abcde"
    note = '{{"rehearsal": "template", "used": {}}}'
    fresh = [(f"test_a_template_{key}{n}", note.format(int(now) - n)) for n in range(5)]
    old = (f"test_b_template_{key}0", note.format(int(now) - TEMPLATE_DAYS * day - 1))
    others = [
        (f"test_c_template_{key}0", ""),
        (f"test_c_template_{key}1", "[]"),
        ("test_c_template_of_somebody", note.format(0)),
        ("c_template_" + key + "0", note.format(0)),
    ]
    wanted = [name for name, _ in fresh[TEMPLATES_KEPT:]] + [old[0]]
    assert sorted(unneeded_templates([*fresh, old, *others], now)) == sorted(wanted)


@pytest.mark.long
def test_an_old_template_is_dropped(run: Run, server: str) -> None:
    files = shop(server)
    made(run("pytest", files))
    (template,) = templates(server)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""COMMENT ON DATABASE "{template}" IS '{{"rehearsal": "template", "used": 1}}'"""
        )
    result = run("pytest", files | {"shop/models.py": MODELS + "\n"})
    assert f"The template {template} is no longer used and is dropped." in result.report.output
    assert template not in templates(server)


# The guard

REAL = """
import pytest
from django.conf import settings
@pytest.fixture(scope="session")
def django_db_setup():
    settings.DATABASES["default"]["NAME"] = {name!r}
"""


@pytest.mark.parametrize("prefix", ["", "test_"])
def test_a_real_database_is_refused(run: Run, server: str, prefix: str) -> None:
    name = prefix + server
    create(name)
    files = shop(name) | {"conftest.py": REAL.format(name=name)}
    files["test_a.py"] = (
        "import pytest\nfrom django.db import connection\n@pytest.mark.django_db(transaction=True)\ndef test_x():\n    connection.cursor().execute('CREATE TABLE planted (id int)')\n"
    )
    real = dict(connection.settings_dict)
    from rehearsal.checks import pytest_environment

    with pytest.MonkeyPatch.context() as patch:
        # As in a worker that lives on this database.
        patch.setitem(connection.settings_dict, "TEST", real["TEST"])
        patch.setattr(pytest_environment, "real_databases", lambda: [name])
        result = run("pytest", files)
    assert result.verdict == "inconclusive"
    assert f"Tests asked for {name} (alias 'default'), which is not a test database" in result.why
    parts = {key: real[key] for key in ("USER", "PASSWORD", "HOST", "PORT")}
    import psycopg

    with psycopg.connect(
        dbname=name, **{key.lower(): value for key, value in parts.items()}
    ) as there:  # type: ignore[arg-type]
        assert there.execute("SELECT to_regclass('planted')").fetchone() == (None,)


def test_a_test_name_that_is_the_real_one_harms_nothing(run: Run, server: str) -> None:
    create(server)
    files = shop(server, more=f"DATABASES['default']['TEST'] = {{'NAME': {server!r}}}\n")
    made(run("pytest", files))
    assert databases_like(server) == {server}


def test_a_fixture_that_names_the_test_database(run: Run, server: str) -> None:
    names = "import pytest\nfrom django.conf import settings\n@pytest.fixture(scope='session')\ndef django_db_modify_db_settings():\n    settings.DATABASES['default']['TEST']['NAME'] = 'theirs'\n"
    result = run("pytest", shop(server) | {"conftest.py": names})
    assert "as a clone" in made(result)[0]
    assert re.search(r"test_theirs_rehearsal_\w+", str(result.report.facts["test databases"]))


def test_without_pytest_django_nothing_leads_to_the_real_one(run: Run, server: str) -> None:
    create(server)
    alone = "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\ndjango.setup()\n"
    tests = "from django.db import connection\ndef test_x():\n    connection.cursor().execute('CREATE TABLE planted (id int)')\n"
    result = run(
        "pytest -p no:django",
        shop(server)
        | {"pytest.ini": "[pytest]\npythonpath = .\n", "conftest.py": alone, "test_a.py": tests},
    )
    assert result.verdict == "inconclusive"
    assert f"Tests asked for {server}" in result.why


# A crash


@pytest.mark.long
@pytest.mark.fault(
    "worker of pytest killed with SIGKILL", promised="a later run drops its database"
)
def test_a_killed_worker_leaves_nothing_for_good(run: Run, server: str, tmp_path: Path) -> None:
    """SIGKILL to the process that performs the check; the next run finds and drops what is left."""
    hangs = "pathlib.Path('begun').touch(); time.sleep(0 if pathlib.Path('go').exists() else 60)"
    files = shop(server, body=hangs)
    run("pytest --version", files)
    code = (
        "import django; django.setup()\n"
        "from django.test import override_settings\n"
        "from rehearsal.checks.smoke import Pytest\n"
        "from tests.checks.projects import make_report\n"
        f"with override_settings(REHEARSAL={{'ROOT': {str(tmp_path)!r}}}):\n"
        "    Pytest().run(make_report('`pytest`'))\n"
    )
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environ, start_new_session=True)
    try:
        wait_for((tmp_path / "begun").exists)
        assert len(databases_like(server)) == 1
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
    (tmp_path / "go").touch()
    made(run("pytest", files))
    # Too young to be told from a run that is still under way; it is that no later.
    left = databases_like(server)
    assert len(left) <= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pytest, "timeout", 1)
        patch.setattr(time, "time", lambda now=time.time: now() + 60)
        patch.setattr(Pytest, "timeout", 25)
        made(run("pytest", files))
    assert databases_like(server) == set()
