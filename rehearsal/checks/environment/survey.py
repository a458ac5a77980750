"""Asking Celery's workers who they are, through the broker and by a task of ours.

An answer to `ping` says only that a node listens on this broker. An answer to our task says which
database and release the process serves that executed it; a node has several, and each is asked.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, current_task
from kombu import Connection, Consumer, Exchange, Queue

from rehearsal.checks.base import Report
from rehearsal.checks.environment.workers import IDENTIFY, broker, who
from rehearsal.conf import configuration

CONTROL_SECONDS = 3
"""How long nodes are given to say that they are there."""
ANSWER_SECONDS = 15
"""How long a worker may take to execute our task; the project's own tasks may keep it busy."""
AGAIN_SECONDS = 3
"""How long a process has that did nothing the first time, each time it is asked again."""
AGAIN = 3
"""How often such a process is asked again: it may have been busy while the others answered."""
HOLD_SECONDS = 0.5
"""How long our task keeps a process of several, so that the others get theirs."""


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
    stuck: dict[str, list[int]] = field(default_factory=dict)
    """The processes of nodes that others of the same node answered for: neither busy nor idle."""


def survey(report: Report, app: Celery, queues: Iterable[str], keys: Sequence[str] = ()) -> Survey:
    """Send our task through each of `queues` and to each process there is; gather the answers.

    Each answer says what the worker holds for `keys`, by fingerprints.
    """
    found = Survey(own=str(current_task.request.hostname) if current_task else "")
    with broker(app) as connection:
        control = _Control(app, connection)
        _discover(found, control)
        if found.own:
            found.answers[found.own] = [who(found.own, uuid.uuid4().hex, keys)]
            mine = found.consumes.get(found.own, {configuration().queue})
            found.queues = {queue: found.own for queue in queues if queue in mine}
        idle = _idle(control, found)
        report.progress(f"Asking {len(found.consumes)} workers who they are.")
        _Question(found, app, connection, keys).ask(
            report, [queue for queue in queues if queue not in found.queues], idle, ANSWER_SECONDS
        )
        for node in found.consumes:
            if node not in found.answers:
                found.silent[node] = _why_silent(node, control)
        stuck = _stuck(found, control, idle)
        for _ in range(AGAIN):
            if not stuck or report.stop.is_set():
                break
            # As many messages as the node has processes: none that is well can have too few.
            everyone = _processes(control, list(stuck))
            _Question(found, app, connection, keys).ask(report, (), everyone, AGAIN_SECONDS)
            stuck = _stuck(found, control, stuck)
        found.stuck = {node: sorted(pids) for node, pids in stuck.items()}
    return found


class _Control:
    """Remote control of the nodes, where what they say in reply is wanted."""

    def __init__(self, app: Celery, connection: Connection) -> None:
        self.app = app
        self.connection = connection

    def ask(self, question: str, nodes: Sequence[str] | None = None) -> list[tuple[str, Any]]:
        """What each node replies; without `nodes`, all that do within the time they are given."""
        if nodes is not None and not nodes:
            return []
        replies = self.app.control.broadcast(
            question,
            destination=nodes,
            reply=True,
            timeout=CONTROL_SECONDS,
            connection=self.connection,
        )
        return [pair for reply in replies for pair in reply.items()]


def _discover(found: Survey, control: _Control) -> None:
    named: Counter[str] = Counter()
    for node, queues in control.ask("active_queues"):
        named[node] += 1
        names = {queue["name"] for queue in queues} if isinstance(queues, list) else set()
        found.consumes.setdefault(node, set()).update(names)
    found.doubled = [node for node, count in named.items() if count > 1]


def _processes(control: _Control, nodes: Sequence[str]) -> dict[str, set[int]]:
    """The processes of each node; of a node whose pool has none of its own, nothing."""
    told = {
        node: stats["pool"].get("processes")
        for node, stats in control.ask("stats", nodes)
        if isinstance(stats, dict) and isinstance(stats.get("pool"), dict)
    }
    return {node: set(pids) for node, pids in told.items() if isinstance(pids, list)}


def _busy(control: _Control, nodes: Sequence[str]) -> dict[str, set[int]]:
    """The processes of each node that execute something else than our task."""
    return {
        node: {one.get("worker_pid") for one in tasks if one.get("name") != IDENTIFY}
        for node, tasks in control.ask("active", nodes)
        if isinstance(tasks, list)
    }


def _idle(control: _Control, found: Survey) -> dict[str, set[int]]:
    """The processes of each node that should answer; none where it is not known which."""
    nodes = list(found.consumes)
    processes, busy = _processes(control, nodes), _busy(control, nodes)
    idle = {node: processes.get(node, set()) - busy.get(node, set()) for node in nodes}
    if found.own in idle:
        idle[found.own].discard(os.getpid())
        if not idle[found.own]:
            del idle[found.own]
    return idle


def _stuck(found: Survey, control: _Control, asked: Mapping[str, set[int]]) -> dict[str, set[int]]:
    """Of the processes that were asked, those that did not answer, still are there, and do nothing
    else; by node."""
    silent = {
        node: pids - {said["pid"] for said in found.answers[node]}
        for node, pids in asked.items()
        if node in found.answers and node not in found.doubled
    }
    nodes = [node for node, pids in silent.items() if pids]
    processes, busy = _processes(control, nodes), _busy(control, nodes)
    seen = {
        node: silent[node] & processes.get(node, set()) - busy.get(node, set()) for node in nodes
    }
    return {node: pids for node, pids in seen.items() if pids}


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

    def ask(
        self,
        report: Report,
        queues: Iterable[str],
        nodes: Mapping[str, set[int]],
        seconds: float,
    ) -> None:
        """Ask through `queues`, and each of `nodes` as often as it has such processes."""
        private: dict[str, Queue] = {}
        try:
            with Consumer(
                self.channel, [self.reply], callbacks=[self._hear], accept=["json"], no_ack=True
            ):
                for queue in queues:
                    self._send("queue", queue, queue)
                for number, (node, processes) in enumerate(nodes.items()):
                    private[node] = self._queue(f"{self.name}-{number}")
                    # Declared here as well, or the broker would not delete it from here.
                    private[node](self.channel).declare()
                    self.app.control.add_consumer(
                        private[node].name,
                        options={"durable": False, "auto_delete": True},
                        **self._to(node),
                    )
                    hold = HOLD_SECONDS if len(processes) > 1 else 0
                    for _ in range(len(processes) or 1):
                        self._send("node", node, private[node].name, hold)
                deadline = time.monotonic() + seconds
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

    def _send(self, kind: str, about: str, queue: str, hold: float = 0) -> None:
        nonce = str(uuid.uuid4())
        self.waiting[nonce] = kind, about
        self.app.send_task(
            IDENTIFY,
            task_id=nonce,  # so that the answer tells which line of the worker's log is its own
            kwargs={
                "reply_to": self.reply.name,
                "nonce": nonce,
                "keys": self.keys,
                "hold": hold,
            },
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


def _why_silent(node: str, control: _Control) -> str:
    """What a node that did not execute our task says of itself."""
    told = dict(control.ask("registered", [node]))
    if node not in told:
        return "it has stopped answering; restart it"
    if not any(str(name).split(" ")[0] == IDENTIFY for name in told[node] or []):
        return (
            f"it does not know {IDENTIFY}, so it runs old code or another project; restart it "
            "with this release, or take it off this broker"
        )
    active = dict(control.ask("active", [node])).get(node) or []
    busy = sorted({one["name"] for one in active if one["name"] != IDENTIFY})
    if busy:
        return f"it is busy with {', '.join(busy)}; wait for that, or restart it"
    return "its processes are stuck; restart it"
