"""A template from the schema of the migrated database: faster than migrations, without their rows.

Tables, indexes and all else come as `pg_dump` tells them, with the list of applied migrations; then
Django's `migrate` applies what is missing and fills its own tables. Rows that migrations seed are
not there. Of the database itself nothing but its schema and that list is read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

BIN = os.environ.get("REHEARSAL_PYTEST_POSTGRESQL_BIN", "")
SECONDS = 300
"""How long a dump or a restore of a schema may take."""
APPLIED = "django_migrations (app, name, applied)"


class SchemaError(Exception):
    """Why the schema cannot be taken over."""


class Schema:
    """The schema of the database that a connection's settings name."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.source = str(connection.settings_dict["NAME"])
        dump = self._ask(
            "pg_dump", self.source, "--schema-only", "--no-owner", "--no-privileges"
        ).splitlines(keepends=True)
        # Newer versions guard the text with a word that is different each time.
        self.tables = "".join(line for line in dump if "restrict " not in line[:12])
        self.applied = self._ask(
            "psql", self.source, "-c", f"COPY (SELECT app, name, applied FROM {APPLIED.split()[0]}"
            " ORDER BY id) TO STDOUT"
        )  # fmt: skip

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.tables}\0{self.applied}".encode()).hexdigest()

    def make(self, original: Callable[..., str], given: Mapping[str, Any]) -> str:
        """Make the test database that the connection's settings name."""
        connection = self.connection
        building = connection.settings_dict["TEST"]["NAME"]
        with connection.creation._nodb_cursor() as cursor:
            quoted = connection.ops.quote_name(building)
            cursor.execute(f"CREATE DATABASE {quoted} TEMPLATE template0")
        self._ask("psql", building, "-f", "-", said=self.tables)
        self._ask("psql", building, "-c", f"COPY {APPLIED} FROM STDIN", said=self.applied)
        return original(**{**given, "keepdb": True})

    def _ask(self, program: str, database: str, *options: str, said: str = "") -> str:
        folders = [BIN, os.environ.get("PATH", os.defpath)]
        path = shutil.which(program, path=os.pathsep.join(filter(None, folders)))
        if path is None:
            raise SchemaError(f"{program} is not installed here")
        settings = {**self.connection.settings_dict, "NAME": database}
        words, variables = self.connection.client.settings_to_cmd_args_env(settings, [])
        if program == "psql":
            options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *options)
        try:
            ran = subprocess.run(
                [path, "--no-password", *options, *words[1:]],
                env={**os.environ, **(variables or {})},
                input=said,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SchemaError(f"{program} could not be run: {type(error).__name__}") from error
        if ran.returncode:
            last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise SchemaError(f"{program} failed on {database}: {last}")
        return ran.stdout
