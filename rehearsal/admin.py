"""The records in the admin: to look at, never to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Case, CharField, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from rehearsal import page, sealing
from rehearsal.conf import configuration
from rehearsal.models import ACTIVE, CheckItem, Choice, Event, Rehearsal, Status, Verdict, Vote
from rehearsal.trends import charts
from rehearsal.wording import duration

if TYPE_CHECKING:
    Inline = admin.TabularInline[Any, Rehearsal]
    Admin = admin.ModelAdmin[Rehearsal]
else:
    Inline, Admin = admin.TabularInline, admin.ModelAdmin


def with_verdict(rehearsals: QuerySet[Rehearsal]) -> QuerySet[Any]:
    """Each rehearsal with what `models.verdict` says of it as `stands`, for a query to filter."""
    undecided = Q(rehearsal__decision="")
    over = Q(waiver_expires_at__lte=Now()) & (
        undecided | Q(rehearsal__decided_at__gte=F("waiver_expires_at"))
    )
    remaining = CheckItem.objects.filter(
        ~Q(status=Status.PASSED),
        ~Q(status=Status.SKIPPED) | Q(started_at=None),
        Q(waived_by="") | over,
        Q(sign_off=False) | ~undecided,
        rehearsal=OuterRef("pk"),
    )
    sign_off = Exists(CheckItem.objects.filter(rehearsal=OuterRef("pk"), sign_off=True))

    def some(*statuses: Status) -> Exists:
        return Exists(remaining.filter(status__in=statuses))

    waits = some(Status.ACTION_REQUIRED)
    return rehearsals.annotate(
        stands=Case(
            When(~Q(cancelled_by=""), then=Value(Verdict.CANCELLED)),
            When(some(*ACTIVE), then=Value(Verdict.RUNNING)),
            When(Q(some(Status.PENDING)) & ~Q(waits), then=Value(Verdict.RUNNING)),
            When(decision=Choice.NO_GO, then=Value(Verdict.RED)),
            When(some(Status.FAILED, Status.INCONCLUSIVE), then=Value(Verdict.RED)),
            When(Exists(remaining), then=Value(Verdict.ACTION_REQUIRED)),
            When(Q(sign_off, decision=""), then=Value(Verdict.ACTION_REQUIRED)),
            default=Value(Verdict.GREEN),
            output_field=CharField(),
        )
    )


class ReadOnly:
    """Nobody adds, changes or deletes; who may view rehearsals may view all that is theirs."""

    def has_add_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("rehearsal.view_rehearsal")


class ItemInline(ReadOnly, Inline):
    model = CheckItem
    fields = readonly_fields = (
        "reference", "text", "status", "summary", "took", "attempt", "worker", "confirmed_by",
        "waived_by", "waiver_reason",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[CheckItem]:
        return super().get_queryset(request).select_related("section").defer("output")

    @admin.display(description="item")
    def reference(self, item: CheckItem) -> SafeString:
        return format_html('<a href="{}">{}</a>', item.get_absolute_url(), item.ref)

    @admin.display(description="took")
    def took(self, item: CheckItem) -> str:
        return "" if item.seconds is None else duration(item.seconds)


class EventInline(ReadOnly, Inline):
    model = Event
    verbose_name_plural = "journal"
    fields = readonly_fields = ("sequence", "at", "actor", "ref", "before", "after", "message")
    ordering = ("sequence",)


class VoteInline(ReadOnly, Inline):
    model = Vote
    fields = readonly_fields = ("at", "who", "choice", "reason", "outcomes_sha256")

    @admin.display(description="by")
    def who(self, vote: Vote) -> str:
        return vote.who


class VerdictFilter(admin.SimpleListFilter):
    title = "verdict"
    parameter_name = "verdict"

    def lookups(self, *_: Any) -> list[tuple[str, str]]:
        return [(str(value), str(label)) for value, label in Verdict.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Rehearsal]) -> QuerySet[Rehearsal]:
        return with_verdict(queryset).filter(stands=self.value()) if self.value() else queryset


@admin.register(Rehearsal)
class RehearsalAdmin(ReadOnly, Admin):
    """Every rehearsal there was, its items and its journal."""

    list_display = (
        "number", "stands", "decision", "environment", "short_revision", "started_by",
        "started_at", "took",
    )  # fmt: skip
    list_filter = (VerdictFilter, "decision", "environment", "revision", "started_at")
    list_per_page = 50
    search_fields = ("revision", "started_by")
    search_help_text = "Revision, or who started it"
    date_hierarchy = "started_at"
    show_full_result_count = False
    inlines = (VoteInline, ItemInline, EventInline)
    fields = readonly_fields = (
        "number", "stands", "decision", "decided_at", "ticket", "seal", "environment", "revision",
        "started_by", "started_at", "closed_at", "took", "cancelled_by", "checklist_sha256",
        "document", "evidence",
    )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        trends = self.admin_site.admin_view(self.trends)
        return [path("trends/", trends, name="rehearsal_rehearsal_trends"), *super().get_urls()]

    def trends(self, request: HttpRequest) -> TemplateResponse:
        """How times, counts and sizes went over the last rehearsals."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        drawn = charts(configuration().environment)
        context = {**self.admin_site.each_context(request), "title": "Trends", "charts": drawn}
        return TemplateResponse(request, "admin/rehearsal/rehearsal/trends.html", context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rehearsal]:
        found = super().get_queryset(request).defer("checklist_text")
        return found.prefetch_related(page.light_items())

    @admin.display(description="verdict")
    def stands(self, rehearsal: Rehearsal) -> str:
        return str(rehearsal.verdict.label)

    @admin.display(description="revision", ordering="revision")
    def short_revision(self, rehearsal: Rehearsal) -> str:
        return rehearsal.revision[:12]

    @admin.display(description="took")
    def took(self, rehearsal: Rehearsal) -> str:
        return page.Overview(rehearsal).duration

    @admin.display(description="seal")
    def seal(self, rehearsal: Rehearsal) -> str | SafeString:
        if not rehearsal.decision:
            return "not decided, and so not sealed"
        if not (wrong := sealing.broken(rehearsal)):
            return f"intact, SHA-256 {rehearsal.seals.latest('pk').sha256}"
        said = format_html_join("", "<li>{}</li>", ((one,) for one in wrong))
        return format_html("The seal is broken:<ul>{}</ul>", said)

    @admin.display(description="evidence")
    def evidence(self, rehearsal: Rehearsal) -> SafeString:
        address = reverse("rehearsal:evidence", args=[rehearsal.number])
        return format_html('<a href="{}">JSON</a>', address)

    @admin.display(description="ticked document")
    def document(self, rehearsal: Rehearsal) -> SafeString:
        address = reverse("rehearsal:checklist", args=[rehearsal.number])
        return format_html('<a href="{}" download>Download</a>', address)
