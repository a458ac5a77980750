"""Keeps our tables out of the database that is restored."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from rehearsal.conf import configuration

KEPT_APPS = {"rehearsal", "django_celery_results"}


class RehearsalRouter:
    """Sends our records and Celery's results, and nothing else, to `REHEARSAL["DATABASE"]`."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return configuration().database if model._meta.app_label in KEPT_APPS else None

    db_for_write = db_for_read

    def allow_relation(self, left: Model, right: Model, **hints: Any) -> bool | None:
        kept = {left._meta.app_label in KEPT_APPS, right._meta.app_label in KEPT_APPS}
        return False if kept == {True, False} else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        alias = configuration().database
        if app_label in KEPT_APPS:
            return db == alias
        # An alias shared with the project's own tables is the project's to decide.
        return False if db == alias != "default" else None
