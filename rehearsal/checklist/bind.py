"""Which check serves which line: its own comment, the adopted line, its command, a person.

A reworded line takes the adopted line's check only where nothing that could turn the meaning has
changed. Besides sharing most of their words, with words only added or only left out and none put in
the place of another, the two lines must agree, in order, on

- the first word, which says what is done;
- what stands in code spans, the arguments of pytest apart;
- words that turn a sentence round or move it elsewhere (`not`, `offline`, `production`);
- commas and words that join things (`and`, `with`, `for`): another thing is another line;
- identifiers: words with digits, underscores or inner capitals;
- names, by their first word: "Project Central" may become "Project Management Portal", "Celery"
  may not become "Gunicorn".

A command in another line is run where the line says one command and that it is to be run or to
pass: "Run `pytest`" does, "Pin `pytest`" does not. Where its exit is all that is looked at, the
line may ask for nothing else: "Run `pytest` and mail the results" is a person's.

A heading or list item that speaks of production, and not of staging, leaves what stands under it
to a person: it is the same words about another place.

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
    r"current|first|last|all|any|some|every|each|only|both|either|un\w+"
)
# Words that bring another thing, or another condition, into a line.
_JOINING_WORD = re.compile(
    r"plus|with|including|but|then|also|via|per|for|from|to|into?|at|by|of|against|under|over|"
    r"through|during|while|when|if|as"
)
_LISTS = re.compile(r"[,;/&+]")
_PRODUCTION = re.compile(r"\b(prod(uction)?|live)\b", re.IGNORECASE)
_STAGING = re.compile(r"\bstag(e|ing)\b", re.IGNORECASE)
# Checks of commands that tick a line by what the command did, with nobody reading the line.
_SENSED = {COMMAND_CHECKS["pytest",]}
_AND_MORE = re.compile(r"[;,&+]|\b(?:and|then|also|plus)\b", re.IGNORECASE)
_CONDITION = re.compile(r"\b(?:if|unless|when)\b", re.IGNORECASE)
_IN_PARENTHESES = re.compile(r"\([^()]*\)")
# What may be asked besides a command that passes: that it passes.
_OF_THE_OUTCOME = re.compile(
    r"confirm|verify|check|see|ensure|make|sure|that|it|they|all|every|everything|the|tests?|cases?|"
    r"suites?|are|is|runs?|pass(es|ed)?|succeeds?|green|exits?|with|code|0|no|without|errors?|"
    r"failures?"
)
_EMPTY_WORD = re.compile(r"the|an?|that|this|our|their|its|please")
# How a line says that its command is to be run, or is to pass; and that it is not.
_RUNS = re.compile(r"(re)?run|execute|perform|launch|start|invoke|call|trigger")
_PASSES = re.compile(r"pass(es)?|succeeds?|green")
_FAILS = re.compile(r"fail(s|ed|ing)?|red|breaks?|broken")
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
    plain: tuple[str, ...]
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


def _elsewhere(item: Item) -> bool:
    """Whether the nearest of what an item stands under that names a place names production."""
    for said in reversed(item.under):
        if _STAGING.search(said):
            return False
        if _PRODUCTION.search(said):
            return True
    return False


def _binding(line: _Line, equal: dict[str, Item], reworded: dict[str, Item]) -> Binding:
    item = line.item
    if item.check is not None:
        return Binding(item, item.check, item.options, "")
    if _elsewhere(item):
        note = "what it stands under speaks of production: a person confirms it"
        return Binding(item, PERSON_CONFIRMS, {}, note)
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
            if matcher.real_quick_ratio() < SAME_LINE_RATIO:
                continue
            kept = _is_within(line.plain, candidate.plain) or _is_within(
                candidate.plain, line.plain
            )
            if kept and (ratio := matcher.ratio()) >= SAME_LINE_RATIO:
                pairs.append((ratio, line, candidate))
    found: dict[str, Item] = {}
    taken: set[str] = set()
    for _, line, candidate in sorted(pairs, key=lambda pair: -pair[0]):
        if line.item.ref not in found and candidate.item.ref not in taken:
            found[line.item.ref] = candidate.item
            taken.add(candidate.item.ref)
    return found


def _is_within(few: tuple[str, ...], many: tuple[str, ...]) -> bool:
    """Whether `many` has the words of `few`, in their order."""
    rest = iter(many)
    return all(word in rest for word in few)


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
    telling, plain = _telling_and_plain_words(prose)
    command_check = COMMAND_CHECKS.get(heads[0] or ()) if heads else None
    before, _, after = prose.partition("\0")
    asked = len(heads) - heads.count(None) == 1 and _asks_to_run(before, after)
    if command_check in _SENSED and _asks_more(before, after):
        asked = False
    return _Line(
        item,
        folded,
        tuple(_WORD.findall(folded)),
        plain,
        (telling, in_code),
        command_check if asked and not _forbids(before, after) else None,
    )


def _telling_and_plain_words(prose: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words two lines must share, in this order: from production to staging, not back.

    And the words that are in no name and not empty, of which one line may have more.
    """
    telling: list[str] = []
    plain: list[str] = []
    ended, name_ends, joined = 0, -1, False
    for index, match in enumerate(_WORD.finditer(prose)):
        word = match.group()
        joins = _fold(word) in ("and", "or")
        if (joins or (index and _LISTS.search(prose, ended, match.start()))) and not joined:
            telling.append(",")  # "a, b, and c" lists as many as "a, b and c"
        joined, ended = joins, match.end()
        in_name = index > 0 and word[0].isupper()
        continues_name = in_name and prose[name_ends : match.start()].isspace()
        identifier = re.search(r"[\d_]", word) or any(map(str.isupper, word[1:]))
        if index == 0 or identifier or (in_name and not continues_name) or _turns(word):
            telling.append(_fold(word))
        if in_name:
            name_ends = match.end()
        elif not _EMPTY_WORD.fullmatch(_fold(word)):
            plain.append(_fold(word))
    return tuple(telling), tuple(plain)


def _turns(word: str) -> bool:
    folded = _fold(word)
    turning = _TURNING_WORD.fullmatch(folded) or _JOINING_WORD.fullmatch(folded)
    return _negates(word) or turning is not None


def _negates(word: str) -> bool:
    return _NEGATION.fullmatch(_fold(word).replace("\u2019", "'")) is not None


def _asks_to_run(before: str, after: str) -> bool:
    """Whether the prose around a command says to run it, or to see it pass."""
    first, then = _folded_words(before), _folded_words(after)
    return (
        not first
        or before.rstrip().endswith((":", "-", "\u2013", "\u2014"))
        or first[-1] in ("via", "using")
        or any(map(_RUNS.fullmatch, first))
        or any(map(_PASSES.fullmatch, (*first, *then)))
    )


def _asks_more(before: str, after: str) -> bool:
    """Whether the prose around a command asks for more than the command, or for it elsewhere."""
    first, then = _IN_PARENTHESES.sub(" ", before), _IN_PARENTHESES.sub(" ", after)
    both = f"{first} {then}"
    if _CONDITION.search(both) or (_PRODUCTION.search(both) and not _STAGING.search(both)):
        return True
    labelled = first.rstrip().endswith((":", "-", "\u2013", "\u2014"))
    if not labelled and _AND_MORE.search(first):
        return True
    more = _AND_MORE.search(then)
    rest = _folded_words(_AND_MORE.sub(" ", then[more.start() :])) if more else []
    return "\0" in then or not all(map(_OF_THE_OUTCOME.fullmatch, rest))


def _forbids(before: str, after: str) -> bool:
    """Whether the prose around a command says not to run it, or to see it fail.

    "Shows no changes" does not.
    """
    first, then = _folded_words(before), _folded_words(after)
    then = [word for word in then if word not in ("no", "none", "without")]
    return any(_negates(word) or _FAILS.fullmatch(word) for word in (*first, *then))


def _folded_words(text: str) -> list[str]:
    return _WORD.findall(_fold(text))


def _head(command: str) -> tuple[str, ...] | None:
    try:
        words = tuple(shlex.split(command))
    except ValueError:
        return None
    return next((head for head in COMMAND_CHECKS if words[: len(head)] == head), None)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
