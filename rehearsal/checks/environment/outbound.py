"""Nobody is contacted: restored data holds real people's addresses."""

from __future__ import annotations

from collections.abc import Mapping

from celery import Celery
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.checks.base import Failed, Inconclusive, Report
from rehearsal.checks.environment import mail
from rehearsal.checks.environment.survey import survey
from rehearsal.conf import configuration

TICK = "rehearsal.tick"
PERIODIC = "django_celery_beat_periodictask"


def prove_captured(report: Report, app: Celery, undone: str = "nothing was restored") -> None:
    """See that no process of this environment can mail anybody real.

    Asks this process and every worker on the broker. Raises Failed naming those that could, and
    Inconclusive where a worker is there and does not say, or cannot be told from another of its
    name; both add what was left `undone` for it.
    """
    found = survey(report, app, queues=())
    routes = mail.by_sender("this process", mail.routes())
    for node, answers in found.answers.items():
        for answer in answers:
            for who, one in mail.by_sender(node, answer.get("mail")).items():
                # Processes of one name may differ, and none is hidden by another.
                other = routes.get(who, one) != one
                routes[f"{who} (process {answer['pid']})" if other else who] = one
    judge(report, routes, dict(found.silent), undone)
    if found.doubled:
        raise Inconclusive(
            f"Several workers call themselves {', '.join(found.doubled)}, so whether each of them "
            f"said where its mail goes cannot be seen, and {undone}. Give each a name of its own "
            "with -n."
        )


def judge(
    report: Report,
    routes: Mapping[str, Mapping[str, str]],
    silent: Mapping[str, str],
    undone: str = "nothing was restored",
) -> None:
    """Judge where each process's mail goes; see `prove_captured`."""
    sinks = configuration().mail_sinks
    captured = {who: mail.leads_nowhere(one, sinks) for who, one in routes.items()}
    open_ways = {who: mail.leads(routes[who]) for who, nowhere in captured.items() if not nowhere}
    report.evidence(
        "outbound mail",
        [f"{who}: {captured[who] or open_ways[who]}" for who in routes]
        + [f"{who}: silent ({why})" for who, why in silent.items()],
    )
    if open_ways:
        said = "; ".join(f"{who} would mail {way}" for who, way in open_ways.items())
        raise Failed(
            f"Mail could reach real people ({said}), so {undone}. Give staging a mail "
            "backend that captures, or name its SMTP sink in REHEARSAL['MAIL_SINKS']."
        )
    if silent:
        raise Inconclusive(
            f"{', '.join(silent)} did not say where mail goes, so {undone}. Start it again with "
            "this release, or take it off this broker."
        )


def senders(app: Celery) -> list[str]:
    """What beat starts on its own, and so may send from restored data: names, in order."""
    entries = (app.conf.beat_schedule or {}).items()
    return sorted(f"{name} ({entry.get('task')})" for name, entry in entries
                  if entry.get("task") != TICK)  # fmt: skip


def scheduled(connection: BaseDatabaseWrapper) -> list[str]:
    """What django-celery-beat would start from a database's rows: names, in order."""
    with connection.cursor() as cursor:
        if PERIODIC not in connection.introspection.table_names(cursor):
            return []
        cursor.execute(f"SELECT name, task FROM {PERIODIC} WHERE enabled ORDER BY name")
        return [f"{name} ({task})" for name, task in cursor.fetchall() if task != TICK]
