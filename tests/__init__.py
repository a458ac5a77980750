"""The tests, and the smallest project they plug the app into; it loads its Celery app as any does."""

from tests.celery_app import app as celery_app

__all__ = ["celery_app"]
