"""What a Celery worker says of itself when our task asks it; `survey` does the asking."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection, Producer

from rehearsal.checks.base import Report
from rehearsal.checks.environment import mail
from rehearsal.checks.environment.fingerprints import held
from rehearsal.conf import configuration
from rehearsal.databases import identity_or_error
from rehearsal.release import running

IDENTIFY = "rehearsal.identify"
"""The task that every worker with this app knows; it calls `answer`."""
CONNECT_SECONDS = 3


@contextmanager
def broker(app: Celery) -> Iterator[Connection]:
    """A connection to the broker on which nothing waits for ever.

    Raises kombu's OperationalError when the broker cannot be reached.
    """
    with app.connection_for_write(connect_timeout=CONNECT_SECONDS) as connection:
        if connection.transport.driver_type == "redis":
            limits = {"socket_timeout": 5, "socket_connect_timeout": CONNECT_SECONDS}
            connection.transport_options.update(limits)
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_SECONDS)
        yield connection


def declared_queues(app: Celery) -> list[str]:
    """The queues that must have a worker: the project's, and that of the checks."""
    here = configuration()
    project = here.queues or tuple(
        queue if isinstance(queue, str) else queue.name for queue in app.conf.task_queues or ()
    )
    return list(dict.fromkeys([*(project or (app.conf.task_default_queue,)), here.queue]))


def stays_local(app: Celery) -> bool:
    """Whether tasks never leave the process that sends them."""
    if app.conf.task_always_eager:
        return True
    return bool(app.connection_for_write().transport.driver_type == "memory")


def answer(
    reply_to: str, nonce: str, node: str, app: Celery, keys: Sequence[str], hold: float
) -> None:
    """Say on the broker's queue `reply_to` who executes this, and what it holds for `keys`.

    Called by the task `rehearsal.identify` in the worker `node`. Keeps this process busy for `hold`
    seconds, so that the next question goes to another one.
    """
    with broker(app) as connection:
        Producer(connection.default_channel).publish(
            who(node, nonce, keys), exchange="", routing_key=reply_to, serializer="json"
        )
    time.sleep(hold)


def who(node: str, nonce: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """What this process says of itself: of its secrets nothing but fingerprints."""
    return {
        "nonce": nonce,
        "node": node,
        "pid": os.getpid(),
        "database": identity_or_error(),
        "release": running(),
        "holds": held(keys, nonce),
        "mail": mail.routes(),
    }


def expected_release(report: Report) -> str:
    """The commit that is rehearsed; where it is not named as a commit, the one that runs here."""
    named = report.rehearsal.revision
    return named if re.fullmatch("[0-9a-f]{7,64}", named) else running()


def one_commit(one: str, other: str) -> bool:
    """Whether two names of commits, either of which may be short, are of the same one."""
    return one.startswith(other) or other.startswith(one)
