from django.db import migrations


def link(apps, schema_editor):
    """Find each generated task's item by its title; of repeats only the first is linked."""
    alias = schema_editor.connection.alias
    items = {
        (item.template_id, item.title): item.pk
        for item in apps.get_model("common", "TaskTemplateItem").objects.using(alias)
    }
    tasks = apps.get_model("common", "StaffTask").objects.using(alias)
    seen, changed = set(), []
    for task in tasks.exclude(created_from_template=None).order_by("pk"):
        item = items.get((task.created_from_template_id, task.title))
        if item and (task.linked_workflow_id, item) not in seen:
            seen.add((task.linked_workflow_id, item))
            task.template_item_id = item
            changed.append(task)
    tasks.bulk_update(changed, ["template_item"], batch_size=500)


class Migration(migrations.Migration):
    dependencies = [("common", "0029_stafftask_template_item")]
    operations = [
        migrations.RunPython(link, migrations.RunPython.noop),
    ]
