"""Sentences that are recorded in English, in the language of whoever reads them.

Records, journals and evidence are English for everybody, so nothing translated is ever stored. What
the page shows of them is looked up here when it is shown; a sentence that is not here, as a check
may say any, stays as it was recorded.
"""

from __future__ import annotations

import re
from functools import lru_cache

from django.utils import translation
from django.utils.translation import gettext_noop

LONGEST = 2000
"""Characters of what may be one of these sentences with its values."""
SENTENCES = (
    # Why a person is asked.
    gettext_noop(
        "No check is bound to this line: a person does what it says and confirms it here."
    ),
    gettext_noop(
        "manage.py %(command)s ran with exit code 0; a person reads its output and confirms that "
        "it is as it should be."
    ),
    gettext_noop(
        "%(said)s %(flagged)s of %(each)s operations are dangerous, first %(name)s: %(flag)s. "
        "A person reads each and acknowledges it."
    ),
    gettext_noop(
        "%(said)s At most %(seconds)s s is accepted by itself: acknowledge each, or let the "
        "migration lock less."
    ),
    gettext_noop(
        "%(said)s The locks were not watched to the end (%(error)s): confirm that it does not "
        "matter, or restore and run again."
    ),
    gettext_noop(
        "%(why)s Nothing more was done: attach the files in %(folder)s to the release ticket by "
        "hand (SHA-256 of evidence.json: %(digest)s), then confirm."
    ),
    gettext_noop("no check is bound to this line: a person confirms it"),
    gettext_noop("what it stands under speaks of production: a person confirms it"),
    gettext_noop('reworded: taken for the adopted line "%(line)s"'),
    # How a line ended without a check's own word.
    gettext_noop("No check serves this line yet: do it by hand and waive it with your reason."),
    gettext_noop("Not run: it needs %(ref)s, which is %(status)s."),
    gettext_noop("Not selected for this rehearsal."),
    gettext_noop("Confirmed by %(by)s."),
    gettext_noop("Cancelled by %(by)s while it ran."),
    gettext_noop("Cancelled by %(by)s before it ran."),
    gettext_noop(
        "The worker that ran this was lost, and what it had done by then is unknown. Look at the "
        "output, then run it again. The last it said: %(said)s"
    ),
    gettext_noop(
        "The worker that ran this was lost, and what it had done by then is unknown. Look at the "
        "output, then run it again."
    ),
    gettext_noop("The check did not end within its %(seconds)s seconds."),
    gettext_noop("The check ended after %(took)s seconds, and its limit is %(seconds)s seconds."),
    gettext_noop("The check itself broke: %(said)s"),
    gettext_noop("%(by)s began to roll this back; whether it came to its end is not known."),
    gettext_noop(
        "Rolled back by %(by)s: the database from before this rehearsal is in place again."
    ),
    # Why nothing can be started or run again.
    gettext_noop("Rehearsal %(number)s was cancelled: start a new one instead."),
    gettext_noop("Rehearsal %(number)s has no item %(ref)s."),
    gettext_noop(
        "Rehearsal %(number)s is decided (%(status)s), and %(ref)s is sealed with it: start a "
        "new one."
    ),
    gettext_noop("%(refs)s would run again and is still under way: wait, or cancel."),
    gettext_noop(
        "In %(environment)s, %(which)s is open: let it finish, answer what it asks, or cancel it."
    ),
    gettext_noop(
        "Rehearsal %(number)s is of %(environment)s, and this is %(here)s: what is done there has "
        "to be done from there."
    ),
    gettext_noop(
        "This server cannot import the check of %(ref)s, %(name)s, or one that it names: install "
        "here what the workers have, then try again."
    ),
    gettext_noop("The records cannot hold this (%(said)s): leave it out."),
    # What speaks against a seal.
    gettext_noop("Rehearsal %(number)s has no seal over its decision."),
    gettext_noop("The sign-off has ended, and there is no seal over it."),
    gettext_noop("The journal's chain is broken at entry %(entry)s."),
    gettext_noop("The journal's last entries are missing."),
    gettext_noop("The journal's entry %(entry)s is not the sealed one."),
    gettext_noop("The sealed document cannot be read: it is not as it was written."),
    gettext_noop("%(name)s was sealed as %(before)s and is now %(after)s."),
    gettext_noop("And %(number)s more differences."),
    gettext_noop("%(ref)s is %(status)s, and its journal says %(known)s."),
    # What the journal tells.
    gettext_noop("started with the checklist %(digest)s"),
    gettext_noop("to be run again"),
    gettext_noop("cancelled"),
    gettext_noop("verdict: %(verdict)s"),
    gettext_noop("decided: %(choice)s"),
    gettext_noop("%(who)s votes %(choice)s: %(reason)s"),
    gettext_noop("waived until %(day)s: %(reason)s"),
    gettext_noop("confirmed; acknowledged: %(names)s"),
    gettext_noop("the database that was replaced is being put back"),
)
"""A longer one stands before those that it begins with."""
WORDS = (
    gettext_noop("pending"), gettext_noop("queued"), gettext_noop("running"),
    gettext_noop("passed"), gettext_noop("failed"), gettext_noop("inconclusive"),
    gettext_noop("skipped"), gettext_noop("action required"),
    gettext_noop("confirmed"), gettext_noop("waived"),
    gettext_noop("green"), gettext_noop("red"), gettext_noop("nothing"),
    gettext_noop("another rehearsal"),
)  # fmt: skip
"""Values of sentences that are words too."""
PLACE = re.compile(r"%\((\w+)\)s")
NUMBERS = {"flagged", "each", "seconds", "took", "number", "entry"}
"""Values that are numbers, and so end where another begins."""


def _pattern(sentence: str) -> tuple[str, str, re.Pattern[str]]:
    """A sentence, the longest of its parts that never vary, and what it looks like with values."""
    parts = PLACE.split(sentence)
    looks = [
        f"(?P<{part}>{r'[0-9.]+' if part in NUMBERS else '.*?'})" if i % 2 else re.escape(part)
        for i, part in enumerate(parts)
    ]
    return sentence, max(parts[::2], key=len), re.compile("".join(looks), re.DOTALL)


_PATTERNS = [_pattern(sentence) for sentence in SENTENCES]


def translated(text: str) -> str:
    """A recorded sentence in the present language, if it is one of `SENTENCES` or `WORDS`."""
    language = translation.get_language()
    if not text or language is None or language.split("-")[0] == "en":
        return text
    return _translated(text, language)


@lru_cache(4096)
def _translated(text: str, language: str) -> str:
    if text in WORDS:
        return translation.gettext(text)
    if len(text) > LONGEST:
        return text
    for sentence, part, pattern in _PATTERNS:
        if part in text and (found := pattern.fullmatch(text)):
            values = {
                name: translation.gettext(value) if value in WORDS else value
                for name, value in found.groupdict().items()
            }
            return translation.gettext(sentence) % values
    return text


__all__ = ["translated"]
