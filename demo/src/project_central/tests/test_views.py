from datetime import timedelta

from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from common.models import StaffTask
from common.tests.factories import (
    create_need,
    create_resource,
    create_task,
    create_template,
    create_user,
    create_workflow,
)
from project_central.models import ProjectWorkflow

TASKS = reverse("project_central:my_tasks_with_projects")


class MyTasksWithProjectsViewTests(TestCase):
    """The table of one's own project tasks, whole or in part."""

    def setUp(self) -> None:
        today = timezone.localdate()
        self.user, other = create_user(), create_user()
        self.client.force_login(self.user)
        self.workflow = create_workflow(self.user)
        self.budget = create_task(
            self.user,
            title="Prepare the cost table",
            status="in_progress",
            domain="project_central",
            due_date=today + timedelta(days=5),
            linked_workflow=self.workflow,
        )
        self.report = create_task(
            other,
            title="Compile what was seen",
            status="completed",
            domain="monitoring",
            due_date=today - timedelta(days=1),
            related_ppa=self.workflow.ppa,
        )
        self.report.assignees.add(self.user)
        self.late = create_task(
            self.user,
            title="Ring the focal person",
            domain="project_central",
            due_date=today - timedelta(days=2),
            linked_workflow=self.workflow,
        )
        create_task(other, linked_workflow=self.workflow)
        create_task(self.user, title="Without a project")

    def shown(self, **query: str) -> set[StaffTask]:
        response = self.client.get(TASKS, query)
        assert response.status_code == 200
        page = response.content.decode()
        shown = {task for task in StaffTask.objects.all() if f'data-task-id="{task.pk}"' in page}
        assert shown == set(response.context["tasks"])
        return shown

    def test_own_project_tasks_are_listed(self) -> None:
        assert self.shown() == {self.budget, self.report, self.late}
        response = self.client.get(TASKS)
        self.assertTemplateUsed(response, "project_central/my_tasks.html")
        assert response.context["summary"] == {
            "total": 3, "overdue": 1, "in_progress": 1, "completed": 1
        }  # fmt: skip

    def test_status_and_domain_filters(self) -> None:
        assert self.shown(status="completed") == {self.report}
        assert self.shown(domain="project_central") == {self.budget, self.late}
        assert self.shown(status="bogus") == set()

    def test_stage_filter(self) -> None:
        assert self.shown(stage="budget_planning") == {self.budget, self.late}
        assert self.shown(stage="approval") == set()

    def test_overdue_filter(self) -> None:
        assert self.shown(overdue="1") == {self.late}
        assert self.shown(overdue="0") == {self.budget, self.report, self.late}

    def test_search(self) -> None:
        assert self.shown(q="cost") == {self.budget}
        assert self.shown(q=self.workflow.ppa.title) == {self.report}
        assert self.shown(q=self.workflow.primary_need.title) == {self.budget, self.late}

    def test_htmx_gets_the_table_alone(self) -> None:
        response = self.client.get(TASKS, {"status": "completed"}, headers={"HX-Request": "true"})
        self.assertTemplateUsed(response, "project_central/partials/project_task_table.html")
        self.assertTemplateNotUsed(response, "base.html")
        self.assertContains(response, f'data-task-id="{self.report.pk}"', count=1)
        self.assertNotContains(response, self.budget.title)


class GenerateWorkflowTasksViewTests(TestCase):
    def setUp(self) -> None:
        self.user = create_user()
        self.client.force_login(self.user)
        self.workflow = create_workflow(self.user)
        self.url = reverse("project_central:generate_workflow_tasks", args=[self.workflow.pk])

    def message(self, response: HttpResponse) -> str:
        self.assertRedirects(response, self.workflow.get_absolute_url(), target_status_code=200)
        return str(list(get_messages(response.wsgi_request))[-1])

    def test_the_second_time_adds_nothing(self) -> None:
        create_template("project_budget_planning", "One", "Two")
        assert "Created 2 tasks" in self.message(self.client.post(self.url))
        assert "created before" in self.message(self.client.post(self.url))
        assert self.workflow.tasks.count() == 2

    def test_a_missing_template_is_named(self) -> None:
        answer = self.message(self.client.post(self.url))
        assert "no active template project_budget_planning" in answer

    def test_a_resource_is_booked_on_request(self) -> None:
        create_template("project_budget_planning", "One", "Two")
        resource = create_resource()
        self.client.post(f"{self.url}?auto_resource=1&resource_name=Projector")
        assert resource.bookings.count() == 1

    def test_a_missing_resource_leaves_no_task(self) -> None:
        create_template("project_budget_planning", "One")
        answer = self.message(self.client.post(f"{self.url}?auto_resource=1&resource_name=Ghost"))
        assert "No calendar resource 'Ghost'" in answer
        assert not self.workflow.tasks.exists()

    def test_looking_generates_nothing(self) -> None:
        create_template("project_budget_planning", "One")
        assert self.client.get(self.url).status_code == 405
        assert not self.workflow.tasks.exists()


class CreateWorkflowViewTests(TestCase):
    def test_a_workflow_is_created_and_shown(self) -> None:
        self.client.force_login(create_user())
        need = create_need()
        response = self.client.post(
            reverse("project_central:create_project_workflow"),
            {
                "primary_need": need.pk,
                "current_stage": "need_validation",
                "priority_level": "high",
            },
        )
        workflow = ProjectWorkflow.objects.get(primary_need=need)
        self.assertRedirects(response, workflow.get_absolute_url())
