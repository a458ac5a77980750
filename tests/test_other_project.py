"""A new project installs the wheel, plugs it in as docs/plugging-in.md tells, and is rehearsed.

It has nothing to do with the stand-in project: a library made by `startproject`, SQLite, five
lines, and a check that is the very one in docs/writing-a-check.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import servers, test_documents
from tests.conftest import wait_for
from tests.standin import end, free_port


def blocks(document: str, language: str) -> list[str]:
    return [
        one.text
        for one in test_documents.blocks()
        if (one.document.name, one.language) == (document, language)
    ]


CHECK = blocks("writing-a-check.md", "python")[0]
BINDING, ASKING = blocks("writing-a-check.md", "markdown")
SETTINGS, URLS = blocks("plugging-in.md", "python")[:2]
ONCE, KEPT_RUNNING = blocks("plugging-in.md", "")[:2]
PERFORM, LET_THROUGH = blocks("README.md", "")[2:]
VERIFY, GATE, GATE_ELSEWHERE = blocks("signing-off.md", "")
UPGRADE = blocks("upgrading.md", "")[0]
EXPORT = """
from pathlib import Path
from rehearsal.sealing import exports
for name in ("evidence.json", "evidence.seal"):
    Path(name).write_text(exports(1).files[name])
"""

BEFORE = """
# What the library says of itself, after what `startproject` wrote.
import os
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
LOGIN_URL = "/come-in/"
INSTALLED_APPS += ["library"]
CELERY_BROKER_URL = os.environ["BROKER"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if "MAILERS" in globals():
    SILENCED_SYSTEM_CHECKS = ["mail.E001"]
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
def sqlite(name):
    return {
        "ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE", "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
DATABASES = {"default": sqlite("library-staging.sqlite3")}
class env:  # as django-environ's, of which the document speaks
    db = staticmethod(lambda variable: sqlite(os.environ[variable]))
"""
AFTER = """
REHEARSAL |= {
    "CHECKLIST": BASE_DIR.parent / "opening.md",
    "REVISION": "0123456789abcdef0123456789abcdef01234567",
    "SITE_URL": os.environ["SITE"],
    "SIGN_OFF": "automatic",
}
"""
VIEWS = """
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from library.models import Book
@login_required
def books(request):
    rows = "".join(f"<tr><td>{b.title}</td><td>{b.shelf}</td></tr>" for b in Book.objects.all())
    return HttpResponse(f"<html><body><table id=books>{rows}</table></body></html>")
urlpatterns = [path("books/", books)]

"""

# Beside what `startproject` makes: manage.py, library/settings.py, library/urls.py ...
FILES = {
    "library/__init__.py": "from library.celery import app as celery_app\n",
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
    "library/checks.py": CHECK,
    "../opening.md": """# Before the library opens

## 1. The release
- [ ] Apply migrations: `python manage.py migrate`.
- [ ] Confirm no pending migrations remain.

## 2. The readers
- [ ] The books are listed. <!-- check: rehearsal.checks.functional.Page path=/books/ \
user=librarian rows=2 table=books text="Two Years" queries=6 -->
"""
    + ASKING.replace("/reports/", "/books/")
    .replace("staff1", "librarian")
    .replace("shop.", "library.")
    + BINDING.replace("office.checks", "library.checks").replace("least=100", "least=1"),
}
SEED = """
import rehearsal
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
for app in (["library", "0001"], ["auth"], ["sessions"]):
    call_command("migrate", *app, verbosity=0)
User.objects.create(username="librarian")
with connection.cursor() as cursor:
    cursor.execute("INSERT INTO library_book (title) VALUES ('One Summer'), ('Two Years')")
print(rehearsal.__file__)
"""


@contextmanager
def running(
    folder: Path, environ: dict[str, str], *arguments: str, until: str = ""
) -> Iterator[None]:
    """A process of the project; waits until it says a word."""
    log = folder / f"{arguments[2]}.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environ, stdout=written, stderr=written, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        if until:
            wait_for(lambda: until in log.read_text() or process.poll() is not None, within=60)
            assert process.poll() is None, log.read_text()
        yield
    finally:
        end(process)


@dataclass
class Library:
    """A new project that has the wheel."""

    folder: Path
    python: Path
    environ: dict[str, str]

    def manage(self, *arguments: str, code: int = 0) -> str:
        """What a command of the project says on stdout; it must exit with `code`."""
        ran = subprocess.run(
            [self.python, "manage.py", *arguments],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert ran.returncode == code, f"{arguments}: {ran.stdout} {ran.stderr}"
        return ran.stdout

    def execute(self, block: str, **answers: str) -> None:
        """A block of a document as a shell executes it; each line must succeed.

        What the block shows in brackets is left out; `answers` are options instead of questions.
        """
        optional = re.sub(r"\[[^]]*\]", "", block)
        for command, answer in answers.items():
            optional = re.sub(rf"(?m)^manage.py {command}$", rf"\g<0> {answer}", optional)
        manage = f'manage.py() {{ "{self.python}" manage.py "$@"; }}\n'
        ran = subprocess.run(
            ["bash", "-e", "-c", manage + optional],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert ran.returncode == 0, f"{block}{ran.stdout} {ran.stderr}"


@pytest.fixture
def library(bare_python: Path, tmp_path: Path) -> Library:
    """Made by `startproject`, and plugged in by the very blocks of docs/plugging-in.md."""
    folder = tmp_path / "src"
    folder.mkdir()
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("DJANGO_") and key != "PYTHONPATH"
    }
    environ = inherited | {
        # A numbered database of its own: workers of other tests listen in others.
        "BROKER": servers.redis.url(8),
        "SITE": f"http://127.0.0.1:{free_port()}",
        "REHEARSAL_DATABASE_URL": "rehearsal.sqlite3",
        "PRODUCTION_DATABASE_URL": f"sqlite:///{tmp_path}/production.sqlite3",
    }
    subprocess.run(
        [bare_python, "-m", "django", "startproject", "library", folder],
        check=True, env=inherited, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, added in {"settings": BEFORE + SETTINGS + AFTER, "urls": VIEWS + URLS}.items():
        file = folder / "library" / f"{name}.py"
        file.write_text(file.read_text() + added)
    (tmp_path / "production.sqlite3").touch()  # a database without a table
    return Library(folder, bare_python, environ)


@pytest.mark.long  # an environment of its own
def test_a_new_project_plugs_the_wheel_in_and_performs_its_own_checklist(library: Library) -> None:
    seen = Path(library.manage("shell", "-v", "0", "-c", SEED).strip())
    assert seen.parent.parent.is_relative_to(library.python.parent.parent), "not the wheel's"
    library.execute(ONCE, rehearsal_enroll=f"--yes {library.folder}/library-staging.sqlite3")
    library.manage("rehearsal_gate", code=1)
    python = str(library.python)
    worker = (*("-m", "celery", "-A", "library", "worker"), *("-c", "1", "-l", "INFO"))
    with (
        running(library.folder, library.environ, python, *worker, until="ready."),
        running(
            library.folder, library.environ, python, *KEPT_RUNNING.split(), "-v", "2",
            until="ready.",
        ),
        running(
            library.folder, library.environ, python, "-u", "manage.py", "runserver", "--noreload",
            library.environ["SITE"].removeprefix("http://"), until="Quit the server",
        ),
    ):  # fmt: skip
        library.execute(PERFORM + LET_THROUGH)
    library.manage("shell", "-v", "0", "-c", EXPORT)
    library.execute(VERIFY + GATE + GATE_ELSEWHERE + UPGRADE)
    said = json.loads((library.folder / "evidence.json").read_text())
    items = [item for section in said["sections"] for item in section["items"]]
    assert [item["status"] for item in items] == ["passed"] * 6
    assert [item["check"].rpartition(".")[2] for item in items] == [
        "Apply", "NonePending", "Page", "Page", "TaskRoundTrip", "EnoughUsers",
    ]  # fmt: skip
    assert "2 rows" in items[2]["summary"]
    assert items[4]["evidence"]["returned"] == "2"
    assert items[5]["measurements"] == [{"name": "users", "value": 1, "unit": "users"}]


def test_no_command_of_the_documents_is_left_out() -> None:
    executed = "".join(
        (ONCE, KEPT_RUNNING, PERFORM, LET_THROUGH, VERIFY, GATE, GATE_ELSEWHERE, UPGRADE)
    )
    for block in test_documents.blocks():
        for line in block.text.splitlines() if block.language == "" else ():
            usage = line.startswith("manage.py start_rehearsal [")  # README.md has it executed
            is_ours = line.startswith("manage.py ") and not usage
            assert not is_ours or line in executed.splitlines(), f"{block.document.name}: {line}"


def test_plugging_in_takes_few_lines() -> None:
    assert all(len(block.splitlines()) <= 12 for block in (SETTINGS, URLS))
