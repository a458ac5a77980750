import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0016_tasktemplate")]
    operations = [
        migrations.CreateModel(
            name="TaskTemplateItem",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("title", models.CharField(max_length=255)),
                ("description", models.TextField(blank=True)),
                ("task_category", models.CharField(blank=True, max_length=50)),
                (
                    "priority",
                    models.CharField(
                        choices=[
                            ("low", "Low"),
                            ("medium", "Medium"),
                            ("high", "High"),
                            ("critical", "Critical"),
                        ],
                        default="medium",
                        max_length=12,
                    ),
                ),
                ("sequence", models.PositiveIntegerField(default=0)),
                ("days_from_start", models.PositiveIntegerField(default=0)),
                (
                    "template",
                    models.ForeignKey(
                        "common.tasktemplate",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="items",
                    ),
                ),
            ],
            options={"ordering": ["sequence", "pk"]},
        ),
    ]
