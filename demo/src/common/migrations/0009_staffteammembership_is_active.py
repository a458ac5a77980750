from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0008_staffteammembership")]
    operations = [
        migrations.AddField("staffteammembership", "is_active", models.BooleanField(default=True)),
        migrations.AddConstraint(
            "staffteammembership",
            models.UniqueConstraint(fields=("team", "user"), name="one_membership_per_team"),
        ),
    ]
