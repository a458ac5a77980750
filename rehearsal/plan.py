"""From a document to the rows of a rehearsal, and from those rows to what may run next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from django.db import DataError, IntegrityError

from rehearsal import checklist
from rehearsal.checks import base
from rehearsal.conf import SHIPPED_CHECKLIST, configuration, redactor
from rehearsal.models import ACTIVE, CheckItem, Rehearsal, Section, Status
from rehearsal.release import settings_digest


class StartError(ValueError):
    """A rehearsal cannot be started as asked: what was found, and the remedy."""


class AlreadyOpen(Exception):
    """Another rehearsal is open in this environment."""

    def __init__(self, environment: str) -> None:
        opened = Rehearsal.objects.filter(environment=environment, closed_at=None).first()
        self.number = opened.number if opened else None
        which = f"rehearsal {self.number}" if opened else "another rehearsal"
        super().__init__(
            f"In {environment}, {which} is open: let it finish, answer what it asks, or cancel it."
        )


@contextmanager
def one_open() -> Iterator[None]:
    """Around a transaction that opens a rehearsal: raises AlreadyOpen where the database does.

    Raises StartError for what the database cannot hold.
    """
    try:
        yield
    except DataError as error:
        said = str(error).splitlines()[0]
        raise StartError(f"The records cannot hold this ({said}): leave it out.") from error
    except IntegrityError as error:
        if "rehearsal_one_open" not in str(error) and "environment" not in str(error):
            raise
        raise AlreadyOpen(configuration().environment) from error


def prove_ours(rehearsal: Rehearsal) -> None:
    """Raise StartError for a rehearsal of another environment that shares these records."""
    here = configuration().environment
    if rehearsal.environment != here:
        raise StartError(
            f"{rehearsal} is of {rehearsal.environment}, and this is {here}: what is done there "
            "has to be done from there."
        )


def bound(text: str | bytes) -> tuple[checklist.Checklist, tuple[checklist.Binding, ...]]:
    """Parse a document and bind each of its lines; raises StartError naming what is wrong."""
    try:
        parsed = checklist.parse(text)
        bindings = checklist.bind(parsed, _adopted())
    except checklist.ChecklistError as error:
        raise StartError(str(error)) from error
    if "\x00" in parsed.text:
        raise StartError(
            f"Line {parsed.text[: parsed.text.index(chr(0))].count(chr(10)) + 1}: a NUL character, "
            "which the records cannot hold: take it out."
        )
    for binding in bindings:
        try:
            check = base.build(binding.check, binding.options)
            needed = [base.load(path) for path in check.needs or ()]
            awaited = [base.load(path) for path in check.after or ()]
            if not check.sign_off and any(one.sign_off for one in (*needed, *awaited)):
                raise base.BindingError(
                    f"the check {binding.check!r} needs one that is performed after the decision; "
                    "give it sign_off = True too"
                )
        except base.BindingError as error:
            # What a module says that cannot be imported may tell an address with its password.
            said = redactor().redact(f"Line {binding.item.line + 1}: {error}.")
            raise StartError(said) from error
    return parsed, bindings


@cache
def _adopted() -> checklist.Checklist:
    return checklist.parse(SHIPPED_CHECKLIST.read_bytes())


def create(
    text: str | bytes, *, by: str, revision: str, only: Collection[str] = ()
) -> tuple[Rehearsal, list[CheckItem]]:
    """Freeze a document as a new rehearsal with all its rows; to be called in a transaction
    inside `one_open()`.

    Raises StartError for a document or reference that cannot be used, AlreadyOpen when another
    rehearsal is open in the environment.
    """
    parsed, bindings = bound(text)
    for name, value, most in (("starter's name", by, 200), ("revision", revision, 100)):
        if len(value) > most or not value.isprintable():
            raise StartError(
                f"The {name} is {value[:most]!r}, where at most {most} characters were expected, "
                "all of them printable: shorten it."
            )
    unknown = sorted(set(only) - {item.ref for item in parsed.items})
    if unknown:
        raise StartError(
            f"The checklist has no item {', '.join(unknown)}; "
            f"its items are {parsed.items[0].ref} to {parsed.items[-1].ref}."
        )
    environment = configuration().environment
    if Rehearsal.objects.filter(environment=environment, closed_at=None).exists():
        raise AlreadyOpen(environment)
    rehearsal = Rehearsal.objects.create(
        environment=environment,
        revision=revision,
        checklist_text=parsed.text,
        checklist_sha256=parsed.sha256,
        started_by=by,
        settings_digest=settings_digest(),
    )
    sections = {
        section.number: Section(rehearsal=rehearsal, number=section.number, title=section.title)
        for section in parsed.sections
    }
    Section.objects.bulk_create(sections.values())
    items = [
        CheckItem(
            rehearsal=rehearsal,
            section=sections[binding.item.section],
            position=position,
            number=binding.item.number,
            text=binding.item.text,
            check_path=binding.check,
            options=binding.options,
            note=binding.note,
            sign_off=base.load(binding.check).sign_off,
        )
        for position, binding in enumerate(bindings)
    ]
    for item in items:
        if only and item.ref not in only:
            item.status, item.summary = Status.SKIPPED, "Not selected for this rehearsal."
    CheckItem.objects.bulk_create(items)
    return rehearsal, items


@dataclass
class Step:
    """What follows from how the items stand."""

    queue: list[CheckItem] = field(default_factory=list)
    """Those to hand to the workers."""
    skip: list[tuple[CheckItem, CheckItem]] = field(default_factory=list)
    """Those that cannot run, each with the item that stands in its way."""


def next_step(items: Sequence[CheckItem], *, decided: bool) -> Step:
    """What may run now, given all items of a rehearsal in the document's order.

    Lines of the sign-off wait until it is `decided`, and then for those of them above.
    """
    step = Step()
    ready: list[CheckItem] = []
    active = [item for item in items if item.status in ACTIVE]
    signing_off = not decided
    for item, needed, awaited in zip(items, needs(items), awaits(items), strict=True):
        if item.sign_off and signing_off:
            continue
        if item.status in ACTIVE:
            signing_off |= item.sign_off
        if item.status != Status.PENDING:
            continue
        stuck = next((one for one in needed if _stuck(one)), None)
        if stuck is not None:
            # Where it is not known whether the one needs the other, who ends what runs may know.
            if not (active and (_unknown(item) or _unknown(stuck))):
                step.skip.append((item, stuck))
        elif all(one.accepted for one in needed) and not any(map(_unsettled, awaited)):
            ready.append(item)
            signing_off |= item.sign_off
    if any(base.declared_by(item.check_path).exclusive for item in active):
        return step
    step.queue = [item for item in ready if not base.declared_by(item.check_path).exclusive]
    if not step.queue and not active:
        step.queue = ready[:1]
    return step


def prove_known(items: Sequence[CheckItem]) -> None:
    """Raise StartError for a check that this process cannot import."""
    if unknown := next(filter(_unknown, items), None):
        raise StartError(
            f"This server cannot import the check of {unknown.ref}, {unknown.check_path}, or one "
            "that it names: install here what the workers have, then try again."
        )


def knows_all(number: int) -> bool:
    """Whether this process can import every check of a rehearsal."""
    paths = CheckItem.objects.filter(rehearsal=number).order_by().values_list("check_path")
    return all(base.known(path) for (path,) in paths.distinct())


def _unknown(item: CheckItem) -> bool:
    return not base.known(item.check_path)


def _stuck(item: CheckItem) -> bool:
    ended = {Status.FAILED, Status.INCONCLUSIVE, Status.SKIPPED}
    return item.status in ended and not item.accepted


def needs(items: Sequence[CheckItem]) -> Iterable[Sequence[CheckItem]]:
    """For each item, the items above it that it needs, as its check declares.

    The sign-off comes after the decision, so nothing before it can need a line of it.
    """
    return _named(items, [base.declared_by(item.check_path).needs for item in items])


def awaits(items: Sequence[CheckItem]) -> Iterable[Sequence[CheckItem]]:
    """For each item, the items above it that must have ended before it, whatever came of them."""
    return _named(items, [base.declared_by(item.check_path).after for item in items])


def _named(
    items: Sequence[CheckItem], named: Sequence[tuple[str, ...] | None]
) -> Iterator[Sequence[CheckItem]]:
    """For each item those above it that are of the named checks; None names them all."""
    classes = [base.declared_by(item.check_path) for item in items]
    for position, paths in enumerate(named):
        signs_off = items[position].sign_off
        wanted = None if paths is None else tuple(base.declared_by(path) for path in paths)
        if wanted and base.Unknown in wanted:
            wanted = None
        above = range(position) if wanted is None or wanted else ()
        yield [
            items[i]
            for i in above
            if (signs_off or not items[i].sign_off)
            and (wanted is None or issubclass(classes[i], (*wanted, base.Unknown)))
        ]


def _unsettled(item: CheckItem) -> bool:
    # What a person still has to do may be the very thing that is waited for.
    return item.status in ACTIVE | {Status.PENDING, Status.ACTION_REQUIRED} and not item.accepted


def dependents(items: Sequence[CheckItem], chosen: Collection[int]) -> set[int]:
    """The primary keys in `chosen` and those of every item that directly or not follows them."""
    reached = set(chosen)
    for item, needed, awaited in zip(items, needs(items), awaits(items), strict=True):
        if any(one.pk in reached for one in (*needed, *awaited)):
            reached.add(item.pk)
    return reached
