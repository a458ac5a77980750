import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0028_stafftask_status_due_index")]
    operations = [
        migrations.AddField(
            "stafftask",
            "template_item",
            models.ForeignKey(
                "common.tasktemplateitem",
                on_delete=django.db.models.deletion.SET_NULL,
                null=True,
                blank=True,
                related_name="created_tasks",
            ),
        ),
    ]
