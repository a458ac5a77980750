import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0005_approve_existing_users")]
    operations = [
        migrations.AddField("user", "approved_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField(
            "user",
            "approved_by",
            models.ForeignKey(
                settings.AUTH_USER_MODEL,
                on_delete=django.db.models.deletion.SET_NULL,
                null=True,
                blank=True,
                related_name="approved_users",
            ),
        ),
    ]
