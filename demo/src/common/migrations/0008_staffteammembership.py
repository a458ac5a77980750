import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0007_staffteam")]
    operations = [
        migrations.CreateModel(
            name="StaffTeamMembership",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("lead", "Team Lead"),
                            ("coordinator", "Coordinator"),
                            ("member", "Member"),
                        ],
                        default="member",
                        max_length=20,
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        "common.staffteam",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        settings.AUTH_USER_MODEL,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="team_memberships",
                    ),
                ),
            ],
        ),
    ]
