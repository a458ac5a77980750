"""The app's configuration and its system checks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from celery import signals
from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks

from rehearsal import conf, release
from rehearsal.databases import locks


class RehearsalConfig(AppConfig):
    """Plugs the app into a project: system checks, and what its Celery processes must know."""

    name = "rehearsal"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        checks.register(check_setting, "rehearsal")
        checks.register(check_database, "rehearsal")
        checks.register(check_checklist, "rehearsal")
        checks.register(check_neighbours, "rehearsal")
        checks.register(check_deployment, "rehearsal", deploy=True)
        if path := os.environ.get(locks.TOLD):
            locks.tell(path)
        signals.worker_init.connect(remember_release, dispatch_uid="rehearsal")
        signals.beat_init.connect(add_tick, dispatch_uid="rehearsal")


def remember_release(**_: object) -> None:
    """Fix the commit a worker runs when it starts, before the files under it can change."""
    release.running()


def add_tick(sender: Any, **_: object) -> None:
    """Give Celery beat a task of ours, so that a running beat can be told from a listed one."""
    from rehearsal.checks.environment import beat  # the checks may need the project's models

    release.running()
    signals.before_task_publish.connect(
        beat.sign, sender="rehearsal.tick", weak=False, dispatch_uid="rehearsal"
    )
    seconds = conf.configuration().beat_seconds
    sender.scheduler.update_from_dict(
        {
            "rehearsal.tick": {
                "task": "rehearsal.tick",
                "schedule": float(seconds),
                "kwargs": {"beat": beat.name()},
                "options": {"expires": 2 * seconds},
            }
        }
    )


def check_setting(**_: object) -> Sequence[checks.CheckMessage]:
    """E001: `REHEARSAL` holds unknown keys or wrong values."""
    _found, wrong = conf.read(getattr(settings, "REHEARSAL", {}))
    return [checks.Error(said, hint=remedy, id="rehearsal.E001") for said, remedy in wrong]


def check_database(**_: object) -> Sequence[checks.CheckMessage]:
    """E002, E003, W004, E008: where the records live."""
    here, _wrong = conf.read(getattr(settings, "REHEARSAL", {}))
    found: list[checks.CheckMessage] = []
    if here.database not in settings.DATABASES:
        found.append(
            checks.Error(
                f"The records belong in the database alias {here.database!r}, "
                "and DATABASES has no such alias.",
                hint=f"Add DATABASES[{here.database!r}], or correct REHEARSAL['DATABASE'].",
                id="rehearsal.E002",
            )
        )
    if "rehearsal.routers.RehearsalRouter" not in settings.DATABASE_ROUTERS:
        found.append(
            checks.Error(
                "Nothing keeps the records out of the project's own database.",
                hint="Put 'rehearsal.routers.RehearsalRouter' first in DATABASE_ROUTERS.",
                id="rehearsal.E003",
            )
        )
    if here.database == "default":
        found.append(
            checks.Warning(
                "The records live in the database that a rehearsal restores or migrates.",
                hint="Give them an alias of their own and name it in REHEARSAL['DATABASE'].",
                id="rehearsal.W004",
            )
        )
    if (here.source or here.snapshot) and _place(here.database) == _place(here.target):
        found.append(
            checks.Error(
                f"A restore replaces {here.target!r}, and the records of rehearsals are in that "
                f"very database, as {here.database!r}: they would be gone with it.",
                hint=f"Give DATABASES[{here.database!r}] a NAME of its own.",
                id="rehearsal.E008",
            )
        )
    return found


def _place(alias: str) -> tuple[str, ...]:
    """Where an alias leads; a name that is none leads nowhere else."""
    said = settings.DATABASES.get(alias)
    return tuple(str(said.get(key, "")) for key in ("NAME", "HOST", "PORT")) if said else (alias,)


def check_checklist(**_: object) -> Sequence[checks.CheckMessage]:
    """E005, E006: the document and the manage.py that its lines speak of."""
    here, _wrong = conf.read(getattr(settings, "REHEARSAL", {}))
    found: list[checks.CheckMessage] = []
    if not here.checklist.is_file():
        found.append(
            checks.Error(
                f"The checklist {here.checklist} does not exist.",
                hint="Name the Markdown document in REHEARSAL['CHECKLIST'].",
                id="rehearsal.E005",
            )
        )
    if not here.manage_path.is_file():
        found.append(
            checks.Warning(
                f"There is no manage.py in {here.root} or in its src folder.",
                hint="Name it in REHEARSAL['MANAGE'], or the repository in REHEARSAL['ROOT'].",
                id="rehearsal.W006",
            )
        )
    return found


def check_deployment(**options: object) -> Sequence[checks.CheckMessage]:
    """W010 to W027: what a rehearsal in this environment would lack."""
    from rehearsal import deployment  # the checks may need the project's models

    return [*deployment.check_policy(**options), *deployment.check_deployment(**options)]


def check_neighbours(**_: object) -> Sequence[checks.CheckMessage]:
    """E007: the app that the pages need."""
    if apps.is_installed("django_htmx"):
        return []
    return [
        checks.Error(
            "The pages need django_htmx, and it is not installed.",
            hint="Add 'django_htmx' to INSTALLED_APPS.",
            id="rehearsal.E007",
        )
    ]
