"""A rehearsal as others read it: the ticked document and the JSON the contracts promise."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree

from django.template.loader import render_to_string
from django.utils import translation

from rehearsal import checklist
from rehearsal.models import ACTIVE, CheckItem, Rehearsal, Status, Verdict, verdict
from rehearsal.wording import WORDS, duration, inline, measured, sign


def ticked(rehearsal: Rehearsal) -> str:
    """The frozen document with its boxes ticked and the evidence under each line."""
    outcomes = {
        item.ref: checklist.Outcome(
            ticked=item.status == Status.PASSED,
            # A line whose turn has not come says nothing, and loses a tick it came with.
            evidence=() if item.status == Status.PENDING else tuple(_evidence(item)),
        )
        for item in rehearsal.items.select_related("section").prefetch_related("measurements")
    }
    return checklist.render(checklist.parse(rehearsal.checklist_text), outcomes)


def _evidence(item: CheckItem) -> list[str]:
    told = _item(item) | {"confirmed_by": item.confirmed_by, "note": item.note}
    return evidence_lines(told, waived=item.waived)


def evidence_lines(item: Mapping[str, Any], *, waived: bool) -> list[str]:
    """What stands under an item's line in the ticked document, by the item as it is exported."""
    standing = "confirmed" if item["confirmed_by"] else Status(item["status"]).label
    said = [f"{standing}: {item['summary'] or standing}"]
    if waiver := item["waiver"]:
        until = f", until {waiver['expires_at'][:10]}" if waiver["expires_at"] else ""
        word = "waived" if waived else "no longer waived"
        said.append(f"{word}: {waiver['reason']} (by {waiver['by']}{until})")
    said += [f"{key}: {_shown(value)}" for key, value in item["evidence"].items()]
    said += [
        f"{one['name']}: {measured(one['value'], one['unit'])}" for one in item["measurements"]
    ]
    if item["note"]:
        said.append(f"note: {item['note']}")
    return said


def as_json(rehearsal: Rehearsal) -> dict[str, Any]:
    """The rehearsal by schema 1, for `--json` and the exports."""
    items = list(rehearsal.items.select_related("section").prefetch_related("measurements"))
    ended = rehearsal.finished_at
    return {
        **head(rehearsal),
        "verdict": str(verdict(rehearsal, items)),
        "finished_at": ended.isoformat() if ended else None,
        "decision": decision(rehearsal),
        "sections": sections(rehearsal, items),
    }


def head(rehearsal: Rehearsal) -> dict[str, Any]:
    """What a rehearsal is, whatever came of it."""
    return {
        "schema": 1,
        "rehearsal": rehearsal.number,
        "environment": rehearsal.environment,
        "revision": rehearsal.revision,
        "checklist_sha256": rehearsal.checklist_sha256,
        "started_at": _at(rehearsal.started_at),
    }


def _at(moment: datetime.datetime) -> str:
    # One moment is written in one way, whatever the zone of the process.
    return moment.astimezone(datetime.UTC).isoformat()


def sections(rehearsal: Rehearsal, items: Iterable[CheckItem]) -> list[dict[str, Any]]:
    """The rehearsal's sections with those of `items` that are theirs."""
    return [
        {
            "number": section.number,
            "title": section.title,
            "items": [_item(item) for item in items if item.section_id == section.pk],
        }
        for section in rehearsal.sections.all()
    ]


def decision(rehearsal: Rehearsal) -> dict[str, Any] | None:
    """What was decided, by whom and why; None before."""
    if not rehearsal.decision or rehearsal.decided_at is None:
        return None
    votes = list(rehearsal.votes.all())
    return {
        "choice": rehearsal.decision,
        "at": _at(rehearsal.decided_at),
        "by": sorted({one.who for one in rehearsal.deciding_votes}),
        "ticket": rehearsal.ticket,
        "votes": [
            {
                "by": one.who,
                "choice": one.choice,
                "reason": one.reason,
                "at": _at(one.at),
                "outcomes_sha256": one.outcomes_sha256,
            }
            for one in votes
        ],
    }


def _item(item: CheckItem) -> dict[str, Any]:
    return {
        "ref": item.ref,
        "text": item.text,
        "check": item.check_path,
        "status": item.status,
        "summary": item.summary,
        "seconds": item.seconds,
        "attempts": item.attempt,
        "measurements": [
            {"name": one.name, "value": one.value, "unit": one.unit}
            for one in item.measurements.all()
        ],
        "evidence": item.evidence,
        "waiver": item.waiver,
    }


LONGEST_FACT = 300
"""Characters of one fact in print; `evidence.json` has the whole."""
MOST_MEASUREMENTS = 8
"""Measurements of one line in print; the others are counted."""


def as_html(rehearsal: Rehearsal, broken: Iterable[str] = ()) -> str:
    """The rehearsal as one HTML document that needs nothing else, for print.

    `broken` is what speaks against its seal.
    """
    with translation.override("en"):  # a record, which is the same whoever asks for it
        return _as_html(rehearsal, list(broken))


def _as_html(rehearsal: Rehearsal, broken: list[str]) -> str:
    told = as_json(rehearsal)
    rows = {item.ref: item for item in rehearsal.items.select_related("section")}
    items = [item for section in told["sections"] for item in section["items"]]
    for item in items:
        item |= _printed(item, rows[item["ref"]])
    stated = {
        title: [item["ref"] for item in items if item["sign"] == kind]
        for kind, title in (
            ("waived", "Waived, not passed"),
            ("confirmed", "On a person's word"),
            ("not-applicable", "Not applicable here"),
        )
    }
    waived = len(stated["Waived, not passed"])
    stands, missing = Verdict(told["verdict"]), []
    if rehearsal.decision and stands == Verdict.RUNNING:
        # 7.3 attaches this while it runs itself, and can say only what has ended.
        missing = [row for row in rows.values() if row.status in ACTIVE | {Status.PENDING}]
        stands = verdict(rehearsal, [row for row in rows.values() if row not in missing])
    context = {
        "told": told,
        "rehearsal": rehearsal,
        "verdict": stands.label.capitalize()
        + (" so far" if missing else "")
        + (f", with {waived} line{'s' * (waived != 1)} waived" if waived else ""),
        "missing": [row.ref for row in missing],
        "good": stands == Verdict.GREEN and not (broken or missing),
        "open": stands == Verdict.GREEN and missing and not broken,
        "stated": [(title, refs) for title, refs in stated.items() if refs],
        "seal": rehearsal.seals.last(),
        "broken": broken,
    }
    return render_to_string("rehearsal/report.html", context)


def _printed(item: Mapping[str, Any], row: CheckItem) -> dict[str, Any]:
    """What is printed of an item, besides what is exported of it."""
    kind, numbers = sign(row), item["measurements"]
    ran = row.seconds is not None and kind != "not-applicable"
    facts = [(key, str(_shown(value)) or "none") for key, value in item["evidence"].items()]
    facts += [
        (one["name"], measured(one["value"], one["unit"])) for one in numbers[:MOST_MEASUREMENTS]
    ]
    return {
        "sign": kind,
        "standing": str(WORDS[kind]),
        "line": inline(row.text),
        "took": duration(row.seconds or 0) if ran else "",
        "facts": [(key, _cut(said)) for key, said in facts],
        "more": max(0, len(numbers) - MOST_MEASUREMENTS),
    }


def _cut(said: str) -> str:
    return said if len(said) <= LONGEST_FACT else f"{said[:LONGEST_FACT].rstrip()} …"


def _shown(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def as_junit(rehearsal: Rehearsal) -> str:
    """The rehearsal as JUnit XML: a suite for each section, a case for each item.

    Failed items are failures, inconclusive ones errors; skipped and waiting ones are skipped.
    """
    root = ElementTree.Element("testsuites", name=f"{rehearsal} {rehearsal.environment}")
    kinds = {
        Status.FAILED: "failure",
        Status.INCONCLUSIVE: "error",
        Status.PASSED: "",
    }
    items = list(rehearsal.items.select_related("section"))
    for section in rehearsal.sections.all():
        own = [item for item in items if item.section_id == section.pk]
        told = [kinds.get(Status(item.status), "skipped") for item in own]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_xml(str(section)),
            tests=str(len(own)),
            failures=str(told.count("failure")),
            errors=str(told.count("error")),
            skipped=str(told.count("skipped")),
        )
        for item, kind in zip(own, told, strict=True):
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"section {section.number}",
                name=_xml(str(item)),
                time=f"{item.seconds or 0:.3f}",
            )
            if kind:
                said = f"{item.get_status_display()}: {item.summary}"
                if item.waived_by:
                    said += f" (waived by {item.waived_by}: {item.waiver_reason})"
                ElementTree.SubElement(case, kind, message=_xml(said))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """The text without the characters that XML 1.0 cannot hold (its production 2, Char)."""
    return "".join(one for one in text if one in "\t\n\r" or _is_xml(one))


def _is_xml(one: str) -> bool:
    return " " <= one <= "\ud7ff" or "\ue000" <= one <= "\ufffd" or one > "\uffff"
