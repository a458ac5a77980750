from datetime import date, timedelta
from threading import Thread
from uuid import UUID

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from common.models import CalendarResourceBooking, StaffTask
from common.services.resource_bookings import ResourceBookingSpecError, create_bookings_for_task
from common.services.task_automation import create_tasks_from_template
from common.tests.factories import (
    create_resource,
    create_task,
    create_template,
    create_user,
    create_workflow,
)

NAME = "project_budget_planning"
MORNING = {"resource_name": "Projector", "start": "2025-10-02T09:00", "end": "2025-10-02T11:00"}


class CreateTasksFromTemplateTests(TestCase):
    def setUp(self) -> None:
        self.user = create_user()
        self.template = create_template(NAME, "Estimate for {workflow}", "Ask {who}", "Submit")

    def create(self, **context: object) -> list[StaffTask]:
        return create_tasks_from_template(NAME, created_by=self.user, **context)

    def test_every_item_becomes_a_task(self) -> None:
        tasks = self.create(auto_generated=True)
        assert [task.title for task in tasks] == ["Estimate for {workflow}", "Ask {who}", "Submit"]
        stored = StaffTask.objects.filter(created_from_template=self.template)
        assert stored.count() == 3
        assert {(t.status, t.priority, t.domain, t.auto_generated) for t in stored} == {
            ("not_started", "high", "project_central", True)
        }

    def test_dates_count_from_the_start_date(self) -> None:
        tasks = self.create(start_date=date(2025, 10, 2))
        assert [task.due_date for task in tasks] == [
            date(2025, 10, 2), date(2025, 10, 9), date(2025, 10, 16)
        ]  # fmt: skip

    def test_dates_count_from_today_by_default(self) -> None:
        assert self.create()[0].due_date == timezone.localdate()

    def test_placeholders_are_filled(self) -> None:
        workflow = create_workflow(self.user)
        tasks = self.create(linked_workflow=workflow, who="the board")
        assert tasks[0].title == f"Estimate for {workflow.primary_need.title}"
        assert tasks[1].title == "Ask the board"

    def test_unknown_template_gives_nothing(self) -> None:
        assert create_tasks_from_template("project_nothing", created_by=self.user) == []

    def test_inactive_template_gives_nothing(self) -> None:
        self.template.is_active = False
        self.template.save()
        assert self.create() == []

    def test_related_objects_are_set(self) -> None:
        workflow = create_workflow(self.user)
        task = self.create(linked_workflow=workflow, related_ppa=workflow.ppa)[0]
        assert (task.linked_workflow, task.related_ppa) == (workflow, workflow.ppa)

    def test_a_workflow_gets_its_tasks_once(self) -> None:
        workflow = create_workflow(self.user)
        assert len(self.create(linked_workflow=workflow)) == 3
        assert self.create(linked_workflow=workflow) == []
        assert len(self.create(linked_workflow=create_workflow(self.user))) == 3

    def test_the_database_refuses_a_repeat(self) -> None:
        workflow = create_workflow(self.user)
        item = self.create(linked_workflow=workflow)[0].template_item
        with pytest.raises(IntegrityError, match=r"one_task_per_workflow_item|UNIQUE"):
            create_task(self.user, linked_workflow=workflow, template_item=item)

    def test_bookings_are_made_for_the_named_item(self) -> None:
        resource = create_resource()
        tasks = self.create(resource_bookings={2: MORNING})
        booking = resource.bookings.get()
        assert booking.object_id == UUID(int=tasks[1].pk)
        assert f"{timezone.localtime(booking.start_datetime):%H:%M}" == "09:00"

    def test_a_taken_resource_leaves_no_task_behind(self) -> None:
        create_resource()
        create_bookings_for_task(create_task(self.user), MORNING)
        with pytest.raises(ValidationError, match="already booked"):
            self.create(resource_bookings={3: MORNING})
        assert not StaffTask.objects.filter(created_from_template=self.template).exists()


class CreateBookingsTests(TestCase):
    def setUp(self) -> None:
        self.task = create_task(create_user(), due_date=date(2025, 10, 2))
        self.resource = create_resource()

    def test_offsets_count_from_eight_in_the_morning(self) -> None:
        spec = {"resource_id": self.resource.pk, "start_offset_days": 1, "duration_hours": 1.5}
        booking = create_bookings_for_task(self.task, spec)[0]
        assert timezone.localtime(booking.start_datetime).isoformat() == "2025-10-03T08:00:00+08:00"
        assert booking.end_datetime - booking.start_datetime == timedelta(hours=1.5)

    def test_touching_bookings_do_not_conflict(self) -> None:
        after = MORNING | {"start": "2025-10-02T11:00", "end": "2025-10-02T12:00"}
        assert len(create_bookings_for_task(self.task, [MORNING, after])) == 2

    def test_all_or_nothing(self) -> None:
        with pytest.raises(ValidationError, match="already booked"):
            create_bookings_for_task(self.task, [MORNING, MORNING])
        assert not CalendarResourceBooking.objects.exists()

    def test_specifications_without_sense_are_refused(self) -> None:
        for change, complaint in [
            ({"resource_name": "Ghost"}, "No calendar resource 'Ghost'"),
            ({"resource_name": ""}, "Name the resource"),
            ({"start": "nine"}, "found 'nine'"),
            ({"end": None, "duration_hours": "two"}, "found 'two'"),
        ]:
            with pytest.raises(ResourceBookingSpecError, match=complaint):
                create_bookings_for_task(self.task, MORNING | change)
        with pytest.raises(ValidationError, match="must end after"):
            create_bookings_for_task(self.task, MORNING | {"end": "2025-10-02T08:00"})


BLOCKED_BY_ME = """
    SELECT EXISTS (
        SELECT 1 FROM pg_locks
        WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
    )
"""


@pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="asks PostgreSQL who waits for whom"
)
class TwoAtOnceTests(TransactionTestCase):
    def test_the_second_request_waits_and_adds_nothing(self) -> None:
        create_template(NAME, "One", "Two", "Three")
        workflow = create_workflow(create_user())
        second: list[int] = []

        def request() -> None:
            try:
                second.append(len(create_tasks_from_template(NAME, linked_workflow=workflow)))
            finally:
                connection.close()

        thread = Thread(target=request)
        with transaction.atomic():
            assert len(create_tasks_from_template(NAME, linked_workflow=workflow)) == 3
            thread.start()
            assert self.blocked(thread), "the second request should wait for the first"
        thread.join(timeout=20)
        assert second == [0]
        assert workflow.tasks.count() == 3

    def blocked(self, thread: Thread) -> bool:
        for _ in range(400):
            with connection.cursor() as cursor:
                cursor.execute(BLOCKED_BY_ME)
                if cursor.fetchone()[0]:
                    return True
            thread.join(timeout=0.05)
            if not thread.is_alive():
                return False
        return False
