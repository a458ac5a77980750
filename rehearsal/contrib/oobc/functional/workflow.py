"""The portal's pages about workflows: where one is made, and where it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rehearsal.checks.base import Report
from rehearsal.checks.visitor import Answer, Visitor
from rehearsal.contrib.oobc.functional import names
from rehearsal.contrib.oobc.functional.traces import MARK

LIST = "project_central:project_list"
CREATE = "project_central:create_project_workflow"
DETAIL = "project_central:project_workflow_detail"


@dataclass
class WorkflowPages:
    """Looks at those pages as `user`; what is wrong with one goes to `wrong`, in a sentence."""

    report: Report
    visitor: Visitor
    user: Any
    wrong: Callable[[str], None]
    failed: set[str] = field(default_factory=set)
    """The paths of the pages that did not answer."""

    def show(self, workflow: Any) -> None:
        """Ask for the page of a workflow."""
        self._page("the workflow's page", DETAIL, workflow.pk)

    def create(self) -> Any:
        """A workflow that was made as people make it or, where they cannot, in their stead."""
        (workflows,) = names.find_models("project_central.ProjectWorkflow")
        self._page("the list of workflows", LIST)
        path = names.find_path(CREATE)
        form = self._page("the page that makes a workflow", CREATE)
        if form and form.status == 200:
            need = names.make_need(self.user, "table")
            stages = workflows._meta.get_field("current_stage").choices
            sent = self.visitor.post(
                path,
                {
                    "primary_need": str(need.pk),
                    "current_stage": stages[0][0],
                    "priority_level": "medium",
                    "notes": MARK,
                },
            )
            made = workflows._default_manager.filter(primary_need=need).first()
            if made is not None:
                self.report.evidence("workflow", f"made by the form at {path}")
                return self._refreshed(made)
            self.wrong(
                f"The form at {path} was sent and made no workflow: it answered {sent.status}. "
                "Make it save one."
            )
        elif form and form.location:
            self.wrong(
                f"A workflow cannot be made: {path} sends its visitor on to {form.location} "
                "without a form. Give it one."
            )
        self.report.evidence("workflow", "made in the database, since no page makes one")
        return self._refreshed(names.make_workflow(self.user, "table stand-in", ppa=False))

    def _refreshed(self, workflow: Any) -> Any:
        """The same workflow, moved to its last stage and with a PPA."""
        (entries,) = names.find_models("monitoring.MonitoringEntry")
        workflow.current_stage = workflow._meta.get_field("current_stage").choices[-1][0]
        workflow.ppa = names.make(
            entries, title=f"{MARK} table programme", category="oobc_ppa", created_by=self.user
        )
        workflow.save()
        return workflow

    def _page(self, what: str, name: str, *arguments: object) -> Answer | None:
        """Ask for a page, and for the one it sends its visitor on to; a failure is a problem."""
        path = names.find_path(name, *arguments)
        first = answer = self.visitor.get(path)
        if answer.location and answer.location != path:
            answer = self.visitor.get(answer.location)
        on = f", {answer.path} → {answer.status}" if answer is not first else ""
        self.report.evidence(what, f"{path} → {first.status}{on}")
        if answer.status >= 400 and answer.path not in self.failed:
            self.failed.add(answer.path)
            why = f" ({self.visitor.cause(answer)})" if answer.status == 500 else ""
            self.wrong(
                f"{what.capitalize()}, {answer.path}, answers {answer.status}{why}: mend the page."
            )
        return first
