"""Verifying what was exported from nothing but the files: no database, no broker, no worker."""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import Any

from rehearsal import checklist, records, sealing
from rehearsal.databases.replacement import KEPT

NEITHER = "is not as it was exported: it cannot be read"


def wrong(evidence: bytes, seal: bytes, ticked: bytes | None = None) -> list[str]:
    """What speaks against exported files, each in a sentence; empty when they are intact.

    `evidence` and `seal` are `evidence.json` and `evidence.seal`; `ticked`, if there is one, is the
    ticked checklist.
    """
    try:
        told = json.loads(seal)
        sha256, signature = str(told["sha256"]), str(told["hmac_sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return [f"The seal {NEITHER}."]
    found = []
    digest = hashlib.sha256(evidence).hexdigest()
    if digest != sha256:
        found.append(f"The evidence has the SHA-256 {digest}, and {sha256} was sealed.")
    try:
        text = evidence.decode()
        document = json.loads(text)
        if not sealing.signed(text, signature):
            found.append(
                "The evidence does not carry the signature of this project: it was changed, or it "
                "is another project's, or SECRET_KEY is another."
            )
        found += _within(document)
        if ticked is not None:
            found += _checklist(ticked.decode(), document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        found.append(f"The evidence or the checklist {NEITHER}.")
    return found


def unsealed(evidence: bytes) -> list[str]:
    """The references of lines that intact evidence does not hold: performed after it was sealed."""
    document = json.loads(evidence)
    held = {item["ref"] for section in document["sections"] for item in section["items"]}
    return [one.ref for one in checklist.parse(document["checklist"]).items if one.ref not in held]


def _within(document: dict[str, Any]) -> list[str]:
    """Whether the parts of the evidence agree with each other."""
    found = []
    if checklist.parse(document["checklist"]).sha256 != document["checklist_sha256"]:
        found.append("The checklist in the evidence has another SHA-256 than is said there.")
    votes = document["decision"]["votes"]
    if not any(vote["choice"] == document["decision"]["choice"] for vote in votes):
        found.append(f"Nobody voted {document['decision']['choice']}, as was decided.")
    return found


def _checklist(ticked: str, document: dict[str, Any]) -> list[str]:
    """Where the ticked checklist says something else than the evidence does.

    Of lines that the evidence does not hold, because they were performed after it was sealed, only
    the words are compared.
    """
    decided = datetime.datetime.fromisoformat(document["decision"]["at"])
    outcomes = {
        item["ref"]: checklist.Outcome(
            item["status"] == "passed",
            tuple(records.evidence_lines(item, waived=_holds(item, decided))),
        )
        for section in document["sections"]
        for item in section["items"]
    }
    wanted, own = _blocks(checklist.render(checklist.parse(document["checklist"]), outcomes))
    given, others = _blocks(ticked)
    found = [] if own == others else ["The checklist's text between its lines was changed."]
    for ref in wanted.keys() | given.keys():
        before, after = wanted.get(ref, []), given.get(ref, [])
        if ref not in outcomes:
            before, after = ([line[5:] for line in block[:1]] for block in (before, after))
        elif set(before) != set(after):
            lost = [line for line in before if line not in after]
            more = [line for line in after if line not in before]
            found.append(
                f"Line {ref} of the checklist differs from the evidence: "
                f"{(more or lost)[0].strip()[:200]!r}."
            )
        if ref not in outcomes and before != after:
            found.append(f"Line {ref} of the checklist has other words.")
    return sorted(found)


def _holds(item: dict[str, Any], decided: datetime.datetime) -> bool:
    waiver = item["waiver"]
    if not waiver or not waiver["expires_at"]:
        return bool(waiver)
    return datetime.datetime.fromisoformat(waiver["expires_at"]) > decided


def _blocks(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """The lines of each item by its reference, and all the others."""
    lines = text.splitlines()
    starts = {item.line: item.ref for item in checklist.parse(text).items}
    blocks: dict[str, list[str]] = {}
    others: list[str] = []
    ref = ""
    for number, line in enumerate(lines):
        if number in starts:
            ref = starts[number]
            blocks[ref] = [line]
        elif ref and line[:1] in " \t":
            # What can be undone at a time is said of no evidence.
            if not line.strip().startswith(f"- {KEPT}:"):
                blocks[ref].append(line)
        else:
            ref = ""
            others.append(line)
    return blocks, others
