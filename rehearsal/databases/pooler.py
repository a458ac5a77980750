"""Whether a pooler such as pgbouncer stands between a connection and its server."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper


def is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Whether what answers is another process than the one that greeted: a pooler's own number.

    Raises django.db.Error.
    """
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return bool(connection.connection.info.backend_pid != pid)
