"""Rows the tests need, with as little said about each as they must."""

from itertools import count
from typing import Any

from common.models import CalendarResource, StaffTask, TaskTemplate, User
from mana.models import Need, NeedsCategory
from monitoring.models import MonitoringEntry
from project_central.models import ProjectWorkflow

numbers = count(1)


def create_user(**fields: Any) -> User:
    name = fields.pop("username", f"person{next(numbers)}")
    return User.objects.create_user(
        name,
        **{"email": f"{name}@obcms.example", "user_type": "oobc_staff", "is_approved": True}
        | fields,
    )


def create_need(**fields: Any) -> Need:
    category, _ = NeedsCategory.objects.get_or_create(name="Livelihood", sector="economic")
    return Need.objects.create(
        **{
            "title": f"Need {next(numbers)}",
            "category": category,
            "affected_population": 150,
            "geographic_scope": "Riverside",
        }
        | fields
    )


def create_workflow(lead: User, **fields: Any) -> ProjectWorkflow:
    entry = MonitoringEntry.objects.create(title=f"PPA {next(numbers)}", category="moa_ppa")
    return ProjectWorkflow.objects.create(
        **{
            "primary_need": fields.pop("primary_need", None) or create_need(),
            "ppa": entry,
            "current_stage": "budget_planning",
            "project_lead": lead,
            "created_by": lead,
        }
        | fields
    )


def create_task(by: User, **fields: Any) -> StaffTask:
    return StaffTask.objects.create(**{"title": f"Task {next(numbers)}", "created_by": by} | fields)


def create_template(name: str, *titles: str, **fields: Any) -> TaskTemplate:
    template = TaskTemplate.objects.create(name=name, domain="project_central", **fields)
    for sequence, title in enumerate(titles, 1):
        template.items.create(
            title=title, sequence=sequence, days_from_start=7 * (sequence - 1), priority="high"
        )
    return template


def create_resource(name: str = "Projector") -> CalendarResource:
    return CalendarResource.objects.create(name=name, resource_type="equipment")
