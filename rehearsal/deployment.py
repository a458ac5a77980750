"""What `manage.py check --deploy` says of a project that is to be rehearsed: what is still missing.

Nothing here keeps a project from running, so everything is a warning, with its remedy. Whatever
makes a line of the checklist inconclusive names that line as the adopted document numbers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from celery import current_app
from django.apps import apps
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from django.db.migrations.executor import MigrationExecutor
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.backends.django import Template
from django.template.loader import get_template
from django.template.loader_tags import BlockNode, ExtendsNode
from django.urls import NoReverseMatch, reverse

from rehearsal import checklist, conf, release
from rehearsal.checks.environment import mail
from rehearsal.checks.environment.workers import stays_local
from rehearsal.routers import KEPT_APPS

MIDDLEWARE = "rehearsal.middleware.RestoreMiddleware"
STYLESHEET = "rehearsal/rehearsal.css"


def check_deployment(**_: object) -> Sequence[checks.CheckMessage]:
    """W010 to W029: what a rehearsal in this environment would lack."""
    if not hasattr(settings, "REHEARSAL"):
        return []  # nothing is rehearsed here: production has the app for its permissions alone
    here, wrong = conf.read(settings.REHEARSAL)
    if wrong:
        return []  # E001 says so, and what follows from it would only confuse
    found = [*_pages(here), *_records(here), *_queue(here), *_lines(here)]
    return [checks.Warning(said, hint=hint, id=f"rehearsal.W{id_}") for id_, said, hint in found]


def check_policy(**_: object) -> Sequence[checks.CheckMessage]:
    """E009: a policy of deciding that the people there are cannot satisfy."""
    if not hasattr(settings, "REHEARSAL"):
        return []
    here, wrong = conf.read(settings.REHEARSAL)
    if wrong or here.sign_off == "automatic":
        return []
    try:
        deciders = _who_may("decide_rehearsal")
        starters = _who_may("start_rehearsal")
    except Error:
        return []  # without a database nobody can be counted
    # Who starts may not say go; where everybody who starts also decides, one is always missing.
    one_starts = bool(starters) and starters <= deciders and not here.starter_may_decide
    left = len(deciders) - one_starts
    if left >= here.quorum:
        return []
    but = ", besides the one who starts" if one_starts else ""
    return [
        checks.Error(
            f"It takes {here.quorum} to say go, and {max(left, 0)} may{but}: nobody could ever "
            "decide.",
            hint="Give more people the permission rehearsal.decide_rehearsal, lower "
            "REHEARSAL['QUORUM'], or set 'STARTER_MAY_DECIDE' in an office of one.",
            id="rehearsal.E009",
        )
    ]


def _who_may(permission: str) -> set[str]:
    people = ModelBackend().with_perm(f"rehearsal.{permission}")
    return {person.get_username() for person in people}


Found = Iterator[tuple[str, str, str]]


def _pages(here: conf.Configuration) -> Found:
    try:
        reverse("rehearsal:index")
    except NoReverseMatch:
        yield (
            "010",
            "The pages have no address.",
            "Add path('rehearsal/', include('rehearsal.urls')) to the project's urlpatterns.",
        )
    if MIDDLEWARE not in settings.MIDDLEWARE[:1]:
        yield (
            "011",
            "While staging is restored, visitors would see errors.",
            f"Put {MIDDLEWARE!r} first in MIDDLEWARE.",
        )
    try:
        template = get_template(here.base_template)
    except (TemplateDoesNotExist, TemplateSyntaxError) as error:
        yield (
            "012",
            f"The pages extend {here.base_template!r}, which cannot be loaded: {error}.",
            "Name one with a block `content` in REHEARSAL['BASE_TEMPLATE'], or leave it out.",
        )
    else:
        if isinstance(template, Template) and not _has_content(template.template):
            yield (
                "012",
                f"The template {here.base_template!r} has no block `content`, where the pages go.",
                "Give it one, or name a template that has it in REHEARSAL['BASE_TEMPLATE'].",
            )
    try:
        staticfiles_storage.url(STYLESHEET)
    except (ValueError, ImproperlyConfigured) as error:
        yield (
            "013",
            f"The pages would fail for want of {STYLESHEET} ({error}).",
            "Run manage.py collectstatic where the web server's files are built.",
        )


def _has_content(template: Any) -> bool:
    """Whether a template, or one that it extends, has a block `content`."""
    blocks = template.nodelist.get_nodes_by_type(BlockNode)
    parents = template.nodelist.get_nodes_by_type(ExtendsNode)
    # What a template extends may be known only when it is rendered: then it is taken at its word.
    return bool(parents) or any(block.name == "content" for block in blocks)


def _records(here: conf.Configuration) -> Found:
    if here.database not in settings.DATABASES:
        return  # E002
    try:
        executor = MigrationExecutor(connections[here.database])
        targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] in KEPT_APPS]
        waiting = {key.app_label for key, _backwards in executor.migration_plan(targets)}
    except Error as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield (
            "014",
            f"The database of the records cannot be reached: {said}.",
            f"Start it, or correct DATABASES[{here.database!r}].",
        )
        return
    for app in sorted(waiting):
        yield (
            "015",
            f"The database of the records lacks tables of {app}.",
            f"Run manage.py migrate --database {here.database} {app}.",
        )


def _queue(here: conf.Configuration) -> Found:
    app = current_app._get_current_object()
    app.loader.import_default_modules()
    if "rehearsal.perform" not in app.tasks or app.main == "default":
        yield (
            "016",
            "The project's Celery application does not know the checks.",
            "Let it call autodiscover_tasks(), and import it in the project's __init__.py.",
        )
    elif stays_local(app):
        yield (
            "017",
            "Tasks never leave the process that sends them, so no worker can perform a check.",
            "Set CELERY_BROKER_URL, and CELERY_TASK_ALWAYS_EAGER to False.",
        )
    if app.conf.result_backend != "django-db":
        yield (
            "018",
            f"Celery's results go to {type(app.backend).__name__}, so items have no trace of them.",
            "Set CELERY_RESULT_BACKEND = 'django-db', or do without the trace.",
        )
    elif not apps.is_installed("django_celery_results"):
        yield (
            "018",
            "Celery's results go to 'django-db', which is not installed: no worker can start.",
            "Add 'django_celery_results' to INSTALLED_APPS, and run migrate.",
        )


def _lines(here: conf.Configuration) -> Found:
    """What lines of the adopted checklist need to be told."""
    if not here.source and here.snapshot is None:
        yield (
            "019",
            "Where production's data is, is not said: 1.1 cannot take a snapshot.",
            "Name the alias, or the variable that holds the URL, in REHEARSAL['SOURCE'].",
        )
    if here.secrets_source is None:
        yield (
            "020",
            "Where the latest credentials are, is not said: 1.3 is inconclusive.",
            "Name it in REHEARSAL['SECRETS_SOURCE'].",
        )
    if not here.site_url:
        yield (
            "021",
            "Where the web server is, is not said: 4.1 to 4.3 can ask for no page.",
            "Name its address in REHEARSAL['SITE_URL'].",
        )
    routes = mail.routes().values()
    ways = [mail.leads(one) for one in routes if not mail.leads_nowhere(one, here.mail_sinks)]
    if ways:
        yield (
            "022",
            f"Mail would go {', '.join(ways)}: 1.2 and 4.4 refuse to run beside real people.",
            "Set mail backends that capture, or name their servers in REHEARSAL['MAIL_SINKS'].",
        )
    elif not here.mail_seen_in and not mail.folder():
        yield (
            "023",
            "Where captured mail can be seen, is not said: 4.4 is inconclusive.",
            "Name the folder, file or mail catcher in REHEARSAL['MAIL_SEEN_IN'].",
        )
    if not here.worker_logs:
        yield (
            "026",
            "Where the project's workers log, is not said: 6.1 is inconclusive.",
            "Name their logs in REHEARSAL['WORKER_LOGS'].",
        )
    if not (here.pages and here.roles):
        yield (
            "027",
            "Which pages matter, and to whom, is not said: 6.2 is inconclusive.",
            "Name them in REHEARSAL['PAGES'] and REHEARSAL['ROLES'].",
        )
    if not (here.owners or here.owners_apprise):
        yield (
            "028",
            "Who owns deployments, is not said: 7.2 is inconclusive.",
            "Name their mail addresses in REHEARSAL['OWNERS'].",
        )
    if not here.ticket:
        yield (
            "029",
            "Where the release ticket is, is not said: 7.3 is left to a person.",
            "Name its address, or a folder, in REHEARSAL['TICKET'].",
        )
    for path, ref in _missing_tests(here):
        yield (
            "025",
            f"{ref} names {path}, which is not in {here.root}.",
            "Name the repository, where the checklist's paths begin, in REHEARSAL['ROOT'].",
        )
    if not release.revision():
        yield (
            "024",
            "The commit that is deployed is unknown: 1.4 cannot tell old workers from new ones.",
            "Name it in REHEARSAL['REVISION'], or deploy with git.",
        )


def _missing_tests(here: conf.Configuration) -> Iterator[tuple[str, str]]:
    """The files that the checklist's pytest lines name and that are not there, with the line."""
    try:
        items = checklist.parse(here.checklist.read_bytes()).items
    except (OSError, checklist.ChecklistError):
        return  # E005, or said when a rehearsal is started
    for item in items:
        for span in checklist.code_spans(item.text):
            for word in span.split() if span.startswith("pytest ") else ():
                path = word.partition("::")[0]
                if path.endswith(".py") and not (here.root / path).is_file():
                    yield path, item.ref
