"""4.1: a workflow is made, its pages answer, and its tasks are in the table with every filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from rehearsal.checks.base import Check, Failed, Inconclusive, Report
from rehearsal.checks.visitor import Answer, Visitor, visit
from rehearsal.contrib.oobc.functional import names
from rehearsal.contrib.oobc.functional.traces import MARK, removed_afterwards
from rehearsal.contrib.oobc.functional.workflow import WorkflowPages

TABLE = "project_central:my_tasks_with_projects"
SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class TasksRenderWithFilters(Check):
    """A workflow's pages answer, and the table shows just the tasks that each filter asks for."""

    timeout = names.TIMEOUT
    needs = names.DATABASE
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        names.find_models(
            *("project_central.ProjectWorkflow", "common.StaffTask", "mana.Need"),
            "monitoring.MonitoringEntry",
        )
        with removed_afterwards(report):
            user = names.make_staff()
            with visit(user, "tasks") as visitor:
                _Look(report, visitor, user).at_everything()


@dataclass
class _Look:
    report: Report
    visitor: Visitor
    user: Any
    problems: list[str] = field(default_factory=list)

    def at_everything(self) -> None:
        report = self.report
        report.progress("Making a workflow.")
        pages = WorkflowPages(report, self.visitor, self.user, self._wrong)
        workflow = pages.create()
        tasks = self._tasks(workflow)
        pages.show(workflow)
        rows, asked = self._table(tasks)
        self._without_ppa()
        report.measure("functional.task_rows", rows, "rows")
        report.measure("functional.filters", asked, "filters")
        if self.problems:
            more = len(self.problems) - SHOWN_PROBLEMS
            said = " ".join(self.problems[:SHOWN_PROBLEMS])
            raise Failed(said + (f" And {more} more: see the output." if more > 0 else ""))
        report.progress(
            f"{rows} tasks of our own are shown as the database has them, by {asked} filters, as a "
            "page and as a fragment; the workflow's pages answer."
        )

    def _wrong(self, sentence: str) -> None:
        self.report.write(sentence)
        self.problems.append(sentence)

    def _tasks(self, workflow: Any) -> list[Any]:
        """Tasks of our own: for each filter some that it shows, and some that it does not."""
        (tasks,) = names.find_models("common.StaffTask")
        (entries,) = names.find_models("monitoring.MonitoringEntry")
        other = names.make_workflow(self.user, "second")
        alone = names.make(
            entries, title=f"{MARK} alone", category="oobc_ppa", created_by=self.user
        )
        behind = [
            {"linked_workflow": workflow, "related_ppa": workflow.ppa},
            {"linked_workflow": other},
            {"related_ppa": alone},
        ]
        domains = [value for value, _label in tasks._meta.get_field("domain").choices]
        statuses = [value for value, _label in tasks._meta.get_field("status").choices]
        today = timezone.localdate()
        made = []
        for number in range(3 * len(statuses)):
            task = names.make(
                tasks,
                title=f"{MARK} task {number}" + (" zebra" if number == 1 else ""),
                description="okapi" if number == 2 else "",
                status=statuses[number % len(statuses)],
                domain=domains[number % len(domains)],
                due_date=today + timedelta(days=-7 if number % 5 < 2 else 7),
                created_by=self.user if number else None,
                **behind[number % len(behind)],
            )
            if not number:
                task.assignees.add(self.user)  # shown since it is given to us, not made by us
            made.append(task)
        # Neither is in the table: one has no project behind it, the other is nobody's.
        names.make(tasks, title=f"{MARK} no project", created_by=self.user)
        names.make(tasks, title=f"{MARK} not ours", linked_workflow=workflow)
        return made

    def _filters(self) -> Iterator[tuple[dict[str, str], Q]]:
        """What the table can be asked for, with the condition that the database has for it."""
        tasks, workflows = names.find_models("common.StaffTask", "project_central.ProjectWorkflow")
        yield {}, Q()
        for name, model, column, condition in (
            ("status", tasks, "status", "status"),
            ("stage", workflows, "current_stage", "linked_workflow__current_stage"),
            ("domain", tasks, "domain", "domain"),
        ):
            for value, _label in model._meta.get_field(column).choices:
                yield {name: value}, Q(**{condition: value})
        overdue = Q(due_date__lt=timezone.localdate()) & ~Q(status="completed")
        yield {"overdue": "1"}, overdue
        for words in ("zebra", "okapi", "second need", "table programme", "no such task"):
            yield (
                {"q": words},
                (
                    Q(title__icontains=words)
                    | Q(description__icontains=words)
                    | Q(linked_workflow__primary_need__title__icontains=words)
                    | Q(related_ppa__title__icontains=words)
                ),
            )
        last = workflows._meta.get_field("current_stage").choices[-1][0]
        yield (
            {"stage": last, "status": "not_started", "overdue": "1"},
            Q(linked_workflow__current_stage=last, status="not_started") & overdue,
        )

    def _table(self, made: list[Any]) -> tuple[int, int]:
        """Compare each filter's rows with the database's; returns how many rows, and filters."""
        (tasks,) = names.find_models("common.StaffTask")
        path = names.find_path(TABLE)
        mine = tasks._default_manager.filter(Q(created_by=self.user) | Q(assignees=self.user))
        visible = mine.exclude(linked_workflow=None, related_ppa=None).distinct()
        found: dict[str, list[int]] = {}
        whole = 0
        for number, (asked, condition) in enumerate(self._filters()):
            if self.report.stop.is_set():
                raise Inconclusive("Stopped before every filter was asked.")
            expected = {str(pk): title for pk, title in
                        visible.filter(condition).values_list("pk", "title")}  # fmt: skip
            whole = whole or len(expected)
            for fragment in (False, True):
                answer = self.visitor.get(path, asked, htmx=fragment)
                if not self._compare(answer, expected, fragment) and not number:
                    return whole, 0  # the whole table is wrong: so is every part of it
            name = "+".join(asked)
            found.setdefault(name, []).append(len(expected))
        if whole < len(made):
            raise Inconclusive(
                f"{whole} of the {len(made)} tasks that were made are to be seen by the rules of "
                "the table that this check knows: bind the line to one that knows the new rules."
            )
        self.report.evidence(
            "rows by filter",
            [f"{name or 'none'}: {', '.join(map(str, counts))} of {whole}"
             for name, counts in found.items()],
        )  # fmt: skip
        blind = [
            name for name, counts in found.items()
            if name and not any(0 < count < whole for count in counts)
        ]  # fmt: skip
        if blind and not self.problems:
            raise Inconclusive(
                f"By {', '.join(blind)} no value shows some tasks and hides others, so it proves "
                "nothing: bind the line to a check that knows the new choices."
            )
        return whole, number

    def _compare(self, answer: Answer, expected: dict[str, str], fragment: bool) -> bool:
        """Whether a table is what the database says; what is not, is a problem."""
        kind = "as a fragment" if fragment else "as a page"
        if answer.status != 200:
            why = f" ({self.visitor.cause(answer)})" if answer.status == 500 else ""
            self._wrong(f"{answer.path} {kind} answers {answer.status}{why}: mend the page.")
            return False
        if answer.is_whole_page == fragment:
            self._wrong(
                f"{answer.path} was asked for {kind} and answered with "
                f"{'a whole page' if fragment else 'a fragment'}: make it mind HX-Request."
            )
            return False
        shown = [row.attributes.get("data-task-id", "") for row in answer.rows]
        if not any(shown) and expected:
            raise Inconclusive(
                f"{answer.path} {kind} has {len(shown)} rows and none with a data-task-id, so they "
                f"cannot be compared with the {len(expected)} tasks in the database: bind the line "
                "to a check that knows the new table."
            )
        said = {row.attributes.get("data-task-id", ""): row.text for row in answer.rows}
        differs = _differences(shown, expected)
        differs += [f"task {pk} without its title" for pk, title in expected.items()
                    if pk in said and title not in said[pk]]  # fmt: skip
        if differs:
            self._wrong(
                f"{answer.path} {kind} shows {len(shown)} tasks, the database has {len(expected)} "
                f"for it ({', '.join(differs)}): mend the filter."
            )
        return not differs

    def _without_ppa(self) -> None:
        """A workflow has no PPA before its budget is planned; its tasks are shown all the same."""
        (tasks,) = names.find_models("common.StaffTask")
        workflow = names.make_workflow(self.user, "young", ppa=False)
        task = names.make(
            tasks, title=f"{MARK} young task", linked_workflow=workflow, created_by=self.user
        )
        path = names.find_path(TABLE)
        answer = self.visitor.get(path, {"q": "young task"}, htmx=True)
        if answer.status == 500:
            self._wrong(
                f"With a task of a workflow that has no PPA yet, {path} answers 500 "
                f"({self.visitor.cause(answer)}): mend the page."
            )
        else:
            self._compare(answer, {str(task.pk): task.title}, fragment=True)


def _differences(shown: list[str], expected: dict[str, str]) -> list[str]:
    doubled = {pk for pk in shown if shown.count(pk) > 1}
    kinds = (
        ("missing", sorted(set(expected) - set(shown))),
        ("too many", sorted(set(shown) - set(expected))),
        ("shown twice", sorted(doubled)),
    )
    return [f"{kind}: {', '.join(pks[:5])}" for kind, pks in kinds if pks]
