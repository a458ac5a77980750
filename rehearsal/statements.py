"""What every check's way writes, without the queries that Django would build for it anew.

Building one takes longer than the database needs to do it, and under SQLite's one lock everybody
waits meanwhile. Names and values go through the model's own fields all the same.
"""

from __future__ import annotations

import datetime
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import OperationalError, connections, models, router
from django.db.models.functions import Now


class InSeconds(models.ExpressionWrapper):  # type: ignore[type-arg]  # not subscriptable
    """The database's clock, `seconds` from now (or ago, when negative)."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        offset = datetime.timedelta(seconds=seconds)
        super().__init__(Now() + offset, output_field=models.DateTimeField())


T = TypeVar("T")
LOOK_SECONDS = 0.001
"""Between two looks whether SQLite's lock is free."""


def in_turn(using: str, write: Callable[[], T]) -> T:
    """What `write` returns, the first statement of a transaction, which takes SQLite's one lock as
    soon as that is free: SQLite itself looks for it after pauses that grow to a tenth of a second.

    Raises OperationalError after the database's `timeout`, as SQLite does.
    """
    connection = connections[using]
    if connection.vendor != "sqlite":
        return write()
    connection.ensure_connection()
    ask = connection.connection.execute
    (milliseconds,) = ask("PRAGMA busy_timeout").fetchone()
    ends = time.monotonic() + milliseconds / 1000
    ask("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                return write()
            except OperationalError as error:
                # By its last byte: the others say what it is busy with, such as a log's recovery.
                code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                    raise
            time.sleep(LOOK_SECONDS)
    finally:
        ask(f"PRAGMA busy_timeout = {milliseconds}")


def update(model: type[models.Model], values: Mapping[str, Any], **where: Any) -> int:
    """As `model.objects.filter(**where).update(**values)`, whose values are plain or told by the
    database's clock, and whose conditions are equalities; returns how many rows it changed."""
    connection = connections[using := router.db_for_write(model)]
    sets: list[str] = []
    parameters: list[Any] = []
    for name, value in values.items():
        column, field = _column(model, using, name)
        if isinstance(value, (Now, InSeconds)):
            clock, more = _clock(model, using, getattr(value, "seconds", 0))
            sets.append(f"{column} = {clock}")
            parameters += more
        else:
            sets.append(f"{column} = %s")
            parameters.append(field.get_db_prep_save(value, connection))
    conditions = []
    for name, value in where.items():
        column, field = _column(model, using, name)
        conditions.append(f"{column} = %s")
        parameters.append(field.get_db_prep_value(value, connection))
    table = connection.ops.quote_name(model._meta.db_table)
    sql = f"UPDATE {table} SET {', '.join(sets)} WHERE {' AND '.join(conditions)}"
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def insert(rows: Sequence[models.Model]) -> None:
    """As `bulk_create(rows)`, for rows of one model whose keys nobody asks for."""
    if not rows:
        return
    connection = connections[using := router.db_for_write(type(rows[0]))]
    meta = rows[0]._meta
    fields = [field for field in meta.concrete_fields if not field.primary_key]
    columns = ", ".join(_column(type(rows[0]), using, field.name)[0] for field in fields)
    row = f"({', '.join(['%s'] * len(fields))})"
    into = f"INSERT INTO {connection.ops.quote_name(meta.db_table)} ({columns}) VALUES "
    most = connection.ops.bulk_batch_size(fields, rows)
    with connection.cursor() as cursor:
        for begin in range(0, len(rows), most):
            batch = rows[begin : begin + most]
            values = [
                field.get_db_prep_save(getattr(one, field.attname), connection)
                for one in batch
                for field in fields
            ]
            cursor.execute(into + ", ".join([row] * len(batch)), values)


@cache
def _column(model: type[models.Model], using: str, name: str) -> tuple[str, models.Field[Any, Any]]:
    field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    assert isinstance(field, models.Field) and field.column
    return connections[using].ops.quote_name(field.column), field


@cache
def _clock(model: type[models.Model], using: str, seconds: float) -> tuple[str, tuple[Any, ...]]:
    query = model._default_manager.using(using).query
    moment = InSeconds(seconds) if seconds else Now()
    sql, parameters = query.get_compiler(using).compile(moment.resolve_expression(query))
    return sql, tuple(parameters)
