from django.db import migrations, models


def fill(apps, schema_editor):
    """Tasks from before there were domains are general ones."""
    tasks = apps.get_model("common", "StaffTask").objects.using(schema_editor.connection.alias)
    tasks.filter(domain="").update(domain="general")


class Migration(migrations.Migration):
    dependencies = [("common", "0013_stafftask_domain")]
    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField(
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
                default="general",
                max_length=30,
            ),
        ),
    ]
