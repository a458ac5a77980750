import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("mana", "0001_initial")]
    operations = [
        migrations.AddField(
            "need",
            "urgency_level",
            models.CharField(
                choices=[
                    ("immediate", "Immediate"),
                    ("short_term", "Short-term"),
                    ("medium_term", "Medium-term"),
                    ("long_term", "Long-term"),
                ],
                default="medium_term",
                max_length=15,
            ),
        ),
        migrations.AddField(
            "need",
            "impact_severity",
            models.IntegerField(
                default=3,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(5),
                ],
            ),
        ),
    ]
