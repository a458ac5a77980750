"""What a check is: a dataclass whose fields are its options, and its four ways to not pass."""

from __future__ import annotations

import datetime
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from django.utils.module_loading import import_string

from rehearsal.checks.options import declared, fits, named
from rehearsal.redaction import plain

OUTPUT_LIMIT = 256 * 1024
"""Characters of output kept for an item: its beginning and, mostly, its end."""
HEAD = OUTPUT_LIMIT // 4
LONGEST_LINE = HEAD // 4
"""Characters of a single line that are kept: one alone must not push out all others."""
LONGEST_FACT, MOST_ENTRIES = 10_000, 1_000
"""Characters of a fact or of an entry of it, and entries, that are kept of the evidence."""
LONGEST_NAME, LONGEST_UNIT = 200, 40
"""Characters of a measurement's name and unit that the records hold."""


class Outcome(Exception):
    """What a check raises when it does not pass: one sentence, with the remedy."""

    status: ClassVar[str]


class Failed(Outcome):
    """What was looked at is wrong."""

    status = "failed"


class Inconclusive(Outcome):
    """The check ran, but saw too little to say anything: never a tick."""

    status = "inconclusive"


class Skipped(Outcome):
    """What the line asks about is not enabled here."""

    status = "skipped"


ACKNOWLEDGE = "to be acknowledged"
"""The evidence that lists what a person has to acknowledge, each by its name."""


class ActionRequired(Outcome):
    """Only a person can answer this line.

    `acknowledge` names what he has to acknowledge one by one, where confirming the line as a whole
    would be too little.
    """

    status = "action_required"

    def __init__(self, sentence: str, *, acknowledge: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        # Once each and in one line each: as a form sends them back.
        self.acknowledge = list(dict.fromkeys(" ".join(name.split()) for name in acknowledge))


@dataclass(frozen=True)
class Rehearsed:
    """What a check may know of the rehearsal it serves."""

    number: int
    revision: str
    started_at: datetime.datetime


@dataclass(frozen=True)
class Exports:
    """A rehearsal as it is handed out."""

    told: dict[str, Any]
    """By schema 1, with the page's path."""
    files: dict[str, str]
    """`checklist.md`, `evidence.json`, `evidence.seal` and `report.html`."""


def _no_exports() -> Exports:
    raise Inconclusive("Nothing was decided here, so there is nothing to hand out.")


@dataclass
class Measurement:
    """A number with its name and unit, kept for comparison with later rehearsals."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Past:
    """What an earlier rehearsal of the same environment measured, by series."""

    rehearsal: Rehearsed
    measurements: Mapping[str, Measurement]


@dataclass(frozen=True)
class Told:
    """What came of another item of the same rehearsal."""

    status: str
    summary: str
    facts: Mapping[str, object]


class History:
    """What the records tell a check; nothing where there are none."""

    def previous(self, series: str) -> Past | None:
        """The last earlier rehearsal of this environment that measured that series."""
        return None

    def baseline(self, series: str) -> Past | None:
        """The last earlier one in which a person waived this check, and so accepted what it found
        as the new baseline; else the first of all."""
        return None

    def told(self, check: str) -> Told | None:
        """What came of the item of this rehearsal that the check at this path serves."""
        return None


class Report:
    """A check's only way to speak; its worker reads it from another thread while the check runs."""

    def __init__(
        self,
        line: str,
        rehearsal: Rehearsed,
        *,
        redact: Callable[[str], str] = str,
        beat_seen_at: Callable[[], datetime.datetime | None] = lambda: None,
        keep: Callable[[], bool] = lambda: True,
        exports: Callable[[], Exports] = _no_exports,
        history: History | None = None,
    ) -> None:
        self.line = line
        self.rehearsal = rehearsal
        self.beat_seen_at = beat_seen_at
        self.exports = exports
        """The rehearsal as it stands now, for the sign-off."""
        self.history = history or History()
        self.keep = keep
        """Store the facts told until now, and return whether the item is still this worker's:
        called before what cannot be taken back."""
        self.stop = threading.Event()
        """Set when the item was cancelled or given to another worker: stop what you started."""
        self._redact = redact
        self.measurements: list[Measurement] = []
        self.facts: dict[str, object] = {}
        self.said = ""
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._head_size = self._tail_size = self._cut = 0
        self._lock = threading.Lock()

    def redact(self, text: str) -> str:
        """The text as it may be stored and shown: no secrets, no control characters."""
        # Halves of surrogate pairs are in no database's alphabet.
        return plain(self._redact(text.encode("utf-8", "replace").decode()))

    def write(self, line: str) -> None:
        """Add a line to the item's output."""
        line = _bounded(self.redact(line).rstrip("\n"), LONGEST_LINE) + "\n"
        with self._lock:
            if not self._tail and self._head_size + len(line) <= HEAD:
                self._head.append(line)
                self._head_size += len(line)
                return
            self._tail.append(line)
            self._tail_size += len(line)
            # Dropping a quarter at a time keeps a flood of lines linear.
            if self._tail_size > OUTPUT_LIMIT:
                while self._tail_size > OUTPUT_LIMIT - HEAD and self._tail:
                    gone = len(self._tail.popleft())
                    self._tail_size -= gone
                    self._cut += gone

    def progress(self, sentence: str) -> None:
        """Say in one line how far the check has come; the next one replaces it."""
        self.said = self.redact(sentence)

    def measure(self, name: str, value: float, unit: str) -> None:
        """Record a number; `name` is the series it continues, e.g. `redis.memory`.

        Raises ValueError for what the records cannot hold.
        """
        if not math.isfinite(value):
            raise ValueError(f"The measurement {name} is {value}: record finite numbers only.")
        if len(name) > LONGEST_NAME or len(unit) > LONGEST_UNIT:
            raise ValueError(
                f"The measurement {name[:LONGEST_NAME]!r} in {unit[:LONGEST_UNIT]!r} has a name of "
                f"more than {LONGEST_NAME} characters or a unit of more than {LONGEST_UNIT}."
            )
        self.measurements.append(Measurement(self.redact(name), float(value), unit))

    def evidence(self, key: str, value: str | int | float | bool | list[str]) -> None:
        """Record a fact that the tick stands on, in words a stranger can check.

        What is longer than the records shall hold is cut, and says so. Raises TypeError or
        ValueError for what they cannot hold.
        """
        if isinstance(value, str):
            value = _bounded(self.redact(value), LONGEST_FACT)
        elif isinstance(value, list):
            # What a person has to acknowledge by name is never cut: nobody would have read it.
            most = len(value) if key == ACKNOWLEDGE else MOST_ENTRIES
            left = len(value) - most
            value = [_bounded(self.redact(str(entry)), LONGEST_FACT) for entry in value[:most]]
            if left > 0:
                value.append(f"… {left} more")
        elif not isinstance(value, (int, float)):
            raise TypeError(f"The evidence {key!r} is of {type(value)}: record words or numbers.")
        elif not math.isfinite(value):
            raise ValueError(f"The evidence {key!r} is {value}: record finite numbers only.")
        self.facts[self.redact(key)] = value

    @property
    def output(self) -> str:
        """What was written: all of it, or its beginning and end and how much was cut."""
        with self._lock:
            cut = f"… {self._cut} characters were cut here …\n" if self._cut else ""
            return "".join([*self._head, cut, *self._tail])


def _bounded(text: str, limit: int) -> str:
    """The text, or its beginning and end and how much of it was cut."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters were cut here … {text[-half:]}"


@dataclass(frozen=True)
class Check:
    """The base of every check. Its fields are the options a line may set in its comment."""

    timeout: ClassVar[int] = 300
    """Seconds after which the check is stopped and has failed."""
    needs: ClassVar[tuple[str, ...] | None] = None
    """Dotted paths of checks that must have passed first, where they stand above it in the
    document. None: everything above it, so that an unknown check is safe. Empty: nothing."""
    after: ClassVar[tuple[str, ...] | None] = ()
    """Dotted paths of checks that must have ended first, whatever came of them, where they stand
    above it. None: everything above it."""
    safe_to_repeat: ClassVar[bool] = False
    """Whether another attempt may be made when the worker that ran it was lost."""
    exclusive: ClassVar[bool] = False
    """Whether nothing else may run beside it."""
    sign_off: ClassVar[bool] = False
    """Whether it is performed after the decision, one at a time in the document's order."""

    def run(self, report: Report) -> None:
        """Judge the item: return when it passed, raise an `Outcome` when it did not."""
        raise NotImplementedError


class BindingError(ValueError):
    """A line names a check that cannot serve it: what was found, and the remedy."""


def load(path: str) -> type[Check]:
    """The check class at a dotted path; raises BindingError when there is none."""
    try:
        found = import_string(path)
    except Exception as error:  # whatever a module of the project does when it is imported
        said = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise BindingError(
            f"the check {path!r} cannot be imported ({said}); name an existing check class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Check)):
        raise BindingError(f"{path!r} is not a check; name a class that extends {Check.__name__}")
    return found


def declared_by(path: str) -> type[Check]:
    """The check class at a dotted path; `Unknown` where this process cannot import it.

    For whoever arranges the items: the line fails when it is performed, and no other with it.
    """
    try:
        return load(path)
    except BindingError:
        return Unknown


def known(path: str) -> bool:
    """Whether this process can import the check at a dotted path and all that it names."""
    check = declared_by(path)
    return Unknown not in {check, *map(declared_by, (*(check.needs or ()), *(check.after or ())))}


def build(path: str, options: dict[str, object]) -> Check:
    """The check at a dotted path with its options; raises BindingError naming a wrong option."""
    found = load(path)
    known = {entry.name for entry in fields(found)}
    for name in options:
        if name not in known:
            has = f"its options are {', '.join(sorted(known))}" if known else "it has no options"
            raise BindingError(f"the check {path!r} has no option {name!r}; {has}")
    kinds = declared(found)  # type: ignore[arg-type]  # mypy asks of the class what its instances have
    for name, value in options.items():
        if not fits(value, kinds.get(name, Any)):
            raise BindingError(
                f"the check {path!r} expects {named(kinds[name])} as {name!r}, found {value!r}; "
                + (f"write {name}='\"{value}\"'" if kinds[name] is str else "correct the line")
            )
    try:
        return found(**options)
    except Exception as error:
        raise BindingError(f"the check {path!r} refuses its options: {error}") from error


@dataclass(frozen=True)
class PersonConfirms(Check):
    """A line that no check serves: a person reads it, does it and confirms it."""

    needs = ()
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        raise ActionRequired(
            "No check is bound to this line: a person does what it says and confirms it here."
        )


@dataclass(frozen=True)
class NotServedYet(Check):
    """A line of the adopted checklist whose check is still to be written: never a tick."""

    needs = ()
    safe_to_repeat = True

    def run(self, report: Report) -> None:
        raise Inconclusive(
            "No check serves this line yet: do it by hand and waive it with your reason."
        )


@dataclass(frozen=True)
class Unknown(Check):
    """Stands for a check that this process cannot import, while another may: it could be any, so it
    needs all above it, nothing runs beside it, and it is never repeated."""

    timeout = 24 * 3600
    """The worker that can import it knows its own."""
    exclusive = True


__all__ = [
    "ACKNOWLEDGE", "ActionRequired", "BindingError", "Check", "Failed", "History", "Inconclusive",
    "Measurement", "NotServedYet", "Outcome", "Past", "PersonConfirms", "Rehearsed", "Report",
    "Skipped", "Told", "Unknown", "build", "declared_by", "load",
]  # fmt: skip
