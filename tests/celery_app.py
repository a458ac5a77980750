"""The Celery app of the tests' project."""

import os
import time
from datetime import timedelta

from celery import Celery
from django.utils import timezone

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

app = Celery("tests")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

if off := float(os.environ.get("TEST_CLOCK_OFF_SECONDS", "0")):
    # A clock cannot be set for one process alone: what it reads is turned instead.
    seconds, now = time.time, timezone.now
    time.time = lambda: seconds() + off
    timezone.now = lambda: now() + timedelta(seconds=off)
