"""7.3: the ticked checklist and the sealed evidence are attached to the release ticket."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rehearsal.checks.base import ActionRequired, Check, Failed, Inconclusive, Report
from rehearsal.checks.signoff.forges import ForgeError, HandOver, forge
from rehearsal.conf import configuration, folder


@dataclass(frozen=True)
class TicketAttached(Check):
    """Passes when what was attached was fetched back from the ticket and is the same.

    What cannot be attached is handed to a person: the files, and what to do with them.
    """

    sign_off: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    timeout: ClassVar[int] = 600

    def run(self, report: Report) -> None:
        exports = report.exports()
        files = {name: text.encode() for name, text in exports.files.items()}
        digest = hashlib.sha256(files["evidence.json"]).hexdigest()
        report.evidence("evidence, SHA-256", digest)
        name = f"rehearsal-{exports.told['rehearsal']}"
        try:
            where = _where(exports.told["decision"]["ticket"], report.rehearsal.revision)
            if not report.keep():
                raise Inconclusive(
                    "Another worker has taken this over: nothing was attached by it."
                )
            back = _attach(report, where, name, files)
        except HandOver as why:
            kept = folder("tickets", name)
            _write(kept, files)
            report.evidence("files", str(kept))
            raise ActionRequired(
                f"{why} Nothing more was done: attach the files in {kept} to the release ticket "
                f"by hand (SHA-256 of evidence.json: {digest}), then confirm."
            ) from None
        except ForgeError as error:
            raise Failed(f"{error} Run this again when that is mended.") from None
        different = [one for one in back if _lines(back[one]) != _lines(files[one])]
        if different or not {"checklist.md", "evidence.json"} <= set(back):
            wrong = ", ".join(different or sorted(set(files) - set(back)))
            raise Failed(
                f"What the ticket gave back is not what was attached ({wrong}): look there, "
                "and run this again."
            )
        report.evidence("fetched back and equal", [f"{n}, {len(back[n])} bytes" for n in back])
        report.progress(f"{len(back)} files are on {where}, fetched back and the same.")


def _lines(data: bytes) -> bytes:
    # A forge may end the lines of a text in its own way.
    return data.replace(b"\r\n", b"\n")


def _where(ticket: str, revision: str) -> str:
    """The ticket of this release; raises HandOver when it is not known."""
    named = configuration().ticket
    if not named:
        raise HandOver("No release ticket is configured in REHEARSAL['TICKET'].")
    if "{ticket}" in named and not ticket:
        raise HandOver(f"Nobody named the release ticket of {named} when deciding.")
    if "{revision}" in named and not re.fullmatch(r"\w[\w.+-]*", revision):
        raise HandOver(f"{named} is named by the revision, and {revision!r} is no name for it.")
    return named.replace("{ticket}", ticket.lstrip("#")).replace("{revision}", revision)


def _attach(report: Report, where: str, name: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Attach and fetch back; raises HandOver and ForgeError."""
    if not where.startswith(("https://", "http://")):
        return _put_into(report, configuration().root / where, name, files)
    variable = configuration().ticket_token
    token = os.environ.get(variable, "")
    if not token:
        raise HandOver(f"There is no token for {where}: set the variable {variable}.")
    found = forge(where, token)
    report.evidence("ticket", where)
    report.write(f"Attaching to {where} …")
    found.prove_open()
    attached = found.attach(name, files)
    for said in attached.values():
        report.write(said)
    return {one: found.fetch(one, address) for one, address in attached.items()}


def _put_into(
    report: Report, release: Path, name: str, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    if not release.is_dir():
        raise HandOver(f"The release folder {release} does not exist.")
    place = release / name
    try:
        place.mkdir(exist_ok=True)
        _write(place, files)
        report.evidence("ticket", str(place))
        return {one: (place / one).read_bytes() for one in files}
    except OSError as error:
        raise HandOver(
            f"The release folder {release} cannot be written ({error.strerror})."
        ) from None


def _write(place: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        part = place / f".{name}.part"
        part.write_bytes(data)
        part.replace(place / name)
