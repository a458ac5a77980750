"""Which check serves which line: its own comment, the adopted line, its command, a person.

A reworded line takes the adopted line's check only where nothing that could turn the meaning has
changed. Besides sharing most of their words, the two lines must agree, in order, on

- the first word, which says what is done;
- what stands in code spans, the arguments of pytest apart;
- words that turn a sentence round or move it elsewhere (`not`, `offline`, `production`);
- identifiers: words with digits, underscores or inner capitals;
- names, by their first word: "Project Central" may become "Project Management Portal", "Celery"
  may not become "Gunicorn".

Where that is too strict, a person confirms the line or a comment binds it: a check too few is
seen, a wrong tick is not.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from difflib import SequenceMatcher

from rehearsal.checklist.markdown import inline
from rehearsal.checklist.parse import Checklist, Item

PERSON_CONFIRMS = "rehearsal.checks.base.PersonConfirms"
# The first words of a code span that say what runs it.
COMMAND_CHECKS = {
    ("pytest",): "rehearsal.checks.smoke.Pytest",
    ("python", "manage.py"): "rehearsal.checks.commands.ManagementCommand",
}
# Of the words of both lines together. One word in eight may differ, one in seven may not.
SAME_LINE_RATIO = 0.86
# Words that turn a sentence round, and words that move it elsewhere.
_NEGATION = re.compile(
    r"not|no|never|none|neither|nor|cannot|without|except|unless|avoid|skip|instead|\w+n't"
)
_TURNING_WORD = re.compile(
    r"(pre)?prod(uction)?|stag(e|ing)|dev(elopment)?|test(ing)?|qa|uat|sandbox|demo|canary|local|"
    r"live|online|offline|(en|dis)abled?|on|off|up|down|(un)?healthy|green|red|pass(es|ed)?|"
    r"fail(s|ed|ure)?|(un)?success(ful)?|before|after|until|old|new|previous|next|latest|oldest|"
    r"current|first|last|all|any|some|every|each|only|both|either"
)
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


@dataclass(frozen=True)
class Binding:
    """An item and the dotted path of its check; the note says how it was found if not exactly."""

    item: Item
    check: str
    options: dict[str, object]
    note: str


@dataclass(frozen=True)
class _Line:
    """What the words of an item say, whatever their case, white space and markup."""

    item: Item
    folded: str
    words: tuple[str, ...]
    telling: tuple[tuple[str, ...], tuple[str, ...]]
    command_check: str | None


def bind(checklist: Checklist, adopted: Checklist) -> tuple[Binding, ...]:
    """The check of every item, in document order.

    A line's own comment binds it; else the equal line of the adopted document; else the adopted
    line it is a rewording of, which the note then quotes; else the command in its first code span;
    else a person confirms it, and the note says so.
    """
    own = [Binding(one, one.check, one.options, "") for one in checklist.items if one.check]
    if len(own) == len(checklist.items):
        return tuple(own)  # nothing to look up
    lines = [_line(item) for item in checklist.items]
    shipped = [_line(item) for item in adopted.items if item.check is not None]
    equal: dict[str, Item] = {}
    for line in shipped:
        equal.setdefault(line.folded, line.item)
    present = {line.folded for line in lines}
    reworded = _reworded(
        [line for line in lines if line.item.check is None and line.folded not in equal],
        [line for line in shipped if line.folded not in present],
    )
    return tuple(_binding(line, equal, reworded) for line in lines)


def _binding(line: _Line, equal: dict[str, Item], reworded: dict[str, Item]) -> Binding:
    item = line.item
    if item.check is not None:
        return Binding(item, item.check, item.options, "")
    if (same := equal.get(line.folded)) is not None and same.check is not None:
        return Binding(item, same.check, same.options, "")
    if (close := reworded.get(item.ref)) is not None and close.check is not None:
        note = f'reworded: taken for the adopted line "{close.text}"'
        return Binding(item, close.check, close.options, note)
    if line.command_check is not None:
        return Binding(
            item, line.command_check, {}, "not an adopted line: the command it names is run"
        )
    note = "no check is bound to this line: a person confirms it"
    return Binding(item, PERSON_CONFIRMS, {}, note)


def _reworded(lines: list[_Line], shipped: list[_Line]) -> dict[str, Item]:
    """Adopted items by the reference of the line they serve, the closest pairs first."""
    alike: dict[object, list[_Line]] = defaultdict(list)
    for candidate in shipped:
        alike[candidate.telling].append(candidate)
    pairs: list[tuple[float, _Line, _Line]] = []
    for line in lines:
        for candidate in alike.get(line.telling, ()):
            matcher = SequenceMatcher(None, line.words, candidate.words, autojunk=False)
            if matcher.real_quick_ratio() >= SAME_LINE_RATIO <= (ratio := matcher.ratio()):
                pairs.append((ratio, line, candidate))
    found: dict[str, Item] = {}
    taken: set[str] = set()
    for _, line, candidate in sorted(pairs, key=lambda pair: -pair[0]):
        if line.item.ref not in found and candidate.item.ref not in taken:
            found[line.item.ref] = candidate.item
            taken.add(candidate.item.ref)
    return found


def _line(item: Item) -> _Line:
    prose, whole, spans = "", "", []
    for token in inline(item.text):
        if token.type in ("text", "text_special", "image"):
            prose += token.content
            whole += token.content
        elif token.type == "code_inline":
            # In the prose a code span leaves a mark that is no letter and no space.
            prose += "\0"
            whole += token.content
            spans.append(token.content)
    folded = " ".join(_fold(whole).split()).rstrip(" .,;:!?…")
    heads = [_head(span) for span in spans]
    in_code = tuple(
        "pytest" if head == ("pytest",) else span for span, head in zip(spans, heads, strict=True)
    )
    command_check = COMMAND_CHECKS.get(heads[0] or ()) if heads else None
    before, _, after = prose.partition("\0")
    return _Line(
        item,
        folded,
        tuple(_WORD.findall(folded)),
        (_telling_words(prose), in_code),
        None if _forbids(before, after) else command_check,
    )


def _telling_words(prose: str) -> tuple[str, ...]:
    """The words two lines must share, in this order: from production to staging, not back."""
    telling: list[str] = []
    name_ends = -1
    for index, match in enumerate(_WORD.finditer(prose)):
        word = match.group()
        in_name = index > 0 and word[0].isupper()
        continues_name = in_name and prose[name_ends : match.start()].isspace()
        identifier = re.search(r"[\d_]", word) or any(map(str.isupper, word[1:]))
        if index == 0 or identifier or (in_name and not continues_name) or _turns(word):
            telling.append(_fold(word))
        if in_name:
            name_ends = match.end()
    return tuple(telling)


def _turns(word: str) -> bool:
    return _negates(word) or _TURNING_WORD.fullmatch(_fold(word)) is not None


def _negates(word: str) -> bool:
    return _NEGATION.fullmatch(_fold(word).replace("\u2019", "'")) is not None


def _forbids(before: str, after: str) -> bool:
    """Whether the prose around a command says not to run it; "shows no changes" does not."""
    then = (word for word in _WORD.findall(after) if _fold(word) not in ("no", "none", "without"))
    return any(map(_negates, (*_WORD.findall(before), *then)))


def _head(command: str) -> tuple[str, ...] | None:
    try:
        words = tuple(shlex.split(command))
    except ValueError:
        return None
    return next((head for head in COMMAND_CHECKS if words[: len(head)] == head), None)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
