"""The settings of the tests: the smallest project the app can be plugged into.

The databases keep their names under test, so that the worker processes the tests start and the
tests themselves look at the same rows.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
SECRET_KEY = "only the tests use this key, and nothing is signed with it elsewhere"
USE_TZ = True
TIME_ZONE = "Asia/Manila"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
DEBUG = False
ALLOWED_HOSTS = ["*"]
LOGIN_URL = "/admin/login/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_htmx",
    "rehearsal",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Without the servers of tests/servers.py, for those who only read the settings.
_server = urlsplit(os.environ.get("TEST_POSTGRESQL_URL", "postgresql://127.0.0.1:1/none"))


SQLITE_OPTIONS: dict[str, dict[str, str]] = {
    # As docs/plugging-in.md advises: several processes write.
    "advised": {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
    # As Django comes.
    "plain": {},
}


def _database(name: str) -> dict[str, object]:
    if os.environ.get("TEST_DATABASE") == "sqlite":
        path = os.path.join(os.environ["TEST_SQLITE_DIRECTORY"], f"{name}.sqlite3")
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            "OPTIONS": {"timeout": 20} | SQLITE_OPTIONS[os.environ.get("TEST_SQLITE", "advised")],
            "TEST": {"NAME": path},
        }
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _server.hostname,
        "PORT": _server.port,
        "USER": _server.username,
        "PASSWORD": _server.password,
        "NAME": name,
        "TEST": {"NAME": name},
    }


DATABASES = {"default": _database("project"), "rehearsal": _database("records")}
DATABASE_ROUTERS = ["rehearsal.routers.RehearsalRouter"]

CELERY_BROKER_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:1/0")
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_SOFT_TIME_LIMIT = 240
CELERY_TASK_TIME_LIMIT = int(os.environ.get("TEST_TIME_LIMIT", "300"))
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = float(os.environ.get("TEST_SOFT_SHUTDOWN_SECONDS", "0"))
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

REHEARSAL = {
    "ROOT": HERE / "data",
    "LEASE_SECONDS": int(os.environ.get("TEST_LEASE_SECONDS", "5")),
    "REVISION": "0123456789abcdef0123456789abcdef01234567",
}
