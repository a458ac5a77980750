import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("common", "0025_calendarnotification_due_index"),
        ("coordination", "0001_initial"),
        ("monitoring", "0001_initial"),
        ("project_central", "0001_initial"),
    ]
    operations = [
        migrations.AddField(
            "stafftask",
            "linked_event",
            models.ForeignKey(
                "coordination.event",
                on_delete=django.db.models.deletion.SET_NULL,
                null=True,
                blank=True,
                related_name="staff_tasks",
            ),
        ),
        migrations.AddField(
            "stafftask",
            "linked_workflow",
            models.ForeignKey(
                "project_central.projectworkflow",
                on_delete=django.db.models.deletion.CASCADE,
                null=True,
                blank=True,
                related_name="tasks",
            ),
        ),
        migrations.AddField(
            "stafftask",
            "related_ppa",
            models.ForeignKey(
                "monitoring.monitoringentry",
                on_delete=django.db.models.deletion.CASCADE,
                null=True,
                blank=True,
                related_name="tasks",
            ),
        ),
    ]
