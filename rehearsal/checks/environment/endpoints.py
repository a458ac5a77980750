"""Where the URLs of queues lead, whatever name the host has in them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

PORTS = {
    "redis": 6379, "rediss": 6379, "sentinel": 26379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671,
    "redis+socket": 0, "unix": 0,
}  # fmt: skip
"""The URL schemes of queues, with the port that is meant when none is named."""
RESOLVE_SECONDS = 3
"""How long the name of a host may take to be found."""


@dataclass(frozen=True)
class Endpoint:
    """One queue server, and which of its databases or virtual hosts."""

    hosts: frozenset[str]
    """The addresses of the host, or its name where it has none."""
    port: int
    name: str

    def meets(self, other: Endpoint) -> bool:
        """Whether both are one and the same, by any address they have in common."""
        here, there = (self.port, self.name), (other.port, other.name)
        return here == there and bool(self.hosts & other.hosts)


def is_queue(value: str) -> bool:
    """Whether a value is the URL of a queue, or several of them."""
    return value.partition("://")[0].lower() in PORTS and "://" in value


def endpoints(value: str) -> list[Endpoint]:
    """Where the URLs in a value lead; those that cannot be read lead nowhere."""
    found = []
    for url in value.replace(",", ";").split(";"):
        try:
            parts = urlsplit(url.strip())
            default = PORTS.get(parts.scheme.lower())
            if default is None:
                continue
            if default:
                name = unquote(parts.path).strip("/") or "0"
                hosts = _addresses(parts.hostname or "localhost")
            else:
                name, hosts = unquote(parts.path), frozenset([parts.hostname or ""])
            found.append(Endpoint(hosts, parts.port or default, name))
        except ValueError:
            continue
    return found


def in_common(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[tuple[str, str]]:
    """The pairs of keys, ours and theirs, whose URLs lead to one and the same queue."""
    known = [(key, one) for key, value in theirs.items() for one in endpoints(value)]
    pairs = (
        (key, other)
        for key, value in ours.items()
        for one in endpoints(value)
        for other, there in known
        if one.meets(there)
    )
    return list(dict.fromkeys(pairs))


def _addresses(host: str) -> frozenset[str]:
    found: set[str] = set()

    def look() -> None:
        try:
            told: Iterable[tuple[object, ...]] = socket.getaddrinfo(host, None)
        except (OSError, UnicodeError):
            return
        found.update(str(entry[4][0]) for entry in told)  # type: ignore[index]

    # A resolver cannot be told how long to try.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(RESOLVE_SECONDS)
    loopback = {"loopback"} if any(one == "::1" or one.startswith("127.") for one in found) else ()
    return frozenset({host.lower().rstrip("."), *found, *loopback})
