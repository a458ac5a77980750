import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("project_central", "0001_initial"), ("monitoring", "0001_initial")]
    operations = [
        migrations.AddField(
            "projectworkflow",
            "ppa",
            models.OneToOneField(
                "monitoring.monitoringentry",
                on_delete=django.db.models.deletion.SET_NULL,
                null=True,
                blank=True,
                related_name="project_workflow",
                limit_choices_to={"category__in": ["moa_ppa", "oobc_ppa"]},
            ),
        ),
    ]
