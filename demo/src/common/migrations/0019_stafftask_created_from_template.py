import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0018_tasktemplateitem_estimated_hours")]
    operations = [
        migrations.AddField("stafftask", "auto_generated", models.BooleanField(default=False)),
        migrations.AddField(
            "stafftask",
            "created_from_template",
            models.ForeignKey(
                "common.tasktemplate",
                on_delete=django.db.models.deletion.SET_NULL,
                null=True,
                blank=True,
                related_name="created_tasks",
            ),
        ),
    ]
