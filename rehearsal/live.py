"""What changes, pushed to the pages as server-sent events, where the server is asynchronous.

One watch in each web process looks at the versions of the rehearsals that somebody has open, in one
query however many they are, and renders a change once for all who have seen the same and may do the
same. A viewer costs a waiting coroutine, and holds neither a thread at work nor a connection. The
database is asked and no message bus: what it says is true, also while Redis is away.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import Error, connections, router
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET

from rehearsal import fragments
from rehearsal.access import allowed, permitted
from rehearsal.fragments import View
from rehearsal.models import Rehearsal

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
"""Between two looks at the versions of what is watched."""
QUIET_SECONDS = 5
"""After which a viewer hears the clock though nothing changed, and knows that it is connected."""
LONGEST_SECONDS = 300
"""After which a stream ends: the browser asks for it again, and permissions are looked at anew."""
MOST_RENDERED = 1000
"""Fragments kept for others who ask for the same."""
AT_THE_DOOR = 8
"""How many viewers are let in at once: each takes connections for a moment, and after a restart
of the server all of them come together."""
AGAIN_MILLISECONDS = 1000
"""How long a browser waits before it asks again for a stream that ended or broke."""


@dataclass(frozen=True)
class Pushed:
    """An event as it is written to every viewer, made once for all of them."""

    event: bytes
    version: int
    live: bool


@require_GET
async def stream(request: HttpRequest, number: int) -> HttpResponseBase:
    """Changes of a rehearsal from the version `seen` on, as server-sent events named `changes`; at
    the end one named `end`. 204, which ends the asking, where the server is not asynchronous."""
    if not isinstance(request, ASGIRequest):
        return HttpResponse(status=204)  # it would hold one of the server's workers for each viewer
    async with _watch().door:
        entered = await sync_to_async(_enter)(request, number)
    if isinstance(entered, HttpResponse):
        return entered
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(
        _events(entered), content_type="text/event-stream", headers=headers
    )


def _enter(request: HttpRequest, number: int) -> View | HttpResponse:
    entered: list[View] = []

    @permitted()
    def view(request: HttpRequest) -> HttpResponse:
        get_object_or_404(Rehearsal, pk=number)
        entered.append(View.of_request(request, number, allowed(request)))
        return HttpResponse()

    refused = view(request)
    connections.close_all()  # a stream lasts, and must hold none
    return entered[0] if entered else refused


async def _events(view: View) -> AsyncIterator[bytes]:
    watch = _watch()
    ends = time.monotonic() + LONGEST_SECONDS
    with watch.watching(view.number):
        yield b"retry: %d\n\n" % AGAIN_MILLISECONDS
        while time.monotonic() < ends:
            try:
                sent = await watch.next(view)
            except Error as error:
                logger.warning("Rehearsal %s cannot be read: %s", view.number, error)
                return
            if sent is None:
                return
            yield sent.event
            if not sent.live:
                yield b"event: end\ndata: \n\n"
                return
            view = replace(view, seen=sent.version)


def data(html: str) -> str:
    """A text as lines of an event, its empty ones too: whoever joins them has the same text."""
    return "".join(f"data: {line}\n" for line in re.split("\r\n|\r|\n", html))


class Watch:
    """Looks for all viewers of one event loop, as long as there are any."""

    def __init__(self) -> None:
        self.door = asyncio.Semaphore(AT_THE_DOOR)
        self._viewers: Counter[int] = Counter()
        self._versions: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._rendered: dict[View, tuple[float, asyncio.Future[Pushed | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        # One thread each, and so one connection: for looking and rendering, and for the sweep,
        # which may wait for a broker that is away.
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="rehearsal-live")
        self._sweeping = ThreadPoolExecutor(1, thread_name_prefix="rehearsal-sweep")

    @contextmanager
    def watching(self, number: int) -> Iterator[None]:
        """Look at rehearsal `number` meanwhile."""
        self._viewers[number] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._viewers[number] -= 1
            if not self._viewers[number]:
                del self._viewers[number]
                self._versions.pop(number, None)

    async def next(self, view: View) -> Pushed | None:
        """What is new for a view, or after a while what the clock says; None when the rehearsal
        or the item is gone."""
        ends = time.monotonic() + QUIET_SECONDS
        while (left := ends - time.monotonic()) > 0:
            if self._versions.get(view.number, view.seen) > view.seen:
                break
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        now = time.monotonic()
        rendered = self._rendered.get(view)
        if len(self._rendered) > MOST_RENDERED:
            self._rendered.clear()
        if rendered is None or now - rendered[0] > QUIET_SECONDS / 2:
            rendered = self._rendered[view] = now, self._run(self._looking, _render, view)
        return await asyncio.shield(rendered[1])

    async def _look(self) -> None:
        while self._viewers:
            try:
                found = await self._run(self._looking, _versions, list(self._viewers))
            except Error as error:
                # The pages say themselves that they hear nothing any more.
                logger.warning("The rehearsals watched cannot be read: %s", error)
                found = {}
            changed = {n for n, (version, _) in found.items() if self._versions.get(n) != version}
            self._versions |= {number: found[number][0] for number in changed}
            if changed:
                late = time.monotonic() - QUIET_SECONDS
                self._rendered = {
                    view: one
                    for view, one in self._rendered.items()
                    if view.number not in changed and one[0] > late
                }
                self._changed.set()
                self._changed = asyncio.Event()
            for number, (_version, opened) in found.items():
                if opened and fragments.sweep_is_due(number):
                    self._run(self._sweeping, _sweep, number)
            await asyncio.sleep(LOOK_SECONDS)
        await self._run(self._looking, connections.close_all)
        await self._run(self._sweeping, connections.close_all)

    def _run(
        self, where: ThreadPoolExecutor, what: Callable[..., Any], *arguments: object
    ) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(where, what, *arguments)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


def _watch() -> Watch:
    return _watches.setdefault(asyncio.get_running_loop(), Watch())


def _versions(numbers: list[int]) -> dict[int, tuple[int, bool]]:
    """The version of each rehearsal, and whether it is open."""
    rows = Rehearsal.objects.filter(pk__in=numbers).values_list("pk", "version", "closed_at")
    try:
        return {number: (version, closed is None) for number, version, closed in rows}
    except Error:
        connections[router.db_for_read(Rehearsal)].close()
        raise


def _sweep(number: int) -> None:
    try:
        fragments.sweep(number)
    except Error as error:
        logger.warning("Rehearsal %s cannot be swept: %s", number, error)
        connections[router.db_for_read(Rehearsal)].close()


def _render(view: View) -> Pushed | None:
    """What is new for a view as an event; None when there is nothing by that name any more."""
    sent = fragments.fragment(view, streamed=True)
    if sent is None:
        return None
    event = f"id: {sent.version}\nevent: changes\n{data(sent.html)}\n"
    return Pushed(event.encode(), sent.version, sent.live)
