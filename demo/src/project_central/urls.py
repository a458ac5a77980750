from django.urls import path

from project_central import views

app_name = "project_central"

urlpatterns = [
    path("", views.project_list, name="dashboard"),
    path("projects/", views.project_list, name="project_list"),
    path("projects/create/", views.create_project_workflow, name="create_project_workflow"),
    path(
        "projects/<uuid:workflow_id>/",
        views.project_workflow_detail,
        name="project_workflow_detail",
    ),
    path("tasks/", views.my_tasks_with_projects, name="my_tasks_with_projects"),
    path(
        "tasks/generate/<uuid:workflow_id>/",
        views.generate_workflow_tasks,
        name="generate_workflow_tasks",
    ),
]
