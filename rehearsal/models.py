"""The records of a rehearsal. They know no checks: an item holds its check's dotted path.

Every change of an item goes through `journal.change()`.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable
from typing import Any, NoReturn

from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone


class Status(models.TextChoices):
    """Where an item stands."""

    PENDING = "pending", "pending"
    """Waits for the items it needs."""
    QUEUED = "queued", "queued"
    """Given to the workers; none has claimed it yet."""
    RUNNING = "running", "running"
    PASSED = "passed", "passed"
    FAILED = "failed", "failed"
    INCONCLUSIVE = "inconclusive", "inconclusive"
    SKIPPED = "skipped", "skipped"
    ACTION_REQUIRED = "action_required", "action required"
    """Waits for a person."""


ACTIVE = {Status.QUEUED, Status.RUNNING}
WAIVABLE = {Status.FAILED, Status.INCONCLUSIVE, Status.SKIPPED}


class Verdict(models.TextChoices):
    """What a rehearsal says as a whole; derived from its items, never stored."""

    RUNNING = "running", "running"
    GREEN = "green", "green"
    RED = "red", "red"
    ACTION_REQUIRED = "action_required", "action required"
    CANCELLED = "cancelled", "cancelled"


class Choice(models.TextChoices):
    """What a rehearsal can be decided."""

    GO = "go", "go"
    NO_GO = "no-go", "no-go"


class Rehearsal(models.Model):
    """One performance of one frozen checklist, for one commit, in one environment."""

    number = models.BigAutoField(primary_key=True)
    environment = models.CharField(max_length=100)
    revision = models.CharField(max_length=100, blank=True)
    checklist_text = models.TextField()
    checklist_sha256 = models.CharField(max_length=64)
    started_by = models.CharField(max_length=200)
    started_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True)
    """When it ended: nothing was left to run or to answer, or it was red and nothing ran."""
    cancelled_by = models.CharField(max_length=200, blank=True)
    decision = models.CharField(max_length=10, choices=Choice, blank=True)
    """What its votes came to. Whatever was performed before the sign-off is final from then on."""
    decided_at = models.DateTimeField(null=True)
    ticket = models.CharField(max_length=100, blank=True)
    """The release ticket's number, as the one who decided named it."""
    settings_digest = models.CharField(max_length=64, blank=True)
    """A keyed digest of the settings it was started with."""
    beat_seen_at = models.DateTimeField(null=True)
    """When a task sent by Celery beat during this rehearsal was last performed."""
    version = models.PositiveBigIntegerField(default=0)
    """Counts the changes: what a page has seen, and whether there is more."""
    journal_hash = models.CharField(max_length=64, blank=True)
    """The hash of the journal's last entry, so that a shortened journal shows."""
    journal_length = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ("-number",)
        constraints = (
            models.UniqueConstraint(
                fields=("environment",),
                condition=Q(closed_at__isnull=True),
                name="rehearsal_one_open_per_environment",
            ),
        )
        permissions = (
            ("start_rehearsal", "Can start, cancel and re-run rehearsals"),
            ("decide_rehearsal", "Can decide go or no-go"),
        )

    def __str__(self) -> str:
        return f"Rehearsal {self.number}"

    def get_absolute_url(self) -> str:
        return reverse("rehearsal:rehearsal", args=[self.number])

    @property
    def verdict(self) -> Verdict:
        """What the items say together."""
        return verdict(self, self.items.all())

    @property
    def deciding_votes(self) -> list[Vote]:
        """Those that the decision came of; a vote over what was run again since is none."""
        votes = list(self.votes.order_by("pk"))
        return [
            one
            for one in votes
            if one.choice == self.decision and one.outcomes_sha256 == votes[-1].outcomes_sha256
        ]

    @property
    def finished_at(self) -> datetime.datetime | None:
        """When the last item was settled; None while any is still to be."""
        items = [item for item in self.items.all() if self.decision or not item.sign_off]
        if any(item.status in ACTIVE | {Status.PENDING} for item in items):
            return None
        return max((item.finished_at for item in items if item.finished_at), default=self.closed_at)


def verdict(rehearsal: Rehearsal, items: Iterable[CheckItem]) -> Verdict:
    """The verdict over `items`, all those of `rehearsal`."""
    items = list(items)
    if rehearsal.cancelled_by:
        return Verdict.CANCELLED
    signs_off = any(item.sign_off for item in items)
    if not rehearsal.decision:
        stands = _together([item for item in items if not item.sign_off])
        # Green is said of the whole document, so it waits for the decision and what follows it.
        return Verdict.ACTION_REQUIRED if signs_off and stands == Verdict.GREEN else stands
    stands = _together(items)
    no_go = rehearsal.decision == Choice.NO_GO
    return Verdict.RED if no_go and stands != Verdict.RUNNING else stands


def before_sign_off(items: Iterable[CheckItem]) -> Verdict:
    """The verdict over those of `items` that come before the decision, which is about it."""
    return _together([item for item in items if not item.sign_off])


def awaits_decision(rehearsal: Rehearsal, items: Iterable[CheckItem]) -> bool:
    """Whether all before the sign-off is green, and its lines wait for somebody to decide."""
    items = list(items)
    waiting = any(item.sign_off and item.status == Status.PENDING for item in items)
    undecided = not (rehearsal.decision or rehearsal.cancelled_by)
    return undecided and waiting and before_sign_off(items) == Verdict.GREEN


def _together(items: Iterable[CheckItem]) -> Verdict:
    # A partial performance is never green: skipped counts only where it does not apply here.
    open_items = [item for item in items if not item.accepted]
    statuses = {item.status for item in open_items}
    waits = Status.ACTION_REQUIRED in statuses
    if statuses & ACTIVE or (Status.PENDING in statuses and not waits):
        return Verdict.RUNNING
    if statuses & {Status.FAILED, Status.INCONCLUSIVE}:
        return Verdict.RED
    return Verdict.ACTION_REQUIRED if open_items else Verdict.GREEN


class Section(models.Model):
    """One `##` heading of the checklist that holds items."""

    rehearsal = models.ForeignKey(Rehearsal, models.CASCADE, related_name="sections")
    number = models.PositiveIntegerField()
    title = models.TextField()

    class Meta:
        ordering = ("rehearsal", "number")
        constraints = (
            models.UniqueConstraint(
                fields=("rehearsal", "number"), name="rehearsal_section_number_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.number}. {self.title}"


class CheckItem(models.Model):
    """One `- [ ]` line of the checklist, the check bound to it and what came of it."""

    rehearsal = models.ForeignKey(Rehearsal, models.CASCADE, related_name="items")
    section = models.ForeignKey(Section, models.CASCADE, related_name="items")
    position = models.PositiveIntegerField()
    """Counts the items of the whole document from 0."""
    number = models.PositiveIntegerField()
    """Counts the items of the section from 1."""
    text = models.TextField()
    check_path = models.CharField(max_length=300)
    options = models.JSONField(default=dict)
    sign_off = models.BooleanField(default=False)
    """Whether its check declares that it is performed after the decision."""
    note = models.TextField(blank=True)
    """How the line came to its check, where that is not plain."""

    status = models.CharField(max_length=20, choices=Status, default=Status.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    token = models.CharField(max_length=32, blank=True)
    """Held by the worker that claimed the item; without it nothing can be settled."""
    lease_expires_at = models.DateTimeField(null=True)
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    worker = models.CharField(max_length=200, blank=True)
    task_id = models.CharField(max_length=64, blank=True)
    summary = models.TextField(blank=True)
    output = models.TextField(blank=True)
    evidence = models.JSONField(default=dict)
    confirmed_by = models.CharField(max_length=200, blank=True)
    waived_by = models.CharField(max_length=200, blank=True)
    waived_at = models.DateTimeField(null=True)
    waiver_reason = models.TextField(blank=True)
    waiver_expires_at = models.DateTimeField(null=True)
    changed_in = models.PositiveBigIntegerField(default=0)
    """The rehearsal's version when this item last changed."""

    class Meta:
        ordering = ("rehearsal", "position")
        constraints = (
            models.UniqueConstraint(
                fields=("rehearsal", "position"), name="rehearsal_item_position_once"
            ),
        )
        permissions = (
            ("confirm_checkitem", "Can confirm items that wait for a person"),
            ("waive_checkitem", "Can waive items that did not pass"),
        )

    def __str__(self) -> str:
        return f"{self.ref} {self.text}"

    def get_absolute_url(self) -> str:
        return reverse("rehearsal:item", args=[self.rehearsal_id, self.ref])

    @property
    def ref(self) -> str:
        """The item's reference, `3.2` for the second item of section 3."""
        return f"{self.section.number}.{self.number}"

    @property
    def accepted(self) -> bool:
        """Whether the item asks nothing more of anybody."""
        return self.status == Status.PASSED or self.waived or self.not_applicable

    @property
    def waived(self) -> bool:
        """Whether a person's waiver stands: it has not expired, or not before the decision."""
        if not self.waived_by or self.waiver_expires_at is None:
            return bool(self.waived_by)
        if self.waiver_expires_at > timezone.now():
            return True
        decided_at = self.rehearsal.decided_at
        return decided_at is not None and decided_at < self.waiver_expires_at

    @property
    def not_applicable(self) -> bool:
        """Whether the check itself ran and said that it is not enabled here."""
        return self.status == Status.SKIPPED and self.started_at is not None

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took, by the database's clock."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def waiver(self) -> dict[str, str | None] | None:
        """A person's signed acceptance of an item that did not pass."""
        if not self.waived_by or self.waived_at is None:
            return None
        at = self.waived_at.isoformat()
        expires = self.waiver_expires_at.isoformat() if self.waiver_expires_at else None
        reason = self.waiver_reason
        return {"by": self.waived_by, "at": at, "reason": reason, "expires_at": expires}


class Measurement(models.Model):
    """A number an item recorded, kept by series for comparison with other rehearsals."""

    rehearsal = models.ForeignKey(Rehearsal, models.CASCADE, related_name="measurements")
    item = models.ForeignKey(CheckItem, models.CASCADE, related_name="measurements")
    name = models.CharField(max_length=200)
    value = models.FloatField()
    unit = models.CharField(max_length=40)

    class Meta:
        ordering = ("id",)
        indexes = (models.Index(fields=("name", "rehearsal"), name="rehearsal_series"),)

    def __str__(self) -> str:
        return f"{self.name} {self.value:g} {self.unit}"


class Unchangeable(models.Model):
    """A record that is only ever added."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"{self} was recorded once and for all: it cannot be changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{self} was recorded once and for all: it cannot be deleted.")


POLICY = "policy"
"""Who votes in nobody's name, where `SIGN_OFF` lets it."""


class Vote(Unchangeable):
    """What somebody said when asked to decide, and over which outcomes."""

    rehearsal = models.ForeignKey(Rehearsal, models.CASCADE, related_name="votes")
    by = models.CharField(max_length=200, blank=True)
    """Empty: the policy."""
    choice = models.CharField(max_length=10, choices=Choice)
    reason = models.TextField()
    at = models.DateTimeField(default=timezone.now)
    outcomes_sha256 = models.CharField(max_length=64)
    """The digest of the outcomes the vote is about; once they change, it counts no more."""

    class Meta:
        ordering = ("at", "pk")
        constraints = (
            models.UniqueConstraint(
                fields=("rehearsal", "by", "outcomes_sha256"), name="rehearsal_vote_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.choice} by {self.who}"

    @property
    def who(self) -> str:
        return self.by or POLICY


class Seal(Unchangeable):
    """The evidence as one document, signed; a later one takes its place and removes none."""

    rehearsal = models.ForeignKey(Rehearsal, models.CASCADE, related_name="seals")
    at = models.DateTimeField(default=timezone.now)
    complete = models.BooleanField()
    """Whether the sign-off is in it: the first seal is set at the decision, before that."""
    document = models.TextField()
    signature = models.CharField(max_length=64)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"Seal of {self.rehearsal}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.document.encode()).hexdigest()


class Event(models.Model):
    """One entry of the journal: who changed what, from what to what. Only ever added to."""

    rehearsal = models.ForeignKey(Rehearsal, models.CASCADE, related_name="events")
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    actor = models.CharField(max_length=200)
    ref = models.CharField(max_length=20, blank=True)
    before = models.CharField(max_length=20, blank=True)
    after = models.CharField(max_length=20, blank=True)
    message = models.TextField(blank=True)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ("rehearsal", "sequence")
        constraints = (
            models.UniqueConstraint(
                fields=("rehearsal", "sequence"), name="rehearsal_event_sequence_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.sequence} {self.ref} {self.before} → {self.after}"

    def chained(self, previous: str) -> str:
        """The entry's hash after an entry with the hash `previous`: SHA-256 over both."""
        at = self.at.astimezone(datetime.UTC).isoformat()
        said = [self.rehearsal_id, self.sequence, at, self.actor, self.ref]
        said += [self.before, self.after, self.message, previous]
        return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()
