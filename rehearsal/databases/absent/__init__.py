"""A backend for aliases that must not be reached: whatever asks one for anything gets NoCopy."""

from __future__ import annotations


class NoCopy(Exception):
    """An alias was asked of which there is no copy; its name is all that it says."""
