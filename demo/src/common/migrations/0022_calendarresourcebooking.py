import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("common", "0021_calendarresource"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [
        migrations.CreateModel(
            name="CalendarResourceBooking",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("object_id", models.UUIDField(blank=True, null=True)),
                ("start_datetime", models.DateTimeField()),
                ("end_datetime", models.DateTimeField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending Approval"),
                            ("approved", "Approved"),
                            ("rejected", "Rejected"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="pending",
                        max_length=20,
                    ),
                ),
                ("notes", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "booked_by",
                    models.ForeignKey(
                        settings.AUTH_USER_MODEL,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="resource_bookings",
                    ),
                ),
                (
                    "content_type",
                    models.ForeignKey(
                        "contenttypes.contenttype",
                        on_delete=django.db.models.deletion.CASCADE,
                        null=True,
                        blank=True,
                    ),
                ),
                (
                    "resource",
                    models.ForeignKey(
                        "common.calendarresource",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="bookings",
                    ),
                ),
            ],
            options={
                "db_table": "common_calendar_resource_booking",
                "ordering": ["start_datetime", "pk"],
            },
        ),
    ]
