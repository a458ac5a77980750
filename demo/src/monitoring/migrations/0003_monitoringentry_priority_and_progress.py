import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0002_monitoringentry_summary_and_author")]
    operations = [
        migrations.AddField(
            "monitoringentry",
            "priority",
            models.CharField(
                choices=[
                    ("low", "Low"),
                    ("medium", "Medium"),
                    ("high", "High"),
                    ("urgent", "Urgent"),
                ],
                default="medium",
                max_length=10,
            ),
        ),
        migrations.AddField(
            "monitoringentry",
            "progress",
            models.PositiveIntegerField(
                default=0, validators=[django.core.validators.MaxValueValidator(100)]
            ),
        ),
    ]
