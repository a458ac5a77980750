"""Section 4, functional checks, as far as any Django site can be asked: its pages, its worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery import current_app, current_task, states
from celery.result import AsyncResult
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, connections
from kombu.exceptions import OperationalError

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.environment.workers import broker, stays_local
from rehearsal.checks.visitor import Answer, Visitor, visit


@dataclass(frozen=True)
class Page(Check):
    """The running web server answers with a page as it should be."""

    path: str = ""
    """The page's path, such as `/reports/?year=2025`."""
    user: str = ""
    """Who asks: the name of an account that exists; without one, somebody not signed in."""
    status: int = 200
    text: str = ""
    """What must be in the page."""
    rows: int = 0
    """How many rows of data it must have at least."""
    table: str = ""
    """The `id` of the table whose rows count; without it, those of all its tables."""
    queries: int | None = None
    """How many queries it may take, counted in the process of the check."""
    htmx: bool = False
    """Whether htmx asks, so that a fragment is expected and not a whole page."""
    needs = None
    safe_to_repeat = True

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"path is {self.path!r}; write one that begins with /")

    def run(self, report: Report) -> None:
        # A connection from before a restore leads nowhere.
        connections[DEFAULT_DB_ALIAS].close_if_unusable_or_obsolete()
        with visit(self._account(), f"{self.user} {report.line}") as visitor:
            answer = visitor.get(self.path, htmx=self.htmx)
            said = [f"{self.path} answers {answer.status} in {answer.seconds:.2f} s"]
            report.evidence("page", f"{visitor.address}{self.path} → {answer.status}")
            report.measure("page.seconds", answer.seconds, "seconds")
            self._judge(visitor, answer)
            if self.rows:
                report.measure("page.rows", self._count(answer), "rows")
                said.append(f"{self._count(answer)} rows")
            if self.queries is not None:
                count = visitor.queries(self.path, htmx=self.htmx)
                report.measure("page.queries", count, "queries")
                said.append(f"{count} queries")
                if count > self.queries:
                    raise Failed(
                        f"{self.path} takes {count} queries, at most {self.queries} were expected: "
                        "look for one that is made anew for every row."
                    )
        report.progress(", ".join(said) + ".")

    def _account(self) -> Any:
        if not self.user:
            return None
        model: Any = get_user_model()
        try:
            return model._default_manager.get_by_natural_key(self.user)
        except model.DoesNotExist:
            raise Inconclusive(
                f"There is no account {self.user!r} to ask as: correct the line, or restore a "
                "snapshot that has it."
            ) from None

    def _count(self, answer: Answer) -> int:
        return sum(self.table in ("", row.table) for row in answer.rows)

    def _judge(self, visitor: Visitor, answer: Answer) -> None:
        if answer.status != self.status:
            why = f" ({visitor.cause(answer)})" if answer.status == 500 else ""
            to = f", on to {answer.location}" if answer.location else ""
            raise Failed(
                f"{self.path} answers {answer.status}{to}{why}, {self.status} was expected: mend "
                "the page, or correct the line."
            )
        if self.htmx and answer.is_whole_page:
            raise Failed(
                f"{self.path} answers htmx with a whole page, a fragment was expected: make it "
                "mind HX-Request."
            )
        if self.text and self.text not in answer.text:
            raise Failed(
                f"{self.path} was expected to say {self.text!r} and does not: mend the page, or "
                "correct the line."
            )
        if (count := self._count(answer)) < self.rows:
            raise Failed(
                f"{self.path} has {count} rows, at least {self.rows} were expected: "
                "mend the page, or correct the line."
            )


@dataclass(frozen=True)
class TaskRoundTrip(Check):
    """A task of the project's goes to its real worker, and comes back done."""

    task: str = ""
    """The task's name, such as `shop.tasks.count`."""
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    within: int = 60
    """Seconds it may take."""
    needs = ("rehearsal.checks.environment.Restore", "rehearsal.checks.environment.ServicesOnline")

    def __post_init__(self) -> None:
        if not self.task:
            raise ValueError("task is empty; name the task, such as shop.tasks.count")

    def run(self, report: Report) -> None:
        if stays_local(current_app._get_current_object()):
            raise Inconclusive(
                "Tasks never leave the process that sends them (task_always_eager or a memory:// "
                "broker), so no worker was seen: set CELERY_BROKER_URL."
            )
        began = time.monotonic()
        result = send(self.task, args=self.args, kwargs=self.kwargs, within=self.within)
        while not result.ready() and time.monotonic() - began < self.within:
            if report.stop.wait(0.1):
                raise Inconclusive("Stopped before the task came back.")
        took = time.monotonic() - began
        state = result.status
        report.evidence("task", f"{self.task} {result.id}: {state}")
        if state == states.SUCCESS:
            report.measure("task.seconds", took, "seconds")
            said = " ".join(report.redact(repr(result.result)).split())[:200]
            report.evidence("returned", said)
            report.progress(f"{self.task} came back from its worker after {took:.1f} s: {said}")
        elif state == states.PENDING:
            raise Inconclusive(
                f"{self.task} did not come back within {self.within} s: no worker took it, or it "
                "keeps no result (ignore_result, or no result backend). Start the worker, or name "
                "a task that returns something."
            )
        else:
            raise Failed(
                f"{self.task} is {state} after {took:.1f} s ({result.result!r}): mend the task, or "
                "look at the worker's log."
            )


def send(
    task: str,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    within: float,
) -> AsyncResult:
    """Send a task as its `.delay()` would; no worker takes it after `within` seconds.

    Raises Inconclusive where the project has no such task, or its broker cannot be reached.
    """
    app = current_app._get_current_object()
    app.loader.import_default_modules()
    if task not in app.tasks:
        raise Inconclusive(
            f"The project has no task {task}: correct the line, or bind it to a check of what took "
            "the task's place."
        )
    try:
        with broker(app) as connection:
            # The one that is kept open may be of before the broker was last restarted.
            return app.tasks[task].apply_async(
                tuple(args),
                dict(kwargs or {}),
                expires=within,
                connection=connection,
                retry=False,
                # Sent by a task of ours, it is nobody's child.
                add_to_parent=current_task is None,
            )
    except TypeError as error:
        raise Inconclusive(f"{task} cannot be sent so ({error}): correct the line.") from None
    except (OperationalError, OSError) as error:
        raise Inconclusive(
            f"{task} could not be sent ({type(error).__name__}: {error}): start the broker, or "
            "correct CELERY_BROKER_URL."
        ) from None


__all__ = ["Page", "TaskRoundTrip", "send"]
