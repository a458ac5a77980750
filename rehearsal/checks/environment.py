"""Section 1, the environment: what staging runs on is there, and is staging's own."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from celery import Celery, current_app
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.workers import Survey, survey
from rehearsal.conf import configuration, release
from rehearsal.databases import describe, identity_or_error, same

REDIS_SECONDS = 3
"""How long a Redis may take to connect, and to answer each command."""
REDIS_SCHEMES = ("redis", "rediss", "redis+socket", "unix")


@dataclass(frozen=True)
class ServicesOnline(Check):
    """Redis, the workers and beat are online, and the workers serve this environment."""

    timeout = 120
    needs = ()
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        began = timezone.now()
        before = report.beat_seen_at()
        app = current_app._get_current_object()
        found = Findings()
        report.progress("Asking Redis.")
        parts = [_redis(report, app, found)]
        local = "memory" if app.conf.task_always_eager else ""
        try:
            local = local or app.connection_for_write().transport.driver_type
            if local == "memory":
                found.doubts.append(
                    "Tasks never leave the process that sends them (task_always_eager or a "
                    "memory:// broker), so no worker was looked at: set CELERY_BROKER_URL."
                )
            else:
                parts.append(_workers(report, app, found))
                parts.append(_beat(report, app, found, began, before))
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


@dataclass
class Findings:
    """What is wrong, and what could not be seen: a sentence each, all of them told together."""

    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    """The queues on which a worker executed our task."""


# Redis


@dataclass
class Server:
    """A Redis the project uses, with the ways in which it does."""

    url: str
    options: dict[str, Any]
    roles: list[str]

    @property
    def shown(self) -> str:
        """The URL without its user, password and parameters."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"

    def client(self) -> Redis:
        # Celery spells both of these in its own way.
        url = self.url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
        url = re.sub(r"(ssl_cert_reqs=)CERT_(\w+)", lambda at: at[1] + at[2].lower(), url)
        return Redis.from_url(
            url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
            **self.options,
        )


def servers(app: Celery) -> list[Server]:
    """Every Redis that Celery and the caches are told to use, each once."""
    found: list[Server] = []
    for role, url, options in _uses(app):
        if urlsplit(url).scheme not in REDIS_SCHEMES:
            continue
        known = next((one for one in found if (one.url, one.options) == (url, options)), None)
        if known is None:
            found.append(Server(url, options, [role]))
        elif role not in known.roles:
            known.roles.append(role)
    return found


def _uses(app: Celery) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for role, urls, tls in (
        ("broker", app.conf.broker_write_url, app.conf.broker_use_ssl),
        ("result backend", app.conf.result_backend, app.conf.redis_backend_use_ssl),
    ):
        for url in urls.split(";") if isinstance(urls, str) else urls or ():
            secure = isinstance(tls, dict) and url.startswith("rediss:")
            yield role, url, dict(tls) if secure else {}
    for alias, cache in settings.CACHES.items():
        if "redis" not in cache["BACKEND"].lower():
            continue
        said = {key.lower(): value for key, value in cache.get("OPTIONS", {}).items()}
        options = {key: said[key] for key in ("username", "password", "db") if said.get(key)}
        location = cache.get("LOCATION", "")
        for url in re.split("[;,]", location) if isinstance(location, str) else location:
            yield f"cache {alias}", url.strip(), options


def _redis(report: Report, app: Celery, found: Findings) -> str:
    versions: list[str] = []
    known = servers(app)
    if not known:
        found.doubts.append(
            "No Redis was looked at: neither the broker, the result backend nor a cache has a "
            "redis:// or rediss:// URL. Configure one, or confirm by hand the Redis behind them."
        )
    for server in known:
        named = f"Redis {server.shown} ({', '.join(server.roles)})"
        try:
            with server.client() as client:
                version = _probe(report, found, server, client, named)
        except (RedisError, OSError, ValueError) as error:
            found.problems.append(
                f"{named} does not work: {report.redact(str(error)).rstrip('.')} (waiting at most "
                f"{REDIS_SECONDS} s). Start it, or correct its URL and password."
            )
        else:
            if version not in versions:
                versions.append(version)
    return f"Redis {' and '.join(versions)}" if versions else ""


def _probe(report: Report, found: Findings, server: Server, client: Redis, named: str) -> str:
    """Write, read and delete a key of ours; look at the memory. Returns the version."""
    key, value = f"rehearsal:{uuid.uuid4().hex}", uuid.uuid4().hex
    client.ping()
    client.set(key, value, ex=60)
    read = client.get(key)
    if read not in {value, value.encode()} or client.delete(key) != 1:
        found.problems.append(f"{named} did not keep a key that was just written: look at its log.")
    is_broker = "broker" in server.roles
    try:
        told: dict[str, Any] = {**client.info("server"), **client.info("memory")}
        used, limit = int(told["used_memory"]), int(told["maxmemory"])
        policy = str(told["maxmemory_policy"])
    except (RedisError, KeyError, ValueError) as error:
        report.evidence(named, "a key was written, read and deleted; INFO cannot be read")
        if is_broker:
            found.doubts.append(
                f"Whether {named} may throw tasks away is unknown, since INFO cannot be read "
                f"({error}): allow INFO, or waive this with its maxmemory-policy as the reason."
            )
        return "of an unknown version"
    version = str(told.get("redis_version", "of an unknown version"))
    bound = f"of at most {limit}" if limit else "without a limit"
    report.evidence(
        named,
        f"version {version}; a key was written, read and deleted; {used} bytes used {bound}; "
        f"when full: {policy}",
    )
    series = "redis" if is_broker else f"redis.{server.roles[0].replace(' ', '_')}"
    report.measure(f"{series}.memory", used, "bytes")
    if is_broker and limit and policy != "noeviction":
        found.problems.append(
            f"{named} may throw tasks away when its {limit} bytes are full: its maxmemory-policy "
            f"is {policy}, expected noeviction. Set it, or give the cache a Redis of its own."
        )
    return version


# Workers


def declared_queues(app: Celery) -> list[str]:
    """The queues that must have a worker: the project's, and that of the checks."""
    here = configuration()
    project = here.queues or tuple(
        queue if isinstance(queue, str) else queue.name for queue in app.conf.task_queues or ()
    )
    return list(dict.fromkeys([*(project or (app.conf.task_default_queue,)), here.queue]))


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
    here, expected = identity_or_error(), _release(report)
    report.evidence("database", describe(here))
    if "error" in here:
        found.problems.append(
            f"This environment's own database cannot be reached ({here['error']}), so no worker's "
            "could be compared: start it, or correct DATABASE_URL."
        )
        return
    report.evidence("release", expected or "unknown")
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
            elif expected and runs and not _one_commit(expected, runs):
                problem = f"The worker {node} runs release {runs}, expected {expected}: restart it."
            else:
                continue
            if problem not in found.problems:
                found.problems.append(problem)


def _release(report: Report) -> str:
    """The commit that is rehearsed; where it is not named as a commit, the one that runs here."""
    named = report.rehearsal.revision
    return named if re.fullmatch("[0-9a-f]{7,64}", named) else release()


def _one_commit(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


# Beat


def _beat(
    report: Report,
    app: Celery,
    found: Findings,
    began: datetime.datetime,
    before: datetime.datetime | None,
) -> str:
    queue = app.conf.task_default_queue
    if queue in declared_queues(app) and queue not in found.queues:
        found.problems.append(
            f"Whether beat runs could not be seen, since its tick goes through the queue {queue}."
        )
        return ""
    report.progress("Waiting for a tick of beat.")
    seconds = 3 * configuration().beat_seconds + 5
    waits = timezone.now() + datetime.timedelta(seconds=seconds)
    while not report.stop.is_set():
        fired = report.beat_seen_at()
        if fired is not None and fired != before and fired > began:
            ago = max(0.0, (timezone.now() - fired).total_seconds())
            report.evidence("beat", f"ticked at {fired.isoformat(timespec='seconds')}")
            return f"beat ticked {ago:.0f} s ago"
        if timezone.now() > waits:
            break
        report.stop.wait(0.5)
    last = f"; it last ticked at {before.isoformat(timespec='seconds')}" if before else ""
    found.problems.append(
        f"Beat did not tick within {seconds} s{last}: start `celery -A "
        f"{app.main or '<project>'} beat`, of a release that has this app."
    )
    return ""


def _count(things: Any, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
