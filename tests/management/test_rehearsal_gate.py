"""The gate's exit codes and reasons, on a database and nothing else."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from rehearsal import decisions, sealing, tasks
from rehearsal.models import CheckItem, Rehearsal, Status, Vote
from tests.conftest import ROOT, document

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GREEN = ("Passes", "Ends how=failed", "SignsOff")


@pytest.fixture(autouse=True)
def _adopted(settings: Any, tmp_path: Path) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "CHECKLIST": tmp_path / "checklist.md"}
    (tmp_path / "checklist.md").write_text(document(*GREEN))


def rehearsed(*checks: str, choice: str = "go", revision: str = COMMIT) -> Rehearsal:
    rehearsal = tasks.start(document(*(checks or GREEN)), by="starter", revision=revision)
    work(rehearsal)
    for item in rehearsal.items.filter(status="failed"):
        decisions.waive(rehearsal.number, item.ref, by="owner", reason="known")
    if choice:
        seen = sealing.outcomes(rehearsal)
        decisions.decide(rehearsal.number, choice, by="owner", reason="because", seen=seen)
        work(rehearsal)
    return Rehearsal.objects.get(pk=rehearsal.pk)


def work(rehearsal: Rehearsal) -> None:
    while queued := CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        for item in queued:
            tasks.perform.apply((item.pk, item.attempt))


def asked(capsys: Any, *argv: str) -> tuple[int, dict[str, Any]]:
    code = 0
    try:
        call_command("rehearsal_gate", "--json", *argv)
    except SystemExit as ended:
        code = int(str(ended.code))
    return code, json.loads(capsys.readouterr().out)


def test_a_go_on_this_very_commit_opens_it(capsys: Any) -> None:
    rehearsal = rehearsed()
    code, said = asked(capsys)
    assert (code, said["go"], said["reasons"]) == (0, True, [])
    assert said["rehearsal"] == rehearsal.number
    assert said["evidence_sha256"] == rehearsal.seals.last().sha256
    assert asked(capsys, "--revision", COMMIT.upper())[0] == 0


def test_whatever_speaks_against_it_is_named(capsys: Any, settings: Any) -> None:
    rehearsal = rehearsed()
    hour = datetime.timedelta(hours=1)

    def items(**values: Any) -> Callable[[], object]:
        return lambda: rehearsal.items.filter(number=1).update(**values)

    def rows(**values: Any) -> Callable[[], object]:
        return lambda: Rehearsal.objects.filter(pk=rehearsal.pk).update(**values)

    def told(**values: Any) -> Callable[[], object]:
        return lambda: settings.__setattr__("REHEARSAL", {**settings.REHEARSAL, **values})

    def expire_the_waiver() -> None:
        # It held when it was decided, and no longer.
        expired = timezone.now() + datetime.timedelta(milliseconds=1)
        rehearsal.items.filter(number=2).update(waiver_expires_at=expired)
        time.sleep(0.002)

    before = settings.REHEARSAL
    for harm, named in (
        (items(evidence={"looked at": "everythinG"}), "1.1 evidence, looked at was sealed as"),
        (lambda: Vote.objects.all()._raw_delete("rehearsal"), "vote of owner"),
        (rows(revision="f" * 40), "never rehearsed"),
        (rows(checklist_sha256="0" * 64), "another checklist"),
        (lambda: before["CHECKLIST"].write_text(document("Passes")), "another checklist"),
        (rows(decided_at=timezone.now() - 73 * hour), "73.0 hours ago, where at most 72"),
        (rows(decided_at=timezone.now() + hour), "in the future"),
        (expire_the_waiver, "The waiver of 1.2 by owner expired on"),
        (lambda: rehearsal.items.filter(number=3).update(status="failed"), "1.3 is failed"),
        (rows(closed_at=None), "not green yet: it is open"),
        (rows(decided_at=None), "do not say when"),
        (lambda: rehearsal.seals.filter(complete=True)._raw_delete("rehearsal"), "no seal over it"),
        (rows(decision="no-go"), "no-go"),
        (told(QUORUM=2), "It takes 2 to say go; 1 did"),
        (told(ENVIRONMENT="elsewhere"), "never rehearsed in elsewhere"),
    ):  # fmt: skip
        with transaction.atomic(using="rehearsal"):
            harm()
            code, said = asked(capsys)
            assert code == 1, named
            assert any(named in one for one in said["reasons"]), (named, said["reasons"])
            transaction.set_rollback(True, using="rehearsal")
        settings.REHEARSAL = before
        before["CHECKLIST"].write_text(document(*GREEN))
    assert asked(capsys)[0] == 0


@pytest.fixture
def files(tmp_path: Path) -> Callable[[Rehearsal], list[str]]:
    """Exports evidence and seal of a rehearsal; returns what the gate is asked with."""

    def export(rehearsal: Rehearsal) -> list[str]:
        exported = sealing.exports(rehearsal.number).files
        for name in ("evidence.json", "evidence.seal"):
            (tmp_path / name).write_text(exported[name])
        return ["--evidence", str(tmp_path / "evidence.json")]

    return export


def test_exported_files_alone_open_it(
    capsys: Any, files: Any, django_assert_num_queries: Any
) -> None:
    rehearsal = rehearsed()
    argv = files(rehearsal)
    with (
        django_assert_num_queries(0, using="default"),
        django_assert_num_queries(0, using="rehearsal"),
    ):
        code, said = asked(capsys, *argv)
    assert (code, said["go"], said["reasons"]) == (0, True, [])
    assert said["rehearsal"] == rehearsal.number
    assert said["evidence_sha256"] == rehearsal.seals.last().sha256
    assert said["decision"]["by"] == ["owner"]


def test_exported_files_alone_name_what_speaks_against_it(
    capsys: Any, settings: Any, files: Any, tmp_path: Path
) -> None:
    argv = files(rehearsed())
    evidence, seal = tmp_path / "evidence.json", tmp_path / "evidence.seal"
    intact, sealed, before = evidence.read_bytes(), seal.read_bytes(), settings.REHEARSAL

    def told(**values: Any) -> Callable[[], object]:
        return lambda: settings.__setattr__("REHEARSAL", {**before, **values})

    def anew(**values: Any) -> Callable[[], object]:
        """As if it had been so, and was sealed so."""

        def change() -> None:
            found = json.loads(intact)
            decision = found["decision"] | values.get("decision", {})
            text = json.dumps(found | values | {"decision": decision})
            evidence.write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            seal.write_text(json.dumps({"sha256": digest, "hmac_sha256": sealing.signature(text)}))

        return change

    def without_its_vote() -> None:
        found = json.loads(intact)
        found["decision"]["votes"] = []
        evidence.write_text(json.dumps(found))

    hours = datetime.timedelta(hours=1)
    at = json.loads(intact)["decision"]["at"]
    long_ago = datetime.datetime.fromisoformat(at) - 73 * hours
    no = [{"by": "x", "choice": "no-go", "reason": "because"}]
    for harm, asks, named in (
        (lambda: evidence.write_bytes(intact.replace(b"everything", b"everythinG")), (), "SHA-256"),
        (without_its_vote, (), "Nobody voted go"),
        (lambda: seal.write_text("{}"), (), "The seal is not as it was exported"),
        (lambda: None, ("--revision", "f" * 40), f"and not of {'f' * 40}"),
        (lambda: before["CHECKLIST"].write_text(document("Passes")), (), "another checklist"),
        (lambda: before["CHECKLIST"].write_bytes(b"\xff"), (), "cannot be read"),
        (lambda: None, ("--max-age", "0.0000001"), "hours ago, where at most 1e-07"),
        (told(ENVIRONMENT="elsewhere"), (), "is of staging, and elsewhere is asked for"),
        (told(QUORUM=2), (), "It takes 2 to say go; 1 did"),
        (anew(decision={"at": long_ago.isoformat()}), (), "73.0 hours ago, where at most 72"),
        (anew(decision={"by": ["policy"]}), (), "asks for a person"),
        (anew(decision={"choice": "no-go", "votes": no}), (), "was decided no-go (x: because)"),
        (anew(complete=False), (), "before its sign-off was performed"),
        (anew(verdict="red"), (), "is red, not green"),
    ):
        harm()
        code, said = asked(capsys, *argv, *asks)
        assert code == 1, named
        assert any(named in one for one in said["reasons"]), (named, said["reasons"])
        evidence.write_bytes(intact)
        seal.write_bytes(sealed)
        settings.REHEARSAL = before
        before["CHECKLIST"].write_text(document(*GREEN))
    assert asked(capsys, *argv)[0] == 0


def test_evidence_of_the_decision_alone_opens_nothing(capsys: Any, files: Any) -> None:
    rehearsal = rehearsed(choice="")
    seen = sealing.outcomes(rehearsal)
    decisions.decide(rehearsal.number, "go", by="owner", reason="because", seen=seen)
    code, said = asked(capsys, *files(rehearsal))
    assert (code, "before its sign-off" in said["reasons"][0]) == (1, True)


def test_files_that_are_not_there_are_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="evidence.seal cannot be read") as wrong:
        call_command("rehearsal_gate", "--evidence", str(tmp_path / "evidence.json"))
    assert wrong.value.returncode == 2


def test_other_commits_and_short_names_stay_out(capsys: Any) -> None:
    rehearsed()
    for revision, named in (("f" * 40, "never rehearsed"), (COMMIT[:12], "name it in full")):
        code, said = asked(capsys, "--revision", revision)
        assert (code, named in said["reasons"][0]) == (1, True)


def test_undecided_and_no_go_stay_out(capsys: Any) -> None:
    first = rehearsed(choice="")
    code, said = asked(capsys)
    assert (code, "nobody has decided" in said["reasons"][0]) == (1, True)
    tasks.cancel(first.number, by="owner")
    rehearsed(choice="no-go")
    code, said = asked(capsys)
    assert (code, "was decided no-go (owner: because)" in said["reasons"][0]) == (1, True)


def test_a_later_no_go_that_is_taken_out_of_its_row_still_closes_it(capsys: Any) -> None:
    rehearsed()
    later = rehearsed("Passes", choice="no-go")
    Rehearsal.objects.filter(pk=later.pk).update(decision="", decided_at=None)
    code, said = asked(capsys)
    assert (code, said["rehearsal"]) == (1, later.number)
    assert any('was sealed as "no-go"' in one for one in said["reasons"]), said["reasons"]


def test_a_later_rehearsal_of_the_commit_can_close_it(capsys: Any) -> None:
    rehearsed()
    later = rehearsed("Ends how=inconclusive", "Passes", choice="")
    code, said = asked(capsys)
    assert (code, "which came later, failed at 1.1" in said["reasons"][0]) == (1, True)
    later.items.update(waived_by="owner")
    assert asked(capsys)[0] == 0
    tasks.start(document("Passes"), by="x", revision=COMMIT)
    code, said = asked(capsys)
    assert (code, "is open" in said["reasons"][0]) == (1, True)


def test_the_policy_opens_it_only_where_the_policy_may(capsys: Any, settings: Any) -> None:
    settings.REHEARSAL = {**settings.REHEARSAL, "SIGN_OFF": "automatic"}
    settings.REHEARSAL["CHECKLIST"].write_text(document("Passes", "SignsOff"))
    work(tasks.start(document("Passes", "SignsOff"), by="x", revision=COMMIT))
    assert asked(capsys)[0] == 0
    settings.REHEARSAL = {**settings.REHEARSAL, "SIGN_OFF": "person"}
    code, said = asked(capsys)
    assert (code, "asks for a person" in said["reasons"][0]) == (1, True)


@pytest.mark.parametrize("argv", [("--max-age", "0"), ("--max-age", "nan"), ("--revision", " ")])
def test_wrong_usage_is_2(argv: tuple[str, str]) -> None:
    with pytest.raises(CommandError) as wrong:
        call_command("rehearsal_gate", *argv)
    assert wrong.value.returncode == 2


def test_it_needs_no_broker_and_says_when_the_records_are_away() -> None:
    code = (
        "import django; from django.conf import settings; django.setup();"
        "settings.CELERY_BROKER_URL = 'redis://127.0.0.1:1/0';"
        "settings.DATABASES['rehearsal'] |= {'PORT': 1, 'NAME': '/nowhere/to/be/found'};"
        "from django.core.management import call_command; call_command('rehearsal_gate')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout.startswith("No: The records cannot be read")


@pytest.mark.long
def test_all_of_it_on_sqlite(tmp_path: Path) -> None:
    files = ("management/test_rehearsal_gate", "test_decisions", "test_exported", "test_roles")
    environ = {key: said for key, said in os.environ.items() if not key.startswith("PYTEST")}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", *(f"tests/{one}.py" for one in files)],
        cwd=ROOT,
        env=environ | {"TEST_DATABASE": "sqlite", "TEST_SQLITE_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", ended.stdout)[1]) > 80
