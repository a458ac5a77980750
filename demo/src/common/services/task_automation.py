"""Creates sets of tasks from templates."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from common.faults import planted
from common.models import StaffTask, TaskTemplate, User
from common.services.resource_bookings import Spec, create_bookings_for_task
from project_central.models import ProjectWorkflow

TASK_FIELDS = {field.name for field in StaffTask._meta.concrete_fields}


@transaction.atomic
def create_tasks_from_template(
    template_name: str,
    *,
    start_date: date | None = None,
    created_by: User | None = None,
    auto_generated: bool = False,
    resource_bookings: Mapping[int | str, Any] | Sequence[Spec] | None = None,
    **context: Any,
) -> list[StaffTask]:
    """Create one task per item of the active template of that name, or none if there is none.

    `context` fills the placeholders of titles and descriptions, and what names a field of
    StaffTask (`linked_workflow`, `related_ppa`) is set on every task. A template is used once
    per workflow: when it was, nothing is created. `resource_bookings` is a list of booking
    specifications for every task, or a mapping of those by an item's sequence or "default".

    Raises what `create_bookings_for_task` raises; then no task is created either.
    """
    template = TaskTemplate.objects.filter(name=template_name, is_active=True).first()
    if template is None:
        return []
    workflow = context.get("linked_workflow")
    unlocked = planted("tasks generated twice at once")
    again = planted("tasks generated again")
    if workflow is not None and not again:
        # Two requests at once: the second waits here, then sees what the first created.
        if not unlocked:
            ProjectWorkflow.objects.select_for_update().get(pk=workflow.pk)
        if template.created_tasks.filter(linked_workflow=workflow).exists():
            return []

    fields = {name: value for name, value in context.items() if name in TASK_FIELDS}
    words = {
        name.removeprefix("related_").removeprefix("linked_"): value
        for name, value in context.items()
    }
    first_day = start_date or timezone.localdate()
    tasks = []
    for item in template.items.all():
        task = StaffTask.objects.create(
            title=_fill(item.title, words)[:255],
            description=_fill(item.description, words),
            task_category=item.task_category,
            priority=item.priority,
            estimated_hours=item.estimated_hours,
            domain=template.domain,
            start_date=first_day,
            due_date=first_day + timedelta(days=item.days_from_start),
            created_by=created_by,
            created_from_template=template,
            template_item=None if unlocked or again else item,
            auto_generated=auto_generated,
            **fields,
        )
        specs = resource_bookings
        if isinstance(specs, Mapping):
            specs = specs.get(item.sequence, specs.get("default"))
        if specs:
            create_bookings_for_task(task, specs, user=created_by)
        tasks.append(task)
    return tasks


def _fill(words: str, values: Mapping[str, Any]) -> str:
    """Replace {name} where a value is known; a placeholder without one stays readable."""
    for name, value in values.items():
        words = words.replace(f"{{{name}}}", str(value))
    return words
