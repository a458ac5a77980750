from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0024_calendarnotification")]
    operations = [
        migrations.AddField("calendarnotification", "error_message", models.TextField(blank=True)),
        migrations.AddIndex(
            "calendarnotification",
            models.Index(fields=["status", "scheduled_for"], name="notification_due"),
        ),
    ]
