"""The evidence as one document: sealed when a rehearsal is decided, and verified ever after.

A seal is a document in JSON with an HMAC-SHA256 over its bytes, keyed by a key of its own that is
derived from SECRET_KEY. The exported `evidence.json` is those bytes, so that `sha256sum` is enough
to compare it with the digest on the release ticket.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from rehearsal import records
from rehearsal.checks.base import Exports, Inconclusive
from rehearsal.databases.replacement import KEPT
from rehearsal.journal import Change, first_broken_event
from rehearsal.models import Rehearsal, Seal, before_sign_off

SALT = "rehearsal.seal"
MOST_NAMED = 20
"""How many differences are named one by one."""
LONGEST_VALUE = 80


def outcomes(of: Rehearsal | Change) -> str:
    """The SHA-256 of all that a decision is about, hexadecimal: what came before the sign-off."""
    found = _outcomes(_as_stored(of), complete=False)
    return hashlib.sha256(_canonical(found).encode()).hexdigest()


def seal(made: Change, *, complete: bool) -> None:
    """Seal the evidence as it stands in this transaction; to be called last in it."""
    rehearsal = _as_stored(made)
    text = _canonical(_document(rehearsal, complete=complete))
    last = rehearsal.seals.last()
    if last is None or last.document != text:
        rehearsal.seals.create(complete=complete, document=text, signature=signature(text))


def broken(rehearsal: Rehearsal) -> list[str]:
    """What speaks against the seal of a decided rehearsal, each in a sentence; empty when intact.

    Everything is read anew from the database.
    """
    rehearsal = Rehearsal.objects.get(pk=rehearsal.pk)
    seals = list(rehearsal.seals.all())
    decided = next((one for one in seals if not one.complete), None)
    if decided is None:
        return [f"{rehearsal} has no seal over its decision."]
    wrong = [said for one in seals for said in broken_signature(one)]
    if (at := first_broken_event(rehearsal)) is not None:
        wrong.append(f"The journal's chain is broken at entry {at}.")
    # What was decided never changes; the sign-off is sealed once it has ended.
    wrong += _differing(rehearsal, decided)
    if rehearsal.closed_at and seals[-1].complete:
        wrong += _differing(rehearsal, seals[-1])
    elif rehearsal.closed_at:
        wrong.append("The sign-off has ended, and there is no seal over it.")
    return list(dict.fromkeys(wrong))


def _differing(rehearsal: Rehearsal, found: Seal) -> list[str]:
    now = _document(rehearsal, complete=found.complete)
    try:
        sealed = json.loads(found.document)
        length, last = sealed["journal"]["length"], sealed["journal"]["hash"]
        entry = rehearsal.events.filter(sequence=length).values_list("hash", flat=True).first()
        if not found.complete:
            now["journal"] = sealed["journal"]  # it goes on with the sign-off
        then = [] if entry == last else [f"The journal's entry {length} is not the sealed one."]
        return then + differences(sealed, now)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ["The sealed document cannot be read: it is not as it was written."]


def broken_signature(found: Seal) -> list[str]:
    """What is wrong with a seal's own signature: nothing, or one sentence."""
    if signed(found.document, found.signature):
        return []
    which = "whole rehearsal" if found.complete else "decision"
    return [
        f"The sealed document of the {which} does not carry this project's signature: it was "
        "changed, or SECRET_KEY was (the former one belongs in SECRET_KEY_FALLBACKS)."
    ]


def signature(text: str, key: str | bytes | None = None) -> str:
    """The HMAC-SHA256 of a document, hexadecimal, by a key of its own derived from SECRET_KEY."""
    return salted_hmac(SALT, text, secret=key, algorithm="sha256").hexdigest()


def signed(text: str, by: str) -> bool:
    """Whether `by` is the document's signature by SECRET_KEY or a former one."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return any(hmac.compare_digest(signature(text, key).encode(), by.encode()) for key in keys)


def exports(number: int) -> Exports:
    """What a decided rehearsal is handed out as; raises Inconclusive before the decision."""
    rehearsal = Rehearsal.objects.get(pk=number)
    found = rehearsal.seals.last()
    if found is None:
        raise Inconclusive(f"{rehearsal} is not decided, and so not sealed: decide it first.")
    files = {
        "checklist.md": records.ticked(rehearsal),
        "evidence.json": found.document,
        "evidence.seal": exported(found),
        "report.html": records.as_html(rehearsal, broken(rehearsal)),
    }
    return Exports(records.as_json(rehearsal) | {"path": rehearsal.get_absolute_url()}, files)


def exported(found: Seal) -> str:
    """A seal without its document, which is exported as `evidence.json`, in JSON."""
    return _canonical(
        {
            "document": "evidence.json",
            "sha256": found.sha256,
            "hmac_sha256": found.signature,
            "sealed_at": found.at.isoformat(),
            "complete": found.complete,
        }
    )


# The document.


def _as_stored(of: Rehearsal | Change) -> Rehearsal:
    """The rehearsal as its transaction will leave it: its items are read from the database."""
    if isinstance(of, Rehearsal):
        return Rehearsal.objects.get(pk=of.pk)
    rehearsal = Rehearsal.objects.get(pk=of.rehearsal.pk)
    for name in Change.SAVED:
        setattr(rehearsal, name, getattr(of.rehearsal, name))
    return rehearsal


def _outcomes(rehearsal: Rehearsal, *, complete: bool) -> dict[str, Any]:
    items = rehearsal.items.select_related("section").prefetch_related("measurements")
    found = list(items if complete else items.filter(sign_off=False))
    for item in found:
        item.rehearsal = rehearsal
    ended = [item.finished_at for item in found if item.finished_at]
    sections = records.sections(rehearsal, found)
    by_ref = {item.ref: item for item in found}
    for section in sections:
        for item in section["items"]:
            row = by_ref[item["ref"]]
            item["output_sha256"] = hashlib.sha256(row.output.encode()).hexdigest()
            item |= {"options": row.options, "note": row.note, "confirmed_by": row.confirmed_by}
            # What can be undone at a time is no evidence.
            item["evidence"].pop(KEPT, None)
    return {
        **records.head(rehearsal),
        "verdict": str(rehearsal.verdict if complete else before_sign_off(found)),
        "finished_at": max(ended).isoformat() if ended else None,
        "sections": sections,
        "checklist": rehearsal.checklist_text,
        "settings_digest": rehearsal.settings_digest,
        "started_by": rehearsal.started_by,
    }


def _document(rehearsal: Rehearsal, *, complete: bool) -> dict[str, Any]:
    return _outcomes(rehearsal, complete=complete) | {
        "complete": complete,
        "decision": records.decision(rehearsal),
        "journal": {"length": rehearsal.journal_length, "hash": rehearsal.journal_hash},
    }


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, indent=1) + "\n"


# What differs between two of them, in words.


def differences(sealed: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is in `now` not as it was sealed, each in a sentence that names it."""
    before, after = dict(_named(sealed)), dict(_named(now))
    names = [*before, *(name for name in after if name not in before)]
    found = [
        f"{name} was sealed as {_shown(before.get(name))} and is now {_shown(after.get(name))}."
        for name in names
        if before.get(name) != after.get(name)
    ]
    more = len(found) - MOST_NAMED
    return found[:MOST_NAMED] + ([f"And {more} more differences."] if more > 0 else [])


def _named(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value of a document by a name for people, such as `3.2 status`."""
    for key, value in document.items():
        if key == "sections":
            for section in value:
                yield f"section {section['number']}", section["title"]
                for item in section["items"]:
                    yield from _named_item(item)
        elif key == "decision" and value:
            for vote in value["votes"]:
                name = f"vote of {vote['by']} at {vote['at']}"
                yield name, "there"
                yield from ((f"{name}: {part}", said) for part, said in vote.items())
            rest = {part: said for part, said in value.items() if part != "votes"}
            yield from ((f"decision {part}", said) for part, said in rest.items())
        elif key == "journal":
            yield from ((f"journal {part}", said) for part, said in value.items())
        else:
            yield key, value


def _named_item(item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    ref = item["ref"]
    for key, value in item.items():
        if key == "measurements":
            yield f"{ref} measurements", [one["name"] for one in value]
            for place, one in enumerate(value, start=1):
                yield f"{ref} measurement {place}, {one['name']}", [one["value"], one["unit"]]
        elif isinstance(value, dict):
            yield from ((f"{ref} {key}, {part}", said) for part, said in value.items())
        else:
            yield f"{ref} {key}", value


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= LONGEST_VALUE else f"{said[:LONGEST_VALUE]}…"
