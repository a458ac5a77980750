"""The pages. Who may do what is decided here, never in a template.

Every page works without JavaScript: a reload shows the same, and each action is a form. With it,
the page asks every second for what has changed and gets those rows and nothing else.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from rehearsal import comparison, conf, page, records, release, sealing
from rehearsal import trends as drawn
from rehearsal.access import from_htmx, may, permitted
from rehearsal.decision import Decision
from rehearsal.fragments import (
    all_about,
    gate_of,
    news,
    row_of,
    whole,
)
from rehearsal.models import CheckItem, Rehearsal

HISTORY = 20
"""Rehearsals on one page of the history."""
ENTRIES = 200
"""Entries on one page of the journal."""


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
    may_start = request.user.has_perm("rehearsal.start_rehearsal")
    overview = page.Overview(page.shown(latest).get()) if latest else None
    context = {
        "latest": overview,
        "gate": gate_of(overview) if overview else None,
        "history": [page.Overview(one) for one in listed],
        "listed": listed,
        "environment": here.environment,
        "document": here.checklist.name,
        "revision": release.revision() if may_start else "",
        "durations": drawn.durations(here.environment),
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
    context = {
        "overview": overview,
        "sections": sections,
        "decision": Decision.of(overview),
        "journal": overview.journal,
    }
    return _render(request, "rehearsal/rehearsal.html", context)


@require_GET
@permitted()
def item(request: HttpRequest, number: int, ref: str) -> HttpResponse:
    """All there is to see of one line: its output in full, its evidence, its journal."""
    overview = page.Overview(get_object_or_404(page.shown(number)))
    row = row_of(overview, ref)
    journal = overview.rehearsal.events.filter(ref=ref)
    context = {"overview": overview, "row": row, "journal": journal, "of": ref}
    return _render(request, "rehearsal/item.html", context | all_about(row))


@require_GET
@permitted()
def item_trends(request: HttpRequest, number: int, ref: str) -> HttpResponse:
    """How the numbers that one line measured went; a part of pages, fetched once it is seen."""
    if not from_htmx(request):
        return redirect("rehearsal:item", number, ref)
    section, _dot, line = ref.partition(".")
    named = {"section__number": whole(section, missing=0), "number": whole(line, missing=0)}
    items = CheckItem.objects.select_related("rehearsal", "section").defer("output")
    found = get_object_or_404(items, rehearsal=number, **named)
    return _render(request, "rehearsal/_item_trends.html", {**drawn.of_item(found)})


@require_GET
@permitted()
def journal(request: HttpRequest, number: int) -> HttpResponse:
    """Who changed what and when, from the first entry on."""
    found = get_object_or_404(Rehearsal.objects.defer("checklist_text"), pk=number)
    listed = Paginator(found.events.all(), ENTRIES).get_page(request.GET.get("page"))
    context = {"rehearsal": found, "journal": listed.object_list, "listed": listed}
    return _render(request, "rehearsal/journal.html", context)


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
    found = get_object_or_404(Rehearsal, pk=number)
    told = records.as_html(found, sealing.broken(found) if found.decision else ())
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


def changes(
    request: HttpRequest, overview: page.Overview, asked: QueryDict, status: int
) -> HttpResponse:
    """The fragment that brings a page from the version it has seen to the present one."""
    seen = whole(asked.get("seen"), missing=-1)
    context = news(overview, seen=seen, of=asked.get("of", ""))
    return _render(request, "rehearsal/rows.html", context, status)
