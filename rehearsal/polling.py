"""What changes, told to the pages that ask for it each second, where the server cannot push.

So many may ask because most answers cost next to nothing: who asked a moment ago is known by a
cookie (`access.permitted_lately`), where the rehearsal stands is looked up once for all who ask
within a moment, and what is new is rendered once for all who have seen the same and may do the
same. Where that does not suffice, pages are told to ask more rarely.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.core.signals import request_started
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from rehearsal.access import STOP_POLLING, permitted_lately
from rehearsal.fragments import Sent, View, fragment, no_such_item, sweep, sweep_is_due, whole
from rehearsal.models import Rehearsal

CLOCK_EVERY = 5
"""Seconds after which a running rehearsal's elapsed time is sent again though nothing changed."""


@require_GET
@permitted_lately
def rows(request: HttpRequest, number: int, allowed: frozenset[str]) -> HttpResponse:
    """What changed since the version `seen`: 204 for nothing, 286 when nothing more will come."""
    pause = _pace.pause(time.monotonic())
    try:
        return _answer(request, number, allowed, pause)
    finally:
        _pace.answered(time.monotonic(), _told(request), _thread_seconds())


def _answer(request: HttpRequest, number: int, allowed: frozenset[str], pause: int) -> HttpResponse:
    seen = whole(request.GET.get("seen"), missing=-1)
    stands = _standings.get(number, seen, pause)
    if stands and stands.open and sweep_is_due(number):
        sweep(number)
        stands = _standings.look(number)
    if stands is None:
        raise Http404(_("There is no rehearsal %(number)s.") % {"number": number})
    nothing_new = seen == stands.version
    if nothing_new and stands.open and not _clock_is_late(request, stands.started_at):
        return HttpResponse(status=204)
    sent = _fragments.get(View.of_request(request, number, allowed), stands.version, pause)
    if sent is None:
        raise no_such_item(number, request.GET.get("of", ""))
    if seen == sent.version and sent.live and not stands.open and _told(request) == sent.pause:
        return HttpResponse(status=204)
    return HttpResponse(sent.html, status=200 if sent.live else STOP_POLLING)


def _told(request: HttpRequest) -> int:
    """The seconds after which the page that asks was told to do so."""
    return min(max(1, whole(request.GET.get("pause"), missing=1)), Pace.LONGEST)


def _clock_is_late(request: HttpRequest, started_at: datetime.datetime) -> bool:
    elapsed = (timezone.now() - started_at).total_seconds()
    return elapsed >= whole(request.GET.get("elapsed"), missing=sys.maxsize) + CLOCK_EVERY


@dataclass(frozen=True)
class Stands:
    """Where a rehearsal stands, as far as who asks must know."""

    version: int
    started_at: datetime.datetime
    open: bool


class Standings:
    """Where the rehearsals stand that pages ask this process about."""

    SECONDS = 0.1
    """How long one is not looked up again, for each second of the pause that pages are told; and so
    how much later than it could a page may hear."""
    MOST = 200

    def __init__(self) -> None:
        self._found: dict[int, tuple[float, Stands]] = {}

    def get(self, number: int, seen: int, pause: int) -> Stands | None:
        """Where rehearsal `number` stands, for a page that has seen the version `seen`; None when
        there is none by that number."""
        if kept := self._found.get(number):
            looked, stands = kept
            # A page has seen more than is known here when another process answered it last.
            if time.monotonic() - looked < self.SECONDS * pause and seen <= stands.version:
                return stands
        return self.look(number)

    def look(self, number: int) -> Stands | None:
        """As `get`, by the database."""
        now = time.monotonic()
        columns = ("version", "started_at", "closed_at")
        found = Rehearsal.objects.filter(pk=number).values_list(*columns).first()
        if found is None:
            return None
        version, started_at, closed_at = found
        stands = Stands(version, started_at, closed_at is None)
        if len(self._found) >= self.MOST:
            self._found.clear()
        self._found[number] = (now, stands)
        return stands


class Fragments:
    """Those rendered lately: the pages that poll a process and stand at the same version are
    answered with one rendering."""

    SECONDS = 2.0
    """How long one is given out, so that the time it tells is right; to pages that are told to ask
    rarely a quarter of that pause, so that they too are many to one rendering."""
    MOST = 200

    def __init__(self) -> None:
        self._kept: dict[tuple[View, int], tuple[float, int, Sent | None]] = {}

    def get(self, view: View, version: int, pause: int) -> Sent | None:
        """The fragment that brings `view` to `version` or later; None as for `fragment`."""
        now = time.monotonic()
        kept = self._kept.get((view, pause))
        if kept and kept[1] >= version and now - kept[0] < max(self.SECONDS, pause / 4):
            return kept[2]
        sent = fragment(view, streamed=False, pause=pause)
        if len(self._kept) >= self.MOST:
            self._kept.clear()
        self._kept[view, pause] = (now, sent.version if sent else version, sent)
        return sent


def waiting_for_processors(pressure: Path = Path("/proc/pressure/cpu")) -> int:
    """In how many of a hundred moments of the last ten seconds something waited for a processor of
    this machine, by Linux's pressure stall information; 0 where the system does not tell."""
    try:
        found = re.match(r"some avg10=(\d+)", pressure.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


class Pace:
    """How often pages may ask: once a second, and more rarely where that would take much of a
    process that has other work, or where they are many and the checks lack processors."""

    SHARE = 0.2
    """Of one processor, for what Django does in this process to answer those who ask."""
    CROWD = 5
    """Pages that this process answers in a second where processors are short: crowds give way to
    the checks that they watch."""
    SHORT, SHORT_NO_MORE = 50, 25
    """Where `waiting_for_processors` says more, they are short, until it says less than the other:
    a crowd that gave way leaves some free, and would else come back at once."""
    WINDOW = 20
    """Seconds over which that is added up."""
    LONGEST = 20
    """Seconds of a pause at most: who asks so rarely may still be known by the cookie."""

    def __init__(self, pressure: Callable[[], int] = waiting_for_processors) -> None:
        self._answered: dict[int, tuple[float, int]] = {}
        self._pressure = pressure
        self._looked = -1
        self._short = False

    def pause(self, now: float) -> int:
        """The seconds after which one that asks at `now` may ask again."""
        if self._looked != int(now):
            self._looked = int(now)
            self._short = self._pressure() > (self.SHORT_NO_MORE if self._short else self.SHORT)
        lately = self._lately(now).values()
        longest = sum(work for work, _pages in lately) / self.WINDOW / self.SHARE
        if self._short:
            longest = max(longest, sum(pages for _work, pages in lately) / self.WINDOW / self.CROWD)
        return min(max(1, math.ceil(longest)), self.LONGEST)

    def answered(self, now: float, pause: int, seconds: float) -> None:
        """Count an answer that took `seconds` of a processor, to one that was told `pause`."""
        self._answered = self._lately(now)
        work, pages = self._answered.get(int(now), (0.0, 0))
        # Who was told to ask every three seconds stands for three who ask every second.
        self._answered[int(now)] = work + pause * seconds, pages + pause

    def _lately(self, now: float) -> dict[int, tuple[float, int]]:
        since = int(now) - self.WINDOW
        return {second: one for second, one in list(self._answered.items()) if second > since}


_pace = Pace()
_standings = Standings()
_fragments = Fragments()

_thread = threading.local()


def _begins(**_: object) -> None:
    _thread.began = time.thread_time()


def _thread_seconds() -> float:
    """Of a processor, since this thread was given its request; what the project's own middleware
    takes is in it."""
    now = time.thread_time()
    return now - getattr(_thread, "began", now)


request_started.connect(_begins)
