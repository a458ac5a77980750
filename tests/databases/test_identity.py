"""Which database it is, on a real PostgreSQL and real SQLite files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import connections
from django.db.utils import OperationalError

from rehearsal.databases import describe, identity, same

ALIAS = "identified"


@contextmanager
def connected(url: str) -> Iterator[None]:
    """An alias of our own for a while, to the database of a PostgreSQL URL or a SQLite path."""
    if url.startswith("postgresql://"):
        said = psycopg.conninfo.conninfo_to_dict(url)
        settings = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": said["dbname"],
            "USER": said["user"],
            "PASSWORD": said["password"],
            "HOST": said["host"],
            "PORT": said["port"],
        }
    else:
        settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": url}
    connections.settings[ALIAS] = {**connections.settings["default"], "OPTIONS": {}, **settings}
    try:
        yield
    finally:
        connections[ALIAS].close()
        if (kept := connections[ALIAS].connection) is not None:
            kept.close()  # Django keeps a database in memory open
        del connections[ALIAS]
        del connections.settings[ALIAS]


def identified(url: str) -> dict[str, str]:
    with connected(url):
        return identity(ALIAS)


def postgresql_url(name: str) -> str:
    return os.environ["TEST_POSTGRESQL_URL"].rpartition("/")[0] + f"/{name}"


@pytest.fixture
def role() -> Iterator[str]:
    """The URL of `template1` for a role that may not read the server's control data."""
    with psycopg.connect(os.environ["TEST_POSTGRESQL_URL"], autocommit=True) as admin:
        for database in ("postgres", "template1"):
            with psycopg.connect(postgresql_url(database), autocommit=True) as there:
                there.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        admin.execute("CREATE ROLE clerk LOGIN PASSWORD 'clerk-password'")
        try:
            _, _, server = postgresql_url("postgres").rpartition("@")
            yield f"postgresql://clerk:clerk-password@{server}"
        finally:
            admin.execute("DROP ROLE clerk")
            for database in ("postgres", "template1"):
                with psycopg.connect(postgresql_url(database), autocommit=True) as there:
                    there.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")


def test_two_connections_to_one_postgresql_database_are_the_same() -> None:
    first, second = (identified(postgresql_url("postgres")) for _ in range(2))
    assert same(first, second)
    assert first["cluster"].isdigit()
    assert describe(first).startswith("PostgreSQL database postgres (oid ")


def test_another_database_of_the_server_differs() -> None:
    assert not same(identified(postgresql_url("postgres")), identified(postgresql_url("template1")))


def test_a_database_made_anew_under_its_old_name_differs() -> None:
    found = []
    with psycopg.connect(os.environ["TEST_POSTGRESQL_URL"], autocommit=True) as admin:
        for _ in range(2):
            admin.execute("CREATE DATABASE made_anew")
            try:
                found.append(identified(postgresql_url("made_anew")))
            finally:
                admin.execute("DROP DATABASE made_anew")
    assert found[0]["name"] == found[1]["name"]
    assert not same(*found)


def test_a_copy_of_a_server_differs_by_its_start() -> None:
    facts = identified(postgresql_url("postgres"))
    assert not same(facts, {**facts, "started": "1.5"})


def test_a_role_with_fewer_rights_identifies_the_same_database(role: str) -> None:
    facts = identified(role)
    assert "cluster" not in facts
    assert same(facts, identified(postgresql_url("postgres")))
    assert "clerk-password" not in str(facts) + describe(facts)


def test_an_unreachable_database_raises() -> None:
    with pytest.raises(OperationalError):
        identified("postgresql://nobody:x@127.0.0.1:1/nothing")


def test_a_sqlite_file_is_itself_by_any_path(tmp_path: Path) -> None:
    (tmp_path / "link.sqlite3").symlink_to(tmp_path / "file.sqlite3")
    first = identified(str(tmp_path / "file.sqlite3"))
    assert same(first, identified(str(tmp_path / "link.sqlite3")))
    assert str(tmp_path / "file.sqlite3") in describe(first)
    assert not same(first, identified(str(tmp_path / "other.sqlite3")))


@pytest.mark.parametrize("keep", [True, False])
def test_a_connection_to_a_sqlite_file_that_was_replaced_is_told_from_the_new_one(
    tmp_path: Path, keep: bool
) -> None:
    path, new = tmp_path / "file.sqlite3", tmp_path / "new.sqlite3"
    with connected(str(path)):
        before = identity(ALIAS)
        with closing(sqlite3.connect(new)) as connection, connection:
            connection.execute("CREATE TABLE restored (id)")
        if keep:
            path.rename(tmp_path / "old.sqlite3")
        new.replace(path)
        still = identity(ALIAS)
    after = identified(str(path))
    assert after["name"] == before["name"]
    assert not same(still, after)


def test_databases_in_memory_are_each_their_own() -> None:
    facts = identified(":memory:")
    assert not same(facts, {**facts, "process": "1 on elsewhere"})
    assert str(os.getpid()) in describe(facts)


def test_what_is_unknown_is_the_same_as_nothing() -> None:
    assert not same({}, {})
    assert not same({"error": "no"}, {"error": "no"})
    assert describe({}) == "no database (it is unknown)"
