from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0026_stafftask_projects")]
    operations = [
        migrations.AddIndex(
            "calendarresourcebooking",
            models.Index(fields=["resource", "status", "start_datetime"], name="booking_overlap"),
        ),
        migrations.AddConstraint(
            "calendarresourcebooking",
            models.CheckConstraint(
                condition=models.Q(("end_datetime__gt", models.F("start_datetime"))),
                name="booking_ends_after_it_starts",
                violation_error_message="A booking must end after it starts.",
            ),
        ),
    ]
