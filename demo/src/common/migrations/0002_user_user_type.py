from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0001_initial")]
    operations = [
        migrations.AddField(
            "user",
            "user_type",
            models.CharField(
                choices=[
                    ("admin", "Administrator"),
                    ("oobc_staff", "OOBC Staff"),
                    ("bmoa", "BARMM Ministry, Agency or Office"),
                    ("lgu", "Local Government Unit"),
                    ("nga", "National Government Agency"),
                    ("community_leader", "Community Leader"),
                    ("researcher", "Researcher"),
                ],
                default="oobc_staff",
                max_length=20,
            ),
            preserve_default=False,
        ),
    ]
