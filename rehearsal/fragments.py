"""What has changed since a page last looked, as the HTML that brings it up to date.

The same for a page that asks and for one that is pushed to; rendered once for all who have seen the
same and may do the same.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.http import Http404, HttpRequest
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from rehearsal import page, plan, release, tasks, trends
from rehearsal.access import RESULTS
from rehearsal.conf import configuration
from rehearsal.decision import Decision
from rehearsal.gate import Answer, judge

SWEEP_EVERY = 3
"""Seconds between two sweeps of one rehearsal by one process, however many pages watch it."""


@dataclass(frozen=True)
class View:
    """What a page shows and to whom; those with equal views are sent the same."""

    number: int
    seen: int
    of: str
    may: frozenset[str]
    language: str
    zone: datetime.tzinfo

    @classmethod
    def of_request(cls, request: HttpRequest, number: int, may: frozenset[str]) -> View:
        """The view of who asks for what is new, and may do what `may` names."""
        # A browser that lost its stream says what it heard last.
        seen = request.headers.get("Last-Event-ID") or request.GET.get("seen")
        return cls(
            number,
            whole(seen, missing=-1),
            request.GET.get("of", ""),
            may,
            translation.get_language() or "",
            timezone.get_current_timezone(),
        )


@dataclass(frozen=True)
class Sent:
    """A fragment, the version it brings a page to, whether more may come, and the seconds until a
    page that polls asks again."""

    html: str
    version: int
    live: bool
    pause: int


def fragment(view: View, *, streamed: bool, pause: int = 0) -> Sent | None:
    """What is new for a view; None when there is nothing by that name any more.

    Without a token, since it is for many: the page has one for all its forms. `pause` are the
    seconds until a page that polls asks again, unless it is to ask more rarely anyway.
    """
    with translation.override(view.language or None), timezone.override(view.zone):
        rehearsal = page.shown(view.number).first()
        if rehearsal is None:
            return None
        overview = page.Overview(rehearsal)
        try:
            context = news(overview, seen=view.seen, of=view.of)
        except Http404:
            return None
        context |= {"may": dict.fromkeys(view.may, True), "streamed": streamed}
        context["pause"] = pause = max(pause, overview.poll_seconds)
        html = render_to_string("rehearsal/rows.html", context)
    return Sent(html, overview.rehearsal.version, overview.live, pause)


def news(overview: page.Overview, *, seen: int, of: str) -> dict[str, Any]:
    """What a page that has seen the version `seen` has to be sent, for `rows.html`.

    `of` is an item's reference for its own page, "banner" for the list, and empty for the
    rehearsal's page. Raises Http404 where there is no such item.
    """
    if seen > overview.rehearsal.version:
        seen = -1
    changed = [row for row in overview.rows if row.item.changed_in > seen]
    context = {
        "overview": overview,
        "spoken": page.spoken(overview, changed),
        "of": of,
        "news": seen != overview.rehearsal.version,
        "changed": [],
    }
    if of == "banner":
        context["gate"] = gate_of(overview)
    elif of:
        if of not in {row.item.ref for row in overview.rows}:
            raise no_such_item(overview.rehearsal.number, of)
        changed = [row_of(overview, of)] if of in {row.item.ref for row in changed} else []
        context["changed"] = changed
        if changed:
            context |= all_about(changed[0])
        context["journal"] = overview.rehearsal.events.filter(ref=of)
    else:
        context["decision"] = Decision.of(overview)
        context["journal"] = overview.journal if context["news"] else None
        sections, keys = overview.detailed(changed), {row.item.pk for row in changed}
        context["sections"] = sections
        context["changed"] = [r for one in sections for r in one.rows if r.item.pk in keys]
    return context


def gate_of(overview: page.Overview) -> Answer | None:
    """What the gate says of the commit that is deployed here; None while it is unknown, and while
    the rehearsal of the overview is open."""
    revision = "" if overview.open else release.revision()
    if not revision:
        return None
    return judge(revision, datetime.timedelta(hours=configuration().gate_max_age_hours))


def row_of(overview: page.Overview, ref: str) -> page.Row:
    """One item's row with its whole output."""
    found = next((row.item for row in overview.rows if row.item.ref == ref), None)
    if found is None:
        raise no_such_item(overview.rehearsal.number, ref)
    return page.Row(
        found, found.output, measurements=tuple(found.measurements.all()), overview=overview
    )


def all_about(row: page.Row) -> dict[str, Any]:
    """What the item's own page shows beside its row."""
    return {"trace": trace_of(row)} | trends.of_item(row.item)


def no_such_item(number: int, ref: str) -> Http404:
    said = {"number": number, "ref": ref}
    return Http404(_("Rehearsal %(number)s has no item %(ref)s.") % said)


def trace_of(row: page.Row) -> str:
    """The address of what Celery recorded of the item's task; empty when there is none."""
    if not (row.item.task_id and apps.is_installed(RESULTS)):
        return ""
    results = apps.get_model(RESULTS, "TaskResult").objects.filter(task_id=row.item.task_id)
    try:
        return reverse(
            f"admin:{RESULTS}_taskresult_change", args=[results.values("pk").get()["pk"]]
        )
    except (NoReverseMatch, results.model.DoesNotExist):
        return ""


_sweep_at: dict[int, float] = {}


def sweep_is_due(number: int) -> bool:
    """Whether this process has not swept a rehearsal for a moment; if so, it is to sweep now."""
    now = time.monotonic()
    if now < _sweep_at.get(number, now):
        return False
    _sweep_at[number] = now + SWEEP_EVERY
    return True


def sweep(number: int) -> None:
    """Sweep for a page; where this process cannot import a check, that is left to the workers."""
    began = time.monotonic()
    try:
        if plan.knows_all(number):
            tasks.sweep(number)
    finally:
        # Over a broker that says nothing it takes seconds, in which no page is answered.
        ended = time.monotonic()
        _sweep_at[number] = ended + max(SWEEP_EVERY, 10 * (ended - began))


def whole(text: str | None, *, missing: int) -> int:
    """The whole number that a request's `text` is, or `missing`."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else missing
