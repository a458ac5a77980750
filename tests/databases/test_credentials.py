"""Accounts before and after, on real tables: what is compared, kept and carried over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.sessions.backends.db import SessionStore
from django.db.backends.base.base import BaseDatabaseWrapper

from rehearsal.databases import credentials
from rehearsal.databases.address import Address

SERVER = urlsplit(os.environ["TEST_POSTGRESQL_URL"])
USERS = """
CREATE TABLE auth_user (id integer PRIMARY KEY, username varchar(150) NOT NULL,
 password varchar(128) NOT NULL, is_active {flag} NOT NULL, is_staff {flag} NOT NULL,
 is_superuser {flag} NOT NULL)
"""
SESSION = """
CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
 expire_date {moment} NOT NULL)
"""
HASHED = make_password("correct horse", hasher="pbkdf2_sha256")


def _postgresql(name: str) -> Address:
    backend = "django.db.backends.postgresql"
    assert SERVER.hostname and SERVER.username and SERVER.password
    at = Address(
        backend, "postgres", SERVER.hostname, str(SERVER.port), SERVER.username, SERVER.password
    )
    with closing(at.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name}")
    return replace(at, name=name)


@pytest.fixture(params=["postgresql", "sqlite"])
def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[BaseDatabaseWrapper, BaseDatabaseWrapper]]:
    """The database before and the one after, each with the tables of users and sessions."""
    if request.param == "postgresql":
        both = [_postgresql("people_old"), _postgresql("people_new")]
    else:
        backend = "django.db.backends.sqlite3"
        both = [Address(backend, str(tmp_path / name)) for name in ("old", "new")]
    with closing(both[0].connect()) as old, closing(both[1].connect()) as new:
        for connection in (old, new):
            with connection.cursor() as cursor:
                cursor.execute(USERS.format(flag="boolean"))
                cursor.execute(SESSION.format(moment="timestamp"))
        yield old, new


def add(
    into: BaseDatabaseWrapper, key: int, name: str, password: str = HASHED, *,
    active: bool = True, staff: bool = False, superuser: bool = False,
) -> None:  # fmt: skip
    with into.cursor() as cursor:
        row = [key, name, password, active, staff, superuser]
        cursor.execute("INSERT INTO auth_user VALUES (%s, %s, %s, %s, %s, %s)", row)


def sign_in(into: BaseDatabaseWrapper, session: str, user: int | None) -> None:
    backend = "django.contrib.auth.backends.ModelBackend"
    said = {} if user is None else {"_auth_user_id": str(user), "_auth_user_backend": backend}
    with into.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_session VALUES (%s, %s, '2030-01-01')",
            [session, SessionStore().encode(said)],
        )


def sessions(of: BaseDatabaseWrapper) -> set[str]:
    with of.cursor() as cursor:
        cursor.execute("SELECT session_key FROM django_session")
        return {key for (key,) in cursor.fetchall()}


Pair = tuple[BaseDatabaseWrapper, BaseDatabaseWrapper]


def test_every_kind_of_change_is_named(pair: Pair) -> None:
    old, new = pair
    for connection in pair:
        add(connection, 1, "ana")
    add(old, 2, "ben")
    add(new, 2, "ben", "!reset")
    add(old, 3, "carla", staff=False)
    add(new, 3, "carla", staff=True, superuser=True)
    add(old, 4, "dan")
    add(new, 5, "eva")
    add(old, 6, "finn")
    add(new, 6, "fay")
    said = credentials.changed(credentials.accounts(old), credentials.accounts(new))
    assert said == [
        "ben (password reset)",
        "carla (is_staff False → True, is_superuser False → True)",
        "dan (gone)",
        "eva (added)",
        "finn (renamed)",
    ]


def test_digest_is_the_same_in_both_kinds_and_shows_no_hash(pair: Pair) -> None:
    old, new = pair
    for connection in pair:
        for key in range(3):
            add(connection, key, f"person{key}", staff=key == 1)
    one, other = credentials.accounts(old), credentials.accounts(new)
    assert credentials.digest(one) == credentials.digest(other)
    assert credentials.changed(one, other) == []
    assert HASHED not in f"{one} {credentials.digests(one)}"
    assert len(credentials.digest(one)) == 64


def test_ten_thousand_accounts_and_one_reset(pair: Pair) -> None:
    old, new = pair
    for connection in pair:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO auth_user WITH RECURSIVE n(n) AS"
                " (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 9999)"
                " SELECT n, 'user' || n, %s, true, n %% 7 = 0, false FROM n",
                [HASHED],
            )
    before = credentials.accounts(old)
    assert len(before) == 10_000
    assert credentials.changed(before, credentials.accounts(new)) == []
    assert check_password("correct horse", credentials.accounts(new)["77"].password)
    with new.cursor() as cursor:
        cursor.execute("UPDATE auth_user SET password = '!' WHERE id = 4321")
    assert credentials.changed(before, credentials.accounts(new)) == ["user4321 (password reset)"]


def test_passwords_of_the_target_are_kept_for_the_same_accounts_alone(pair: Pair) -> None:
    old, new = pair
    add(old, 1, "ana", "staging's")
    add(old, 2, "ben", "staging's")
    add(old, 4, "gone", "staging's")
    add(new, 1, "ana", "production's")
    add(new, 2, "somebody else", "production's")
    add(new, 3, "carla", "production's")
    assert credentials.keep_passwords(credentials.accounts(old), new) == 1
    found = {one.username: one.password for one in credentials.accounts(new).values()}
    assert found == {"ana": "staging's", "somebody else": "production's", "carla": "production's"}


def test_a_session_stays_only_with_the_same_account(pair: Pair) -> None:
    old, new = pair
    add(old, 1, "ana")
    add(new, 1, "ana")
    # Staging's seventh user and production's seventh, a superuser, have equal password strings.
    add(old, 7, "ben")
    add(new, 7, "root", superuser=True)
    add(old, 8, "carla", "before")
    add(new, 8, "carla", "after")
    add(old, 9, "dan")
    for user in (1, 7, 8, 9):
        sign_in(old, f"session-of-{user}", user)
    sign_in(old, "of-nobody", None)
    sign_in(old, "of-a-ghost", 99)
    sign_in(new, "production's", 7)
    assert credentials.carry_sessions(old, new) == (1, 1)
    assert sessions(new) == {"session-of-1"}


def test_nothing_is_left_half_done(pair: Pair) -> None:
    old, new = pair
    add(old, 1, "ana")
    add(new, 1, "ana")
    sign_in(old, "kept", 1)
    sign_in(new, "production's", 1)
    with old.cursor() as cursor:
        cursor.execute("DROP TABLE auth_user")
    assert credentials.carry_sessions(old, new) == (0, 1)
    with old.cursor() as cursor:
        cursor.execute("DROP TABLE django_session")
    assert credentials.carry_sessions(old, new) == (0, 0)


def test_older_user_table_without_a_flag(pair: Pair) -> None:
    old, _ = pair
    add(old, 1, "ana")
    with old.cursor() as cursor:
        cursor.execute("ALTER TABLE auth_user DROP COLUMN is_staff")
    assert credentials.accounts(old)["1"].flags == (True, None, False)
