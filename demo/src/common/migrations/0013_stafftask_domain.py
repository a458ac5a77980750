from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0012_stafftask_start_date_and_progress")]
    operations = [
        migrations.AddField(
            "stafftask",
            "domain",
            models.CharField(
                blank=True,
                choices=[
                    ("general", "General Staff Task"),
                    ("mana", "MANA Assessment"),
                    ("coordination", "Coordination & Partnerships"),
                    ("monitoring", "Monitoring & Evaluation"),
                    ("policy", "Policy Development"),
                    ("services", "Service Delivery"),
                    ("project_central", "Project Management"),
                ],
                max_length=30,
            ),
        ),
    ]
