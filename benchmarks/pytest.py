"""The checklist's five pytest commands through the check, over the same five typed by hand.

In a generated project with more than a hundred migrations on PostgreSQL. Command by command, three
sides take turns: by hand; ours, where the first finds nothing prepared; ours again, with the
template there. Every side must report the same outcome for every test, or there is no ratio.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

from benchmarks._ratios import spread

ROUNDS = int(os.environ.get("ROUNDS", "3"))
APPS = 12
MODELS = 10
"""Models in each app; three migrations make, link and fill two of them."""
LIMITS = {"ours_cold_over_by_hand": 0.45, "ours_warm_over_by_hand": 0.25}
ROOT = Path(__file__).parent.parent
COMMANDS = [
    "pytest -m smoke --ds=obc_management.settings",
    "pytest src/project_central/tests/test_views.py::MyTasksWithProjectsViewTests",
    "pytest src/common/tests/test_task_automation.py",
    "pytest src/common/tests/test_tasks_notifications.py",
    "pytest src/tests/test_calendar_performance.py -k calendar_aggregation",
]
SETTINGS = """
import json, os
SECRET_KEY = "a key for a project that lives as long as one benchmark"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.messages", "django.contrib.sessions", {apps}, "rehearsal",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {{
    "default": {{"ENGINE": "django.db.backends.postgresql", **json.loads(os.environ["DATABASE"])}},
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "obc_management.urls"
REHEARSAL = {{"ROOT": {root!r}}}
"""
MIGRATION = """
from django.db import migrations, models

def fill(apps, schema_editor):
    for name in {models!r}:
        model = apps.get_model("{app}", name)
        model.objects.bulk_create(model(name=str(number)) for number in range(3))

class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    operations = [{operation}]
"""
FIELD = "models.CharField(max_length=50, db_index={index}, default='')"
NAMES = ["name", *(f"field{number}" for number in range(8))]
COLUMNS = ", ".join(f'("{name}", {FIELD.format(index=name == "name")})' for name in NAMES)
FIELDS = "".join(f"    {name} = {FIELD.format(index=name == 'name')}\n" for name in NAMES)
KEY = '("id", models.BigAutoField(primary_key=True, serialize=False))'
TESTS = {
    "src/tests/test_routes.py": """
import pytest
from django.contrib.auth.models import Permission, User
from common.models import Thing0
@pytest.mark.smoke
@pytest.mark.django_db
def test_rows_of_migrations_are_there(client):
    rows = Thing0.objects.order_by("id").values_list("id", "name")
    assert list(rows) == [(1, "0"), (2, "1"), (3, "2")]
@pytest.mark.smoke
@pytest.mark.django_db
def test_permissions_are_there():
    assert Permission.objects.filter(content_type__app_label="common").count() == 40
@pytest.mark.smoke
@pytest.mark.django_db(transaction=True)
def test_nobody_left_a_user():
    assert User.objects.create(username="one").pk == 1
@pytest.mark.smoke
@pytest.mark.skip("not built")
def test_skipped():
    pass
def test_other():
    assert False
""",
    "src/project_central/tests/test_views.py": """
from django.test import TestCase
from django.contrib.auth.models import User
class MyTasksWithProjectsViewTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.user = User.objects.create(username="someone")
    def test_admin_asks_for_a_login(self):
        self.assertEqual(self.client.get("/admin/").status_code, 302)
    def test_one_user(self):
        self.assertEqual(User.objects.count(), 1)
    def test_planted_failure(self):
        self.assertEqual(User.objects.count(), 2)
""",
    "src/common/tests/test_task_automation.py": """
from django.db import transaction
from django.test import TransactionTestCase
from common.models import Thing1
class AutomationTests(TransactionTestCase):
    def test_commits(self):
        with transaction.atomic():
            made = Thing1.objects.create(name="new")
        self.assertIsNotNone(made.pk)
    def test_is_emptied(self):
        self.assertEqual(Thing1.objects.filter(name="new").count(), 0)
""",
    "src/common/tests/test_tasks_notifications.py": """
import pytest
from common.models import Thing2
@pytest.mark.django_db
@pytest.mark.parametrize("count", [1, 10])
def test_batch(count):
    Thing2.objects.all().delete()
    for number in range(count):
        Thing2.objects.create(name=f"notification {number}")
    assert Thing2.objects.count() == count
@pytest.mark.django_db
@pytest.mark.xfail(reason="known")
def test_known():
    assert not Thing2.objects.exists()
""",
    "src/tests/test_calendar_performance.py": """
import pytest
from common.models import Thing3
@pytest.mark.django_db
def test_calendar_aggregation(django_assert_num_queries):
    with django_assert_num_queries(1):
        assert Thing3.objects.count() == 3
def test_other():
    assert False
""",
}


def generate(root: Path) -> int:
    """Write the project; returns how many migrations its own apps have."""
    files = dict(TESTS)
    names = ["common", "project_central", *(f"area{number}" for number in range(APPS - 2))]
    made = 0
    for place, app in enumerate(names):
        before: list[tuple[str, str]] = [("contenttypes", "0002_remove_content_type_name")]
        if place:
            before.append((names[place - 1], f"{MODELS // 2 * 3:04}_step"))
        classes = ""
        for number in range(0, MODELS, 2):
            pair = [
                (f"Thing{one}", f"{names[place - 1]}.Thing{one}") for one in (number, number + 1)
            ]
            links = [
                "models.ForeignKey({to!r}, models.CASCADE, null=True)".format(
                    to=other if place else "contenttypes.ContentType"
                )
                for _, other in pair
            ]
            steps = [
                ", ".join(
                    f'migrations.CreateModel("{model}", [{KEY}, {COLUMNS}])' for model, _ in pair
                ),
                ", ".join(
                    f'migrations.AddField("{model}", "size", models.IntegerField(default=0)), '
                    f'migrations.AddField("{model}", "of", {link})'
                    for (model, _), link in zip(pair, links, strict=True)
                ),
                "migrations.RunPython(fill, migrations.RunPython.noop)",
            ]
            for step in steps:
                made += 1
                own = sum(one.startswith(f"src/{app}/migrations/") for one in files) + 1
                files[f"src/{app}/migrations/{own:04}_step.py"] = MIGRATION.format(
                    app=app,
                    models=[model for model, _ in pair],
                    dependencies=before,
                    operation=step,
                )
                before = [(app, f"{own:04}_step")]
            for (model, _), link in zip(pair, links, strict=True):
                classes += (
                    f"class {model}(models.Model):\n{FIELDS}"
                    f"    size = models.IntegerField(default=0)\n    of = {link}\n"
                )
        files[f"src/{app}/models.py"] = f"from django.db import models\n{classes}"
        files[f"src/{app}/migrations/__init__.py"] = files[f"src/{app}/__init__.py"] = ""
    quoted = ", ".join(map(repr, names))
    files |= {
        "pytest.ini": "[pytest]\npythonpath = src\ntestpaths = src\n"
        "DJANGO_SETTINGS_MODULE = obc_management.settings\nmarkers = smoke: core routes\n",
        "src/obc_management/settings.py": SETTINGS.format(apps=quoted, root=str(root)),
        "src/obc_management/urls.py": "from django.contrib import admin\n"
        "from django.urls import path\nurlpatterns = [path('admin/', admin.site.urls)]\n",
        **{f"src/{name}/tests/__init__.py": "" for name in ("common", "project_central")},
        "src/obc_management/__init__.py": "",
        "src/tests/__init__.py": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return made


def main() -> None:
    import psycopg

    from demo import servers

    seconds: dict[str, list[float]] = {"by hand": [], "cold": [], "warm": []}
    with servers.postgresql() as postgresql, tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        migrations = generate(root)
        url = postgresql.create("office")
        database = {
            "NAME": "office",
            "USER": postgresql.user,
            "PASSWORD": postgresql.password,
            "HOST": postgresql.host,
            "PORT": str(postgresql.port),
        }
        environ = {
            **{name: value for name, value in os.environ.items() if name[:7] != "PYTEST_"},
            "DATABASE": json.dumps(database),
            "PYTHONPATH": str(ROOT),
        }

        def forget() -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                there = connection.execute(
                    "SELECT datname FROM pg_database WHERE datname LIKE '%\\_template\\_%'"
                ).fetchall()
                for (name,) in there:
                    connection.execute(f'DROP DATABASE "{name}"')

        for turn in range(ROUNDS):
            forget()
            sums = dict.fromkeys(seconds, 0.0)
            tests = 0
            for command in COMMANDS:
                sides = {
                    "by hand": by_hand(root, environ, command),
                    "cold": ours(root, environ, command),
                    "warm": ours(root, environ, command),
                }
                told = {name: outcomes for name, (_, outcomes) in sides.items()}
                assert told["by hand"] == told["cold"] == told["warm"], json.dumps(told, indent=1)
                tests += len(told["by hand"])
                for name, (took, _) in sides.items():
                    sums[name] += took
                said = ", ".join(f"{name} {took:.1f} s" for name, (took, _) in sides.items())
                print(f"round {turn + 1}: {command}: {said}", file=sys.stderr)
            for name, took in sums.items():
                seconds[name].append(took)
    print(f"{migrations} migrations of the project's own, {tests} tests with equal outcomes")
    print(f"{'five commands':<16}{'median s':>10}{'lowest':>8}{'highest':>9}")
    for name, took in seconds.items():
        print(f"{name:<16}{statistics.median(took):>10.1f}{min(took):>8.1f}{max(took):>9.1f}")
    line: dict[str, float] = {}
    for side in ("cold", "warm"):
        name = f"ours_{side}_over_by_hand"
        pairs = zip(seconds[side], seconds["by hand"], strict=True)
        line |= (found := spread(name, [mine / hand for mine, hand in pairs]))
        print(f"{name} {' '.join(map(str, found.values()))}, at most {LIMITS[name]} aimed at")
    print(json.dumps(line))


Outcomes = dict[str, str]


def by_hand(root: Path, environ: dict[str, str], command: str) -> tuple[float, Outcomes]:
    """The seconds of a command in a process of its own, and what its tests came to."""
    report = root / "hand.xml"
    report.unlink(missing_ok=True)  # of the command before
    words = [str(Path(sys.executable).with_name("pytest")), *shlex.split(command)[1:]]
    began = time.perf_counter()
    ran = subprocess.run(
        [*words, f"--junitxml={report}"],
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    took = time.perf_counter() - began
    assert ran.returncode in (0, 1) and report.exists(), ran.stdout + ran.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return took, {f"{case.get('classname')}.{case.get('name')}": outcome(case) for case in cases}


def outcome(case: ElementTree.Element) -> str:
    skipped = case.find("skipped")
    if skipped is not None:
        return "xfailed" if skipped.get("type") == "pytest.xfail" else "skipped"
    return "failed" if case.find("failure") is not None else "passed"


def ours(root: Path, environ: dict[str, str], command: str) -> tuple[float, Outcomes]:
    """The same through the check, in a process that stands for a worker, which is there already."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.pytest", "--perform", command],
        cwd=root,
        env={
            **environ,
            "PYTHONPATH": f"{ROOT}:{root / 'src'}",
            "DJANGO_SETTINGS_MODULE": "obc_management.settings",
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    answer = json.loads(ran.stdout.splitlines()[-1])
    return answer["seconds"], answer["outcomes"]


LINE = re.compile(r"(\w+) +\d+\.\d+ s +\d+ queries  (.+)")


def perform(command: str) -> None:
    """Perform the check for a command; print the seconds and the outcomes."""
    import datetime

    import django

    django.setup()
    from rehearsal.checks.base import Outcome, Rehearsed, Report
    from rehearsal.checks.smoke import Pytest

    report = Report(f"`{command}`", Rehearsed(1, "none", datetime.datetime.now(datetime.UTC)))
    began = time.perf_counter()
    try:
        Pytest().run(report)
    except Outcome as said:
        report.write(f"{said.status}: {said}")
    seconds = time.perf_counter() - began
    found = filter(None, map(LINE.fullmatch, report.output.splitlines()))
    outcomes = {named(line[2]): line[1] for line in found}
    assert outcomes, report.output
    print(json.dumps({"seconds": seconds, "outcomes": outcomes}))


def named(node: str) -> str:
    """The name that JUnit's report gives to a test."""
    return re.sub(r"\.py(?=\.)", "", node.replace("::", ".").replace("/", "."))


if __name__ == "__main__":
    perform(sys.argv[-1]) if "--perform" in sys.argv else main()
