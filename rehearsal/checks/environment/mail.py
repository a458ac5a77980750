"""Where a process's mail would go, and whether anybody would get it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from django.conf import settings
from django.core.mail.backends import console, dummy, locmem, smtp
from django.utils.module_loading import import_string

CAPTURING = (console.EmailBackend, dummy.EmailBackend, locmem.EmailBackend)
"""Backends that send nothing; the one that writes files is a kind of console."""


def route() -> dict[str, str]:
    """Where this process's mail goes: its backend, and the SMTP server of one that has one."""
    return route_of(str(settings.EMAIL_BACKEND), f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}")


def route_of(said: str, server: str) -> dict[str, str]:
    """Where mail goes by a backend's dotted path, with `server` if it is one of SMTP."""
    try:
        backend = import_string(said)
    except ImportError as error:
        return {"backend": said, "error": f"it cannot be imported ({error})"}
    if isinstance(backend, type) and issubclass(backend, CAPTURING):
        return {"backend": said, "captures": "yes"}
    if isinstance(backend, type) and issubclass(backend, smtp.EmailBackend):
        return {"backend": said, "server": server}
    return {"backend": said}


def leads_nowhere(found: Mapping[str, str], sinks: Collection[str]) -> str:
    """Where the mail of a process is captured, in words; empty where it may reach somebody."""
    backend, server = found.get("backend", ""), found.get("server", "")
    if found.get("captures") and backend:
        return f"captured by {backend}"
    if backend and not server and backend in sinks:
        return f"captured by {backend}, by MAIL_SINKS"
    if server and (server in sinks or server.rpartition(":")[0] in sinks):
        return f"sent to {server}, a sink by MAIL_SINKS"
    return ""


def leads(found: Mapping[str, str]) -> str:
    """Where the mail of a process goes, in words."""
    if "server" in found:
        return f"to the SMTP server {found['server']}"
    error = f", {found['error']}" if "error" in found else ""
    return f"by {found.get('backend') or 'an unknown way'}{error}"
