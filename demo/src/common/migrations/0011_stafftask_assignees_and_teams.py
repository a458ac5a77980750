from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0010_stafftask")]
    operations = [
        migrations.AddField(
            "stafftask",
            "assignees",
            models.ManyToManyField(
                settings.AUTH_USER_MODEL, blank=True, related_name="assigned_staff_tasks"
            ),
        ),
        migrations.AddField(
            "stafftask",
            "teams",
            models.ManyToManyField("common.staffteam", blank=True, related_name="tasks"),
        ),
    ]
