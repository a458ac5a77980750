from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0030_link_generated_tasks_to_items")]
    operations = [
        migrations.AddConstraint(
            "stafftask",
            models.UniqueConstraint(
                fields=("linked_workflow", "template_item"), name="one_task_per_workflow_item"
            ),
        ),
    ]
