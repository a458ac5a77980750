from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("project_central", "0004_projectworkflow_author_and_notes")]
    operations = [
        migrations.AddIndex(
            "projectworkflow", models.Index(fields=["current_stage"], name="workflow_stage")
        ),
    ]
