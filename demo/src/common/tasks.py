"""What Celery does in the background: notifications, reminders, digests, housekeeping."""

from datetime import timedelta
from typing import Any

from celery import Task, group, shared_task
from celery.utils.log import get_task_logger
from django.conf import settings
from django.core.mail import send_mail
from django.core.management import call_command
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from common.faults import planted
from common.models import CalendarNotification, StaffTask, User

logger = get_task_logger(__name__)
CLAIM = timedelta(minutes=5)


@shared_task
def send_calendar_notifications_batch(batch_size: int = 100) -> dict[str, int]:
    """Hand the earliest due pending notifications, up to `batch_size`, to a task each."""
    now = timezone.now()
    with transaction.atomic():
        # A second batch running now passes over the rows of this one.
        due = list(
            CalendarNotification.objects.select_for_update(skip_locked=True)
            .filter(status=CalendarNotification.STATUS_PENDING, scheduled_for__lte=now)
            .order_by("scheduled_for", "pk")
            .values_list("pk", flat=True)[:batch_size]
        )
        # Pushed on, they are not due again before these tasks had their chance.
        CalendarNotification.objects.filter(pk__in=due).update(scheduled_for=now + CLAIM)
    if due:
        group(send_single_calendar_notification.s(pk) for pk in due).apply_async()
    logger.info("queued %d calendar notifications", len(due))
    return {"queued": len(due)}


@shared_task(bind=True, max_retries=3)
def send_single_calendar_notification(self: Task[Any, Any], notification_id: int) -> str:
    """Deliver one notification and return its status.

    A mail that fails is recorded as `failed` and tried three times more, at growing distances.
    """
    notification = (
        CalendarNotification.objects.select_related("recipient")
        .exclude(status__in=["sent", "cancelled"])
        .filter(pk=notification_id)
        .first()
    )
    if notification is None:
        return "nothing to send"
    if planted("notification left pending"):
        return notification.status
    try:
        deliver(notification)
    except UndeliverableError as error:
        _record(notification, CalendarNotification.STATUS_FAILED, str(error))
    except Exception as error:
        _record(notification, CalendarNotification.STATUS_FAILED, str(error))
        logger.warning("calendar notification %d failed: %s", notification_id, error)
        raise self.retry(exc=error, countdown=30 * 2**self.request.retries) from error
    else:
        notification.sent_at = timezone.now()
        _record(notification, CalendarNotification.STATUS_SENT, "")
    return notification.status


class UndeliverableError(Exception):
    """Trying again would not help."""


def deliver(notification: CalendarNotification) -> None:
    """Send the mail, or leave the in-app message to be seen. Raises what the mailer raises."""
    recipient = notification.recipient
    if planted("notification not mailed"):
        return
    if notification.delivery_method == CalendarNotification.DELIVERY_IN_APP:
        return
    if notification.delivery_method != CalendarNotification.DELIVERY_EMAIL:
        raise UndeliverableError(
            f"No gateway is set up for {notification.get_delivery_method_display()}. "
            "Send it by email or in the application."
        )
    if not recipient.email:
        raise UndeliverableError(f"{recipient} has no email address. Add one to the account.")
    kind = notification.get_notification_type_display()
    send_mail(
        subject=f"Calendar: {kind}",
        message=f"Hello {recipient.first_name or recipient.username},\n\n"
        f"{kind}: please see the calendar for the details.\n",
        from_email=settings.DEFAULT_FROM_EMAIL,
        recipient_list=[recipient.email],
    )


def _record(notification: CalendarNotification, status: str, error: str) -> None:
    notification.status, notification.error_message = status, error
    notification.save(update_fields=["status", "error_message", "sent_at"])


@shared_task
def process_scheduled_reminders() -> dict[str, int]:
    """Every quarter of an hour: send what has come due."""
    return send_calendar_notifications_batch()


@shared_task
def send_daily_digest() -> int:
    """Tell everyone with overdue tasks how many; returns the number of mails."""
    overdue = Count(
        "assigned_staff_tasks",
        filter=Q(assigned_staff_tasks__due_date__lt=timezone.localdate())
        & ~Q(assigned_staff_tasks__status=StaffTask.STATUS_COMPLETED),
    )
    people = User.objects.filter(is_active=True, is_approved=True).exclude(email="")
    sent = 0
    for user in people.annotate(overdue=overdue).filter(overdue__gt=0):
        sent += send_mail(
            subject="Your tasks today",
            message=f"You have {user.overdue} overdue task(s).\n",
            from_email=settings.DEFAULT_FROM_EMAIL,
            recipient_list=[user.email],
            fail_silently=True,
        )
    return sent


@shared_task
def cleanup_expired_sessions() -> None:
    call_command("clearsessions")
