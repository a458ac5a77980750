from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0011_stafftask_assignees_and_teams")]
    operations = [
        migrations.AddField("stafftask", "start_date", models.DateField(blank=True, null=True)),
        migrations.AddField("stafftask", "progress", models.PositiveSmallIntegerField(default=0)),
    ]
