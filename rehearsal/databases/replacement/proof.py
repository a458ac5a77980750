"""Proof that a PostgreSQL database may be replaced: it is enrolled, listed and not the source.

No single fact tells production from staging: names, addresses, ports and roles can all be other
than they look. So several are taken, each from the servers themselves:

- a random advisory lock, held on one end and looked for on the other. One running server shows it
  whatever way leads there, and says in which of its databases it is held;
- the system identifier, which a promoted clone or a replica shares with the server it came from;
- the database's oid, which a renamed database keeps;
- an enrollment in the database's own comment, which its owner can write. It names server and oid,
  and a dump of a database's contents does not carry it;
- the list of names that may be replaced.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from django.db import DatabaseError, Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from rehearsal.databases.address import Address
from rehearsal.databases.replacement.refusal import Refused

MARK = re.compile(r"\s*\[rehearsal: enrolled as ([^\]]*)\]")
OLDEST = 130000
"""The oldest server that can be served: DROP DATABASE … WITH (FORCE) came with 13."""


@dataclass(frozen=True)
class Place:
    """A database as its server knows it."""

    server: str
    """The system identifier; empty where the role may not read it."""
    started: str
    """When the server process began, in seconds since 1970."""
    oid: int
    name: str
    mark: str
    """What the enrollment says; empty without one."""

    @property
    def expected_mark(self) -> str:
        """The part of an enrollment that binds it to this very database."""
        return f"{self.server}/{self.oid}"

    def renamed(self, name: str) -> Place:
        """The same database under another name."""
        return replace(self, name=name)


def locate(connection: BaseDatabaseWrapper) -> Place:
    """Ask a connection where it is. Raises django.db.Error."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'),"
            " current_setting('server_version_num')::int"
        )
        permitted, version = cursor.fetchone()
        if version < OLDEST:
            raise Refused(
                f"The server of {connection.settings_dict['NAME']} is PostgreSQL "
                f"{version // 10000}; 13 or later was expected. Upgrade it."
            )
        server = "(SELECT system_identifier::text FROM pg_control_system())"
        cursor.execute(
            f"SELECT {server if permitted else repr('')},"
            " extract(epoch FROM pg_postmaster_start_time())::text, oid, datname"
            " FROM pg_database WHERE datname = current_database()"
        )
        server, started, oid, name = cursor.fetchone()
        return Place(server, started, oid, name, mark(connection, oid))


def mark(connection: BaseDatabaseWrapper, oid: int) -> str:
    """What the database with that oid is enrolled as; asked of any connection to its server."""
    found = MARK.search(_comment(connection, oid))
    return found[1] if found else ""


def marked(connection: BaseDatabaseWrapper, oid: int, mark: str) -> str:
    """The comment of the database with that oid, with that enrollment for its own."""
    return f"{MARK.sub('', _comment(connection, oid))} [rehearsal: enrolled as {mark}]".lstrip()


def _comment(connection: BaseDatabaseWrapper, oid: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(shobj_description(%s, 'pg_database'), '')", [oid])
        return str(cursor.fetchone()[0])


@contextmanager
def _lock(connection: BaseDatabaseWrapper) -> Iterator[int]:
    """Hold an advisory lock with a number nobody else has, in a transaction: poolers keep that."""
    key = secrets.randbits(62)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])
            yield key
        finally:
            cursor.execute("ROLLBACK")


def _holders(connection: BaseDatabaseWrapper, key: int) -> list[int]:
    """The oids of the databases in which that advisory lock is held, on this running server."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT database::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
            " AND classid::bigint = %s AND objid::bigint = %s",
            [key >> 32, key & 0xFFFFFFFF],
        )
        return [oid for (oid,) in cursor.fetchall()]


def seen_from(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> list[int]:
    """The databases of `other`'s server in which a lock is held that `one` takes."""
    with _lock(one) as key:
        return _holders(other, key)


def apart(source: Address, target: Address) -> list[str]:
    """Prove that two addresses lead to two databases; returns the proofs, in words.

    Raises Refused when they do not, when it cannot be proven, or when either cannot be reached.
    """
    if source == target:
        raise Refused(
            f"The target is the source: both are {target.shown}. Correct TARGET or SOURCE."
        )
    try:
        with closing(source.connect()) as at_source, closing(target.connect()) as at_target:
            here, there = locate(at_target), locate(at_source)
            held = seen_from(at_target, at_source) or seen_from(at_source, at_target)
    except (Error, TransactionManagementError, ImportError, OSError) as error:
        raise Refused(
            "Whether the target is another database than the source could not be proven: "
            f"{_first(error)}. Let both be reached, and try again."
        ) from error
    if held:
        if here.oid == there.oid or here.oid in held and there.oid in held:
            raise Refused(
                f"The target {target.shown} is the source {source.shown}, reached another way: a "
                f"lock taken on one is held in the other (database {there.name}, oid {there.oid}). "
                "Let TARGET name the staging database."
            )
        return [
            f"one server, two databases: oid {here.oid} is the target, {there.oid} the source",
            "a lock taken in one is held in that one alone",
        ]
    if not (here.server and there.server):
        raise Refused(
            "Whether the target is a clone of the source's server could not be proven: its system "
            "identifier may not be read. GRANT EXECUTE ON FUNCTION pg_control_system() to the "
            "roles of TARGET and SOURCE."
        )
    if here.server == there.server:
        raise Refused(
            f"The target's server is a replica or clone of the source's: both have the system "
            f"identifier {here.server}. Restore into a server that was initialised by itself."
        )
    return [
        f"two servers: the target's system identifier is {here.server}, "
        f"the source's {there.server}",
        "a lock taken on one is not seen on the other",
    ]


def entitled(place: Place, environment: str, names: Collection[str]) -> list[str]:
    """Prove that a database was given away to be replaced; returns the proofs, in words.

    Raises Refused naming what is missing.
    """
    listed(place.name, environment, names)
    expected = f"{environment}/{place.expected_mark}"
    if not place.server:
        raise Refused(
            "The enrollment of the target cannot be checked: its system identifier may not be "
            "read. GRANT EXECUTE ON FUNCTION pg_control_system() to its role."
        )
    if not place.mark:
        raise Refused(
            f"The database {place.name} is not enrolled, so it is not replaced. If it is the "
            f"{environment} database, run `python manage.py rehearsal_enroll` once."
        )
    if place.mark != expected:
        raise Refused(
            f"The database {place.name} carries the enrollment {place.mark}, and {expected} was "
            "expected: it was enrolled for another environment, or its server was cloned. If it "
            f"is the {environment} database, run `python manage.py rehearsal_enroll` again."
        )
    return [f"enrolled as {place.mark}", f"the name {place.name} is on the list"]


def listed(name: str, environment: str, names: Collection[str]) -> None:
    """Raises Refused for a database whose name is not on the list of what may be replaced."""
    if names and name not in names:
        raise Refused(
            f"The database {name} is not among REHEARSAL['TARGET_NAMES'] ({', '.join(names)}), "
            "so it is not replaced. Correct TARGET, or add the name."
        )
    if not names and environment.lower() not in name.lower():
        raise Refused(
            f"The name of the database {name} does not hold {environment!r}, so it is not "
            "replaced. Name it in REHEARSAL['TARGET_NAMES'] if it may be."
        )


def _first(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    kind = "" if isinstance(error, DatabaseError | OSError) else f"{type(error).__name__}: "
    return kind + lines[0].rstrip(".")
