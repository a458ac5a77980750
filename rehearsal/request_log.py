"""A log of requests for sites that keep none: a middleware that tells of each, a handler that
writes it down, one JSON line a request, for the check of the request logs to read.

    MIDDLEWARE = ["rehearsal.request_log.RequestLogMiddleware", ...]
    LOGGING["handlers"]["rehearsal"] = {"class": "rehearsal.request_log.Handler"}
    LOGGING["loggers"]["rehearsal.requests"] = {"handlers": ["rehearsal"], "level": "INFO"}
    LOGGING["loggers"]["django.request"] = {"handlers": ["rehearsal", "console"]}
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from rehearsal import conf

logger = logging.getLogger("rehearsal.requests")

MAX_BYTES = 20_000_000
"""The file's size at which it becomes `.1`; what was `.1` is dropped."""
LONGEST = 20_000
"""Characters of a message, path or traceback that are kept: its end."""
Answer = HttpResponseBase | Awaitable[HttpResponseBase]


def path() -> Path:
    """The file that the handler writes."""
    return conf.folder("logs") / "requests.log"


class RequestLogMiddleware:
    """Tells the logger `rehearsal.requests` of each request. To stand first in MIDDLEWARE."""

    async_capable = sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self.get_response = get_response
        # Who reads the log sees that it began with this process, and that nothing is lost.
        logger.info("A process began that logs its requests.")
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if iscoroutinefunction(self.get_response):
            return self._later(request)
        began = time.perf_counter()
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        _tell(request, response, began)
        return response

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        response = await self.get_response(request)  # type: ignore[misc]
        _tell(request, response, began)
        return response  # type: ignore[no-any-return]


def _tell(request: HttpRequest, response: HttpResponseBase, began: float) -> None:
    told = {
        "method": request.method,
        "path": request.path,  # without its query, which may hold what is private
        "status": response.status_code,
        "seconds": round(time.perf_counter() - began, 4),
        "agent": request.headers.get("User-Agent", "")[:200],
    }
    logger.info("%s %s %d", request.method, request.path, response.status_code, extra=told)


class Handler(logging.Handler):
    """Appends each record to one file of all processes, as a line of JSON without secrets."""

    _lock = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._append(self._line(record))
        except Exception:  # a full disk is no reason to answer 500
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> bytes:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        said: dict[str, object] = {"at": at.isoformat(), "level": record.levelname}
        said |= {"logger": record.name, "message": record.getMessage()}
        if (request := getattr(record, "request", None)) is not None:
            said["path"] = getattr(request, "path", "")
        if (status := getattr(record, "status_code", None)) is not None:
            said["answered"] = status
        for name in ("method", "path", "status", "seconds", "agent"):
            if hasattr(record, name):
                said[name] = getattr(record, name)
        if record.exc_info:
            said["traceback"] = logging.Formatter().formatException(record.exc_info)
        redact = conf.redactor().redact
        clean = {
            name: redact(value)[-LONGEST:] if isinstance(value, str) else value
            for name, value in said.items()
        }
        return json.dumps(clean).encode() + b"\n"

    def _append(self, line: bytes) -> None:
        file = path()
        with self._lock:
            before = file.with_name(f"{file.name}.1")
            if file.exists() and file.stat().st_size > MAX_BYTES:
                file.replace(before)
            # Opened each time: another process may have renamed it. One write, appended whole.
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
