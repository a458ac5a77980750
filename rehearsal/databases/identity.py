"""Which database a process is really connected to, whatever its settings and variables say."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.conf import redactor

DESCRIBES = {"server"}
"""What two connections to one database may say differently: an address depends on the way."""


def identity(alias: str = DEFAULT_DB_ALIAS) -> dict[str, str]:
    """Facts, none of them secret, that tell this connection's database from any other.

    Raises django.db.Error when the database cannot be reached.
    """
    return identity_of(connections[alias])


def identity_of(connection: BaseDatabaseWrapper) -> dict[str, str]:
    """The same for a connection. Raises django.db.Error."""
    read = {"postgresql": _postgresql, "sqlite": _sqlite}.get(connection.vendor, _other)
    return {"engine": connection.vendor, **read(connection)}


def identity_or_error(alias: str = DEFAULT_DB_ALIAS) -> dict[str, str]:
    """The identity of an alias, or what stands in its way as `{"error": …}`."""
    try:
        return identity(alias)
    except (Error, ImportError, OSError) as error:
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"error": redactor().redact(first)}


def same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two identities are of one database; an unknown identity is like no other."""
    ignored = set(DESCRIBES)
    if not (one.get("cluster") and other.get("cluster")):
        ignored.add("cluster")  # one of the two was not permitted to read it
    first, second = (
        {key: value for key, value in facts.items() if key not in ignored} for facts in (one, other)
    )
    return "name" in first and first == second


def describe(facts: Mapping[str, str]) -> str:
    """One phrase that names the database of an identity."""
    if "name" not in facts:
        return f"no database ({facts.get('error', 'it is unknown')})"
    if facts["engine"] == "postgresql":
        return f"PostgreSQL database {facts['name']} (oid {facts['oid']}) at {facts['server']}"
    if "process" in facts:
        return f"SQLite database in the memory of process {facts['process']}"
    if facts["engine"] == "sqlite":
        return f"SQLite file {facts['name']} (inode {facts['inode']})"
    return f"{facts['engine']} database {facts['name']} at {facts['server']}"


def _postgresql(connection: BaseDatabaseWrapper) -> dict[str, str]:
    with connection.cursor() as cursor:
        # The start time tells a server from a copy of its volume, which keeps cluster and oid.
        cursor.execute(
            "SELECT datname, oid::text, coalesce(host(inet_server_addr()), 'local socket'),"
            " coalesce(inet_server_port(), current_setting('port')::int)::text,"
            " extract(epoch FROM pg_postmaster_start_time())::text,"
            " has_function_privilege('pg_control_system()', 'EXECUTE')"
            " FROM pg_database WHERE datname = current_database()"
        )
        name, oid, host, port, started, permitted = cursor.fetchone()
        facts = {"name": name, "oid": oid, "server": f"{host}:{port}", "started": started}
        if permitted:
            cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
            facts["cluster"] = cursor.fetchone()[0]
    return facts


def _sqlite(connection: BaseDatabaseWrapper) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA database_list")
        files = {name: file for _, name, file in cursor.fetchall()}
    if not files["main"]:
        return {"name": "in memory", "process": f"{os.getpid()} on {socket.gethostname()}"}
    path = os.path.realpath(files["main"])
    return {"name": path, "inode": _inodes(path)}


def _inodes(path: str) -> str:
    """The inodes of the files this process holds open by that path.

    Where a file was replaced while a connection was open, they are not those of the new file.
    """
    held: set[int] = set()
    with suppress(OSError):
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) in {path, f"{path} (deleted)"}:
                    held.add(descriptor.stat().st_ino)
        return " and ".join(map(str, sorted(held))) or "of no file open here"
    return str(os.stat(path).st_ino)


def _other(connection: BaseDatabaseWrapper) -> dict[str, str]:
    connection.ensure_connection()
    said = connection.settings_dict
    return {"name": str(said["NAME"]), "server": f"{said['HOST']}:{said['PORT']}"}
