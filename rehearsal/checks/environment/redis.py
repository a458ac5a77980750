"""Redis as section 1 looks at it: every one the project uses works and keeps what it is given."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from rehearsal.checks.base import Report
from rehearsal.checks.environment.findings import Findings

REDIS_SECONDS = 3
"""How long a Redis may take to connect, and to answer each command."""
REDIS_SCHEMES = ("redis", "rediss", "redis+socket", "unix")


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
    for role, url, options in uses(app):
        if urlsplit(url).scheme not in REDIS_SCHEMES:
            continue
        known = next((one for one in found if (one.url, one.options) == (url, options)), None)
        if known is None:
            found.append(Server(url, options, [role]))
        elif role not in known.roles:
            known.roles.append(role)
    return found


def uses(app: Celery) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What Celery and the caches are told to use: the role, the URL and options of each."""
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


def look(report: Report, app: Celery, found: Findings) -> str:
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
