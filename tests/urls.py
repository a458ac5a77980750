"""The URLs of the tests' project."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("rehearsal/", include("rehearsal.urls")),
]
