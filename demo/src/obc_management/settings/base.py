"""Settings of the stand-in project. DATABASE_URL, REDIS_URL and the like come from outside."""

from pathlib import Path
from typing import Any

from obc_management import environment

BASE_DIR = Path(__file__).resolve().parents[2]  # src/, where manage.py is
ROOT = BASE_DIR.parent
environment.read_file(BASE_DIR / ".env")

DEBUG = environment.flag("DEBUG", default=True)
SECRET_KEY = environment.text("SECRET_KEY", "for-local-use-only-" + "0123456789" * 5)
ALLOWED_HOSTS = environment.items("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = environment.items("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_htmx",
    "rehearsal",
    "common",
    "coordination",
    "mana",
    "monitoring",
    "project_central",
]
MIDDLEWARE = [
    "rehearsal.middleware.RestoreMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "common.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "common.middleware.ApprovalMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "obc_management.urls"
WSGI_APPLICATION = "obc_management.wsgi.application"
ASGI_APPLICATION = "obc_management.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# The second database holds what must outlive a restore of the first.
DATABASES = {
    "default": environment.database("DATABASE_URL", ROOT / "var" / "db.sqlite3"),
    "rehearsal": environment.database("REHEARSAL_DATABASE_URL", ROOT / "var" / "rehearsal.sqlite3"),
}
DATABASE_ROUTERS = ["rehearsal.routers.RehearsalRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "common.User"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "Asia/Manila"
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served straight from the sources, with DEBUG or without: no STATIC_ROOT, nothing to collect.
WHITENOISE_USE_FINDERS = True

EMAIL_HOST = environment.text("EMAIL_HOST")
EMAIL_PORT = int(environment.text("EMAIL_PORT", "25"))
EMAIL_HOST_USER = environment.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = environment.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = environment.flag("EMAIL_USE_TLS", default=False)
EMAIL_TIMEOUT = 10
EMAIL_FILE_PATH = environment.text("EMAIL_FILE_PATH") or None
EMAIL_BACKEND = environment.text(
    "EMAIL_BACKEND",
    f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend",
)
DEFAULT_FROM_EMAIL = environment.text("DEFAULT_FROM_EMAIL", "calendar@obcms.example")

REDIS_URL = environment.text("REDIS_URL", "redis://localhost:6379/0")
CELERY_BROKER_URL = environment.text("CELERY_BROKER_URL", REDIS_URL)
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_DEFAULT_QUEUE = "celery"
CELERY_TASK_TRACK_STARTED = True
CELERY_TIMEZONE = TIME_ZONE
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "[{levelname}] {asctime} {name} {message}", "style": "{"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "stream": "ext://sys.stdout",
        },
    },
    "root": {"handlers": ["console"], "level": environment.text("LOG_LEVEL", "WARNING")},
}

# A file of names of faults that are planted, for the tests that see them found.
PLANTED_FAULTS = environment.text("PLANTED_FAULTS")

REHEARSAL = {
    "ENVIRONMENT": "staging",
    "ROOT": ROOT,
    "CHECKLIST": ROOT / "docs" / "testing" / "staging_rehearsal_checklist.md",
    "FOLDER": environment.text("REHEARSAL_FOLDER", str(ROOT / "var" / "rehearsal")),
    "SOURCE": "PRODUCTION_DATABASE_URL",
    # Where the files of secrets are is said from outside too; none of them is in the repository.
    **environment.given("ENV_FILE", "ENV_TEMPLATE", "SECRETS_SOURCE", "PRODUCTION_ENV"),
    **environment.given("POSTGRESQL_BIN", "SITE_URL"),
    # Staging's own mail is captured, so the owners of deployments have a way of their own.
    "OWNERS": environment.items("OWNERS"),
    "OWNERS_MAIL": {
        "HOST": environment.text("OWNERS_MAIL_HOST", "localhost"),
        "PORT": int(environment.text("OWNERS_MAIL_PORT", "25")),
    },
    "TICKET": environment.text("TICKET"),
    **environment.given("SIGN_OFF"),
    "PAGES": [
        "common:dashboard",
        "common:oobc_calendar",
        "common:oobc_calendar_feed_json",
        "common:calendar_booking_list",
        "project_central:project_list",
        "project_central:my_tasks_with_projects",
        "htmx project_central:my_tasks_with_projects?status=in_progress",
    ],
    "ROLES": {"staff": "staff", "owner": "owner"},
    # What the web server and the worker say goes to standard output; who runs them keeps it.
    "WORKER_LOGS": environment.items("WORKER_LOGS"),
    "REQUEST_LOGS": environment.items("REQUEST_LOGS"),
}
