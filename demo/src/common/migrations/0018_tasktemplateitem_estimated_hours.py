from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("common", "0017_tasktemplateitem")]
    operations = [
        migrations.AddField(
            "tasktemplateitem",
            "estimated_hours",
            models.DecimalField(blank=True, decimal_places=2, max_digits=6, null=True),
        ),
    ]
