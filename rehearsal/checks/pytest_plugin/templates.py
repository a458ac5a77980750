"""Test databases on PostgreSQL as clones of a template that is made once.

The first run that needs it has Django make a test database exactly as it would by hand, and keeps
it as the template; every run gets a clone (`CREATE DATABASE … TEMPLATE`) under its own name. The
template's name ends in the digest of all that determines its content (`template_key`), so a change
of any of it means another template. Nobody can connect to a template, so nobody can change one.
Where anything is unusual the test database is made plainly, and the reason is told.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from . import template_key
from .events import TOKEN, tell
from .schema import Schema, SchemaError

MODE = os.environ.get("REHEARSAL_PYTEST_TEST_DATABASE", "plain")
"""`migrations`: a template made by migrations; `schema`: by the schema there is; `plain`: none."""
WAIT_SECONDS = 900
"""How long to wait for another process that makes the template, before making one's own."""
TURN_SECONDS = 0.2
KEY_LETTERS = 16
READS = re.compile(r"\s*(SELECT|SAVEPOINT|RELEASE|ROLLBACK|SET|SHOW|BEGIN|COMMIT)\b", re.IGNORECASE)

Name = Callable[[Any], None]


class Unusual(Exception):
    """Why no template can be used here; the test database is made plainly."""


def install(connection: Any, name: Name) -> None:
    """Have this connection's test database made from a template; harmless to do twice."""
    creation = connection.creation
    if "create_test_db" in vars(creation):
        return
    original = creation.create_test_db

    def create_test_db(*args: Any, **options: Any) -> str:
        name(connection)  # a fixture of the project may have named it anew
        bound = inspect.signature(original).bind(*args, **options)
        bound.apply_defaults()
        began = time.monotonic()
        try:
            how = from_template(connection, original, bound.arguments)
        except Unusual as reason:
            original(**bound.arguments)
            how = {"how": "plainly", "reason": str(reason)}
        seconds = round(time.monotonic() - began, 3)
        tell(event="test database made", alias=connection.alias, seconds=seconds, **how)
        return str(connection.settings_dict["NAME"])

    creation.create_test_db = create_test_db


def from_template(
    connection: Any, original: Callable[..., str], given: dict[str, Any]
) -> dict[str, Any]:
    """Clone the template, after making it if need be; raises Unusual where that will not do."""
    from django.db import Error
    from django.db.backends.base.creation import BaseDatabaseCreation

    if MODE == "plain":
        raise Unusual("REHEARSAL['TEST_DATABASE'] is 'plain'")
    if connection.vendor != "postgresql":
        raise Unusual(f"{connection.display_name} has no templates")
    if type(connection.creation).create_test_db is not BaseDatabaseCreation.create_test_db:
        raise Unusual(f"{connection.settings_dict['ENGINE']} makes test databases in its own way")
    name = connection.settings_dict["TEST"]["NAME"]
    built: dict[str, Any] = {}
    began = False
    try:
        schema = Schema(connection) if MODE == "schema" else None
        with connection.creation._nodb_cursor() as server:
            template = name_of_template(connection, name, server, schema)
            deadline = time.monotonic() + WAIT_SECONDS
            while not is_there(server, template):
                with alone(server, template) as is_mine:
                    if is_mine and not is_there(server, template):
                        began = True
                        built = build(connection, original, given, name, template, schema)
                        if "reason" in built:
                            serialize(connection, given)
                            return built
                        began = False
                        continue
                wait(template, deadline)
            clone(server, connection, name, template)
    except (Error, OSError) as error:
        if began:
            raise
        raise Unusual(f"the server or the project's files stand in the way: {error}") from error
    except SchemaError as error:
        raise Unusual(str(error)) from error
    use(connection, name, given)
    told = {"schema": schema.source} if schema else {}
    return {"how": "as a clone", "template": template, **told, **built}


def name_of_template(connection: Any, name: str, server: Any, schema: Schema | None) -> str:
    server.execute("SHOW server_version")
    facts = {"server": server.fetchone()[0], "schema": schema.digest if schema else ""}
    digest = template_key.digest(connection, facts)
    kept = name.removeprefix("test_").partition(f"_{TOKEN}")[0][:24]
    return f"test_{kept}_template_{digest[:KEY_LETTERS]}"


def wait(template: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Unusual(f"another run has been making {template} for {WAIT_SECONDS} s")
    tell(event="preparing", said="waiting for the test database that another item makes")
    time.sleep(TURN_SECONDS)


def is_there(server: Any, template: str) -> bool:
    """Whether the template is there; raises Unusual when it is another role's."""
    server.execute(
        "SELECT pg_get_userbyid(datdba), current_user FROM pg_database WHERE datname = %s",
        [template],
    )
    found = server.fetchone()
    if found and found[0] != found[1]:
        raise Unusual(f"{template} belongs to {found[0]}, and not to {found[1]}")
    return found is not None


@contextmanager
def alone(server: Any, template: str) -> Iterator[bool]:
    """Whether no other process makes this template now; it ends with the connection at the latest.

    Held by a transaction, which pgbouncer keeps on one connection, as it does not keep a session.
    """
    server.execute("BEGIN")
    try:
        server.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        server.execute(
            "SELECT pg_try_advisory_xact_lock(hashtext('rehearsal'), hashtext(%s))", [template]
        )
        yield server.fetchone()[0]
    finally:
        with suppress(Exception):  # the connection is gone, and the lock with it
            server.execute("ROLLBACK")


def build(
    connection: Any,
    original: Callable[..., str],
    given: Mapping[str, Any],
    name: str,
    template: str,
    schema: Schema | None,
) -> dict[str, Any]:
    """Have Django make a test database, and keep it as the template.

    Returns the seconds it took, or with them the reason why it cannot be a template: then it
    serves this run itself.
    """
    from django.db import Error

    origin = "the schema there is" if schema else "migrations"
    tell(event="preparing", said=f"making the test database from {origin}")
    began = time.monotonic()
    test = connection.settings_dict["TEST"]
    if "serialize" in given:
        given = {**given, "serialize": False}
    try:
        test["NAME"] = name.replace("test_", "test_building_", 1)
        with watching(connection) as elsewhere:
            building = schema.make(original, given) if schema else original(**given)
    finally:
        test["NAME"] = name
    quote = connection.ops.quote_name
    took = {"built_seconds": round(time.monotonic() - began, 3)}
    how = {**took, "how": f"from {origin}"}
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT datacl IS NOT NULL, EXISTS (SELECT FROM pg_db_role_setting"
                " WHERE setdatabase = pg_database.oid) FROM pg_database"
                " WHERE datname = current_database()"
            )
            granted, configured = cursor.fetchone()
        if granted or configured:
            what = "grants rights on" if granted else "configures"
            return {**how, "reason": f"a migration {what} the database itself"}
        if elsewhere:
            return {**how, "reason": f"its migrations also wrote to {', '.join(sorted(elsewhere))}"}
        close(connection)
        with connection.creation._nodb_cursor() as cursor:
            note(cursor, connection, building, took)
            # What has the name is whole, and stays as it is.
            cursor.execute("BEGIN")
            cursor.execute(f"ALTER DATABASE {quote(building)} ALLOW_CONNECTIONS false")
            cursor.execute(f"ALTER DATABASE {quote(building)} RENAME TO {quote(template)}")
            cursor.execute("COMMIT")
    except Error as error:
        return {**how, "reason": f"it could not be kept: {error}"}
    return took


@contextmanager
def watching(connection: Any) -> Iterator[set[str]]:
    """Tell how many migrations are applied; gives the other aliases that are written to meanwhile.

    What migrations write elsewhere, a clone would lack.
    """
    from django.db import connections

    written: set[str] = set()
    applied = 0

    def watch(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        nonlocal applied
        if context["connection"] is not connection:
            if not READS.match(str(sql)):
                written.add(context["connection"].alias)
        elif str(sql).startswith('INSERT INTO "django_migrations"'):
            applied += 1
            if not applied % 5:
                tell(event="preparing", said=f"making the test database: {applied} migrations")
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for one in connections.all(initialized_only=True):
            stack.enter_context(one.execute_wrapper(watch))
        yield written


def clone(server: Any, connection: Any, name: str, template: str) -> None:
    quote = connection.ops.quote_name
    server.execute(f"CREATE DATABASE {quote(name)} TEMPLATE {quote(template)}")
    note(server, connection, template, {})


def note(server: Any, connection: Any, database: str, facts: Mapping[str, Any]) -> None:
    """Write into the database's comment when it was last used, and what else is known of it."""
    from django.db import Error

    server.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        [database],
    )
    known = json.loads((server.fetchone() or [None])[0] or "{}")
    text = json.dumps({**known, **facts, "rehearsal": "template", "used": int(time.time())})
    quoted = text.replace("'", "''")
    with suppress(Error):  # another run may be writing the same
        server.execute(f"COMMENT ON DATABASE {connection.ops.quote_name(database)} IS '{quoted}'")


def use(connection: Any, name: str, given: Mapping[str, Any]) -> None:
    """What is left of Django's `create_test_db` once the database is there with all its tables."""
    from django.conf import settings

    close(connection)
    settings.DATABASES[connection.alias]["NAME"] = connection.settings_dict["NAME"] = name
    serialize(connection, given)
    connection.ensure_connection()


def serialize(connection: Any, given: Mapping[str, Any]) -> None:
    if given.get("serialize"):
        connection._test_serialized_contents = connection.creation.serialize_db_to_string()


def close(connection: Any) -> None:
    connection.close()
    if hasattr(connection, "close_pool"):
        connection.close_pool()
