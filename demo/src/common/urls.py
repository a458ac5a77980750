from django.contrib.auth.views import LogoutView
from django.urls import path

from common import views
from coordination import views as coordination_views

app_name = "common"

urlpatterns = [
    path("", views.dashboard, name="home"),
    path("dashboard/", views.dashboard, name="dashboard"),
    path("login/", views.login, name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("health/", views.health, name="health"),
    path("ready/", views.ready, name="ready"),
    path("oobc-management/calendar/", views.oobc_calendar, name="oobc_calendar"),
    path(
        "oobc-management/calendar/feed/json/",
        views.oobc_calendar_feed_json,
        name="oobc_calendar_feed_json",
    ),
    path("oobc-management/calendar/bookings/", views.booking_list, name="calendar_booking_list"),
    path(
        "coordination/resources/<int:resource_id>/bookings/feed/",
        coordination_views.resource_bookings_feed,
        name="coordination_resource_bookings_feed",
    ),
]
