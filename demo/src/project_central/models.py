import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone


class ProjectWorkflow(models.Model):
    """A project's way from a need to its completion, one stage at a time."""

    WORKFLOW_STAGES = [
        ("need_identification", "Need Identification"),
        ("need_validation", "Need Validation"),
        ("policy_linkage", "Policy Linkage"),
        ("mao_coordination", "MAO Coordination"),
        ("budget_planning", "Budget Planning"),
        ("approval", "Approval Process"),
        ("implementation", "Implementation"),
        ("monitoring", "Monitoring & Evaluation"),
        ("completion", "Completion"),
    ]
    TEMPLATES = {
        "need_validation": "project_need_validation",
        "policy_linkage": "project_policy_integration",
        "mao_coordination": "project_mao_coordination",
        "budget_planning": "project_budget_planning",
        "approval": "project_budget_approval",
        "implementation": "project_implementation",
        "monitoring": "project_monitoring",
        "completion": "project_completion",
    }
    PRIORITY_LEVELS = [
        ("low", "Low"),
        ("medium", "Medium"),
        ("high", "High"),
        ("urgent", "Urgent"),
    ]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    primary_need = models.OneToOneField(
        "mana.Need", models.PROTECT, related_name="project_workflow"
    )
    ppa = models.OneToOneField(
        "monitoring.MonitoringEntry",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="project_workflow",
        limit_choices_to={"category__in": ["moa_ppa", "oobc_ppa"]},
    )
    current_stage = models.CharField(
        max_length=30, choices=WORKFLOW_STAGES, default="need_identification"
    )
    priority_level = models.CharField(max_length=10, choices=PRIORITY_LEVELS, default="medium")
    initiated_date = models.DateField(default=timezone.localdate)
    target_completion_date = models.DateField(null=True, blank=True)
    project_lead = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="led_projects",
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="created_workflows",
    )
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-initiated_date", "pk"]
        indexes = [models.Index(fields=["current_stage"], name="workflow_stage")]

    def __str__(self) -> str:
        return self.primary_need.title

    def get_absolute_url(self) -> str:
        return reverse("project_central:project_workflow_detail", args=[self.pk])

    @property
    def template_name(self) -> str:
        """The task template its current stage calls for."""
        return self.TEMPLATES.get(self.current_stage, "project_generic_stage")
