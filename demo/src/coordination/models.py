import uuid

from django.conf import settings
from django.db import models


class Event(models.Model):
    """A meeting, workshop or visit on the office's calendar."""

    EVENT_TYPES = [
        ("meeting", "Meeting"),
        ("workshop", "Workshop"),
        ("field_visit", "Field Visit"),
        ("conference", "Conference"),
    ]
    STATUS_CHOICES = [
        ("planned", "Planned"),
        ("confirmed", "Confirmed"),
        ("completed", "Completed"),
        ("cancelled", "Cancelled"),
    ]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    title = models.CharField(max_length=255)
    event_type = models.CharField(max_length=20, choices=EVENT_TYPES)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=15, choices=STATUS_CHOICES, default="planned")
    start_date = models.DateField()
    end_date = models.DateField(null=True, blank=True)
    start_time = models.TimeField(null=True, blank=True)
    venue = models.CharField(max_length=255, blank=True)
    organizer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="organized_events",
    )

    class Meta:
        ordering = ["start_date", "title"]
        indexes = [models.Index(fields=["start_date"], name="event_start_date")]

    def __str__(self) -> str:
        return self.title
