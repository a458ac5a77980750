"""The words, signs and formats in which the pages and the admin speak of a rehearsal."""

from __future__ import annotations

from functools import cache
from typing import cast

from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from markdown_it import MarkdownIt

from rehearsal.models import CheckItem, Status, Verdict

# From the most to the least urgent: a section shows the first one that is among its items.
WORDS: dict[str, Promise] = {
    "failed": gettext_lazy("failed"),
    "inconclusive": gettext_lazy("inconclusive"),
    "waiting": gettext_lazy("waits for a person"),
    "running": gettext_lazy("running"),
    "queued": gettext_lazy("queued"),
    "pending": gettext_lazy("pending"),
    "skipped": gettext_lazy("not run"),
    "waived": gettext_lazy("waived"),
    "confirmed": gettext_lazy("confirmed"),
    "passed": gettext_lazy("passed"),
    "not-applicable": gettext_lazy("not applicable here"),
}
"""The signs an item can have, and what each is called."""
SETTLED = set(WORDS) - {"waiting", "running", "queued", "pending"}
VERDICTS: dict[Verdict, tuple[str, Promise]] = {
    Verdict.RUNNING: ("running", gettext_lazy("Running")),
    Verdict.GREEN: ("passed", gettext_lazy("Green")),
    Verdict.RED: ("failed", gettext_lazy("Red")),
    Verdict.ACTION_REQUIRED: ("waiting", gettext_lazy("Action required")),
    Verdict.CANCELLED: ("skipped", gettext_lazy("Cancelled")),
}
"""Each verdict's sign and headline."""


def sign(item: CheckItem) -> str:
    """The item's sign, one of `WORDS`."""
    if item.waived:
        return "waived"
    if item.status == Status.PASSED:
        return "confirmed" if item.confirmed_by else "passed"
    if item.status == Status.ACTION_REQUIRED:
        return "waiting"
    return "not-applicable" if item.not_applicable else str(item.status)


def word_of(sign: str, number: int) -> str:
    """What so many items of a sign are called."""
    return _("wait for a person") if sign == "waiting" and number > 1 else str(WORDS[sign])


def anchor(ref: str) -> str:
    """The id of an item's row on the page."""
    return f"item-{ref.replace('.', '-')}"


def folded(text: str) -> str:
    """A line's words: two lines with the same are the same line."""
    return " ".join(text.casefold().split())


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use: `0.4 s`, `12 s`, `2 min 13 s`, `1 h 05 min`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def ago(seconds: float) -> str:
    """How long ago something was, in the largest unit that fits: `3 minutes ago`."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return _("just now")
    if minutes < 60:
        return ngettext("%d minute ago", "%d minutes ago", minutes) % minutes
    hours = minutes // 60
    if hours < 24:
        return ngettext("%d hour ago", "%d hours ago", hours) % hours
    days = hours // 24
    return ngettext("%d day ago", "%d days ago", days) % days


def measured(value: float, unit: str) -> str:
    """A measurement to be read: whole numbers whole, others to a thousandth or three digits."""
    if value == round(value):
        shown = f"{round(value)} {unit}"
        return f"{shown} ({value / 1e6:.1f} MB)" if unit == "bytes" and value >= 1e6 else shown
    digits = f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{digits} {unit}"


@cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("zero").enable(["backticks", "emphasis", "escape", "link"])
    reader.validateLink = lambda url: url.lower().startswith(("http://", "https://"))  # type: ignore[method-assign]
    return reader


def inline(text: str) -> SafeString:
    """A checklist's line as HTML: code, emphasis and web links; any HTML in it is shown as text."""
    return mark_safe(cast(str, _markdown().renderInline(text)))  # noqa: S308
