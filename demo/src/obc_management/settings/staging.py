"""Staging: production's limits, no debug pages, everything logged to standard output."""

from django.core.exceptions import ImproperlyConfigured

from obc_management import environment
from obc_management.settings.base import *  # noqa: F403
from obc_management.settings.base import DATABASES, LOGGING, SECRET_KEY

DEBUG = False
if not environment.text("SECRET_KEY") or len(SECRET_KEY) < 50:
    raise ImproperlyConfigured(
        "SECRET_KEY should hold at least 50 characters on staging, found "
        f"{len(environment.text('SECRET_KEY'))}. Set it in the environment or in src/.env."
    )

SESSION_COOKIE_SECURE = environment.flag("SESSION_COOKIE_SECURE", default=False)
CSRF_COOKIE_SECURE = environment.flag("CSRF_COOKIE_SECURE", default=False)
X_FRAME_OPTIONS = "DENY"

for database in DATABASES.values():
    database |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}

CELERY_TASK_SOFT_TIME_LIMIT = 240
CELERY_TASK_TIME_LIMIT = 300
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1000
CELERY_WORKER_SEND_TASK_EVENTS = True

LOGGING["root"]["level"] = environment.text("LOG_LEVEL", "INFO")
