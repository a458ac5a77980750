"""Where a database is and how to get in, by its Django alias or from an environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler, load_backend

SCHEMES = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}
CONNECT_SECONDS = 10
LIBPQ = {
    "channel_binding", "connect_timeout", "gssencmode", "options", "passfile", "service",
    "servicefile", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
}  # fmt: skip
"""Connection options that libpq also reads from variables: PGSSLMODE and so on."""
KEPT = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH"}
"""What a database client gets of this process's environment."""


class AddressError(ValueError):
    """A name that leads to no database: what was expected, what was found, and the remedy."""


@dataclass(frozen=True)
class Address:
    """A database, with what is needed to connect to it."""

    engine: str
    """The dotted path of Django's backend."""
    name: str
    host: str = ""
    port: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @cached_property
    def vendor(self) -> str:
        """Which kind of database it is: `postgresql`, `sqlite` or another of Django's."""
        return str(load_backend(self.engine).DatabaseWrapper.vendor)

    @property
    def shown(self) -> str:
        """The address in words, without the password."""
        if self.vendor == "sqlite":
            return self.name
        role = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{role}{self.host or 'local socket'}{port}/{self.name}"

    def renamed(self, name: str) -> Address:
        """Another database on the same server, with the same role."""
        return replace(self, name=name)

    def environment(self) -> dict[str, str]:
        """The whole environment of a PostgreSQL client: argument lists can be read by anybody."""
        said = {"PGDATABASE": self.name, "PGHOST": self.host, "PGPORT": self.port}
        said |= {"PGUSER": self.user, "PGPASSWORD": self.password, "PGAPPNAME": "rehearsal"}
        said |= {"PGCONNECT_TIMEOUT": str(CONNECT_SECONDS)}
        said |= {f"PG{key}".upper(): str(self.options[key]) for key in LIBPQ & set(self.options)}
        here = {name: value for name, value in os.environ.items() if name in KEPT}
        return here | {name: value for name, value in said.items() if value}

    @property
    def wanted(self) -> dict[str, Any]:
        """The options without those that stand in the way of administration."""
        return {key: value for key, value in self.options.items() if key not in UNWANTED}

    def connect(self) -> BaseDatabaseWrapper:
        """A new connection, of the caller alone, to be closed by him. Raises django.db.Error."""
        options = self.wanted
        if self.vendor == "postgresql":
            options = {
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "rehearsal",
            } | options
        handler = ConnectionHandler(
            {
                DEFAULT_DB_ALIAS: {
                    "ENGINE": self.engine, "NAME": self.name, "HOST": self.host,
                    "PORT": self.port, "USER": self.user, "PASSWORD": self.password,
                    "OPTIONS": options,
                }
            }
        )  # fmt: skip
        connection = handler.create_connection(DEFAULT_DB_ALIAS)
        try:
            connection.ensure_connection()
        except Error:
            connection.close()  # what broke while it was set up may be open
            raise
        return connection


UNWANTED = {"pool", "server_side_binding"}
"""Options for a project's many small queries; a pool is shared by all that have the alias's name,
wherever they lead."""


def of(name: str) -> Address:
    """The address that `name` stands for: a key of DATABASES, or an environment variable's name.

    The variable holds a URL: postgresql://user:password@host:port/name?option=value, or
    sqlite:///path. Raises AddressError, which never shows the URL.
    """
    if name in connections.settings:
        said = connections.settings[name]
        return Address(
            engine=said["ENGINE"],
            name=str(said["NAME"] or ""),
            host=str(said["HOST"] or ""),
            port=str(said["PORT"] or ""),
            user=str(said["USER"] or ""),
            password=str(said["PASSWORD"] or ""),
            options=dict(said["OPTIONS"]),
        )
    if "://" in name:
        raise AddressError(
            "A URL was given where a name was expected: put the URL into an environment variable, "
            "and name the variable."
        )
    if not (url := os.environ.get(name, "")):
        raise AddressError(
            f"{name!r} is neither an alias in DATABASES nor an environment variable that is set. "
            f"Set it to the database's URL."
        )
    return _of_url(name, url)


def _of_url(name: str, url: str) -> Address:
    remedy = "Write postgresql://user:password@host:port/name, or sqlite:///path."
    try:
        parts = urlsplit(url)
        port = str(parts.port or "")
    except ValueError:
        raise AddressError(f"{name} does not hold a URL that can be read. {remedy}") from None
    if parts.scheme not in SCHEMES:
        raise AddressError(f"{name} holds a URL of a kind that is not served. {remedy}")
    path = unquote(parts.path[1:])
    if not path:
        raise AddressError(f"The URL in {name} names no database. {remedy}")
    if parts.scheme == "sqlite":
        return Address(SCHEMES["sqlite"], path)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    return Address(
        engine=_engine(SCHEMES[parts.scheme]),
        name=path,
        host=unquote(options.pop("host", parts.hostname or "")),
        port=port or options.pop("port", ""),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        options=options,
    )


def _engine(usual: str) -> str:
    """The project's own backend where it is of the same kind, such as PostGIS."""
    engine = str(connections.settings[DEFAULT_DB_ALIAS]["ENGINE"])
    vendor = load_backend(engine).DatabaseWrapper.vendor
    return engine if vendor == load_backend(usual).DatabaseWrapper.vendor else usual
