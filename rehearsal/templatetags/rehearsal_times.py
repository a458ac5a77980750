"""Moments as the pages show them."""

from __future__ import annotations

import datetime

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rehearsal.wording import ago

register = template.Library()


@register.simple_tag
def moment(at: datetime.datetime | None) -> SafeString | str:
    """A moment in the office's zone, and how long ago it was; empty for none."""
    if at is None:
        return ""
    here = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{} <span class="rehearsal-ago">({})</span></time>',
        here.isoformat(),
        date_format(here, "j M Y, H:i:s e"),
        date_format(here, "j M Y, H:i"),
        ago((timezone.now() - at).total_seconds()),
    )
