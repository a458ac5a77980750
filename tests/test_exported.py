"""Exported files are verified without a database, and whatever was changed in them shows."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from rehearsal import decisions, exported, sealing, tasks
from rehearsal.models import CheckItem, Rehearsal, Status
from tests.conftest import document

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])
CHECKS = ("Passes", "Ends how=failed", "Ends how=action_required", "SignsOff")


@pytest.fixture
def files() -> dict[str, str]:
    rehearsal = tasks.start(document(*CHECKS), by="starter", revision="abc")
    work(rehearsal)
    decisions.waive(rehearsal.number, "1.2", by="keeper", reason="known")
    decisions.confirm(rehearsal.number, "1.3", by="hand")
    decisions.decide(
        rehearsal.number, "go", by="owner", reason="fine", seen=sealing.outcomes(rehearsal)
    )
    return sealing.exports(rehearsal.number).files


def work(rehearsal: Rehearsal) -> None:
    while queued := CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        for item in queued:
            tasks.perform.apply((item.pk, item.attempt))


def wrong(files: dict[str, str], **changed: str) -> list[str]:
    now = files | {name.replace("_", "."): text for name, text in changed.items()}
    names = ("evidence.json", "evidence.seal", "checklist.md")
    return exported.wrong(*(now[name].encode() for name in names))


def test_what_was_exported_is_intact_at_the_decision_and_at_the_end(files: dict[str, str]) -> None:
    assert wrong(files) == []
    rehearsal = Rehearsal.objects.get()
    work(rehearsal)
    whole = sealing.exports(rehearsal.number).files
    assert wrong(whole) == []
    assert exported.unsealed(whole["evidence.json"].encode()) == []
    # The checklist may be a later one than the evidence: the sign-off is not in that.
    late = sealing.exports(rehearsal.number).files["checklist.md"]
    assert wrong(files, checklist_md=late) == []


@pytest.mark.security("flipped bits of the exported evidence", promised="the digest says so")
def test_a_flipped_byte_anywhere_in_the_evidence_shows(
    files: dict[str, str], record_property: Any
) -> None:
    whole = files["evidence.json"].encode()
    seal = files["evidence.seal"].encode()
    tried = set()

    @given(at=st.integers(0, len(whole) - 1), bit=st.integers(0, 7))
    @hypothesis(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def flip(at: int, bit: int) -> None:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << bit
        tried.add((at, bit))
        found = exported.wrong(bytes(flipped), seal)
        assert any("SHA-256" in said for said in found)

    flip()
    record_property("tried", len(tried))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("- [ ] Line 2", "- [x] Line 2", "Line 1.2"),
        ("- [x] Line 1", "- [ ] Line 1", "Line 1.1"),
        ("known", "never mind", "Line 1.2"),
        ("looked at: `everything`", "looked at: `nothing`", "Line 1.1"),
        ("# Sample", "# Example", "between its lines"),
        ("Line 4", "Line four", "Line 1.4"),
    ],
)
def test_a_checklist_that_says_otherwise_is_named(
    before: str, after: str, said: str, files: dict[str, str]
) -> None:
    text = files["checklist.md"]
    changed = text.replace(before, after)
    assert changed != text
    assert any(said in one for one in wrong(files, checklist_md=changed))


def test_evidence_that_was_sealed_anew_by_another_key_is_another_projects(
    files: dict[str, str],
) -> None:
    forged = json.loads(files["evidence.json"])
    forged["revision"] = "f" * 40
    text = json.dumps(forged)
    seal = json.loads(files["evidence.seal"])
    seal["hmac_sha256"] = sealing.signature(text, "a guessed key")
    seal["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    found = wrong(files, evidence_json=text, evidence_seal=json.dumps(seal))
    assert any("signature of this project" in said for said in found)


def test_what_was_changed_within_the_evidence_is_named(files: dict[str, str]) -> None:
    intact = json.loads(files["evidence.json"])
    no_vote = intact | {"decision": intact["decision"] | {"votes": []}}
    another = intact | {"checklist": intact["checklist"].replace("Line 1", "Line one")}
    for changed, said in ((no_vote, "Nobody voted go"), (another, "has another SHA-256 than is")):
        found = wrong(files, evidence_json=json.dumps(changed))
        assert any(said in one for one in found), found


@pytest.mark.parametrize("name", ["evidence_json", "evidence_seal"])
@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"decision": null}', "\x00"])
def test_whatever_is_no_evidence_is_told_apart(name: str, text: str, files: dict[str, str]) -> None:
    assert wrong(files, **{name: text})


def test_the_command_needs_no_database(files: dict[str, str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    code = (
        "import django; from django.conf import settings; django.setup();"
        "away = {'PORT': 1, 'NAME': '/nowhere/to/be/found'};"
        "settings.DATABASES['rehearsal'] |= away; settings.DATABASES['default'] |= away;"
        "from django.core.management import execute_from_command_line as run; import sys;"
        "run(['manage.py', *sys.argv[1:]])"
    )

    def verify(*argv: str, command: str = "rehearsal_verify") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, command, *argv],
            capture_output=True, text=True, timeout=60, check=False, env=os.environ,
        )  # fmt: skip

    evidence, ticked = str(tmp_path / "evidence.json"), str(tmp_path / "checklist.md")
    intact = verify(evidence, "--checklist", ticked)
    assert (intact.returncode, intact.stdout[:6]) == (0, "Intact"), intact.stderr
    # A tick that the seal does not cover could be anybody's.
    assert "Not sealed: 1.4 came after the decision" in intact.stdout
    judged = verify("--evidence", evidence, "--revision", "abc", command="rehearsal_gate")
    assert (judged.returncode, "before its sign-off" in judged.stdout) == (1, True), judged.stderr
    (tmp_path / "evidence.json").write_text(files["evidence.json"].replace("everything", "nothing"))
    assert verify(evidence).returncode == 1
    assert verify(str(tmp_path / "missing.json")).returncode == 2
