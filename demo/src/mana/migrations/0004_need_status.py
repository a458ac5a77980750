from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("mana", "0003_need_identified_by")]
    operations = [
        migrations.AddField(
            "need",
            "status",
            models.CharField(
                choices=[
                    ("identified", "Identified"),
                    ("validated", "Validated"),
                    ("prioritized", "Prioritized"),
                    ("in_progress", "Implementation in Progress"),
                    ("completed", "Completed"),
                ],
                default="identified",
                max_length=15,
            ),
        ),
        migrations.AddIndex("need", models.Index(fields=["status"], name="need_status")),
    ]
