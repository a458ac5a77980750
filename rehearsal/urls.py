"""The app's pages, for `include("rehearsal.urls")`."""

from django.urls import path

from rehearsal import actions, live, polling, views

app_name = "rehearsal"
urlpatterns = [
    path("", views.index, name="index"),
    path("trends/", views.trends, name="trends"),
    path("start/", actions.start, name="start"),
    path("<int:number>/", views.rehearsal, name="rehearsal"),
    path("<int:number>/journal/", views.journal, name="journal"),
    path("<int:number>/rows/", polling.rows, name="rows"),
    path("<int:number>/stream/", live.stream, name="stream"),
    path("<int:number>/cancel/", actions.cancel, name="cancel"),
    path("<int:number>/rerun/", actions.rerun, name="rerun"),
    path("<int:number>/roll-back/", actions.roll_back, name="roll_back"),
    path("<int:number>/decide/", actions.decide, name="decide"),
    path("<int:number>/checklist.md", views.checklist, name="checklist"),
    path("<int:number>/evidence.json", views.evidence, name="evidence"),
    path("<int:number>/evidence.seal", views.seal, name="seal"),
    path("<int:number>/junit.xml", views.junit, name="junit"),
    path("<int:number>/report.html", views.report, name="report"),
    path("compare/<int:a>/<int:b>/", views.compare, name="compare"),
    path("<int:number>/items/<str:ref>/", views.item, name="item"),
    path("<int:number>/items/<str:ref>/trends/", views.item_trends, name="item_trends"),
    path("<int:number>/items/<str:ref>/confirm/", actions.confirm, name="confirm"),
    path("<int:number>/items/<str:ref>/waive/", actions.waive, name="waive"),
]
