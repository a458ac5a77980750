"""The app's pages, for `include("rehearsal.urls")`."""

from django.urls import path

from rehearsal import views

app_name = "rehearsal"
urlpatterns = [
    path("", views.index, name="index"),
    path("start/", views.start, name="start"),
    path("<int:number>/", views.rehearsal, name="rehearsal"),
    path("<int:number>/rows/", views.rows, name="rows"),
    path("<int:number>/cancel/", views.cancel, name="cancel"),
    path("<int:number>/rerun/", views.rerun, name="rerun"),
    path("<int:number>/checklist.md", views.checklist, name="checklist"),
    path("<int:number>/evidence.json", views.evidence, name="evidence"),
    path("<int:number>/items/<str:ref>/", views.item, name="item"),
    path("<int:number>/items/<str:ref>/confirm/", views.confirm, name="confirm"),
    path("<int:number>/items/<str:ref>/waive/", views.waive, name="waive"),
]
