"""What is done from the pages: each action is a form, and changes something once.

Each answers with the page it came from or, when htmx sent it, with what changed on that page.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth import authenticate, get_user_model
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from kombu.exceptions import OperationalError as BrokerError

from rehearsal import broker, conf, decisions, page, plan, tasks
from rehearsal.access import from_htmx, permitted
from rehearsal.checks.base import BindingError
from rehearsal.fragments import whole
from rehearsal.models import Rehearsal
from rehearsal.sentences import translated
from rehearsal.views import changes
from rehearsal.wording import anchor

REFUSALS = (plan.StartError, plan.AlreadyOpen, decisions.Refused, BindingError)
"""What a person may have asked for in vain; each is a sentence with its remedy."""


@require_POST
@permitted("start_rehearsal")
def start(request: HttpRequest) -> HttpResponse:
    """Start a rehearsal of the configured checklist for the deployed commit."""
    document = conf.configuration().checklist
    try:
        started = tasks.start(document.read_bytes(), by=request.user.get_username())
    except OSError as error:
        said = _("%(document)s cannot be read: %(error)s. Correct REHEARSAL['CHECKLIST'].")
        messages.error(request, said % {"document": document, "error": error.strerror})
    except plan.AlreadyOpen as error:
        messages.warning(request, translated(str(error)))
        if error.number:
            return redirect("rehearsal:rehearsal", error.number)
    except REFUSALS as error:
        messages.error(request, translated(str(error)))
    else:
        if warning := _without_worker():
            messages.warning(request, warning)
        return redirect(started)
    return redirect("rehearsal:index")


def _without_worker() -> str:
    queue = conf.configuration().queue
    try:
        if broker.consumers():
            return ""
    except (BrokerError, OSError) as error:
        return _("The broker cannot be reached (%s): the checks wait until it can.") % error
    return (
        _(
            "No worker takes checks from the queue '%s': they wait until one is started "
            "with manage.py rehearsal_worker."
        )
        % queue
    )


@require_POST
@permitted("start_rehearsal")
def cancel(request: HttpRequest, number: int) -> HttpResponse:
    """Cancel an open rehearsal."""

    def act(by: str) -> str:
        done = tasks.cancel(number, by=by)
        if not done:
            return _("There was nothing left to cancel.")
        return _("Rehearsal %d is cancelled.") % number

    return _act(request, number, act)


@require_POST
@permitted("start_rehearsal")
def rerun(request: HttpRequest, number: int) -> HttpResponse:
    """Run again the item `ref`, or without it all that did not pass."""

    def act(by: str) -> str:
        count = tasks.rerun(number, by=by, ref=request.POST.get("ref") or None)
        if not count:
            return _("There was nothing left to run again.")
        return ngettext("Running again: %d line.", "Running again: %d lines.", count) % count

    return _act(request, number, act)


@transaction.non_atomic_requests  # its connection to what is exchanged has to be given up
@require_POST
@permitted("start_rehearsal")
def roll_back(request: HttpRequest, number: int) -> HttpResponse:
    """Put back the database that the rehearsal replaced."""
    return _act(request, number, lambda by: decisions.roll_back(number, by=by))


@require_POST
@permitted("confirm_checkitem")
def confirm(request: HttpRequest, number: int, ref: str) -> HttpResponse:
    """Tick, in the user's name, an item that waits for a person."""
    acknowledged = request.POST.getlist("acknowledged")

    def act(by: str) -> str:
        decisions.confirm(number, ref, by=by, acknowledged=acknowledged, attempt=_attempt(request))
        return _("%(ref)s is confirmed by %(by)s.") % {"ref": ref, "by": by}

    return _act(request, number, act, ref)


@require_POST
@permitted("waive_checkitem")
def waive(request: HttpRequest, number: int, ref: str) -> HttpResponse:
    """Accept, for a reason, an item that did not pass."""

    def act(by: str) -> str:
        reason, until = request.POST.get("reason", ""), _day(request.POST.get("until", ""))
        decisions.waive(number, ref, by=by, reason=reason, until=until, attempt=_attempt(request))
        return _("%(ref)s is waived by %(by)s.") % {"ref": ref, "by": by}

    return _act(request, number, act, ref)


def _attempt(request: HttpRequest) -> int | None:
    """The attempt that was read, as the page's own forms say it."""
    said = request.POST.get("attempt")
    return None if said is None else whole(said, missing=-1)


def _day(text: str) -> datetime.datetime | None:
    """The end of a day such as `2026-12-31`; None for the default."""
    if not text:
        return None
    try:
        day = datetime.date.fromisoformat(text)
        return timezone.make_aware(datetime.datetime.combine(day, datetime.time.max))
    except (ValueError, OverflowError):
        raise decisions.Refused(
            _("A waiver ends on a day such as 2026-12-31, not on %(day)r.") % {"day": text[:40]}
        ) from None


@sensitive_post_parameters("password")
@require_POST
@permitted("decide_rehearsal")
def decide(request: HttpRequest, number: int) -> HttpResponse:
    """Vote go or no-go in the name of the user, who gives the password once more."""

    def act(by: str) -> str:
        if not _is_really(request):
            raise decisions.Refused(_("The password is not yours: nothing was decided. Try again."))
        given = {name: request.POST.get(name, "") for name in ("reason", "ticket")}
        choice = request.POST.get("choice", "")
        outcomes = request.POST.get("outcomes", "")
        decided = decisions.decide(number, choice, by=by, seen=outcomes, **given)
        if decided is None:
            return _("Your vote is recorded. More people have to say go.")
        said = {"number": number, "choice": decided.label}
        return _("Rehearsal %(number)d is decided: %(choice)s.") % said

    return _act(request, number, act)


def _is_really(request: HttpRequest) -> bool:
    # By the project's own backends, which also count what was tried in vain.
    name = get_user_model().USERNAME_FIELD
    password = request.POST.get("password", "")
    credentials = {name: request.user.get_username(), "password": password}
    found = authenticate(request, **credentials) if password else None
    return found is not None and found.pk == request.user.pk


def _act(
    request: HttpRequest, number: int, act: Callable[[str], str], ref: str = ""
) -> HttpResponse:
    """Do it in the user's name, and say what came of it."""
    if not Rehearsal.objects.filter(pk=number).exists():
        raise Http404(_("There is no rehearsal %(number)s.") % {"number": number})
    try:
        messages.success(request, translated(act(request.user.get_username())))
    except REFUSALS as error:
        messages.error(request, translated(str(error)))
    if from_htmx(request):
        overview = page.Overview(page.shown(number).get())
        return changes(request, overview, request.POST, status=200)
    if request.POST.get("of") == "banner":
        return redirect("rehearsal:index")
    if ref and request.POST.get("of") == ref:
        return redirect("rehearsal:item", number, ref)
    ref = ref or request.POST.get("ref", "")
    return redirect(
        reverse("rehearsal:rehearsal", args=[number]) + (f"#{anchor(ref)}" if ref else "")
    )
