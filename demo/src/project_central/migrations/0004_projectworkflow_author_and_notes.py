import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("project_central", "0003_projectworkflow_priority_and_target"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.AddField("projectworkflow", "notes", models.TextField(blank=True)),
        migrations.AddField(
            "projectworkflow",
            "created_by",
            models.ForeignKey(
                settings.AUTH_USER_MODEL,
                on_delete=django.db.models.deletion.SET_NULL,
                null=True,
                blank=True,
                related_name="created_workflows",
            ),
        ),
    ]
