"""Section 4 in the stand-in project: real web server, worker, mail and database."""

from __future__ import annotations

import datetime

import pytest

from rehearsal.checks.base import Inconclusive, Rehearsed, Report, load
from tests.standin import Site

CHECKS = "contrib.oobc.functional"
EACH = ["TasksRenderWithFilters", "NoDuplicateTasks", "BookingAppears", "NotificationsSent"]


def test_all_pass_with_evidence_and_leave_no_row(site: Site) -> None:
    site.plant()
    before = site.rows()
    answers = {check: site.perform(f"{CHECKS}.{check}") for check in EACH}
    assert {answer["status"] for answer in answers.values()} == {"passed"}, answers
    assert site.rows() == before
    shown = answers["TasksRenderWithFilters"]["facts"]
    assert "made by the form" in shown["workflow"]
    assert "none: 12 of 12" in shown["rows by filter"]
    assert {line.partition(":")[0] for line in shown["rows by filter"]} == {
        *("none", "status", "stage", "domain", "overdue", "q", "stage+status+overdue")
    }
    assert "21 tasks were generated at 9 stages" in answers["NoDuplicateTasks"]["message"]
    booked = answers["BookingAppears"]["facts"]
    assert "09:00–11:00 Asia/Manila" in booked["booking"]
    assert "refused" in booked["a booking that overlaps it"]
    sent = answers["NotificationsSent"]["facts"]
    assert [line.partition(": ")[2] for line in sent["notifications of our own"]] == [
        "sent, 1 seen in the sink"
    ] * 3
    assert sent["restored notifications that are due"] == 120
    assert sent["restored notifications that the batch took"] == ["97 sent"]


@pytest.mark.parametrize(
    ("check", "fault", "says"),
    [
        ("TasksRenderWithFilters", "filter ignored", "?stage=need_identification as a page shows"),
        ("TasksRenderWithFilters", "workflow page broken", "answers 500 (LookupError: planted)"),
        ("BookingAppears", "overlapping booking accepted", "was not refused: there are 2 now"),
        ("NoDuplicateTasks", "tasks generated again", "generating again made 2 tasks into 4"),
        ("NoDuplicateTasks", "tasks generated twice at once", "2 requests at once made"),
        ("BookingAppears", "booking not created", "0 are in the database"),
        ("NotificationsSent", "notification left pending", "3 pending after"),
        ("NotificationsSent", "notification not mailed", "their messages are not in the sink"),
    ],
)
def test_a_broken_feature_fails_for_its_reason(
    site: Site, check: str, fault: str, says: str
) -> None:
    site.plant(fault)
    before = site.rows()
    answer = site.perform(f"{CHECKS}.{check}", impatient=True)
    assert answer["status"] == "failed", answer
    assert says in answer["message"]
    assert site.rows() == before


def test_what_a_killed_check_left_is_removed_by_the_next(site: Site) -> None:
    site.plant()
    before = site.rows()
    assert site.perform(f"{CHECKS}.TasksRenderWithFilters", die_after=20) == {}
    assert site.rows()["common_stafftask"] > before["common_stafftask"]
    answer = site.perform(f"{CHECKS}.BookingAppears")
    assert answer["status"] == "passed", answer
    assert any(
        "StaffTask" in line for line in answer["facts"]["left by an earlier run, and removed"]
    )
    # Of a session only the check that made it knows the key.
    assert {**site.rows(), "django_session": 0} == {**before, "django_session": 0}
    assert site.perform(f"{CHECKS}.TasksRenderWithFilters")["status"] == "passed"
    assert site.rows() == before


def test_a_web_server_that_is_away_proves_nothing(site: Site) -> None:
    answer = site.perform(f"{CHECKS}.NoDuplicateTasks", setting={"SITE_URL": "http://127.0.0.1:1"})
    assert answer["status"] == "inconclusive"
    assert "did not answer" in answer["message"]
    answer = site.perform(f"{CHECKS}.NoDuplicateTasks", setting={"SITE_URL": ""})
    assert answer["status"] == "inconclusive"
    assert "REHEARSAL['SITE_URL']" in answer["message"]


@pytest.mark.parametrize("check", EACH)
def test_a_project_without_the_pieces_is_told_which(check: str) -> None:
    report = Report("A line.", Rehearsed(1, "", datetime.datetime.now(datetime.UTC)))
    with pytest.raises(Inconclusive, match="This project does not have the models? ") as found:
        load(f"rehearsal.{CHECKS}.{check}")().run(report)
    wanted = "common.CalendarNotification" if check == EACH[-1] else "common.StaffTask"
    assert wanted in str(found.value)
