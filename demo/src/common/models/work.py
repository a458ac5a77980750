from datetime import date
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from common.models.people import StaffTeam, User

PRIORITY_CHOICES = [
    ("low", "Low"),
    ("medium", "Medium"),
    ("high", "High"),
    ("critical", "Critical"),
]
DOMAIN_CHOICES = [
    ("general", "General Staff Task"),
    ("mana", "MANA Assessment"),
    ("coordination", "Coordination & Partnerships"),
    ("monitoring", "Monitoring & Evaluation"),
    ("policy", "Policy Development"),
    ("services", "Service Delivery"),
    ("project_central", "Project Management"),
]


class TaskTemplate(models.Model):
    """A named set of tasks to create together."""

    name = models.CharField(max_length=255, unique=True)
    domain = models.CharField(max_length=30, choices=DOMAIN_CHOICES, default="general")
    description = models.TextField(blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TaskTemplateItem(models.Model):
    """One task of a template; its words may hold placeholders such as {workflow}."""

    template = models.ForeignKey(TaskTemplate, models.CASCADE, related_name="items")
    title = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    task_category = models.CharField(max_length=50, blank=True)
    priority = models.CharField(max_length=12, choices=PRIORITY_CHOICES, default="medium")
    estimated_hours = models.DecimalField(max_digits=6, decimal_places=2, null=True, blank=True)
    sequence = models.PositiveIntegerField(default=0)
    days_from_start = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["sequence", "pk"]

    def __str__(self) -> str:
        return f"{self.template}: {self.title}"


class StaffTaskQuerySet(models.QuerySet["StaffTask"]):
    def overdue(self) -> Self:
        """Due before today and not completed."""
        return self.filter(due_date__lt=timezone.localdate()).exclude(
            status=StaffTask.STATUS_COMPLETED
        )

    def of(self, user: User) -> Self:
        """Created by the user, assigned to him, or given to a team he is active in."""
        teams = user.team_memberships.filter(is_active=True).values("team")
        return self.filter(
            models.Q(created_by=user)
            | models.Exists(
                StaffTask.assignees.through.objects.filter(
                    stafftask=models.OuterRef("pk"), user=user
                )
            )
            | models.Exists(
                StaffTask.teams.through.objects.filter(
                    stafftask=models.OuterRef("pk"), staffteam__in=teams
                )
            )
        )


class StaffTask(models.Model):
    """A piece of work, with or without a project behind it."""

    STATUS_NOT_STARTED = "not_started"
    STATUS_IN_PROGRESS = "in_progress"
    STATUS_AT_RISK = "at_risk"
    STATUS_COMPLETED = "completed"
    STATUS_CHOICES = [
        (STATUS_NOT_STARTED, "Not Started"),
        (STATUS_IN_PROGRESS, "In Progress"),
        (STATUS_AT_RISK, "At Risk"),
        (STATUS_COMPLETED, "Completed"),
    ]
    PRIORITY_CHOICES = PRIORITY_CHOICES
    PRIORITY_MEDIUM = "medium"
    PRIORITY_HIGH = "high"
    DOMAIN_CHOICES = DOMAIN_CHOICES
    DOMAIN_GENERAL = "general"
    DOMAIN_MONITORING = "monitoring"
    DOMAIN_PROJECT_CENTRAL = "project_central"

    title = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=20, choices=STATUS_CHOICES, default=STATUS_NOT_STARTED)
    priority = models.CharField(max_length=12, choices=PRIORITY_CHOICES, default="medium")
    domain = models.CharField(max_length=30, choices=DOMAIN_CHOICES, default="general", blank=True)
    task_category = models.CharField(max_length=50, blank=True)
    estimated_hours = models.DecimalField(max_digits=6, decimal_places=2, null=True, blank=True)
    progress = models.PositiveSmallIntegerField(default=0)
    start_date = models.DateField(null=True, blank=True)
    due_date = models.DateField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="created_staff_tasks",
    )
    assignees = models.ManyToManyField(
        settings.AUTH_USER_MODEL, blank=True, related_name="assigned_staff_tasks"
    )
    teams = models.ManyToManyField(StaffTeam, blank=True, related_name="tasks")
    linked_event = models.ForeignKey(
        "coordination.Event", models.SET_NULL, null=True, blank=True, related_name="staff_tasks"
    )
    linked_workflow = models.ForeignKey(
        "project_central.ProjectWorkflow",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="tasks",
    )
    related_ppa = models.ForeignKey(
        "monitoring.MonitoringEntry", models.CASCADE, null=True, blank=True, related_name="tasks"
    )
    auto_generated = models.BooleanField(default=False)
    created_from_template = models.ForeignKey(
        TaskTemplate, models.SET_NULL, null=True, blank=True, related_name="created_tasks"
    )
    template_item = models.ForeignKey(
        TaskTemplateItem, models.SET_NULL, null=True, blank=True, related_name="created_tasks"
    )

    objects = StaffTaskQuerySet.as_manager()

    class Meta:
        ordering = ["due_date", "title"]
        indexes = [models.Index(fields=["status", "due_date"], name="stafftask_status_due")]
        constraints = [
            # Two requests generating at once cannot both win; nulls never collide.
            models.UniqueConstraint(
                fields=["linked_workflow", "template_item"], name="one_task_per_workflow_item"
            )
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_overdue(self) -> bool:
        due: date | None = self.due_date
        return bool(due and due < timezone.localdate() and self.status != self.STATUS_COMPLETED)
