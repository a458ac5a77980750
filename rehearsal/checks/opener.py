"""Asking the very address that the settings name."""

from __future__ import annotations

from typing import Any
from urllib.request import HTTPRedirectHandler, build_opener


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would take the question, and a token with it, to wherever it points."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


OPENER = build_opener(_NoRedirect)
"""Opens addresses and follows no redirect: one is raised as an HTTPError."""
