"""What markdown-it reads in a document: its headings and boxes, and the lines they stand on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from markdown_it import MarkdownIt
from markdown_it.token import Token

BYTE_ORDER_MARK = "\ufeff"
BINDING_STARTS = re.compile(r"<!--\s*check:")
# markdown-it silently skips what is nested deeper than this, so deeper documents are refused;
# boxes stop earlier, so that evidence always fits under them.
_DEEPEST = 40
_DEEPEST_BOX = 30
_BLOCKS = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).disable(["inline", "text_join"])
_LINE_END = re.compile(r"(\r\n?|\n)")
_BOX = re.compile(r"\[[ xX]\](?=\s|$)")
_BEFORE_BOX = re.compile(r"[ \t\-+*.)0-9]*")
# What a person meant as a box and Markdown does not read as one: `[]`, `[ ]text`, `[✓] text`.
_ALMOST_BOX = re.compile(r"\[\s*[xX✓✔]?\s*\](?![(\[:])")
# HTML that goes on to its end, however far that is.
_HTML_TO_ITS_END = re.compile(r"\s*<(?:(!--)|(?:script|pre|style|textarea)\b)", re.IGNORECASE)
_HTML_ENDS = re.compile(r"</(?:script|pre|style|textarea)>", re.IGNORECASE)
_ALMOST_ITEM = re.compile(r"\s*(?:[-+*•\u2013\u2014]|[0-9]{1,9}[.)])\s*" + _ALMOST_BOX.pattern)


class ChecklistError(ValueError):
    """The document cannot be performed as written: one sentence naming line, fault and remedy."""


@dataclass(frozen=True)
class Heading:
    """A top-level heading of the first or second level."""

    level: int
    title: str


@dataclass(frozen=True)
class Box:
    """Where a box stands; lines are 0-based, ends are exclusive."""

    line: int
    column: int  # of the "["
    text: str  # everything after the box in its paragraph, the binding comment included
    more: tuple[str, ...]  # the item's further paragraphs
    ticked: bool
    text_end: int
    item_end: int
    nested_list: int | None  # the line of the list that directly follows the text
    under: tuple[str, ...]  # the headings, then the list items it stands under, outermost first


def first_code_span(text: str) -> str | None:
    """The content of the first CommonMark code span of an inline text, or None."""
    return next(iter(code_spans(text)), None)


def code_spans(text: str) -> list[str]:
    """The contents of the CommonMark code spans of an inline text, in their order."""
    if "`" not in text:
        return []
    return [token.content for token in inline(text) if token.type == "code_inline"]


def split_lines(text: str) -> tuple[list[str], list[str]]:
    """The lines of a text as Markdown counts them, and each one's line ending ("" at the end)."""
    parts = _LINE_END.split(text)
    return parts[0::2], [*parts[1::2], ""]


def inline(text: str) -> list[Token]:
    """The inline tokens of a text of one paragraph."""
    tokens: list[Token] = []
    _BLOCKS.inline.parse(text, _BLOCKS, {}, tokens)
    return tokens


def is_binding(token: Token) -> bool:
    """Whether an inline token is a comment that binds its line to a check."""
    return token.type == "html_inline" and BINDING_STARTS.match(token.content) is not None


def scan(text: str) -> Iterator[Heading | Box]:
    """Headings and boxes in document order; a byte order mark is no part of the first line."""
    lines, _ = split_lines(text.removeprefix(BYTE_ORDER_MARK))
    tokens = _BLOCKS.parse("\n".join(lines))
    quotes: list[Token] = []
    items: list[Token] = []
    headings: dict[str, str] = {}
    said: dict[int, str] = {}  # by the level of a list item, its own text
    for index, token in enumerate(tokens):
        if token.type in ("fence", "html_block"):
            _refuse_swallowed(token)
        if token.type in ("list_item_open", "blockquote_open"):
            (items if token.type == "list_item_open" else quotes).append(token)
        elif token.type in ("list_item_close", "blockquote_close"):
            (items if token.type == "list_item_close" else quotes).pop()
        if token.nesting == 1 and token.level >= _DEEPEST - 1:
            refuse(_span(token)[0], "expected simple lists, found nesting this deep: flatten it")
        if token.type == "html_block" and BINDING_STARTS.match(token.content.lstrip()):
            refuse(
                _span(token)[0],
                "expected the binding comment at the end of its item's line,"
                " found it on a line of its own: move it up",
            )
        if token.type != "inline":
            continue
        block = tokens[index - 1]
        line, end = _span(block)
        opens_item = index > 1 and tokens[index - 2].type == "list_item_open"
        may_hold_box = opens_item and block.type == "paragraph_open"
        box = _BOX.match(token.content) if may_hold_box else None
        if block.type == "heading_open" and block.level == 0:
            headings = {tag: text for tag, text in headings.items() if tag < block.tag}
            headings[block.tag] = token.content
        if opens_item:
            said[items[-1].level] = token.content
        _refuse_almost(token.content, line, opens_item, box is not None)
        if box is None:
            if "<!--" in token.content and any(map(is_binding, inline(token.content))):
                refuse(
                    line,
                    "expected a binding comment on a line with a box,"
                    " found it on a line without one: write `- [ ] ` before the text",
                )
            if block.type == "heading_open" and block.level == 0 and block.tag in ("h1", "h2"):
                yield Heading(int(block.tag[1]), " ".join(token.content.split()))
            continue
        column = lines[line].replace("\0", "\ufffd").rfind(token.content.split("\n")[0])
        if quotes:
            refuse(line, "expected a plain list, found a box in a blockquote: remove the `>`")
        if column < 0 or not _BEFORE_BOX.fullmatch(lines[line], 0, column):
            refuse(line, "expected `- [ ] text`, found a stray character before the box: retype")
        if token.level > _DEEPEST_BOX:
            refuse(line, "expected simple lists, found a box nested this deep: flatten the list")
        following = tokens[index + 2]
        yield Box(
            line=line,
            column=column,
            text=_joined(token.content[box.end() :]),
            more=tuple(_further_paragraphs(tokens, index + 2, items[-1].level)),
            ticked=token.content[1] != " ",
            text_end=end,
            item_end=_span(items[-1])[1],
            nested_list=_span(following)[0] if following.type.endswith("_list_open") else None,
            under=(*headings.values(), *(said.get(one.level, "") for one in items[:-1])),
        )


def _joined(content: str) -> str:
    return " ".join(part.strip() for part in content.split("\n")).strip()


def _further_paragraphs(tokens: list[Token], begin: int, level: int) -> Iterator[str]:
    """The paragraphs from `begin` on that belong to the list item of that level itself."""
    for index in range(begin, len(tokens)):
        token = tokens[index]
        if token.type == "list_item_close" and token.level == level:
            return
        if token.type == "paragraph_open" and token.level == level + 1:
            yield _joined(tokens[index + 1].content)


def _span(token: Token) -> tuple[int, int]:
    """First line and exclusive last line; every block token that opens something has them."""
    assert token.map is not None
    return token.map[0], token.map[1]


def _refuse_swallowed(token: Token) -> None:
    """A fence or a comment without an end takes every box after it out of the document, and so does
    HTML up to the next empty line."""
    lines = token.content.split("\n")
    swallowed = next((line for line in lines if _ALMOST_ITEM.match(line)), None)
    if swallowed is None:
        return
    if token.type == "fence":
        # Beside what it holds, a fence has its first line and, unless it is unclosed, its last.
        start, end = _span(token)
        closed = end - start == token.content.count("\n") + 2
        closing = token.markup
    elif (begins := _HTML_TO_ITS_END.match(token.content)) is not None:
        closed = "-->" in token.content if begins[1] else bool(_HTML_ENDS.search(token.content))
        closing = "-->" if begins[1] else "its end tag"
    else:
        refuse(
            _span(token)[0],
            f"expected no box in HTML, found {quoted(swallowed)}, which Markdown does not read"
            " there: leave an empty line before the list",
        )
    if not closed:
        refuse(
            _span(token)[0],
            f"expected an end to what begins here, found none and {quoted(swallowed)} in it:"
            f" close it with {closing}",
        )


def _refuse_almost(content: str, line: int, opens_item: bool, is_box: bool) -> None:
    for offset, text in enumerate(content.split("\n")):
        if offset == 0 and is_box:
            continue
        if _ALMOST_ITEM.match(text) or (offset == 0 and opens_item and _ALMOST_BOX.match(text)):
            refuse(
                line + offset,
                f"expected `- [ ] text` starting a list item of its own, found {quoted(text)},"
                " which Markdown does not read as an item: mend the box, its spaces,"
                " its indentation or the lines around it, or quote it in backticks",
            )


def quoted(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else text[:59] + "…")


def refuse(line: int, sentence: str) -> NoReturn:
    raise ChecklistError(f"Line {line + 1}: {sentence}.")
