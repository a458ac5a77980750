"""A small library plugs the app in as docs/plugging-in.md tells, and performs its own checklist.

It has nothing to do with the stand-in project: other apps, SQLite, five lines, and a check that is
the very one in docs/writing-a-check.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests import servers
from tests.conftest import ROOT, wait_for
from tests.standin import end, free_port

DOCUMENT = (ROOT / "docs" / "writing-a-check.md").read_text()
CHECK = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[0]
BINDING = re.findall(r"```markdown\n(.*?)```", DOCUMENT, re.DOTALL)[0]

FILES = {
    "manage.py": """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "library.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "library/__init__.py": "from library.celery import app as celery_app\n",
    "library/settings.py": """
import os
from pathlib import Path
BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "a library of the tests, which lives for one of them"
USE_TZ = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "library.urls"
STATIC_URL = "/static/"
LOGIN_URL = "/come-in/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.messages", "django.contrib.staticfiles", "library",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
def sqlite(name):
    return {
        "ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE", "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
DATABASES = {"default": sqlite("library.sqlite3")}
CELERY_BROKER_URL = os.environ["BROKER"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

INSTALLED_APPS += ["rehearsal", "django_celery_results", "django_htmx"]
MIDDLEWARE = ["rehearsal.middleware.RestoreMiddleware", *MIDDLEWARE]
DATABASES["rehearsal"] = sqlite("rehearsal.sqlite3")
DATABASE_ROUTERS = ["rehearsal.routers.RehearsalRouter"]
CELERY_RESULT_BACKEND = "django-db"
REHEARSAL = {
    "ROOT": BASE_DIR,
    "CHECKLIST": BASE_DIR / "opening.md",
    "REVISION": "0123456789abcdef0123456789abcdef01234567",
    "SITE_URL": os.environ["SITE"],
}
""",
    "library/celery.py": """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "library.settings")
app = Celery("library")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    "library/models.py": """
from django.db import models
class Book(models.Model):
    title = models.CharField(max_length=100)
    shelf = models.CharField(max_length=10, default="A1")
""",
    "library/migrations/__init__.py": "",
    "library/migrations/0001_initial.py": """
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [migrations.CreateModel("Book", [
        ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False,
                                   verbose_name="ID")),
        ("title", models.CharField(max_length=100)),
    ])]
""",
    "library/migrations/0002_book_shelf.py": """
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("library", "0001_initial")]
    operations = [
        migrations.AddField("book", "shelf", models.CharField(max_length=10, default="A1")),
    ]
""",
    "library/tasks.py": """
from celery import shared_task
@shared_task
def count():
    from library.models import Book
    return Book.objects.count()
""",
    "library/urls.py": """
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.urls import include, path
from library.models import Book
@login_required
def books(request):
    rows = "".join(f"<tr><td>{b.title}</td><td>{b.shelf}</td></tr>" for b in Book.objects.all())
    return HttpResponse(f"<html><body><table id=books>{rows}</table></body></html>")
urlpatterns = [
    path("books/", books),
]
if hasattr(settings, "REHEARSAL"):  # from django.conf import settings
    urlpatterns.insert(0, path("rehearsal/", include("rehearsal.urls")))
""",
    "library/wsgi.py": """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "library.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
""",
    "library/checks.py": CHECK,
    "opening.md": """# Before the library opens

## 1. The release
- [ ] Apply migrations: `python manage.py migrate`.
- [ ] Confirm no pending migrations remain.

## 2. The readers
- [ ] The books are listed. <!-- check: rehearsal.checks.functional.Page path=/books/ \
user=librarian rows=2 table=books text="Two Years" queries=6 -->
- [ ] The worker counts them. <!-- check: rehearsal.checks.functional.TaskRoundTrip \
task=library.tasks.count -->
"""
    + BINDING.replace("office.checks", "library.checks").replace("least=100", "least=1"),
}
SEED = """
from django.contrib.auth.models import User
from django.db import connection
User.objects.create(username="librarian")
with connection.cursor() as cursor:
    cursor.execute("INSERT INTO library_book (title) VALUES ('One Summer'), ('Two Years')")
"""


@contextmanager
def running(folder: Path, environ: dict[str, str], *arguments: str) -> Iterator[None]:
    with (folder / f"{arguments[2]}.log").open("w") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environ, stdout=log, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        end(process)


def test_it_performs_its_own_checklist(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    port = free_port()
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")},
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        # A numbered database of its own: workers of other tests listen in others.
        "BROKER": servers.redis.url(8),
        "SITE": f"http://127.0.0.1:{port}",
    }

    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=180,
        )  # fmt: skip

    for arguments in (
        ["migrate", "-v", "0", "library", "0001"],
        ["migrate", "-v", "0", "auth"],
        ["migrate", "-v", "0", "sessions"],
        ["shell", "-c", SEED],
        ["migrate", "-v", "0", "--database", "rehearsal", "rehearsal"],
        ["migrate", "-v", "0", "--database", "rehearsal", "django_celery_results"],
    ):
        made = manage(*arguments)
        assert made.returncode == 0, made.stderr
    python = (sys.executable, "-m")
    worker = ("celery", "-A", "library", "worker", "-c", "1", "-l", "INFO", "--without-mingle")
    web = ("gunicorn", "library.wsgi", "--bind", f"127.0.0.1:{port}", "--no-control-socket")
    with (
        running(tmp_path, environ, *python, *worker),
        running(tmp_path, environ, *python, *web),
    ):

        def is_up() -> bool:
            try:
                return bool(urlopen(f"http://127.0.0.1:{port}/books/", timeout=10).status)
            except OSError as error:
                if hasattr(error, "close"):
                    error.close()  # an answer all the same: nobody serves /come-in/
                return hasattr(error, "code")

        wait_for(is_up)
        ran = manage("start_rehearsal", "--worker", "--json", "--timeout", "120")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = json.loads(ran.stdout)
    items = [item for section in said["sections"] for item in section["items"]]
    assert [item["status"] for item in items] == ["passed"] * 5
    assert [item["check"].rpartition(".")[2] for item in items] == [
        "Apply", "NonePending", "Page", "TaskRoundTrip", "EnoughUsers",
    ]  # fmt: skip
    assert "2 rows" in items[2]["summary"]
    assert items[3]["evidence"]["returned"] == "2"
    assert items[4]["measurements"] == [{"name": "users", "value": 1, "unit": "users"}]


@pytest.mark.parametrize("block", [0, 1])
def test_it_is_plugged_in_as_the_document_tells(block: int) -> None:
    told = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "plugging-in.md").read_text(), re.DOTALL
    )[block]
    assert len(told.splitlines()) <= 10
    of_the_project = ("DATABASES[", '    "')
    for line in told.splitlines():
        if not line.startswith(of_the_project):
            assert line in FILES[("library/settings.py", "library/urls.py")[block]]
