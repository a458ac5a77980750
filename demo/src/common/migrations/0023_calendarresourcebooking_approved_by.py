import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0022_calendarresourcebooking")]
    operations = [
        migrations.AddField(
            "calendarresourcebooking",
            "approved_by",
            models.ForeignKey(
                settings.AUTH_USER_MODEL,
                on_delete=django.db.models.deletion.SET_NULL,
                null=True,
                blank=True,
                related_name="approved_resource_bookings",
            ),
        ),
    ]
