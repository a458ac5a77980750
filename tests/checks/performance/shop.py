"""A small project with pages to measure, in a git repository with a release before this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SETTINGS = """
from pathlib import Path
SECRET_KEY = "a key for a project that lives as long as one test"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "goods",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "%(database)s"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
"""
MODELS = """
from django.db import models
class Kind(models.Model):
    name = models.CharField(max_length=50)
class Item(models.Model):
    name = models.CharField(max_length=50)
    kind = models.ForeignKey(Kind, models.CASCADE)
"""
VIEWS = """
import time
from django.core.cache import cache
from django.http import HttpResponse
from goods.models import Item

SLOWER = 0.0  # seconds of work more in each request of the list
KINDS = ["kind"]  # what the list joins

def words(items):
    return "".join(f"<li>{item.name} {item.kind.name}</li>" for item in items)

def work(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(50))

def items(request, page=1):
    if SLOWER:
        work(SLOWER)
    found = Item.objects.order_by("pk")
    if KINDS:
        found = found.select_related(*KINDS)
    who = request.user.get_username()
    return HttpResponse(f"<p>{who}</p><ul>{words(found[: 20 + page])}</ul>")

def cached(request):
    text = cache.get("items")
    if text is None:
        text = words(Item.objects.select_related("kind")[:50])
        cache.set("items", text)
    return HttpResponse(text)

def writes(request):
    Item.objects.create(name="written", kind_id=1)
    return HttpResponse(str(Item.objects.count()))

def broken(request):
    raise RuntimeError("planted")
"""
URLS = """
from django.urls import path
from goods import views
urlpatterns = [
    path("items/", views.items), path("items/<int:page>/", views.items),
    path("cached/", views.cached), path("writes/", views.writes), path("broken/", views.broken),
]
"""
FILL = """
from django.contrib.auth.models import User
from goods.models import Item, Kind
User.objects.create(username="clerk")
kinds = [Kind.objects.create(name=f"kind {n}") for n in range(40)]
Item.objects.bulk_create(Item(name=f"item {n}", kind=kinds[n % 40]) for n in range(200))
"""
MORE_QUERIES = {'KINDS = ["kind"]': "KINDS = []"}
NAMES = {"NAME": "a", "EMAIL": "a@example.org"}
GIT = {f"GIT_{who}_{what}": said for who in ("AUTHOR", "COMMITTER") for what, said in NAMES.items()}


class Shop:
    """The project in `path`, with a filled database; each commit is a release."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files = {
            "src/manage.py": MANAGE,
            "src/shop/__init__.py": "",
            "src/shop/settings.py": SETTINGS % {"database": path / "shop.sqlite3"},
            "src/shop/urls.py": URLS,
            "src/goods/__init__.py": "",
            "src/goods/models.py": MODELS,
            "src/goods/views.py": VIEWS,
            "src/goods/migrations/__init__.py": "",
            ".gitignore": "*.sqlite3\n.rehearsal\n__pycache__\n",
        }
        for name, text in files.items():
            self.write(name, text)
        self._run(sys.executable, "manage.py", "makemigrations", "goods", "-v0")
        self._run(sys.executable, "manage.py", "migrate", "-v0")
        self._run(sys.executable, "manage.py", "shell", "-c", FILL)
        self._run("git", "init", "-q", cwd=path)
        self.first = self.commit()

    def write(self, name: str, text: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def change(self, replace: Mapping[str, str], views: str = VIEWS) -> None:
        """Write the views anew, with these pieces of them replaced."""
        for old, new in replace.items():
            assert old in views
            views = views.replace(old, new)
        self.write("src/goods/views.py", views)

    def commit(self) -> str:
        """Commit everything; returns the commit."""
        self._run("git", "add", ".", cwd=self.path)
        self._run("git", "commit", "-q", "--allow-empty", "-m", "A release", cwd=self.path)
        return self._run("git", "rev-parse", "HEAD", cwd=self.path).strip()

    def _run(self, *argv: str, cwd: Path | None = None) -> str:
        environ = {
            **{name: said for name, said in os.environ.items() if not name.startswith("DJANGO_")},
            **GIT,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            argv, cwd=cwd or self.path / "src", env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def setting(self, *pages: str) -> dict[str, object]:
        """What REHEARSAL says of the project."""
        return {
            "ROOT": self.path,
            "PAGES": list(pages or ["/items/"]),
            "ROLES": {"clerk": "clerk"},
            "PYTHON": sys.executable,
        }
