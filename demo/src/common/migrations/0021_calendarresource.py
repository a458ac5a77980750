from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0020_stafftask_completed_at")]
    operations = [
        migrations.CreateModel(
            name="CalendarResource",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=255)),
                (
                    "resource_type",
                    models.CharField(
                        choices=[
                            ("vehicle", "Vehicle"),
                            ("equipment", "Equipment"),
                            ("room", "Meeting Room"),
                            ("facilitator", "Facilitator"),
                        ],
                        max_length=20,
                    ),
                ),
                ("location", models.CharField(blank=True, max_length=255)),
                ("capacity", models.PositiveIntegerField(blank=True, null=True)),
                ("is_available", models.BooleanField(default=True)),
            ],
            options={"ordering": ["name"]},
        ),
    ]
