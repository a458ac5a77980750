from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class NeedsCategory(models.Model):
    name = models.CharField(max_length=100, unique=True)
    sector = models.CharField(max_length=30)
    description = models.TextField(blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "needs categories"

    def __str__(self) -> str:
        return self.name


class Need(models.Model):
    """What a community lacks, found by an assessment or told by the community itself."""

    URGENCY_LEVELS = [
        ("immediate", "Immediate"),
        ("short_term", "Short-term"),
        ("medium_term", "Medium-term"),
        ("long_term", "Long-term"),
    ]
    STATUS_CHOICES = [
        ("identified", "Identified"),
        ("validated", "Validated"),
        ("prioritized", "Prioritized"),
        ("in_progress", "Implementation in Progress"),
        ("completed", "Completed"),
    ]

    title = models.CharField(max_length=200)
    description = models.TextField()
    category = models.ForeignKey(NeedsCategory, models.PROTECT, related_name="needs")
    geographic_scope = models.TextField()
    affected_population = models.IntegerField(validators=[MinValueValidator(0)])
    urgency_level = models.CharField(max_length=15, choices=URGENCY_LEVELS, default="medium_term")
    impact_severity = models.IntegerField(
        default=3, validators=[MinValueValidator(1), MaxValueValidator(5)]
    )
    status = models.CharField(max_length=15, choices=STATUS_CHOICES, default="identified")
    identified_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="identified_needs",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["title"]
        indexes = [models.Index(fields=["status"], name="need_status")]

    def __str__(self) -> str:
        return self.title
