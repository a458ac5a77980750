"""Recorded sentences and statuses in the language of who reads them."""

from __future__ import annotations

from django import template

from rehearsal.sentences import translated

register = template.Library()
register.filter("translated", translated)


@register.filter
def standing(status: str) -> str:
    """A status as the journal keeps it, `action_required`, in words."""
    return translated(status.replace("_", " "))
