"""What Django loads of a backend."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db.backends.dummy import base

from rehearsal.databases.absent import NoCopy


class DatabaseOperations(base.DatabaseOperations):
    """Of which a query asks for names before anything else."""

    def quote_name(self, name: str) -> NoReturn:
        raise NoCopy(self.connection.alias)


class DatabaseWrapper(base.DatabaseWrapper):
    """Connects to nothing."""

    ops_class = DatabaseOperations

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NoCopy(self.alias)

    ensure_connection = _cursor = _commit = _set_autocommit = _refuse
