from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from common import models

admin.site.register(models.User, UserAdmin)
admin.site.register(
    [
        models.CalendarNotification,
        models.CalendarResource,
        models.CalendarResourceBooking,
        models.StaffTask,
        models.StaffTeam,
        models.TaskTemplate,
        models.TaskTemplateItem,
    ]
)
