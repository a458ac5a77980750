"""Markdown in, items out, and the same Markdown back with its boxes ticked.

`parse` reads the office's document as people write it, `bind` says which check serves each line,
and `render` ticks the boxes and puts the evidence under them, changing nothing else. Nothing here
knows Django.
"""

from rehearsal.checklist.bind import COMMAND_CHECKS, PERSON_CONFIRMS, Binding, bind
from rehearsal.checklist.markdown import ChecklistError, code_spans, first_code_span
from rehearsal.checklist.parse import Checklist, Item, Section, parse
from rehearsal.checklist.render import Outcome, render

__all__ = [
    "COMMAND_CHECKS",
    "PERSON_CONFIRMS",
    "Binding",
    "Checklist",
    "ChecklistError",
    "Item",
    "Outcome",
    "Section",
    "bind",
    "code_spans",
    "first_code_span",
    "parse",
    "render",
]
