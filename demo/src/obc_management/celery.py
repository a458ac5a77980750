"""The Celery application: `celery -A obc_management worker`, from src/."""

import os

from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "obc_management.settings")

app = Celery("obc_management")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "process-event-reminders": {
        "task": "common.tasks.process_scheduled_reminders",
        "schedule": crontab(minute="*/15"),
        "options": {"expires": 900},
    },
    "send-daily-calendar-digest": {
        "task": "common.tasks.send_daily_digest",
        "schedule": crontab(hour=7, minute=0),
        "options": {"expires": 3600},
    },
    "cleanup-expired-sessions": {
        "task": "common.tasks.cleanup_expired_sessions",
        "schedule": crontab(hour=3, minute=0),
        "options": {"expires": 3600},
    },
}
