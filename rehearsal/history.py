"""What earlier rehearsals measured: for a check to compare with, and for the page to draw."""

from __future__ import annotations

from django.db.models import QuerySet

from rehearsal.checks import base
from rehearsal.models import CheckItem, Measurement, Rehearsal


class Records(base.History):
    """The records of the item that is performed, as its check may see them."""

    def __init__(self, item: CheckItem) -> None:
        self._item = item

    def previous(self, series: str) -> base.Past | None:
        return _past(self._earlier(series).first())

    def baseline(self, series: str) -> base.Past | None:
        earlier = self._earlier(series)
        accepted = CheckItem.objects.filter(check_path=self._item.check_path).exclude(waived_by="")
        pinned = earlier.filter(items__in=accepted).first()
        return _past(pinned or earlier.order_by("number").first())

    def told(self, check: str) -> base.Told | None:
        found = CheckItem.objects.filter(rehearsal=self._item.rehearsal_id, check_path=check)
        item = found.defer("output").order_by("-position").first()
        return base.Told(str(item.status), item.summary, item.evidence) if item else None

    def _earlier(self, series: str) -> QuerySet[Rehearsal]:
        """The rehearsals of this environment that measured such a series, the newest first."""
        own = self._item.rehearsal
        measured = Measurement.objects.filter(name=series).values("rehearsal")
        earlier = Rehearsal.objects.filter(
            environment=own.environment, number__lt=own.number, cancelled_by="", pk__in=measured
        )
        return earlier.defer("checklist_text").order_by("-number")


def _past(rehearsal: Rehearsal | None) -> base.Past | None:
    if rehearsal is None:
        return None
    rows = Measurement.objects.filter(rehearsal=rehearsal).order_by("pk")
    return base.Past(
        base.Rehearsed(rehearsal.number, rehearsal.revision, rehearsal.started_at),
        {one.name: base.Measurement(one.name, one.value, one.unit) for one in rows},
    )
