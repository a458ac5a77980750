"""Markdown to items: sections, references and binding comments."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from dataclasses import dataclass
from typing import Any

from rehearsal.checklist.markdown import (
    BINDING_STARTS,
    Box,
    Heading,
    inline,
    is_binding,
    quoted,
    refuse,
    scan,
    split_lines,
)

_SECTION_NUMBER = re.compile(r"([0-9]{1,4})\\?[.):]\s+(?=\S)")


@dataclass(frozen=True)
class Item:
    """One box of the document; `line` is the 0-based index of the line it stands on."""

    section: int
    number: int
    text: str
    line: int
    ticked: bool
    check: str | None
    options: dict[str, object]
    under: tuple[str, ...] = ()
    """The headings and list items it stands under, outermost first."""

    @property
    def ref(self) -> str:
        """Section and number, such as `3.2`."""
        return f"{self.section}.{self.number}"


@dataclass(frozen=True)
class Section:
    """One `##` heading that holds items; the title comes without its number."""

    number: int
    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Checklist:
    """A document as it was read, to the byte, and what it asks for."""

    text: str
    sections: tuple[Section, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """Every item in document order."""
        return tuple(item for section in self.sections for item in section.items)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the document's UTF-8 bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def parse(text: str | bytes) -> Checklist:
    """Read a Markdown checklist; raises ChecklistError where it cannot be performed as written.

    Boxes in code and comments are not items. A box in a blockquote or in HTML, or one that only
    looks like a box, is refused rather than dropped in silence.
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    elif (surrogate := re.search("[\ud800-\udfff]", text)) is not None:
        line = len(split_lines(text[: surrogate.start()])[0]) - 1
        refuse(line, "expected text, found half a surrogate pair: save the file as UTF-8")
    found: list[tuple[str, list[Box]]] = []
    heading: Heading | None = None
    for part in scan(text):
        if isinstance(part, Heading):
            heading = part
            if part.level == 2:
                found.append((part.title, []))
        elif heading is None or heading.level == 1:
            refuse(
                part.line,
                'expected every box under a "## " heading, found one above any:'
                " put a heading such as `## 1. Preparation` before it",
            )
        else:
            found[-1][1].append(part)
    holding = [(title, boxes) for title, boxes in found if boxes]
    if not holding:
        refuse(0, "expected at least one line such as `- [ ] Do this.`, found none: add one")
    matches = [_SECTION_NUMBER.match(title) for title, _ in holding]
    numbers = [int(match[1]) for match in matches if match is not None]
    if len(numbers) < len(holding) or len(set(numbers)) < len(holding):
        numbers = list(range(1, len(holding) + 1))
    return Checklist(
        text,
        tuple(
            Section(
                number,
                title[match.end() :] if match else title,
                tuple(_item(number, position, box) for position, box in enumerate(boxes, 1)),
            )
            for number, match, (title, boxes) in zip(numbers, matches, holding, strict=True)
        ),
    )


def _item(section: int, number: int, box: Box) -> Item:
    text, check, options = _split_binding(box.text, box.line)
    if not text:
        refuse(box.line, "expected words after the box, found none: say what is to be done")
    text = " ".join(part for part in (text, *box.more) if part)
    return Item(section, number, text, box.line, box.ticked, check, options, box.under)


def _split_binding(text: str, line: int) -> tuple[str, str | None, dict[str, object]]:
    """The text without its trailing binding comment, and what the comment says."""
    if "<!--" not in text:
        return text, None, {}
    tokens = [token for token in inline(text) if token.type != "text" or token.content.strip()]
    for token in tokens:
        if token.type == "text" and BINDING_STARTS.search(token.content):
            refuse(line, "expected the binding comment to end with `-->`, found no end: add it")
        if is_binding(token):
            if token is not tokens[-1]:
                refuse(
                    line,
                    "expected the binding comment at the end of the line,"
                    " found text after it: move the comment to the end",
                )
            body = token.content.removesuffix("-->").partition("check:")[2]
            return text[: text.rindex(token.content)].rstrip(), *_binding(body, line)
    return text, None, {}


QUOTING = re.compile(r"""["'\\]""")


def _binding(body: str, line: int) -> tuple[str, dict[str, object]]:
    example = 'write `<!-- check: package.module.Class name=value other="two words" -->`'
    try:
        # The long way only where there is something to unquote: a long document has many.
        words = shlex.split(body) if QUOTING.search(body) else body.split()
    except ValueError:
        refuse(line, f"expected closed quotes in the binding comment, found one open: {example}")
    if not words:
        refuse(line, f"expected a check in the binding comment, found nothing: {example}")
    path, *settings = words
    if "." not in path or not all(part.isidentifier() for part in path.split(".")):
        refuse(line, f"expected the dotted path of a check, found {quoted(path)}: {example}")
    options: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            refuse(line, f"expected an option name=value, found {quoted(setting)}: {example}")
        if name in options:
            refuse(line, f"expected each option once, found `{name}` twice: remove one")
        options[name] = _value(value)
    return path, options


def _value(text: str) -> object:
    def finite(number: str) -> float:
        # "NaN" and "1e999" are Python's JSON and nobody else's: a database would refuse them.
        if not math.isfinite(value := float(number)):
            raise ValueError(number)
        return value

    try:
        value: Any = json.loads(text, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        return text
    return value


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", data[: error.start]))
        refuse(
            line,
            f"expected UTF-8, found byte 0x{data[error.start]:02x} at byte offset {error.start}:"
            " save the file as UTF-8",
        )
