from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0027_booking_overlap_index")]
    operations = [
        migrations.AddIndex(
            "stafftask", models.Index(fields=["status", "due_date"], name="stafftask_status_due")
        ),
    ]
