from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0002_user_user_type")]
    operations = [
        migrations.AddField("user", "organization", models.CharField(blank=True, max_length=255)),
        migrations.AddField("user", "position", models.CharField(blank=True, max_length=255)),
        migrations.AddField("user", "contact_number", models.CharField(blank=True, max_length=20)),
    ]
