"""Core routes and APIs: what must answer before anything else is worth testing."""

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from common.models import User
from common.services.resource_bookings import create_bookings_for_task
from common.tests.factories import create_resource, create_task, create_user, create_workflow

pytestmark = [pytest.mark.smoke, pytest.mark.django_db]


@pytest.fixture
def person() -> User:
    return create_user(username="person")


@pytest.fixture
def signed_in(client: Client, person: User) -> Client:
    client.force_login(person)
    return client


@pytest.mark.parametrize("path", ["/health/", "/ready/"])
def test_probes_answer_anyone(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.json()["status"] in {"healthy", "ready"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/oobc-management/calendar/",
        "/oobc-management/calendar/bookings/",
        "/project-central/projects/",
        "/project-central/projects/create/",
        "/project-central/tasks/",
    ],
)
def test_pages_ask_for_sign_in_then_answer(client: Client, person: User, path: str) -> None:
    assert client.get(path).url == f"/login/?next={path}"
    client.force_login(person)
    response = client.get(path)
    assert response.status_code == 200
    assert b"</html>" in response.content
    assert "script-src 'self'" in response["Content-Security-Policy"]


def test_signing_in_and_out(client: Client) -> None:
    create_user(username="person", password="rehearsal")
    answer = client.post("/login/", {"username": "person", "password": "rehearsal"}, follow=True)
    assert answer.redirect_chain[-1][0] == "/"
    assert client.post("/logout/").url == "/login/"
    assert client.get("/").status_code == 302


def test_unapproved_people_stay_outside(client: Client) -> None:
    waiting = create_user(username="waiting", password="rehearsal", is_approved=False)
    answer = client.post("/login/", {"username": "waiting", "password": "rehearsal"})
    assert b"waits for approval" in answer.content
    client.force_login(waiting)
    assert client.get("/").url == "/login/"
    assert "_auth_user_id" not in client.session


def test_workflow_page(signed_in: Client, person: User) -> None:
    workflow = create_workflow(person)
    task = create_task(person, linked_workflow=workflow)
    page = signed_in.get(workflow.get_absolute_url()).content.decode()
    assert f'data-task-id="{task.pk}"' in page


def test_booking_feed(signed_in: Client, person: User) -> None:
    resource = create_resource()
    create_bookings_for_task(
        create_task(person),
        {"resource_id": resource.pk, "start": "2025-10-02T09:00", "duration_hours": 2},
    )
    feed = signed_in.get(f"/coordination/resources/{resource.pk}/bookings/feed/").json()
    assert [(entry["start"], entry["end"]) for entry in feed] == [
        ("2025-10-02T09:00:00+08:00", "2025-10-02T11:00:00+08:00")
    ]
    page = signed_in.get(reverse("common:calendar_booking_list")).content.decode()
    assert "09:00\u201311:00" in page


def test_calendar_feed(signed_in: Client, person: User) -> None:
    create_task(person, title="On the calendar", due_date="2025-10-02")
    feed = signed_in.get(
        reverse("common:oobc_calendar_feed_json"), {"start": "2025-10-01", "end": "2025-10-31"}
    )
    assert [entry["title"] for entry in feed.json()] == ["On the calendar"]


@pytest.mark.parametrize("query", ["month=2025-13", "month=never"])
def test_a_typing_error_is_told(signed_in: Client, query: str) -> None:
    assert signed_in.get(f"/oobc-management/calendar/?{query}").status_code == 400


def test_every_table_exists(db: None) -> None:
    assert {"auth_user", "common_stafftask", "project_central_projectworkflow"} <= set(
        connection.introspection.table_names()
    )
