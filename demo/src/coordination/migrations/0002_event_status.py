from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("coordination", "0001_initial")]
    operations = [
        migrations.AddField(
            "event",
            "status",
            models.CharField(
                choices=[
                    ("planned", "Planned"),
                    ("confirmed", "Confirmed"),
                    ("completed", "Completed"),
                    ("cancelled", "Cancelled"),
                ],
                default="planned",
                max_length=15,
            ),
        ),
    ]
