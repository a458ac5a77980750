from django.db import migrations


def approve(apps, schema_editor):
    """Whoever could sign in before approval was asked for still can."""
    users = apps.get_model("common", "User").objects.using(schema_editor.connection.alias)
    users.filter(is_active=True).update(is_approved=True)


class Migration(migrations.Migration):
    dependencies = [("common", "0004_user_is_approved")]
    operations = [
        migrations.RunPython(approve, migrations.RunPython.noop),
    ]
