from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0015_stafftask_category_and_estimate")]
    operations = [
        migrations.CreateModel(
            name="TaskTemplate",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=255, unique=True)),
                (
                    "domain",
                    models.CharField(
                        choices=[
                            ("general", "General Staff Task"),
                            ("mana", "MANA Assessment"),
                            ("coordination", "Coordination & Partnerships"),
                            ("monitoring", "Monitoring & Evaluation"),
                            ("policy", "Policy Development"),
                            ("services", "Service Delivery"),
                            ("project_central", "Project Management"),
                        ],
                        default="general",
                        max_length=30,
                    ),
                ),
                ("description", models.TextField(blank=True)),
                ("is_active", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ["name"]},
        ),
    ]
