import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ("mana", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="ProjectWorkflow",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "current_stage",
                    models.CharField(
                        choices=[
                            ("need_identification", "Need Identification"),
                            ("need_validation", "Need Validation"),
                            ("policy_linkage", "Policy Linkage"),
                            ("mao_coordination", "MAO Coordination"),
                            ("budget_planning", "Budget Planning"),
                            ("approval", "Approval Process"),
                            ("implementation", "Implementation"),
                            ("monitoring", "Monitoring & Evaluation"),
                            ("completion", "Completion"),
                        ],
                        default="need_identification",
                        max_length=30,
                    ),
                ),
                ("initiated_date", models.DateField(default=django.utils.timezone.localdate)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "primary_need",
                    models.OneToOneField(
                        "mana.need",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="project_workflow",
                    ),
                ),
                (
                    "project_lead",
                    models.ForeignKey(
                        settings.AUTH_USER_MODEL,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="led_projects",
                    ),
                ),
            ],
            options={"ordering": ["-initiated_date", "pk"]},
        ),
    ]
