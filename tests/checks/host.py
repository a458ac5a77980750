"""A small Django project in a folder of its own, and a process that performs a check in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent.parent

MANAGE = """
import os, sys
{extra}
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "host.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """
import os
from pathlib import Path
HERE = Path(__file__).parent.parent
SECRET_KEY = "a key for a project that lives as long as one test"
USE_TZ = True
INSTALLED_APPS = ["django_celery_results", "django_htmx", "rehearsal", "stock", "audit"]
def sqlite(name):
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / name, "OPTIONS": {"timeout": 20}}
DATABASES = {
    "default": sqlite(os.environ.get("HOST_DATABASE", "default.sqlite3")),
    "rehearsal": sqlite("records.sqlite3"),
    "audit": sqlite("audit.sqlite3"),
    "legacy": sqlite("legacy.sqlite3"),
}
DATABASE_ROUTERS = ["rehearsal.routers.RehearsalRouter", "host.routers.AuditRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_BROKER_URL = os.environ.get("HOST_BROKER", "memory://")
CELERY_RESULT_BACKEND = "django-db"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if os.environ.get("HOST_CACHE"):
    CACHES["default"] = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["HOST_CACHE"],
    }
CELERY_TASK_ALWAYS_EAGER = bool(os.environ.get("HOST_EAGER"))
REHEARSAL = {
    "ROOT": HERE,
    "BEAT_SECONDS": 1,
    "REVISION": os.environ.get("HOST_REVISION", "0123456789abcdef0123456789abcdef01234567"),
}
"""
ROUTERS = """
class AuditRouter:
    def db_for_read(self, model, **hints):
        return "audit" if model._meta.app_label == "audit" else None
    db_for_write = db_for_read
    def allow_migrate(self, db, app_label, **hints):
        return db == "audit" if app_label == "audit" else (False if db == "audit" else None)
"""
CELERY = """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "host.settings")
app = Celery("host")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

@app.task(name="host.perform", ignore_result=True)
def perform_here(path, line, output):
    from host.perform import perform
    perform(path, line, output)
"""
STOCK_MODELS = """
from django.db import models
class Item(models.Model):
    name = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
"""
AUDIT_MODELS = """
from django.db import models
class Entry(models.Model):
    text = models.TextField()
"""
MIGRATION = """
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [{dependencies}]
    operations = [{operations}]
"""
KEY = (
    '("id", models.BigAutoField(verbose_name="ID", primary_key=True, auto_created=True, '
    "serialize=False))"
)
NAME = '("name", models.CharField(max_length=50))'
TEXT = '("text", models.TextField())'
STOCK = {
    "0001_initial": f'migrations.CreateModel("Item", [{KEY}, {NAME}])',
    "0002_price": 'migrations.AddField("item", "price", models.IntegerField(default=0))',
}
AUDIT = {"0001_initial": f'migrations.CreateModel("Entry", [{KEY}, {TEXT}])'}
PERFORM = """
import datetime, json, os, sys, traceback

def perform(path, line, output, options="{}"):
    from rehearsal import conf, release
    from rehearsal.checks import base
    from rehearsal.checks.environment import survey
    from rehearsal.models import Rehearsal
    # For those who will not answer anyway.
    survey.ANSWER_SECONDS = int(os.environ.get("HOST_ANSWER_SECONDS", survey.ANSWER_SECONDS))
    def beat_seen_at():
        return Rehearsal.objects.values_list("beat_seen_at", flat=True).get()
    report = base.Report(
        line,
        base.Rehearsed(1, release.revision(), datetime.datetime.now(datetime.UTC)),
        redact=conf.redactor().redact,
        beat_seen_at=beat_seen_at,
    )
    said, names = [], []
    progress = report.progress
    report.progress = lambda sentence: (said.append(sentence), progress(sentence))[1]
    try:
        base.build(path, json.loads(options)).run(report)
        status, message = "passed", report.said
    except base.Outcome as outcome:
        status, message = outcome.status, report.redact(str(outcome))
        names = getattr(outcome, "acknowledge", [])
    except Exception:
        status, message = "broke", traceback.format_exc()
    with open(output + ".part", "w") as file:
        json.dump({
            "status": status, "message": message, "output": report.output, "facts": report.facts,
            "numbers": {one.name: one.value for one in report.measurements}, "said": said,
            "acknowledge": names,
        }, file)
    os.rename(output + ".part", output)

if __name__ == "__main__":
    import django
    django.setup()
    import host.celery
    perform(*sys.argv[1:])
"""


FILES = {"default": "default.sqlite3", "rehearsal": "records.sqlite3", "audit": "audit.sqlite3"}
MIGRATES = """
import django
from django.core.management import call_command
django.setup()
for app, alias in (("rehearsal", "rehearsal"), ("django_celery_results", "rehearsal"),
                   ("audit", "audit"), ("stock", "default")):
    call_command("migrate", app, database=alias, verbosity=0)
"""


@cache
def _migrated() -> dict[str, bytes]:
    """The project's databases with all migrations applied, by their aliases; made once."""
    with TemporaryDirectory() as folder:
        host = Host(Path(folder))
        host.python("-c", MIGRATES, DJANGO_SETTINGS_MODULE="host.settings")
        return {alias: (host.path / name).read_bytes() for alias, name in FILES.items()}


@dataclass(frozen=True)
class Answer:
    """What a check said."""

    status: str
    message: str
    output: str
    facts: dict[str, Any]
    numbers: dict[str, float]
    said: list[str]
    acknowledge: list[str]
    """What a person has to acknowledge by name."""


@dataclass
class Host:
    """The project; `environ` is what every process started in it gets besides ours."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write("manage.py", MANAGE.format(extra=""))
        self.write("host/perform.py", PERFORM)
        self.write("host/__init__.py", "")
        self.write("host/settings.py", SETTINGS)
        self.write("host/routers.py", ROUTERS)
        self.write("host/celery.py", CELERY)
        self.write("stock/models.py", STOCK_MODELS)
        self.write("audit/models.py", AUDIT_MODELS)
        for app, migrations in (("stock", STOCK), ("audit", AUDIT)):
            self.write(f"{app}/__init__.py", "")
            self.write(f"{app}/migrations/__init__.py", "")
            for name, operations in migrations.items():
                self.migration(app, name, operations)

    def write(self, name: str, text: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def migration(self, app: str, name: str, operations: str, after: str | None = None) -> None:
        """Write a migration that follows `after`, by default the last one there is."""
        there = sorted(one.stem for one in (self.path / app / "migrations").glob("0*.py"))
        last = after or (there[-1] if there else None)
        dependencies = f'("{app}", "{last}")' if last else ""
        text = MIGRATION.format(dependencies=dependencies, operations=operations)
        self.write(f"{app}/migrations/{name}.py", text)

    def variables(self, **environ: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")}
        # Whole-second time stamps of source files would let a stale .pyc stand in for an edit.
        ours = {"PYTHONPATH": f"{self.path}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        return {**clean, **ours, **self.environ, **environ}

    def prepare(self, *aliases: str) -> None:
        """Put the project's own databases to where its migrations lead: copies, quickly made."""
        for alias in aliases:
            (self.path / FILES[alias]).write_bytes(_migrated()[alias])

    def manage(self, *arguments: str, **environ: str) -> str:
        return self.python("manage.py", *arguments, **environ)

    def python(self, *arguments: str, **environ: str) -> str:
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.variables(**environ),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def perform(
        self, check: str, line: str, options: dict[str, object] | None = None, **environ: str
    ) -> Answer:
        """Perform a check in a process of its own, as a worker of the project would."""
        output = self.path / "answer.json"
        output.unlink(missing_ok=True)
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "host.perform", f"rehearsal.checks.{check}", line),
                *(str(output), json.dumps(options or {})),
            ],
            cwd=self.path,
            env={"DJANGO_SETTINGS_MODULE": "host.settings", **self.variables(**environ)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert output.exists(), ran.stdout + ran.stderr
        return self.answer()

    def answer(self) -> Answer:
        answer = Answer(**json.loads((self.path / "answer.json").read_text()))
        assert answer.status != "broke", answer.message
        return answer
