from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("rehearsal/", include("rehearsal.urls")),
    path("project-central/", include("project_central.urls")),
    path("", include("common.urls")),
]
