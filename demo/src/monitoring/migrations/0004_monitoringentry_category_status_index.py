from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0003_monitoringentry_priority_and_progress")]
    operations = [
        migrations.AddIndex(
            "monitoringentry",
            models.Index(fields=["category", "status"], name="entry_category_status"),
        ),
    ]
