"""Where a process's mail would go, and whether anybody would get it.

Since Django 6.1 a project has as many mailers as its setting `MAILERS` names; before, and without
that setting, it has one, by `EMAIL_BACKEND` and its like.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from django.conf import settings
from django.core import mail
from django.core.mail.backends import console, dummy, filebased, locmem, smtp
from django.utils.module_loading import import_string

from rehearsal.conf import all_settings

CAPTURING = (
    *(console.EmailBackend, dummy.EmailBackend),
    *(filebased.EmailBackend, locmem.EmailBackend),
)
"""Backends that send nothing; what a project derives from one of them may send all the same."""
SMTP = "django.core.mail.backends.smtp.EmailBackend"
DUMMY = "django.core.mail.backends.dummy.EmailBackend"
NO_MAILER = {"backend": "MAILERS, which names no such mailer", "captures": "yes"}
KNOWS_MAILERS = hasattr(mail, "mailers")
"""Whether this is Django 6.1 or newer."""


def has_mailers() -> bool:
    """Whether the project's mail goes as its setting `MAILERS` says."""
    return KNOWS_MAILERS and hasattr(settings, "MAILERS")


def mailers() -> dict[str, tuple[str, dict[str, Any]]]:
    """The backend's dotted path and the options of each of the project's mailers, by its alias."""
    said = all_settings()
    if has_mailers():
        return {
            alias: (str(one.get("BACKEND", SMTP)), dict(one.get("OPTIONS", {})))
            for alias, one in said["MAILERS"].items()
        }
    options = {"host": said["EMAIL_HOST"], "port": said["EMAIL_PORT"]}
    options["file_path"] = said.get("EMAIL_FILE_PATH")
    return {"default": (str(said["EMAIL_BACKEND"]), options)}


def routes() -> dict[str, dict[str, str]]:
    """Where this process's mail goes, by mailer: its backend, and the server of one of SMTP."""
    found = {}
    for alias, (backend, options) in mailers().items():
        usual = 465 if options.get("use_ssl") else 587 if options.get("use_tls") else 25
        server = f"{options.get('host', '')}:{options.get('port') or usual}"
        found[alias] = route_of(backend, server)
    return found or {"default": NO_MAILER}


def default_mailer() -> Any:
    """What sends this process's mail where nothing else is named: a backend of Django's kind."""
    return mail.mailers.default if KNOWS_MAILERS else mail.get_connection()


def by_sender(who: str, said: object) -> dict[str, Mapping[str, str]]:
    """The `routes` that a process named of itself, by words for it and its mailer.

    What is not of that shape, as another release's answer may be, is a way that nobody knows.
    """
    if not isinstance(said, Mapping) or not said:
        return {who: {}}
    return {
        who if alias == "default" else f"{who}, by {alias},": one
        if isinstance(one, Mapping)
        else {}
        for alias, one in said.items()
    }


def folder() -> str:
    """Where mail that names no mailer is written into files, if this is how it is captured; else
    empty."""
    backend, options = mailers().get("default", ("", {}))
    try:
        found = import_string(backend)
    except ImportError:  # which 1.2 names
        return ""
    if isinstance(found, type) and issubclass(found, filebased.EmailBackend):
        return str(options.get("file_path") or "")
    return ""


def send_nothing() -> None:
    """Let no mail leave this process, whichever mailer it is given to."""
    here: Any = settings
    if has_mailers():
        here.MAILERS = dict.fromkeys(here.MAILERS, {"BACKEND": DUMMY})
    else:
        with warnings.catch_warnings():  # of a setting that Django gives up
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            here.EMAIL_BACKEND = DUMMY


def route_of(said: str, server: str) -> dict[str, str]:
    """Where mail goes by a backend's dotted path, with `server` if it is one of SMTP."""
    try:
        backend = import_string(said)
    except ImportError as error:
        return {"backend": said, "error": f"it cannot be imported ({error})"}
    if backend in CAPTURING:
        return {"backend": said, "captures": "yes"}
    if backend is smtp.EmailBackend:
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
