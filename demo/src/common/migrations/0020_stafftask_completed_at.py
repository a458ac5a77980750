from django.db import migrations, models


def fill(apps, schema_editor):
    """The last change to a completed task is the best guess of when it was completed."""
    tasks = apps.get_model("common", "StaffTask").objects.using(schema_editor.connection.alias)
    tasks.filter(status="completed").update(completed_at=models.F("updated_at"))


class Migration(migrations.Migration):
    dependencies = [("common", "0019_stafftask_created_from_template")]
    operations = [
        migrations.AddField(
            "stafftask", "completed_at", models.DateTimeField(blank=True, null=True)
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
