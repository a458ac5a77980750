"""The batch and the single message, with real tasks run in place and mail kept in memory."""

from datetime import timedelta

import pytest
from celery import current_app
from django.core import mail
from django.test import TestCase, override_settings
from django.utils import timezone

from common.models import CalendarNotification
from common.tasks import send_calendar_notifications_batch, send_single_calendar_notification
from common.tests.factories import create_user


class CalendarNotificationTaskTests(TestCase):
    def setUp(self) -> None:
        self.user = create_user(first_name="Reader")
        eager = current_app.conf.task_always_eager
        current_app.conf.task_always_eager = True
        self.addCleanup(setattr, current_app.conf, "task_always_eager", eager)

    def create(self, minutes: int = -1, **fields: object) -> CalendarNotification:
        return CalendarNotification.objects.create(
            **{
                "recipient": self.user,
                "notification_type": "reminder",
                "delivery_method": "email",
                "scheduled_for": timezone.now() + timedelta(minutes=minutes),
            }
            | fields
        )

    def statuses(self) -> list[str]:
        return list(CalendarNotification.objects.order_by("pk").values_list("status", flat=True))

    def test_a_batch_sends_what_is_due(self) -> None:
        for minutes in (-3, -2, 10):
            self.create(minutes)
        self.create(-5, status="cancelled")
        assert send_calendar_notifications_batch.delay().get() == {"queued": 2}
        assert self.statuses() == ["sent", "sent", "pending", "cancelled"]
        assert [message.to for message in mail.outbox] == [[self.user.email]] * 2
        assert "Hello Reader" in mail.outbox[0].body

    def test_a_batch_takes_the_earliest(self) -> None:
        for minutes in (-1, -9, -5):
            self.create(minutes)
        assert send_calendar_notifications_batch(batch_size=2) == {"queued": 2}
        assert self.statuses() == ["pending", "sent", "sent"]

    def test_a_second_batch_finds_nothing(self) -> None:
        self.create()
        send_calendar_notifications_batch()
        assert send_calendar_notifications_batch() == {"queued": 0}
        assert len(mail.outbox) == 1

    def test_one_message_is_sent_once(self) -> None:
        notification = self.create()
        assert send_single_calendar_notification(notification.pk) == "sent"
        assert send_single_calendar_notification(notification.pk) == "nothing to send"
        notification.refresh_from_db()
        assert notification.sent_at is not None
        assert len(mail.outbox) == 1

    def test_in_app_needs_no_mail(self) -> None:
        assert send_single_calendar_notification(self.create(delivery_method="in_app").pk) == "sent"
        assert mail.outbox == []

    def test_without_a_gateway_sms_fails_and_says_why(self) -> None:
        notification = self.create(delivery_method="sms")
        assert send_single_calendar_notification(notification.pk) == "failed"
        notification.refresh_from_db()
        assert "No gateway" in notification.error_message

    # Port 9 discards; nothing listens there, so the connection is refused at once.
    @override_settings(
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=9,
    )
    def test_a_dead_mail_server_is_recorded(self) -> None:
        notification = self.create()
        with pytest.raises(OSError):
            send_single_calendar_notification(notification.pk)
        notification.refresh_from_db()
        assert notification.status == "failed"
        assert "refused" in notification.error_message
