"""Whether a commit may be deployed: a sealed, intact and unexpired go, and nothing against it."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q
from django.utils import timezone

from rehearsal import checklist, exported, records, sealing
from rehearsal.conf import Configuration, configuration
from rehearsal.models import POLICY, Choice, Rehearsal, Status, Verdict

CLOCKS_DIFFER = datetime.timedelta(minutes=5)
"""How far a decision may lie in this machine's future."""


@dataclass
class Answer:
    """What the gate says of a revision: go, unless there are reasons against it."""

    revision: str
    told: dict[str, Any] | None = None
    """The decided rehearsal by schema 1."""
    sha256: str = ""
    """The digest of its sealed evidence, hexadecimal."""
    reasons: list[str] = field(default_factory=list)

    @property
    def go(self) -> bool:
        return self.told is not None and not self.reasons


def judge(revision: str, max_age: datetime.timedelta) -> Answer:
    """Judge `revision` by the last rehearsal of it that was decided, and by those since."""
    here = configuration()
    ours = Rehearsal.objects.filter(environment=here.environment)
    of_it = ours.filter(revision=revision)
    # Sealed is decided, whatever the row says now: `broken` tells them apart.
    decided = of_it.filter(~Q(decision="") | Q(seals__isnull=False)).first()
    if decided is None:
        return Answer(revision, reasons=[_undecided(revision, here)])
    told = records.as_json(decided)
    reasons = sealing.broken(decided)
    if decided.closed_at is None:
        reasons.append(f"{decided} is not green yet: it is open.")
    if told["decision"]:
        reasons += _against(told, here, max_age)
    else:
        reasons.append(f"The records do not say when {decided} was decided.")
    for later in of_it.filter(number__gt=decided.number):
        reasons += _later(later)
    seal = decided.seals.last()
    return Answer(revision, told, seal.sha256 if seal else "", reasons)


def judge_exported(
    evidence: bytes, seal: bytes, revision: str, max_age: datetime.timedelta
) -> Answer:
    """Judge `revision` by exported evidence and its seal alone, without the records.

    What happened in the environment since, it cannot know.
    """
    here = configuration()
    if wrong := exported.wrong(evidence, seal):
        return Answer(revision, reasons=wrong)
    told = json.loads(evidence)
    name, reasons = f"Rehearsal {told['rehearsal']}", []
    if told["environment"] != here.environment:
        reasons.append(f"{name} is of {told['environment']}, and {here.environment} is asked for.")
    if told["revision"] != revision:
        reasons.append(f"{name} is of {told['revision'] or 'unknown'}, and not of {revision}.")
    if not told["complete"]:
        reasons.append(
            f"The evidence of {name} was sealed before its sign-off was performed: export it anew."
        )
    reasons += _against(told, here, max_age)
    return Answer(revision, told, hashlib.sha256(evidence).hexdigest(), reasons)


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


def _against(told: dict[str, Any], here: Configuration, max_age: datetime.timedelta) -> list[str]:
    """What a rehearsal that was decided says against itself, by schema 1."""
    name = f"Rehearsal {told['rehearsal']}"
    items = [item for section in told["sections"] for item in section["items"]]
    return [
        *_standing(name, told, items),
        *_by_policy(name, told["decision"], here),
        *_expired(name, told["decision"], items, max_age),
        *_document(name, told["checklist_sha256"], here),
    ]


def _standing(name: str, told: dict[str, Any], items: list[dict[str, Any]]) -> list[str]:
    votes = told["decision"]["votes"]
    if told["decision"]["choice"] == Choice.NO_GO:
        said = "; ".join(
            f"{one['by']}: {one['reason']}" for one in votes if one["choice"] == Choice.NO_GO
        )
        return [f"{name} was decided no-go ({said})."]
    if told["verdict"] == Verdict.GREEN:
        return []
    against = [
        f"{item['ref']} is {Status(item['status']).label}"
        for item in items
        if item["status"] != Status.PASSED
        and not item["waiver"]
        # What ran and said that it is not enabled here speaks against nothing.
        and not (item["status"] == Status.SKIPPED and item["seconds"] is not None)
    ]
    return [
        f"{name} is {Verdict(told['verdict']).label}, not green: "
        f"{', '.join(against[:5]) or 'a waiver was over'}."
    ]


def _by_policy(name: str, decision: dict[str, Any], here: Configuration) -> list[str]:
    if decision["choice"] != Choice.GO:
        return []
    if POLICY in decision["by"]:
        if here.sign_off == "automatic":
            return []
        return [f"{name} was decided by the policy, and REHEARSAL['SIGN_OFF'] asks for a person."]
    if len(decision["by"]) < here.quorum:
        return [f"It takes {here.quorum} to say go; {len(decision['by'])} did in {name}."]
    return []


def _expired(
    name: str, decision: dict[str, Any], items: list[dict[str, Any]], max_age: datetime.timedelta
) -> list[str]:
    now, reasons = timezone.now(), []
    age = now - datetime.datetime.fromisoformat(decision["at"])
    if age > max_age:
        reasons.append(
            f"{name} was decided {age.total_seconds() / 3600:.1f} hours ago, where at most "
            f"{max_age.total_seconds() / 3600:g} were allowed: rehearse again."
        )
    if age < -CLOCKS_DIFFER:
        reasons.append(f"{name} was decided in the future ({decision['at']}): set the clock.")
    for item in items:
        if not item["waiver"] or not item["waiver"]["expires_at"]:
            continue
        until = datetime.datetime.fromisoformat(item["waiver"]["expires_at"])
        if until <= now:
            reasons.append(
                f"The waiver of {item['ref']} by {item['waiver']['by']} expired on "
                f"{until.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC."
            )
    return reasons


def _document(name: str, sha256: str, here: Configuration) -> list[str]:
    try:
        adopted = checklist.parse(here.checklist.read_bytes()).sha256
    except (OSError, checklist.ChecklistError) as error:
        return [f"The adopted checklist {here.checklist} cannot be read: {error}."]
    if adopted == sha256:
        return []
    return [
        f"{name} performed another checklist than {here.checklist.name}: SHA-256 "
        f"{sha256[:12]}…, where {adopted[:12]}… is adopted now."
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
