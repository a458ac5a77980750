from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0014_stafftask_domain_general")]
    operations = [
        migrations.AddField(
            "stafftask", "task_category", models.CharField(blank=True, max_length=50)
        ),
        migrations.AddField(
            "stafftask",
            "estimated_hours",
            models.DecimalField(blank=True, decimal_places=2, max_digits=6, null=True),
        ),
    ]
