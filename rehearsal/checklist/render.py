"""Items back to Markdown: the box, and the evidence under it. Every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rehearsal.checklist.markdown import BYTE_ORDER_MARK, Box, scan, split_lines
from rehearsal.checklist.parse import Checklist

_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# Halves of surrogate pairs cannot be saved; direction marks can make a line read as another.
_UNSAFE = re.compile("[\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Words that no Markdown reads as markup or as an address.
_NAMED = re.compile(r"((?!www)[A-Za-z][A-Za-z0-9]*(?:[ ._-][A-Za-z0-9]+)*): (.+)")
# Ends the evidence list where Markdown would otherwise take what follows for part of it.
_SEPARATOR = "<!-- -->"


@dataclass(frozen=True)
class Outcome:
    """What became of an item: whether its box is ticked, and what was seen, a line each."""

    ticked: bool
    evidence: tuple[str, ...] = ()


def render(checklist: Checklist, outcomes: Mapping[str, Outcome]) -> str:
    """The document with the boxes of `outcomes` (by item reference) set and evidence added.

    Raises ValueError for a reference the document does not have. Evidence already in the document
    stays: render from the frozen checklist, not from an earlier rendering.
    """
    if unknown := outcomes.keys() - {item.ref for item in checklist.items}:
        raise ValueError(
            f"Expected references of this checklist, found {', '.join(sorted(unknown))}:"
            " render the outcomes of the rehearsal this checklist was frozen for."
        )
    body = checklist.text.removeprefix(BYTE_ORDER_MARK)
    lines, ends = split_lines(body)
    document_end = next((end for end in ends if end), "\n")
    boxes = [part for part in scan(checklist.text) if isinstance(part, Box)]
    inserted: dict[int, list[str]] = {}
    for item, box in zip(checklist.items, boxes, strict=True):
        if (outcome := outcomes.get(item.ref)) is None:
            continue
        # Read before the box changes; the nested list and the text below it are never rewritten.
        inserted[box.text_end - 1] = _evidence(lines, box, outcome.evidence)
        if outcome.ticked != box.ticked:
            line, mark = lines[box.line], box.column + 1
            lines[box.line] = line[:mark] + ("x" if outcome.ticked else " ") + line[mark + 1 :]
    rendered: list[str] = []
    for number, (line, end) in enumerate(zip(lines, ends, strict=True)):
        added = inserted.get(number, [])
        # A last line without an ending lends its lack of one to the last line of evidence.
        between = end or document_end
        rendered.append(between.join([line, *added]) + end)
    return checklist.text[: len(checklist.text) - len(body)] + "".join(rendered)


def _evidence(lines: list[str], box: Box, evidence: tuple[str, ...]) -> list[str]:
    """The bullets, indented to stay inside the item and to keep what follows out of them."""
    bullets = [f"- {bullet}" for text in evidence if (bullet := _bullet(text))]
    if not bullets:
        return []
    # As wide as what precedes the box, in the same tabs, so that it is the item's own column.
    indent = re.sub(r"[^\t]", " ", lines[box.line][: box.column])
    if box.nested_list is not None:
        indent = _indent(lines[box.nested_list])
    following = next(
        (line for line in lines[box.text_end : box.item_end] if line.strip(" \t")), None
    )
    if following is not None and _width(_indent(following)) >= _width(indent) + 2:
        bullets.append(_SEPARATOR)
    return [indent + bullet for bullet in bullets]


def _bullet(text: str) -> str:
    """`name: what was seen` with the name in the open; anything else is one code span."""
    text = _BLANKS.sub(" ", _UNSAFE.sub("\ufffd", text)).strip()
    named = _NAMED.match(text)
    return f"{named[1]}: {_code_span(named[2])}" if named else _code_span(text)


def _code_span(text: str) -> str:
    """The text as one code span, verbatim: it cannot be markup, a link, a mention or a box."""
    if not text:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    padding = " " if "`" in (text[0], text[-1]) else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _width(indent: str) -> int:
    return len(indent.expandtabs(4))
