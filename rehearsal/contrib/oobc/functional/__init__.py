"""Section 4, functional checks: what people do with the system works, seen in staging itself.

Every check works with rows of its own, which `traces` removes again.
"""

from rehearsal.contrib.oobc.functional.booking import BookingAppears
from rehearsal.contrib.oobc.functional.generation import NoDuplicateTasks
from rehearsal.contrib.oobc.functional.notifications import NotificationsSent
from rehearsal.contrib.oobc.functional.table import TasksRenderWithFilters

__all__ = ["BookingAppears", "NoDuplicateTasks", "NotificationsSent", "TasksRenderWithFilters"]
