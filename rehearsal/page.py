"""What a page shows of a rehearsal: one set of words, signs and counts wherever it appears."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Length, Right
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rehearsal.checks.base import ACKNOWLEDGE
from rehearsal.conf import configuration
from rehearsal.databases.replacement import KEPT
from rehearsal.models import (
    ACTIVE,
    WAIVABLE,
    CheckItem,
    Choice,
    Event,
    Measurement,
    Rehearsal,
    Section,
    Status,
    Verdict,
    awaits_decision,
    before_sign_off,
)
from rehearsal.sentences import translated
from rehearsal.timeline import Timeline, timeline
from rehearsal.wording import (
    SETTLED,
    VERDICTS,
    WORDS,
    anchor,
    duration,
    folded,
    inline,
    measured,
    sign,
    word_of,
)

TAIL = 4000
"""Characters of an item's output that are shown in its row: the last ones."""
MOST_SEGMENTS = 100
"""Parts that the bar of progress has at most: it comes with every change."""
JOURNAL = 12
"""Entries of the journal that come with the rehearsal's page, and so with each change: the last."""
WITHOUT_WORKER_AFTER = 10
"""Seconds an item stays queued with nothing running before the page asks for a worker."""


def light_items() -> Prefetch[Any, Any, Any]:
    """Enough of the items for verdicts, signs and durations, in one query for many rehearsals."""
    needed = (
        "rehearsal_id", "status", "confirmed_by", "waived_by", "waiver_expires_at", "started_at",
        "finished_at", "sign_off",
    )  # fmt: skip
    return Prefetch("items", CheckItem.objects.only(*needed).order_by("position"))


def shown(number: int) -> QuerySet[Rehearsal]:
    """The rehearsal `number` with all its items but without their output."""
    items = CheckItem.objects.select_related("section").defer("output").order_by("position")
    # The rehearsal is read before its items: a change in between is shown twice, never missed.
    return Rehearsal.objects.filter(pk=number).prefetch_related(Prefetch("items", items))


@dataclass(frozen=True)
class Row:
    """An item with what its row and, once it is opened, its detail show."""

    item: CheckItem
    output: str = ""
    cut: int = 0
    """How many characters of the output come before the part in `output`."""
    measurements: tuple[Measurement, ...] = ()
    overview: Overview | None = field(default=None, repr=False, compare=False)
    """The rehearsal it is shown in, to tell how long the line took last time."""

    @property
    def anchor(self) -> str:
        return anchor(self.item.ref)

    @property
    def sign(self) -> str:
        return sign(self.item)

    @property
    def word(self) -> str:
        return str(WORDS[self.sign])

    @property
    def line(self) -> SafeString:
        return inline(self.item.text)

    @property
    def summary(self) -> str:
        return translated(self.item.summary)

    @property
    def note(self) -> str:
        return translated(self.item.note)

    @property
    def duration(self) -> str:
        """How long it took; empty for what has not ended, or has nothing to do here."""
        if self.item.seconds is None or self.item.not_applicable:
            return ""
        return duration(self.item.seconds)

    @property
    def last_time(self) -> str:
        """How long the same line took in the rehearsal before; empty where that is not known, or
        the line has not begun. What a person confirmed took as long as it was let wait."""
        begun = self.item.seconds is not None or self.item.status == Status.RUNNING
        told = self.sign not in {"confirmed", "not-applicable"}
        if not (begun and told) or self.overview is None:
            return ""
        seconds = self.overview.lines_last_time.get(_line(self.item.text, self.item.check_path))
        return "" if seconds is None else duration(seconds)

    @property
    def evidence(self) -> list[tuple[str, list[object]]]:
        """The facts the check recorded, each with its lines."""
        facts = [(k, v) for k, v in self.item.evidence.items() if k != ACKNOWLEDGE]
        return [(k, v if isinstance(v, list) else [v]) for k, v in facts]

    @property
    def acknowledge(self) -> list[str]:
        """What a person has to acknowledge by name before the item can be confirmed."""
        return [str(name) for name in self.item.evidence.get(ACKNOWLEDGE, [])]

    @property
    def measured(self) -> list[tuple[str, str]]:
        """The measurements, each as it is read."""
        return [(one.name, measured(one.value, one.unit)) for one in self.measurements]

    @property
    def final(self) -> bool:
        """Whether the decision was about it, so that nobody can change it any more."""
        return bool(self.item.rehearsal.decision) and not self.item.sign_off

    @property
    def settled(self) -> bool:
        return Status(self.item.status) not in ACTIVE | {Status.PENDING}

    @property
    def rerunnable(self) -> bool:
        return self.settled and not self.final

    @property
    def kept(self) -> str:
        """The database that the item replaced and that can be put back; empty without one."""
        return str(self.item.evidence.get(KEPT, "")) if self.settled else ""

    @property
    def confirmable(self) -> bool:
        return self.item.status == Status.ACTION_REQUIRED and not self.final

    @property
    def waiver_days(self) -> int:
        """How long a waiver of it holds that does not say so itself."""
        return configuration().waiver_days

    @property
    def waivable(self) -> bool:
        waivable = Status(self.item.status) in WAIVABLE and not self.item.accepted
        return waivable and not self.final


def _line(text: str, check_path: str) -> tuple[str, str]:
    return folded(text), check_path


@dataclass(frozen=True)
class SectionRows:
    """A section with its rows and how far it has come."""

    section: Section
    rows: tuple[Row, ...]

    @property
    def title(self) -> SafeString:
        return inline(self.section.title)

    @property
    def sign(self) -> str:
        signs = {row.sign for row in self.rows}
        return next(one for one in WORDS if one in signs)

    @property
    def word(self) -> str:
        return str(WORDS[self.sign])

    @property
    def settled(self) -> int:
        return sum(row.sign in SETTLED for row in self.rows)


class Overview:
    """A rehearsal as a whole: its banner, its progress and its sections."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self.rows = [Row(item, overview=self) for item in rehearsal.items.all()]
        self.verdict = rehearsal.verdict
        self.sign, headline = VERDICTS[self.verdict]
        self.headline = str(headline)
        self.counts = Counter(row.sign for row in self.rows)
        self.total = len(self.rows)
        self.settled = sum(row.sign in SETTLED for row in self.rows)
        self.accepted = sum(row.item.accepted for row in self.rows)
        ended = (rehearsal.finished_at or rehearsal.closed_at) if rehearsal.closed_at else None
        self.seconds = ((ended or timezone.now()) - rehearsal.started_at).total_seconds()

    @property
    def open(self) -> bool:
        """Whether it can still be cancelled, and no other can be started."""
        return self.rehearsal.closed_at is None

    @property
    def live(self) -> bool:
        """Whether anything may still change without somebody running a line again."""
        decided = bool(self.rehearsal.decision)
        asked = [row for row in self.rows if decided or not row.item.sign_off]
        unsettled = any(row.sign not in SETTLED for row in asked)
        return self.open or (unsettled and not self.rehearsal.cancelled_by)

    @property
    def before_sign_off(self) -> Verdict:
        """What the decision is about."""
        return before_sign_off(row.item for row in self.rows)

    @property
    def awaits_decision(self) -> bool:
        return awaits_decision(self.rehearsal, [row.item for row in self.rows])

    @property
    def later(self) -> Rehearsal | None:
        """The latest of the rehearsals that came later in the same environment."""
        later = Rehearsal.objects.filter(
            environment=self.rehearsal.environment,
            number__gt=self.rehearsal.number,
            cancelled_by="",
        )
        return later.defer("checklist_text").first()

    @property
    def previous(self) -> int | None:
        """The number of the rehearsal before it in the same environment that was not cancelled."""
        return self._before[0] if self._before else None

    @property
    def last_time(self) -> str:
        """How long the one before took; empty without one, and while it has not ended."""
        if not self._before or self._before[2] is None:
            return ""
        return duration((self._before[2] - self._before[1]).total_seconds())

    @cached_property
    def lines_last_time(self) -> dict[tuple[str, str], float]:
        """Seconds that each line took in the one before, by its words and its check."""
        if self.previous is None:
            return {}
        items = CheckItem.objects.filter(rehearsal=self.previous, confirmed_by="")
        told = items.values_list("text", "check_path", "started_at", "finished_at")
        return {
            _line(text, path): (ended - began).total_seconds()
            for text, path, began, ended in told
            if began and ended
        }

    @cached_property
    def _before(self) -> tuple[int, datetime.datetime, datetime.datetime | None] | None:
        ended = CheckItem.objects.filter(rehearsal=OuterRef("pk"), finished_at__isnull=False)
        last = Subquery(ended.order_by("-finished_at").values("finished_at")[:1])
        earlier = Rehearsal.objects.filter(
            environment=self.rehearsal.environment,
            number__lt=self.rehearsal.number,
            cancelled_by="",
        )
        return earlier.values_list("number", "started_at", last).first()

    @property
    def answer(self) -> str:
        """Whether there is a go, and who said so."""
        rehearsal = self.rehearsal
        if rehearsal.decision:
            by = ", ".join(dict.fromkeys(vote.who for vote in rehearsal.deciding_votes))
            if rehearsal.decision == Choice.GO:
                return _("Go, said by %(by)s.") % {"by": by}
            return _("No-go, said by %(by)s.") % {"by": by}
        if self.verdict == Verdict.CANCELLED:
            return _("There is no go: it was cancelled.")
        if self.before_sign_off == Verdict.RUNNING:
            return _("Not decided yet: it is being performed.")
        if self.before_sign_off == Verdict.GREEN:
            return _("Not decided yet: go or no-go?")
        if self.counts["waiting"]:
            return _("Not decided yet: a person has to answer first.")
        return _("There is no go as it stands.")

    @property
    def journal(self) -> list[Event]:
        """The last entries of the journal, the newest first."""
        return list(self.rehearsal.events.order_by("-sequence")[:JOURNAL])

    @property
    def poll_seconds(self) -> int:
        """How often the page asks for changes: rarely while only a person can bring any."""
        return 1 if self.verdict == Verdict.RUNNING else 5

    @property
    def whole_seconds(self) -> int:
        return int(self.seconds)

    @property
    def duration(self) -> str:
        return duration(self.seconds)

    @property
    def timeline(self) -> Timeline:
        """When the items ran."""
        return timeline((row.item for row in self.rows), timezone.now())

    @property
    def segments(self) -> list[str]:
        """The signs of the bar of progress: each item's, or the most urgent one of several."""
        signs = [row.sign for row in self.rows]
        each = -(-len(signs) // MOST_SEGMENTS)
        parts = [set(signs[begin : begin + each]) for begin in range(0, len(signs), each)]
        return [next(one for one in WORDS if one in part) for part in parts]

    @property
    def tally(self) -> list[tuple[str, str, int]]:
        """Sign, word and number of every kind of item there is."""
        return [
            (one, word_of(one, self.counts[one]), self.counts[one])
            for one in WORDS
            if self.counts[one]
        ]

    @property
    def attention(self) -> list[Row]:
        """The items that speak against green, or wait for somebody to answer."""
        return [row for row in self.rows if row.sign in {"failed", "inconclusive", "waiting"}]

    @property
    def repeatable(self) -> bool:
        """Whether there is something to run again that did not pass."""
        if self.rehearsal.decision:
            return any(
                row.rerunnable and not row.item.accepted and row.item.sign_off for row in self.rows
            )
        rested = self.verdict not in {Verdict.RUNNING, Verdict.CANCELLED}
        return rested and any(self.counts[one] for one in ("failed", "inconclusive", "skipped"))

    @property
    def sentence(self) -> str:
        """What the headline means, in one sentence."""
        said = ", ".join(f"{number} {word}" for _sign, word, number in self.tally)
        match self.verdict:
            case Verdict.GREEN:
                return _("All %(total)d lines are accounted for: %(said)s.") % {
                    "total": self.total,
                    "said": said,
                }
            case Verdict.RED if self.rehearsal.decision == Choice.NO_GO:
                return _("Decided no-go: %(said)s.") % {"said": said}
            case Verdict.ACTION_REQUIRED if self.awaits_decision:
                return _("All before the sign-off is in order: %(said)s.") % {"said": said}
            case Verdict.CANCELLED:
                by = self.rehearsal.cancelled_by
                return _("Cancelled by %(by)s: %(said)s.") % {"by": by, "said": said}
            case Verdict.RUNNING if self._without_worker:
                return _(
                    "No worker has taken the next check yet: "
                    "is one running? Start it with manage.py rehearsal_worker."
                )
            case Verdict.ACTION_REQUIRED if not self.counts["waiting"]:
                return _("Only a part was performed, so it cannot be green: %(said)s.") % {
                    "said": said
                }
        return f"{said}.".capitalize()

    @property
    def _without_worker(self) -> bool:
        if self.counts["running"]:
            return False
        limit = timezone.now() - datetime.timedelta(seconds=WITHOUT_WORKER_AFTER)
        queued = [row.item.queued_at for row in self.rows if row.sign == "queued"]
        return any(at is not None and at < limit for at in queued)

    def detailed(self, chosen_rows: Iterable[Row]) -> list[SectionRows]:
        """The sections that hold the chosen rows, and those rows with the end of their output."""
        chosen = {row.item.pk for row in chosen_rows}
        tails = {
            pk: (tail, max(0, length - TAIL))
            for pk, tail, length in CheckItem.objects.filter(pk__in=chosen).values_list(
                "pk", Right("output", TAIL), Length("output")
            )
        }
        measured: dict[int, list[Measurement]] = {}
        for one in Measurement.objects.filter(item__in=chosen):
            measured.setdefault(one.item_id, []).append(one)
        rows = [
            Row(row.item, *tails[row.item.pk], tuple(measured.get(row.item.pk, ())), self)
            if row.item.pk in tails
            else row
            for row in self.rows
        ]
        by_section = groupby(rows, key=lambda row: row.item.section)
        found = [SectionRows(section, tuple(own)) for section, own in by_section]
        return [one for one in found if any(row.item.pk in chosen for row in one.rows)]


def spoken(overview: Overview, changed: Iterable[Row]) -> str:
    """What a screen reader says of a change: at most three items, then how far it has come."""
    settled = [row for row in changed if row.sign in SETTLED | {"waiting"}]
    said = [f"{row.item.ref} {row.word}." for row in settled[:3]]
    if len(settled) > 3:
        more = len(settled) - 3
        said.append(ngettext("%d more changed.", "%d more changed.", more) % more)
    far = {"headline": overview.headline, "done": overview.settled, "total": overview.total}
    said.append(_("%(headline)s: %(done)d of %(total)d settled.") % far)
    return " ".join(said)
