"""Whether a commit may be deployed: a sealed, intact and unexpired go, and nothing against it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from django.db.models import Q
from django.utils import timezone

from rehearsal import checklist, sealing
from rehearsal.conf import Configuration, configuration
from rehearsal.models import Choice, Rehearsal, Status, Verdict

CLOCKS_DIFFER = datetime.timedelta(minutes=5)
"""How far a decision may lie in this machine's future."""


@dataclass
class Answer:
    """What the gate says of a revision: go, unless there are reasons against it."""

    revision: str
    rehearsal: Rehearsal | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def go(self) -> bool:
        return self.rehearsal is not None and not self.reasons


def judge(revision: str, max_age: datetime.timedelta) -> Answer:
    """Judge `revision` by the last rehearsal of it that was decided, and by those since."""
    here = configuration()
    ours = Rehearsal.objects.filter(environment=here.environment)
    of_it = ours.filter(revision=revision)
    # Sealed is decided, whatever the row says now: `broken` tells them apart.
    decided = of_it.filter(~Q(decision="") | Q(seals__isnull=False)).first()
    if decided is None:
        return Answer(revision, reasons=[_undecided(revision, here)])
    reasons = [
        *sealing.broken(decided),
        *_standing(decided),
        *_by_policy(decided, here),
        *_expired(decided, max_age),
        *_document(decided, here),
    ]
    for later in of_it.filter(number__gt=decided.number):
        reasons += _later(later)
    return Answer(revision, decided, reasons)


def _undecided(revision: str, here: Configuration) -> str:
    ours = Rehearsal.objects.filter(environment=here.environment)
    last = ours.filter(revision=revision).first()
    if last is not None:
        return f"{last} of this revision is {last.verdict.label}, and nobody has decided it."
    last = ours.filter(revision__startswith=revision).first()
    if last is not None:
        return f"No rehearsal is of {revision!r}; {last} is of {last.revision}: name it in full."
    last = ours.first()
    known = f"; the last one, {last}, is of {last.revision or 'unknown'}" if last else ""
    return f"This revision was never rehearsed in {here.environment}{known}."


def _standing(found: Rehearsal) -> list[str]:
    if found.decision == Choice.NO_GO:
        said = "; ".join(f"{one.who}: {one.reason}" for one in found.votes.filter(choice="no-go"))
        return [f"{found} was decided no-go ({said})."]
    if found.verdict == Verdict.GREEN and found.closed_at:
        return []
    against = [
        f"{item.ref} is {item.get_status_display()}"
        for item in found.items.select_related("section")
        if not item.accepted
    ]
    return [
        f"{found} is {found.verdict.label}, not green: {', '.join(against[:5]) or 'it is open'}."
    ]


def _by_policy(found: Rehearsal, here: Configuration) -> list[str]:
    said_go = {vote.by for vote in found.deciding_votes if vote.choice == Choice.GO}
    if "" in said_go:
        if here.sign_off == "automatic":
            return []
        return [f"{found} was decided by the policy, and REHEARSAL['SIGN_OFF'] asks for a person."]
    if len(said_go) < here.quorum and found.decision == Choice.GO:
        return [f"It takes {here.quorum} to say go; {len(said_go)} did in {found}."]
    return []


def _expired(found: Rehearsal, max_age: datetime.timedelta) -> list[str]:
    now, reasons = timezone.now(), []
    age = now - found.decided_at if found.decided_at else max_age * 2
    if age > max_age:
        reasons.append(
            f"{found} was decided {age.total_seconds() / 3600:.1f} hours ago, where at most "
            f"{max_age.total_seconds() / 3600:g} were allowed: rehearse again."
        )
    if age < -CLOCKS_DIFFER:
        reasons.append(f"{found} was decided in the future ({found.decided_at}): set the clock.")
    reasons += [
        f"The waiver of {item.ref} by {item.waived_by} expired on "
        f"{item.waiver_expires_at:%Y-%m-%d %H:%M} UTC."
        for item in found.items.select_related("section").filter(waiver_expires_at__lte=now)
    ]
    return reasons


def _document(found: Rehearsal, here: Configuration) -> list[str]:
    try:
        adopted = checklist.parse(here.checklist.read_bytes()).sha256
    except (OSError, checklist.ChecklistError) as error:
        return [f"The adopted checklist {here.checklist} cannot be read: {error}."]
    if adopted == found.checklist_sha256:
        return []
    return [
        f"{found} performed another checklist than {here.checklist.name}: SHA-256 "
        f"{found.checklist_sha256[:12]}…, where {adopted[:12]}… is adopted now."
    ]


def _later(later: Rehearsal) -> list[str]:
    """What a rehearsal of the same revision says that came after the decided one."""
    if later.closed_at is None:
        return [f"{later} of the same revision is open: let it end, or cancel it."]
    bad = {Status.FAILED} if later.cancelled_by else {Status.FAILED, Status.INCONCLUSIVE}
    found = [
        item.ref
        for item in later.items.select_related("section").filter(status__in=bad)
        if not item.accepted
    ]
    return (
        [f"{later} of the same revision, which came later, failed at {found[0]}."] if found else []
    )
