"""The tests, and the smallest project the app can be plugged into."""

from tests.celery_app import app as celery_app

__all__ = ["celery_app"]
