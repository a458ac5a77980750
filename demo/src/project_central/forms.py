from django import forms

from mana.models import Need
from project_central.models import ProjectWorkflow


class WorkflowForm(forms.ModelForm):
    class Meta:
        model = ProjectWorkflow
        fields = ["primary_need", "ppa", "current_stage", "priority_level", "notes"]

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["primary_need"].queryset = Need.objects.filter(project_workflow=None)
