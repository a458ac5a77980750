from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("project_central", "0002_projectworkflow_ppa")]
    operations = [
        migrations.AddField(
            "projectworkflow",
            "priority_level",
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
            "projectworkflow", "target_completion_date", models.DateField(blank=True, null=True)
        ),
    ]
