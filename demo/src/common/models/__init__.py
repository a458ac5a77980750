from common.models.calendar import (
    CalendarNotification,
    CalendarResource,
    CalendarResourceBooking,
)
from common.models.people import StaffTeam, StaffTeamMembership, User
from common.models.work import StaffTask, TaskTemplate, TaskTemplateItem

__all__ = [
    "CalendarNotification",
    "CalendarResource",
    "CalendarResourceBooking",
    "StaffTask",
    "StaffTeam",
    "StaffTeamMembership",
    "TaskTemplate",
    "TaskTemplateItem",
    "User",
]
