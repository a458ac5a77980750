"""Asking Celery's workers who they are, through the broker and by a task of ours.

An answer to `ping` says only that a node listens on this broker. An answer to our task says which
database and which release its processes serve.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, current_task
from kombu import Connection, Consumer, Exchange, Producer, Queue

from rehearsal.checks.base import Report
from rehearsal.checks.environment import mail
from rehearsal.checks.environment.fingerprints import held
from rehearsal.conf import configuration, release
from rehearsal.databases import identity_or_error

IDENTIFY = "rehearsal.identify"
"""The task that every worker with this app knows; it calls `answer`."""
CONNECT_SECONDS = 3
CONTROL_SECONDS = 3
"""How long nodes are given to say that they are there."""
ANSWER_SECONDS = 15
"""How long a worker may take to execute our task; the project's own tasks may keep it busy."""


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


def answer(reply_to: str, nonce: str, node: str, app: Celery, keys: Sequence[str] = ()) -> None:
    """Say on the broker's queue `reply_to` who executes this, and what it holds for `keys`.

    Called by the task `rehearsal.identify` in the worker `node`.
    """
    with broker(app) as connection:
        Producer(connection.default_channel).publish(
            who(node, nonce, keys), exchange="", routing_key=reply_to, serializer="json"
        )


def who(node: str, nonce: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """What this process says of itself: of its secrets nothing but fingerprints."""
    return {
        "nonce": nonce,
        "node": node,
        "pid": os.getpid(),
        "database": identity_or_error(),
        "release": release(),
        "holds": held(keys, nonce),
        "mail": mail.route(),
    }


@dataclass
class Survey:
    """What the workers on a broker said."""

    consumes: dict[str, set[str]] = field(default_factory=dict)
    """The names of the queues that each node consumes."""
    doubled: list[str] = field(default_factory=list)
    """The names that more than one node bears."""
    own: str = ""
    """The node that asks: its one process may be busy with this very check."""
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What each node said of itself, as often as it was asked."""
    queues: dict[str, str] = field(default_factory=dict)
    """Which node executed our task, by the queue it went through."""
    silent: dict[str, str] = field(default_factory=dict)
    """The nodes that are there and did not execute our task, and what is known of the cause."""


def survey(report: Report, app: Celery, queues: Iterable[str], keys: Sequence[str] = ()) -> Survey:
    """Send our task through each of `queues` and to each node there is; gather the answers.

    Each answer says what the worker holds for `keys`, by fingerprints.
    """
    found = Survey(own=str(current_task.request.hostname) if current_task else "")
    with broker(app) as connection:
        _discover(found, app, connection)
        if found.own:
            found.answers[found.own] = [who(found.own, uuid.uuid4().hex, keys)]
            mine = found.consumes.get(found.own, {configuration().queue})
            found.queues = {queue: found.own for queue in queues if queue in mine}
        others = [node for node in found.consumes if node != found.own]
        report.progress(f"Asking {len(others)} workers who they are.")
        _Question(found, app, connection, keys).ask(
            report, [queue for queue in queues if queue not in found.queues], others
        )
        for node in others:
            if node not in found.answers:
                found.silent[node] = _why_silent(node, app, connection)
    return found


def _discover(found: Survey, app: Celery, connection: Connection) -> None:
    control = {"reply": True, "timeout": CONTROL_SECONDS, "connection": connection}
    named: Counter[str] = Counter()
    for reply in app.control.broadcast("active_queues", **control):
        for node, queues in reply.items():
            named[node] += 1
            names = {queue["name"] for queue in queues} if isinstance(queues, list) else set()
            found.consumes.setdefault(node, set()).update(names)
    found.doubled = [node for node, count in named.items() if count > 1]


class _Question:
    """Our task under way: through a queue, or to one node through a queue of its own."""

    def __init__(
        self, found: Survey, app: Celery, connection: Connection, keys: Sequence[str]
    ) -> None:
        self.found = found
        self.keys = keys
        self.app = app
        self.connection = connection
        self.channel = connection.default_channel
        self.name = f"rehearsal-{uuid.uuid4().hex}"
        self.reply = self._queue(f"{self.name}-answers")
        self.waiting: dict[str, tuple[str, str]] = {}
        """What was asked, by nonce: a queue, or a node."""

    def ask(self, report: Report, queues: Iterable[str], nodes: Iterable[str]) -> None:
        private: dict[str, Queue] = {}
        try:
            with Consumer(
                self.channel, [self.reply], callbacks=[self._hear], accept=["json"], no_ack=True
            ):
                for queue in queues:
                    self._send("queue", queue, queue)
                for number, node in enumerate(nodes):
                    private[node] = self._queue(f"{self.name}-{number}")
                    # Declared here as well, or the broker would not delete it from here.
                    private[node](self.channel).declare()
                    self.app.control.add_consumer(
                        private[node].name,
                        options={"durable": False, "auto_delete": True},
                        **self._to(node),
                    )
                    self._send("node", node, private[node].name)
                deadline = time.monotonic() + ANSWER_SECONDS
                while self.waiting and time.monotonic() < deadline and not report.stop.is_set():
                    with suppress(socket.timeout):
                        self.connection.drain_events(timeout=0.5)
        finally:
            # Queues that are lists in Redis would stay for ever.
            for node, own in private.items():
                self.app.control.cancel_consumer(own.name, **self._to(node))
                own(self.channel).delete()
            self.reply(self.channel).delete()

    def _to(self, node: str) -> dict[str, Any]:
        return {
            "destination": [node],
            "reply": True,
            "timeout": CONTROL_SECONDS,
            "connection": self.connection,
        }

    @staticmethod
    def _queue(name: str) -> Queue:
        exchange = Exchange(name, type="direct", durable=False, auto_delete=True)
        return Queue(name, exchange, routing_key=name, durable=False, auto_delete=True)

    def _send(self, kind: str, about: str, queue: str) -> None:
        nonce = uuid.uuid4().hex
        self.waiting[nonce] = kind, about
        self.app.send_task(
            IDENTIFY,
            kwargs={"reply_to": self.reply.name, "nonce": nonce, "keys": self.keys},
            # By the broker's own exchange, so that no route of the project leads it elsewhere
            # and nothing of the project's queues is declared anew.
            queue=Queue(queue, Exchange("", type="direct")),
            declare=[],
            serializer="json",
            # A worker that comes to it later throws it away.
            expires=ANSWER_SECONDS,
            ignore_result=True,
            retry=False,
            connection=self.connection,
        )

    def _hear(self, said: dict[str, Any], message: object) -> None:
        asked = self.waiting.pop(said.get("nonce", ""), None)
        if asked is None:
            return
        self.found.answers.setdefault(said["node"], []).append(said)
        if asked[0] == "queue":
            self.found.queues[asked[1]] = said["node"]


def _why_silent(node: str, app: Celery, connection: Connection) -> str:
    """What a node that did not execute our task says of itself."""
    to = {
        "destination": [node],
        "reply": True,
        "timeout": CONTROL_SECONDS,
        "connection": connection,
    }
    told: dict[str, list[Any]] = {}
    for question in ("registered", "active"):
        for reply in app.control.broadcast(question, **to):
            told[question] = reply.get(node) or []
    if "registered" not in told:
        return "it has stopped answering; restart it"
    if not any(str(name).split(" ")[0] == IDENTIFY for name in told["registered"]):
        return (
            f"it does not know {IDENTIFY}, so it runs old code or another project; restart it "
            "with this release, or take it off this broker"
        )
    busy = sorted({one["name"] for one in told.get("active", ()) if one["name"] != IDENTIFY})
    if busy:
        return f"it is busy with {', '.join(busy)}; wait for that, or restart it"
    return "its processes are stuck; restart it"
