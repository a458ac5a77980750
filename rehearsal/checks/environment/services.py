"""Redis, workers and beat are online, and serve this environment and release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery import Celery, current_app
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment import beat, redis
from rehearsal.checks.environment.endpoints import in_common, is_queue
from rehearsal.checks.environment.findings import Findings
from rehearsal.checks.environment.survey import Survey, survey
from rehearsal.checks.environment.workers import (
    declared_queues,
    expected_release,
    one_commit,
    stays_local,
)
from rehearsal.conf import configuration
from rehearsal.databases import describe, identity_or_error, same
from rehearsal.env_file import EnvFile, EnvFileError


@dataclass(frozen=True)
class ServicesOnline(Check):
    """Redis, the workers and beat are online, and the workers serve this environment."""

    timeout = 120
    needs = ("rehearsal.checks.environment.Restore",)
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        began = timezone.now()
        before = report.beat_seen_at()
        app = current_app._get_current_object()
        found = Findings()
        report.progress("Asking Redis.")
        parts = [redis.look(report, app, found)]
        _compare_with_production(report, app, found)
        try:
            if stays_local(app):
                found.doubts.append(
                    "Tasks never leave the process that sends them (task_always_eager or a "
                    "memory:// broker), so no worker was looked at: set CELERY_BROKER_URL."
                )
            else:
                with beat.Ear.open(app) as ear:
                    parts.append(_workers(report, app, found))
                    parts.append(beat.look(report, app, found, ear, began, before))
        except (OperationalError, OSError, RedisError) as error:
            found.problems.append(
                f"The broker cannot be used ({type(error).__name__}: {error}), so neither workers "
                "nor beat could be asked: start it, or correct CELERY_BROKER_URL."
            )
        if report.stop.is_set():
            raise Inconclusive("Stopped before everything was looked at.")
        if found.problems:
            raise Failed(" ".join(found.problems + found.doubts))
        if found.doubts:
            raise Inconclusive(" ".join(found.doubts))
        report.progress(", ".join(part for part in parts if part) + ".")


def _compare_with_production(report: Report, app: Celery, found: Findings) -> None:
    """None of the queues and caches is production's."""
    here = configuration()
    if here.production_env is None:
        report.evidence("production", "not compared, since REHEARSAL['PRODUCTION_ENV'] is not set")
        return
    try:
        said = EnvFile.read(here.production_env).values
    except EnvFileError as error:
        found.doubts.append(f"Production's addresses cannot be compared: {error}.")
        return
    theirs = {
        key: value
        for key, value in said.items()
        if is_queue(value) and key not in here.shared_secrets
    }
    if not theirs:
        found.doubts.append(
            f"{here.production_env.name} names no queue to compare with: correct "
            "REHEARSAL['PRODUCTION_ENV']."
        )
    same = {
        (role, key)
        for role, url, _options in redis.uses(app)
        for _role, key in in_common({role: url}, theirs)
    }
    for role, key in sorted(same):
        found.problems.append(
            f"The {role} is production's: it has the address of {key} in "
            f"{here.production_env.name}. Give this environment its own."
        )
    report.evidence("production", f"{len(same)} of its {len(theirs)} queue addresses are used here")


# Workers


def _start(app: Celery, queue: str) -> str:
    if queue == configuration().queue:
        return "`python manage.py rehearsal_worker`"
    return f"`celery -A {app.main or '<project>'} worker -Q {queue}`"


def _workers(report: Report, app: Celery, found: Findings) -> str:
    queues = declared_queues(app)
    seen = survey(report, app, queues)
    if not seen.consumes and not seen.answers:
        starts = " and ".join(_start(app, queue) for queue in queues)
        found.problems.append(f"No Celery worker is on the broker: start {starts}.")
        return ""
    for queue in queues:
        if queue in seen.queues:
            report.evidence(f"queue {queue}", f"our task was executed by {seen.queues[queue]}")
            found.queues.append(queue)
            continue
        there = sorted(node for node, names in seen.consumes.items() if queue in names)
        which = f"though {', '.join(there)} consumes it" if there else "which nobody consumes"
        found.problems.append(
            f"No worker executed our task from the queue {queue}, {which}: "
            f"start {_start(app, queue)}."
        )
    for node, reason in sorted(seen.silent.items()):
        found.problems.append(f"The worker {node} did not execute our task: {reason}.")
    for node, pids in sorted(seen.stuck.items()):
        found.problems.append(
            f"Of the worker {node} the process {', '.join(map(str, pids))} is stuck: it neither "
            "executed our task nor has one of its own. Restart the worker."
        )
    for node in seen.doubled:
        found.problems.append(
            f"Several workers call themselves {node}, so they cannot be told apart: "
            "give each a name of its own with -n."
        )
    _judge(report, found, seen)
    report.measure("celery.workers", len(seen.answers), "workers")
    served = f"{_count(seen.answers, 'worker')} on {_count(seen.queues, 'queue')}"
    return f"{served} serve {describe(identity_or_error())}"


def _judge(report: Report, found: Findings, seen: Survey) -> None:
    """Every process that answered serves this environment's database, and this release."""
    here, expected = identity_or_error(), expected_release(report)
    report.evidence("database", describe(here))
    if "error" in here:
        found.problems.append(
            f"This environment's own database cannot be reached ({here['error']}), so no worker's "
            "could be compared: start it, or correct DATABASE_URL."
        )
        return
    report.evidence("release", expected or "unknown")
    unknown: list[str] = []
    for node, answers in sorted(seen.answers.items()):
        consumed = (
            ", ".join(sorted(seen.consumes.get(node, ()))) or "unknown, remote control is off"
        )
        for said in answers:
            database, runs = said["database"], said["release"]
            report.evidence(
                f"worker {node}",
                f"{describe(database)}; release {runs or 'unknown'}; queues {consumed}; "
                f"process {said['pid']}" + ("; runs this check" if node == seen.own else ""),
            )
            if not same(here, database):
                problem = (
                    f"The worker {node} serves {describe(database)}, and this environment is "
                    f"{describe(here)}: take it off this broker, or correct its DATABASE_URL "
                    "and restart it."
                )
            elif not (expected and runs):
                unknown.append(node)
                continue
            elif not one_commit(expected, runs):
                problem = f"The worker {node} runs release {runs}, expected {expected}: restart it."
            else:
                continue
            if problem not in found.problems:
                found.problems.append(problem)
    if unknown:
        found.doubts.append(
            f"Whether {', '.join(dict.fromkeys(unknown))} runs the release that is rehearsed is "
            "unknown: name the commit in REHEARSAL['REVISION'], or deploy with git."
        )


def _count(things: Any, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
