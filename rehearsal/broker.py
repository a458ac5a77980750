"""What is asked of the broker: how much waits in our queue, and who takes it. No answer is waited
for longer than a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import current_app
from kombu import Connection
from kombu.exceptions import OperationalError

from rehearsal import conf

ANSWERS_WITHIN = 3
"""Seconds in which a broker answers: one that is frozen takes connections and says nothing."""
ERRORS = (OperationalError, OSError, ImportError, KeyError, ValueError)
"""A broker that cannot be reached; the last three, an address that nobody can read."""


@contextmanager
def connect() -> Iterator[Connection]:
    """A connection to the broker that waits for no answer longer than a few seconds.

    Raises one of ERRORS when there is no broker.
    """
    bounded = {"socket_timeout": ANSWERS_WITHIN, "socket_connect_timeout": ANSWERS_WITHIN}
    redis = str(current_app.conf.broker_write_url or "").startswith(("redis", "sentinel"))
    with current_app.connection_for_write(transport_options=bounded if redis else {}) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=ANSWERS_WITHIN)
        yield connection


def queue_length() -> int | None:
    """How many messages the broker holds in our queue; None when it cannot say."""
    queue = conf.configuration().queue
    try:
        with connect() as connection:
            try:
                answer = connection.default_channel.queue_declare(queue=queue, passive=True)
                return int(answer.message_count)
            except connection.channel_errors:
                return 0
            except connection.connection_errors:
                return None
    except ERRORS:
        return None


def consumers() -> list[str]:
    """The worker nodes that consume our queue; raises OperationalError without a broker."""
    try:
        with connect() as connection:
            inspect = current_app.control.inspect(timeout=1.0, connection=connection)
            queues = inspect.active_queues()
    except ValueError:  # its words would hold a part of the address, and that may be a password
        raise OperationalError("its address cannot be read") from None
    except (ImportError, KeyError) as error:
        raise OperationalError(str(error.args[0])) from error
    queue = conf.configuration().queue
    return sorted(
        node for node, served in (queues or {}).items() if any(q["name"] == queue for q in served)
    )
