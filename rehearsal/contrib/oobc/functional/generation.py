"""4.2: generating a workflow's tasks again, or twice at once, adds none."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.visitor import Answer, Visitor, visit
from rehearsal.contrib.oobc.functional import names
from rehearsal.contrib.oobc.functional.traces import removed_afterwards

GENERATE = "project_central:generate_workflow_tasks"
AT_ONCE = 2

Tasks = Counter[tuple[object, ...]]


@dataclass(frozen=True)
class NoDuplicateTasks(Check):
    """At every stage, the tasks are generated once, however often and however fast it is asked."""

    timeout = names.TIMEOUT
    needs = names.DATABASE
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        workflows, _tasks, _templates = names.find_models(
            "project_central.ProjectWorkflow", "common.StaffTask", "common.TaskTemplate"
        )
        with removed_afterwards(report):
            user = names.make_staff()
            with visit(user, "generate") as visitor:
                found = _Found([], [])
                for stage, _label in workflows._meta.get_field("current_stage").choices:
                    if report.stop.is_set():
                        raise Inconclusive("Stopped before every stage was tried.")
                    report.progress(f"Generating the tasks of the stage {stage}.")
                    # Each stage with workflows of its own: several may have the same template.
                    again = names.make_workflow(user, f"{stage} again", stage=stage)
                    at_once = names.make_workflow(user, f"{stage} at once", stage=stage)
                    _try(report, visitor, found, stage, again, at_once)
        _judge(report, found)


@dataclass
class _Found:
    problems: list[str]
    empty: list[str]
    """The stages at which nothing was generated."""
    tasks: int = 0
    stages: int = 0


def _try(
    report: Report, visitor: Visitor, found: _Found, stage: str, again: Any, at_once: Any
) -> None:
    first = _generate(visitor, again)
    once = _tasks_of(again)
    second = _generate(visitor, again)
    twice = _tasks_of(again)
    both = _together([lambda: _generate(visitor, at_once)] * AT_ONCE)
    together = _tasks_of(at_once)
    answers = [first, second, *both]
    report.write(
        f"{stage}: {once.total()} tasks, {twice.total()} after the second time, "
        f"{together.total()} when asked {AT_ONCE} times at once; "
        f"answers {', '.join(str(one.status) for one in answers)}"
    )
    for answer in answers:
        if answer.status >= 400:
            found.problems.append(
                f"At the stage {stage}, {answer.path} answers {answer.status}: mend it."
            )
            break
    if twice != once:
        found.problems.append(
            f"At the stage {stage}, generating again made {once.total()} tasks into "
            f"{twice.total()}: look for those that are there before making any."
        )
    if together != once:
        found.problems.append(
            f"At the stage {stage}, {AT_ONCE} requests at once made {together.total()} tasks where "
            f"one makes {once.total()}: lock the workflow, or let the database hold each task once."
        )
    if once:
        found.tasks += once.total()
        found.stages += 1
    else:
        found.empty.append(stage)


def _judge(report: Report, found: _Found) -> None:
    report.measure("functional.generated_tasks", found.tasks, "tasks")
    if found.empty:
        report.evidence("stages at which nothing is generated", found.empty)
    if found.problems:
        raise Failed(" ".join(found.problems[:5]))
    if not found.tasks:
        (templates,) = names.find_models("common.TaskTemplate")
        there = sorted(
            templates._default_manager.filter(
                name__startswith="project_", is_active=True
            ).values_list("name", flat=True)
        )
        has = f"the active ones are {', '.join(there)}" if there else "there is no active one"
        raise Inconclusive(
            f"No task was generated, at none of the {len(found.empty)} stages, so that there are "
            "no duplicates proves nothing. The stages name templates that begin with project_, and "
            f"{has}: add the templates with their items, then run this again."
        )
    report.progress(
        f"{found.tasks} tasks were generated at {found.stages} stages, and no more of them when "
        f"asked again or {AT_ONCE} times at once."
    )


def _tasks_of(workflow: Any) -> Tasks:
    """A workflow's tasks without what tells two equal ones apart."""
    (tasks,) = names.find_models("common.StaffTask")
    rows = tasks._default_manager.filter(linked_workflow=workflow)
    # The words may name the workflow, so they are taken without what differs between two.
    return Counter(
        (template, title.replace(workflow.primary_need.title, ""), due)
        for template, title, due in rows.values_list(
            "created_from_template_id", "title", "due_date"
        )
    )


def _generate(visitor: Visitor, workflow: Any) -> Answer:
    return visitor.post(names.find_path(GENERATE, workflow.pk))


def _together(calls: list[Callable[[], Answer]]) -> list[Answer]:
    """What the calls return when all are made at the same moment."""
    start = threading.Barrier(len(calls))

    def call(one: Callable[[], Answer]) -> Answer:
        start.wait(timeout=10)
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))
