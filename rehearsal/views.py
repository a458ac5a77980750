"""The pages. Who may do what is decided here, never in a template.

Every page works without JavaScript: a reload shows the same, and each action is a form. With it,
the page asks every second for what has changed and gets those rows and nothing else.
"""

from __future__ import annotations

import datetime
import logging
import math
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from rehearsal import comparison, conf, page, records, sealing, tasks
from rehearsal import trends as drawn
from rehearsal.access import permitted
from rehearsal.checks.base import BindingError
from rehearsal.decision import Decision
from rehearsal.models import Rehearsal

logger = logging.getLogger(__name__)

SWEEP_EVERY = 3
"""Seconds between two sweeps of one rehearsal by one process, however many pages watch it."""
CLOCK_EVERY = 5
"""Seconds after which a running rehearsal's elapsed time is sent again though nothing changed."""
HISTORY = 20
"""Rehearsals on one page of the history."""

RESULTS = "django_celery_results"
STOP_POLLING = 286
"""The status that makes htmx stop asking."""


def may(request: HttpRequest) -> dict[str, bool]:
    """What the person may do, by the words that the templates use."""
    return {
        "start": request.user.has_perm("rehearsal.start_rehearsal"),
        "confirm": request.user.has_perm("rehearsal.confirm_checkitem"),
        "waive": request.user.has_perm("rehearsal.waive_checkitem"),
        "decide": request.user.has_perm("rehearsal.decide_rehearsal"),
        "trace": request.user.is_staff and request.user.has_perm(f"{RESULTS}.view_taskresult"),
    }


def _render(
    request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    context = {
        "base_template": conf.configuration().base_template,
        "may": may(request),
        # An asynchronous server pushes what changes; any other is asked for it.
        "streamed": isinstance(request, ASGIRequest),
        # What is pushed is rendered for many, and so without a token of its own.
        "token_header": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-"),
    } | context
    return render(request, template, context, status=status)


# What is looked at.


@require_GET
@permitted()
def index(request: HttpRequest) -> HttpResponse:
    """The latest rehearsal, the way to start one, and those before."""
    everything = Rehearsal.objects.defer("checklist_text").prefetch_related(page.light_items())
    listed = Paginator(everything, HISTORY).get_page(request.GET.get("page"))
    here = conf.configuration()
    ours = Rehearsal.objects.filter(environment=here.environment)
    latest = ours.values_list("pk", flat=True).first()
    context = {
        "latest": page.Overview(page.shown(latest).get()) if latest else None,
        "history": [page.Overview(one) for one in listed],
        "listed": listed,
        "environment": here.environment,
        "document": here.checklist.name,
        "revision": conf.revision() if request.user.has_perm("rehearsal.start_rehearsal") else "",
        "already_open": ours.filter(closed_at=None).exists(),
        "of": "banner",
    }
    return _render(request, "rehearsal/index.html", context)


@require_GET
@permitted()
def trends(request: HttpRequest) -> HttpResponse:
    """How times, counts and sizes went over the last rehearsals of this environment."""
    environment = conf.configuration().environment
    context = {"environment": environment, "charts": drawn.charts(environment)}
    return _render(request, "rehearsal/trends.html", context)


@require_GET
@permitted()
def rehearsal(request: HttpRequest, number: int) -> HttpResponse:
    """One rehearsal: its verdict, its sections, and its lines ticking."""
    overview = page.Overview(get_object_or_404(page.shown(number)))
    sections = overview.detailed(overview.rows)
    context = {"overview": overview, "sections": sections, "decision": Decision.of(overview)}
    return _render(request, "rehearsal/rehearsal.html", context)


@require_GET
@permitted()
def item(request: HttpRequest, number: int, ref: str) -> HttpResponse:
    """All there is to see of one line: its output in full, its evidence, its journal."""
    overview = page.Overview(get_object_or_404(page.shown(number)))
    row = _row(overview, ref)
    journal = overview.rehearsal.events.filter(ref=ref)
    context = {"overview": overview, "row": row, "journal": journal, "of": ref}
    return _render(request, "rehearsal/item.html", context | {"trace": _trace(row)})


def _row(overview: page.Overview, ref: str) -> page.Row:
    """One item's row with its whole output."""
    found = next((row.item for row in overview.rows if row.item.ref == ref), None)
    if found is None:
        raise _no_such_item(overview.rehearsal.number, ref)
    return page.Row(found, found.output, measurements=tuple(found.measurements.all()))


def _no_such_item(number: int, ref: str) -> Http404:
    said = {"number": number, "ref": ref}
    return Http404(_("Rehearsal %(number)s has no item %(ref)s.") % said)


def _trace(row: page.Row) -> str:
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


@require_GET
@permitted()
def checklist(request: HttpRequest, number: int) -> HttpResponse:
    """The document with its boxes ticked."""
    ticked = records.ticked(get_object_or_404(Rehearsal, pk=number))
    named = {"Content-Disposition": f'attachment; filename="rehearsal-{number}-checklist.md"'}
    return HttpResponse(ticked, content_type="text/markdown; charset=utf-8", headers=named)


@require_GET
@permitted()
def evidence(request: HttpRequest, number: int) -> HttpResponse:
    """The rehearsal as JSON, schema 1: once it is decided, the sealed document to the byte."""
    rehearsal = get_object_or_404(Rehearsal, pk=number)
    found = rehearsal.seals.last()
    if found is None:
        told = records.as_json(rehearsal)
        return JsonResponse(told, json_dumps_params={"indent": 2, "ensure_ascii": False})
    return HttpResponse(found.document, content_type="application/json; charset=utf-8")


@require_GET
@permitted()
def seal(request: HttpRequest, number: int) -> HttpResponse:
    """The digest and the signature of the sealed evidence."""
    found = get_object_or_404(Rehearsal, pk=number).seals.last()
    if found is None:
        raise Http404(
            _("Rehearsal %(number)s is not decided, and so not sealed.") % {"number": number}
        )
    return HttpResponse(sealing.exported(found), content_type="application/json; charset=utf-8")


@require_GET
@permitted()
def junit(request: HttpRequest, number: int) -> HttpResponse:
    """The rehearsal as JUnit XML."""
    told = records.as_junit(get_object_or_404(Rehearsal, pk=number))
    named = {"Content-Disposition": f'attachment; filename="rehearsal-{number}-junit.xml"'}
    return HttpResponse(told, content_type="application/xml; charset=utf-8", headers=named)


@require_GET
@permitted()
def report(request: HttpRequest, number: int) -> HttpResponse:
    """The rehearsal as one page of HTML that needs nothing else, to be printed or attached."""
    # Downloaded and not shown: its style is within it, which the site's own policy may forbid.
    told = records.as_html(get_object_or_404(Rehearsal, pk=number))
    named = {"Content-Disposition": f'attachment; filename="rehearsal-{number}.html"'}
    return HttpResponse(told, headers=named)


@require_GET
@permitted()
def compare(request: HttpRequest, a: int, b: int) -> HttpResponse:
    """Two rehearsals line by line."""
    both = [page.Overview(get_object_or_404(page.shown(number))) for number in (a, b)]
    pairs = comparison.pairs(*both)
    context = {
        "before": both[0],
        "after": both[1],
        "both": both,
        "pairs": pairs,
        "differing": sum(pair.differs for pair in pairs),
    }
    return _render(request, "rehearsal/compare.html", context)


# What has changed since a page last looked.


@require_GET
@permitted()
def rows(request: HttpRequest, number: int) -> HttpResponse:
    """What changed since the version `seen`: 204 for nothing, 286 when nothing more will come."""
    pause = _pace.asked(time.monotonic())
    stands = Rehearsal.objects.filter(pk=number).values_list("version", "started_at", "closed_at")
    if not (found := stands.first()):
        raise Http404(_("There is no rehearsal %(number)s.") % {"number": number})
    if found[2] is None and sweep_is_due(number):
        sweep(number)
        found = stands.get()
    version, started_at, closed_at = found
    nothing_new = whole(request.GET.get("seen"), missing=-1) == version
    if nothing_new and closed_at is None and not _clock_is_late(request, started_at):
        return HttpResponse(status=204)
    if nothing_new and closed_at:
        overview = page.Overview(get_object_or_404(page.shown(number)))
        if overview.live:
            return HttpResponse(status=204)
    sent = _fragments.get(View.of_request(request, number), version, pause)
    if sent is None:
        raise _no_such_item(number, request.GET.get("of", ""))
    return HttpResponse(sent.html, status=200 if sent.live else STOP_POLLING)


def changes(
    request: HttpRequest, overview: page.Overview, asked: QueryDict, status: int
) -> HttpResponse:
    """The fragment that brings a page from the version it has seen to the present one."""
    seen = whole(asked.get("seen"), missing=-1)
    context = news(overview, seen=seen, of=asked.get("of", ""))
    return _render(request, "rehearsal/rows.html", context, status)


@dataclass(frozen=True)
class View:
    """What a page shows and to whom; those with equal views are sent the same."""

    number: int
    seen: int
    of: str
    may: frozenset[str]
    language: str
    zone: str

    @classmethod
    def of_request(cls, request: HttpRequest, number: int) -> View:
        """The view of who asks for what is new."""
        # A browser that lost its stream says what it heard last.
        seen = request.headers.get("Last-Event-ID") or request.GET.get("seen")
        return cls(
            number,
            whole(seen, missing=-1),
            request.GET.get("of", ""),
            frozenset(name for name, yes in may(request).items() if yes),
            translation.get_language() or "",
            timezone.get_current_timezone_name(),
        )


@dataclass(frozen=True)
class Sent:
    """A fragment, the version it brings a page to, and whether more may come."""

    html: str
    version: int
    live: bool


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
        context["pause"] = max(pause, overview.poll_seconds)
        html = render_to_string("rehearsal/rows.html", context)
    return Sent(html, rehearsal.version, overview.live)


class Fragments:
    """Those rendered lately: the pages that poll a process and stand at the same version are
    answered with one rendering."""

    SECONDS = 2.0
    """How long one is given out, so that the time it tells is right."""
    MOST = 200

    def __init__(self) -> None:
        self._kept: dict[tuple[View, int], tuple[float, int, Sent | None]] = {}

    def get(self, view: View, version: int, pause: int) -> Sent | None:
        """The fragment that brings `view` to `version` or later; None as for `fragment`."""
        now = time.monotonic()
        kept = self._kept.get((view, pause))
        if kept and kept[1] == version and now - kept[0] < self.SECONDS:
            return kept[2]
        sent = fragment(view, streamed=False, pause=pause)
        if len(self._kept) >= self.MOST:
            self._kept.clear()
        self._kept[view, pause] = (now, sent.version if sent else version, sent)
        return sent


_fragments = Fragments()


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
    if of and of != "banner":
        if of not in {row.item.ref for row in overview.rows}:
            raise _no_such_item(overview.rehearsal.number, of)
        changed = [_row(overview, of)] if of in {row.item.ref for row in changed} else []
        context |= {"changed": changed, "trace": _trace(changed[0]) if changed else ""}
        context["journal"] = overview.rehearsal.events.filter(ref=of)
    elif not of:
        context["decision"] = Decision.of(overview)
        sections, keys = overview.detailed(changed), {row.item.pk for row in changed}
        context["sections"] = sections
        context["changed"] = [r for one in sections for r in one.rows if r.item.pk in keys]
    return context


class Pace:
    """How often pages may ask: once a second, and more rarely when many watch, so that watching
    takes little of a process that has other work."""

    ASKED_A_SECOND = 30
    WINDOW = 20.0
    """Seconds over which it is counted who watches."""

    def __init__(self) -> None:
        self._asked: deque[tuple[float, int]] = deque()

    def asked(self, now: float) -> int:
        """Count one that asks at `now`; returns the seconds after which it may ask again."""
        while self._asked and self._asked[0][0] < now - self.WINDOW:
            self._asked.popleft()
        # Who was told to ask every three seconds stands for three who ask every second.
        viewers = sum(pause for _, pause in self._asked) / self.WINDOW
        pause = max(1, math.ceil(viewers / self.ASKED_A_SECOND))
        self._asked.append((now, pause))
        return pause


_pace = Pace()
_last_swept: dict[int, float] = {}


def sweep_is_due(number: int) -> bool:
    """Whether this process has not swept a rehearsal for a moment; if so, it is to sweep now."""
    now = time.monotonic()
    if now - _last_swept.get(number, -SWEEP_EVERY) < SWEEP_EVERY:
        return False
    _last_swept[number] = now
    return True


def sweep(number: int) -> None:
    """Sweep for a page; a check that this process cannot load is not the page's concern."""
    try:
        tasks.sweep(number)
    except BindingError:
        logger.exception("Rehearsal %s names a check that this process cannot load", number)


def _clock_is_late(request: HttpRequest, started_at: datetime.datetime) -> bool:
    elapsed = (timezone.now() - started_at).total_seconds()
    return elapsed >= whole(request.GET.get("elapsed"), missing=sys.maxsize) + CLOCK_EVERY


def whole(text: str | None, *, missing: int) -> int:
    """The whole number that a request's `text` is, or `missing`."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else missing
