"""A year of believable office life, the same every time."""

import os
import random
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.apps.registry import Apps
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.utils import timezone

PLACES = ["Poblacion", "San Isidro", "Bagong Silang", "Maligaya", "Riverside", "Hilltop"]
MATTERS = ["Water System", "Madrasah", "Farm Road", "Health Post", "Fishing Gear", "Cold Storage"]
ACTIONS = ["Draft", "Review", "Validate", "Coordinate", "Submit", "Follow up on", "File"]
OBJECTS = ["budget matrix", "field report", "site survey", "endorsement", "work plan", "minutes"]
TEMPLATES = {
    "project_need_validation": ["Visit {workflow}", "Interview the community", "Write findings"],
    "project_policy_integration": ["List related policies", "Brief the policy team"],
    "project_mao_coordination": ["Meet the focal person", "Agree on roles"],
    "project_budget_planning": ["Prepare cost estimate", "Draft budget matrix", "Seek comments"],
    "project_budget_approval": ["Assemble documents", "Present to the board"],
    "project_implementation": ["Hold kick-off meeting", "Procure materials", "Report progress"],
    "project_monitoring": ["Schedule field visit", "Collect indicators"],
    "project_completion": ["Turn over outputs", "Write the completion report"],
    "project_generic_stage": ["Review the project", "Update the work plan"],
}


class Seeder:
    """Writes rows through historical models: what production's code of that release would hold."""

    def __init__(self, apps: Apps, database: str) -> None:
        self.apps, self.database = apps, database
        self.random = random.Random(20251002)
        # Counted from the start of the day: the same day gives the same rows.
        self.now = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        self.today = self.now.date()

    def fill(self) -> dict[str, int]:
        """Write everything; returns how many of what."""
        users = self.users()
        self.teams(users)
        workflows = self.projects(users)
        templates = self.templates()
        tasks = self.tasks(users, workflows, templates)
        events = self.events(users)
        bookings = self.bookings(users, tasks, events)
        notifications = self.notifications(users, events)
        return {
            "users": len(users),
            "workflows": len(workflows),
            "task templates": len(templates),
            "tasks": len(tasks),
            "events": len(events),
            "bookings": len(bookings),
            "notifications": len(notifications),
        }

    def model(self, label: str) -> Any:
        return self.apps.get_model(label)

    def save(self, label: str, rows: Iterable[dict[str, Any]]) -> list[Any]:
        model = self.model(label)
        manager = model._default_manager.using(self.database)
        return manager.bulk_create([model(**row) for row in rows], batch_size=1000)

    def day(self, earliest: int, latest: int) -> Any:
        return self.today + timedelta(days=self.random.randint(earliest, latest))

    def at(self, days: float, hours: float = 0) -> datetime:
        return self.now + timedelta(days=days, hours=hours)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def users(self) -> list[Any]:
        hasher = PBKDF2PasswordHasher()
        password = os.environ.get("DEMO_PASSWORD") or "rehearsal"

        def user(name: str, first: str, last: str, rounds: int | None, **fields: Any) -> Any:
            return {
                "username": name,
                "first_name": first,
                "last_name": last,
                "email": f"{name}@obcms.example",
                # Nobody but the first two is meant to sign in; few rounds keep the seeding quick.
                # A shorter salt would be replaced when they do, and production's would differ.
                "password": hasher.encode(password, f"salt-of-{name}".ljust(24, "x"), rounds),
                "date_joined": self.at(-365 + self.random.randint(0, 300)),
                "is_approved": True,
                "approved_at": self.at(-60),
                "user_type": "oobc_staff",
                **fields,
            }

        rows = [
            user(
                name, name.title(), "Account", None,
                is_staff=True, is_superuser=True, user_type="admin",
            )
            for name in ("staff", "owner")
        ]  # fmt: skip
        kinds = ["oobc_staff", "oobc_staff", "bmoa", "lgu", "nga", "community_leader", "researcher"]
        for number in range(1, 399):
            approved = number % 12 != 0
            rows.append(
                user(
                    f"member{number:03d}", "Staff Member", str(number), 1000,
                    user_type=kinds[number % len(kinds)],
                    organization=f"Office {number % 30 + 1}",
                    is_staff=number % 40 == 0,
                    is_approved=approved,
                    approved_at=self.at(-50) if approved else None,
                )
            )  # fmt: skip
        return self.save("common.User", rows)

    def teams(self, users: list[Any]) -> None:
        teams = self.save("common.StaffTeam", ({"name": f"Team {n}"} for n in range(1, 13)))
        self.save(
            "common.StaffTeamMembership",
            (
                {
                    "team": teams[index % 12],
                    "user": user,
                    "role": "member" if index > 11 else "lead",
                }
                for index, user in enumerate(users[:120])
            ),
        )

    def projects(self, users: list[Any]) -> list[Any]:
        categories = self.save(
            "mana.NeedsCategory", ({"name": name, "sector": "social"} for name in MATTERS)
        )
        titles = [f"{matter} for {place}" for place in PLACES for matter in MATTERS]
        titles += [f"{title}, Phase 2" for title in titles]
        needs = self.save(
            "mana.Need",
            (
                {
                    "title": title,
                    "description": f"The community of {title.split(' for ')[1]} asks for help.",
                    "category": categories[index % 6],
                    "geographic_scope": title.split(" for ")[1],
                    "affected_population": self.random.randint(80, 3000),
                    "identified_by": users[index],
                    "status": "validated",
                }
                for index, title in enumerate(titles)
            ),
        )
        entries = self.save(
            "monitoring.MonitoringEntry",
            (
                {
                    "id": self.uuid(),
                    "title": f"{need.title} Programme",
                    "category": ("moa_ppa", "oobc_ppa")[index % 2],
                    "status": "ongoing",
                    "progress": self.random.randint(0, 100),
                    "created_by": users[index],
                }
                for index, need in enumerate(needs)
            ),
        )
        model = self.model("project_central.ProjectWorkflow")
        stages = [stage for stage, _ in model._meta.get_field("current_stage").choices]
        return self.save(
            "project_central.ProjectWorkflow",
            (
                {
                    "id": self.uuid(),
                    "primary_need": needs[index],
                    "ppa": entries[index],
                    "current_stage": stages[index % len(stages)],
                    "initiated_date": self.day(-300, -10),
                    "project_lead": users[index % 40],
                    "created_by": users[0],
                }
                for index in range(60)
            ),
        )

    def templates(self) -> list[Any]:
        templates = self.save(
            "common.TaskTemplate",
            ({"name": name, "domain": "project_central"} for name in TEMPLATES),
        )
        self.save(
            "common.TaskTemplateItem",
            (
                {
                    "template": template,
                    "title": title,
                    "sequence": sequence,
                    "days_from_start": 7 * sequence,
                    "priority": "high" if sequence == 1 else "medium",
                }
                for template in templates
                for sequence, title in enumerate(TEMPLATES[template.name], 1)
            ),
        )
        return templates

    def tasks(self, users: list[Any], workflows: list[Any], templates: list[Any]) -> list[Any]:
        """3,000 tasks, of which some 120 were generated from the templates of 50 workflows."""
        rows = []
        by_name = {template.name: template for template in templates}
        for workflow in workflows[10:]:
            template = by_name["project_generic_stage"]
            for title in TEMPLATES[template.name]:
                rows.append(
                    {
                        "title": title,
                        "domain": template.domain,
                        "linked_workflow": workflow,
                        "created_from_template": template,
                        "auto_generated": True,
                    }
                )
        domains = ["general", "mana", "coordination", "monitoring", "policy", "project_central"]
        while len(rows) < 3000:
            workflow = self.random.choice(workflows) if len(rows) % 3 else None
            action, thing = self.random.choice(ACTIONS), self.random.choice(OBJECTS)
            rows.append(
                {
                    "title": f"{action} {thing} {len(rows)}",
                    "domain": self.random.choice(domains),
                    "linked_workflow": workflow,
                    "related_ppa": workflow and workflow.ppa,
                }
            )
        for index, row in enumerate(rows):
            due = self.day(-180, 60)
            status = "completed" if index % 5 < 2 else self.random.choice(
                ["not_started", "in_progress", "at_risk", "completed"]
            )  # fmt: skip
            row |= {
                "due_date": due,
                "start_date": due - timedelta(days=14),
                "status": status,
                "completed_at": self.at((due - self.today).days) if status == "completed" else None,
                "priority": self.random.choice(["low", "medium", "high", "critical"]),
                # Each hundredth or so is the staff account's own.
                "created_by": users[0] if index % 90 == 0 else self.random.choice(users[2:120]),
            }
        tasks = self.save("common.StaffTask", rows)
        through = self.model("common.StaffTask").assignees.through
        through._default_manager.using(self.database).bulk_create(
            through(stafftask_id=task.pk, user_id=self.random.choice(users[:120]).pk)
            for task in tasks
        )
        return tasks

    def events(self, users: list[Any]) -> list[Any]:
        kinds = ["meeting", "workshop", "field_visit", "conference"]
        return self.save(
            "coordination.Event",
            (
                {
                    "id": self.uuid(),
                    "title": f"{kinds[n % 4].replace('_', ' ').title()} {n}: {PLACES[n % 6]}",
                    "event_type": kinds[n % 4],
                    "start_date": self.day(-120, 90),
                    "venue": PLACES[n % 6],
                    "organizer": users[n % 60],
                }
                for n in range(1, 201)
            ),
        )

    def bookings(self, users: list[Any], tasks: list[Any], events: list[Any]) -> list[Any]:
        """40 resources, each with 10 bookings that do not overlap: one a week at most."""
        kinds = ["room", "vehicle", "equipment", "facilitator"]
        names = ["Meeting Room", "Van", "Projector", "Facilitator"]
        resources = self.save(
            "common.CalendarResource",
            (
                {
                    "name": f"{names[n % 4]} {n // 4 + 1}",
                    "resource_type": kinds[n % 4],
                    "capacity": 12,
                }
                for n in range(40)
            ),
        )
        types = self.model("contenttypes.ContentType").objects.using(self.database)
        task_type, _ = types.get_or_create(app_label="common", model="stafftask")
        event_type, _ = types.get_or_create(app_label="coordination", model="event")
        rows = []
        for number, resource in enumerate(resources):
            for week in range(-5, 5):
                of_event = (number + week) % 2
                starts = self.at(week * 7 + number % 5, 8 + number % 4)
                rows.append(
                    {
                        "resource": resource,
                        "content_type": event_type if of_event else task_type,
                        "object_id": (
                            self.random.choice(events).pk
                            if of_event
                            else uuid.UUID(int=self.random.choice(tasks).pk)
                        ),
                        "start_datetime": starts,
                        "end_datetime": starts + timedelta(hours=2),
                        "status": "approved" if week < 1 else "pending",
                        "booked_by": users[number],
                        "notes": f"Weekly use {week + 6}",
                    }
                )
        return self.save("common.CalendarResourceBooking", rows)

    def notifications(self, users: list[Any], events: list[Any]) -> list[Any]:
        """1,000 notifications: 120 due and pending, 280 still to come, 600 long sent."""
        event_type = self.model("contenttypes.ContentType").objects.using(self.database)
        content_type = event_type.get(app_label="coordination", model="event")
        rows = []
        for number in range(1000):
            due, sent = number < 120, number >= 400
            when = (
                self.at(0, -number / 20)
                if due
                else self.at(-number / 10)
                if sent
                else self.at(number / 20)
            )
            rows.append(
                {
                    "recipient": users[2 + number % 398],
                    "content_type": content_type,
                    "object_id": events[number % 200].pk,
                    "notification_type": ("reminder", "invitation", "update")[number % 3],
                    "delivery_method": "in_app" if number % 6 == 5 else "email",
                    "scheduled_for": when,
                    "status": "sent" if sent else "pending",
                    "sent_at": when if sent else None,
                }
            )
        return self.save("common.CalendarNotification", rows)
