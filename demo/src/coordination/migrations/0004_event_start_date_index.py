from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("coordination", "0003_event_organizer_and_start_time")]
    operations = [
        migrations.AddIndex("event", models.Index(fields=["start_date"], name="event_start_date")),
    ]
