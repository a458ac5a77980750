import uuid

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models


class MonitoringEntry(models.Model):
    """A project, programme, activity or request under monitoring."""

    CATEGORY_CHOICES = [
        ("moa_ppa", "MOA Project / Program / Activity"),
        ("oobc_ppa", "OOBC Project / Program / Activity"),
        ("obc_request", "OBC Request or Proposal"),
    ]
    STATUS_CHOICES = [
        ("planning", "Planning"),
        ("ongoing", "Ongoing"),
        ("completed", "Completed"),
        ("on_hold", "On Hold"),
        ("cancelled", "Cancelled"),
    ]
    PRIORITY_CHOICES = [
        ("low", "Low"),
        ("medium", "Medium"),
        ("high", "High"),
        ("urgent", "Urgent"),
    ]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    title = models.CharField(max_length=255)
    category = models.CharField(max_length=20, choices=CATEGORY_CHOICES)
    summary = models.TextField(blank=True)
    status = models.CharField(max_length=20, choices=STATUS_CHOICES, default="planning")
    priority = models.CharField(max_length=10, choices=PRIORITY_CHOICES, default="medium")
    progress = models.PositiveIntegerField(default=0, validators=[MaxValueValidator(100)])
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="created_monitoring_entries",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["title"]
        verbose_name_plural = "monitoring entries"
        indexes = [models.Index(fields=["category", "status"], name="entry_category_status")]

    def __str__(self) -> str:
        return self.title
