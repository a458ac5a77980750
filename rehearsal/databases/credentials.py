"""Whether the accounts of a database are as they were: who may sign in, with what, as what.

A password's hash is never written down: what is compared are keyed digests.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.crypto import salted_hmac

FLAGS = ("is_active", "is_staff", "is_superuser")
SESSIONS = "django_session"
SHOWN = 10
"""How many accounts a sentence names."""


@dataclass(frozen=True)
class Account:
    """One row of the project's user table, as far as signing in goes."""

    key: str
    username: str
    password: str
    flags: tuple[bool | None, ...]

    def __repr__(self) -> str:
        return f"Account({self.username!r})"


def accounts(connection: BaseDatabaseWrapper) -> dict[str, Account]:
    """The accounts a database holds, by the text of their primary key.

    Reads whichever of the user model's columns are there: the database may be older than the code.
    Returns nothing where there is no user table. Raises django.db.Error.
    """
    options = get_user_model()._meta
    key_column, username = _columns()
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        if options.db_table not in tables:
            return {}
        described = connection.introspection.get_table_description(cursor, options.db_table)
        there = {column.name for column in described}
        names = [key_column, username, "password"]
        flags = [flag for flag in FLAGS if flag in there]
        quoted = ", ".join(map(connection.ops.quote_name, names + flags))
        cursor.execute(f"SELECT {quoted} FROM {connection.ops.quote_name(options.db_table)}")
        found = {}
        for key, name, password, *standing in cursor.fetchall():
            said = dict(zip(flags, standing, strict=True))
            # SQLite's truth is 1.
            held = tuple(None if said.get(f) is None else bool(said[f]) for f in FLAGS)
            found[str(key)] = Account(str(key), str(name), str(password), held)
        return found


def _columns() -> tuple[str, str]:
    """The columns of the user table that hold the primary key and the name to sign in with."""
    model = get_user_model()
    named = model._meta.get_field(model.USERNAME_FIELD)
    return str(model._meta.pk.column), str(getattr(named, "column", ""))


def digests(of: Mapping[str, Account]) -> dict[str, str]:
    """A digest of each account, keyed with the project's SECRET_KEY; by primary key."""
    key = salted_hmac("rehearsal.credentials", "accounts", algorithm="sha256").digest()
    return {
        one.key: hmac.new(
            key, json.dumps([one.key, one.username, one.password, one.flags]).encode(), "sha256"
        ).hexdigest()
        for one in of.values()
    }


def digest(of: Mapping[str, Account]) -> str:
    """One digest over all accounts, whatever their order."""
    return hashlib.sha256("".join(sorted(digests(of).values())).encode()).hexdigest()


def changed(before: Mapping[str, Account], after: Mapping[str, Account]) -> list[str]:
    """What became of the accounts, a phrase for each that is not as it was, in name order."""
    said = []
    old, new = digests(before), digests(after)
    known = {**before, **after}
    differ = [key for key in known if old.get(key) != new.get(key)]
    for key in sorted(differ, key=lambda key: known[key].username):
        name = (before.get(key) or after[key]).username
        said.append(f"{name} ({_what(before.get(key), after.get(key))})")
    return said


def _what(before: Account | None, after: Account | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "gone"
    parts = []
    if before.username != after.username:
        parts.append("renamed")
    if before.password != after.password:
        parts.append("password reset")
    for name, one, other in zip(FLAGS, before.flags, after.flags, strict=True):
        if one != other:
            parts.append(f"{name} {one} → {other}")
    return ", ".join(parts)


def same_account(one: Account | None, other: Account | None) -> bool:
    """Whether two rows of two databases are one person's: a number or a name alone is not."""
    return bool(one and other and (one.key, one.username) == (other.key, other.username))


def with_passwords_of(of: Mapping[str, Account], into: Mapping[str, Account]) -> dict[str, Account]:
    """What `keep_passwords` should make of the accounts `into`."""
    return {
        key: replace(one, password=of[key].password) if same_account(of.get(key), one) else one
        for key, one in into.items()
    }


def keep_passwords(of: Mapping[str, Account], into: BaseDatabaseWrapper) -> int:
    """Give the accounts of a database the passwords these have, where they are the same accounts.

    Returns how many were given theirs.
    """
    options = get_user_model()._meta
    key_column, _ = _columns()
    quote = into.ops.quote_name
    there = accounts(into)
    given = 0
    with _together(into), into.cursor() as cursor:
        for key, account in there.items():
            if not same_account(of.get(key), account):
                continue
            given += 1
            if of[key].password != account.password:
                cursor.execute(
                    f"UPDATE {quote(options.db_table)} SET password = %s"
                    f" WHERE {quote(key_column)} = %s",
                    [
                        of[key].password,
                        options.pk.get_db_prep_value(options.pk.to_python(key), into),
                    ],
                )
    return given


def sessions_in_database() -> bool:
    """Whether all of the project's sessions are in the database that is replaced."""
    return bool(settings.SESSION_ENGINE == "django.contrib.sessions.backends.db")


def strangers(before: Mapping[str, Account], after: Mapping[str, Account]) -> list[str]:
    """Whose session would become somebody else's, if it stayed: one number, one password."""
    return [
        f"{one.username} would be {after[key].username}"
        for key, one in sorted(before.items())
        if key in after
        and one.password == after[key].password
        and not same_account(one, after[key])
    ]


def carry_sessions(
    old: BaseDatabaseWrapper, new: BaseDatabaseWrapper, *, own: bool = False
) -> tuple[int, int]:
    """Exchange the sessions that came with the data for those of the people who are signed in.

    With `own`, those that are there stay as well: they are this environment's.

    A session is kept only where the account behind it is the same one, with the same password:
    by its number alone, one person's session would become another's. Returns how many were kept
    and how many of the data's own were taken out.
    """
    before, after = accounts(old), accounts(new)
    with old.cursor() as cursor:
        live = _sessions(old, cursor)
    kept = []
    for row in live:
        said: dict[str, Any] = SessionStore().decode(row[1])
        key = str(said.get(SESSION_KEY, ""))
        one, other = before.get(key), after.get(key)
        same = one and other and same_account(one, other) and one.password == other.password
        if BACKEND_SESSION_KEY in said and same:
            kept.append(row)
    quote = new.ops.quote_name
    with _together(new), new.cursor() as cursor:
        if SESSIONS not in new.introspection.table_names(cursor):
            return 0, 0
        names = [row[0] for row in kept]
        gone = "true" if not own else f"session_key IN ({', '.join(['%s'] * len(names))})"
        taken = 0
        if names or not own:
            cursor.execute(f"DELETE FROM {quote(SESSIONS)} WHERE {gone}", names if own else [])
            taken = cursor.rowcount
        cursor.executemany(
            f"INSERT INTO {quote(SESSIONS)} (session_key, session_data, expire_date)"
            " VALUES (%s, %s, %s)",
            kept,
        )
    return len(kept), taken


def _sessions(connection: BaseDatabaseWrapper, cursor: Any) -> list[tuple[Any, ...]]:
    if SESSIONS not in connection.introspection.table_names(cursor):
        return []
    table = connection.ops.quote_name(SESSIONS)
    cursor.execute(f"SELECT session_key, session_data, expire_date FROM {table}")
    return list(cursor.fetchall())


@contextmanager
def _together(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction on a connection that Django does not know by an alias."""
    connection.set_autocommit(False)
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.set_autocommit(True)
