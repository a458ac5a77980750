from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0003_user_organization_and_position")]
    operations = [
        migrations.AddField("user", "is_approved", models.BooleanField(default=False)),
    ]
