"""Every address, method and role: who gets in, who is told what is missing, and what changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import router, transaction
from django.test import Client
from django.urls import URLPattern

from rehearsal import decisions, sealing, tasks, urls
from rehearsal.models import CheckItem, Rehearsal, Status
from tests.conftest import document

pytestmark = pytest.mark.django_db(databases=["default", "rehearsal"])

PAGES = {
    "index", "rehearsal", "rows", "stream", "checklist", "evidence", "seal", "junit", "report",
    "item", "compare", "trends", "journal", "item_trends",
}  # fmt: skip
ACTIONS = {
    "start": "start_rehearsal",
    "cancel": "start_rehearsal",
    "rerun": "start_rehearsal",
    "roll_back": "start_rehearsal",
    "confirm": "confirm_checkitem",
    "waive": "waive_checkitem",
    "decide": "decide_rehearsal",
}
VIEW = "view_rehearsal"
ROLES: dict[str, tuple[str, ...] | None] = {
    "anonymous": None,
    "signed in": (),
    "reader": (VIEW,),
    "starter": (VIEW, "start_rehearsal"),
    "confirmer": (VIEW, "confirm_checkitem"),
    "waiver": (VIEW, "waive_checkitem"),
    "decider": (VIEW, "decide_rehearsal"),
    "decider who may not view": ("decide_rehearsal",),
    "everything": (VIEW, *ACTIONS.values()),
}
ELSEWHERE = {"stream": {204}, "item_trends": {302}}
"""What is answered where there is no such rehearsal, where it is not 404."""
METHODS = {"get", "head", "post", "put", "patch", "delete", "options"}
STATES = [
    "decided",
    *(pytest.param(one, marks=pytest.mark.long) for one in ("running", "waiting", "red")),
    pytest.param("cancelled", marks=pytest.mark.long),
]


def client(role: str, *, check: bool = False) -> Client:
    found = Client(enforce_csrf_checks=check)
    permissions = ROLES[role]
    if permissions is not None:
        person, made = get_user_model().objects.get_or_create(username=role)
        if made:
            person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        found.force_login(person)
    return found


def rehearsal_in(state: str, by: str) -> Rehearsal:
    lines = {
        "running": ("Passes",),
        "waiting": ("Ends how=action_required", "SignsOff"),
        "red": ("Ends how=failed", "SignsOff"),
        "decided": ("Passes", "SignsOff"),
        "cancelled": ("Ends how=action_required",),
    }[state]
    rehearsal = tasks.start(document(*lines), by=by, revision="abc")
    if state == "running":
        return rehearsal
    work(rehearsal)
    if state == "decided":
        seen = sealing.outcomes(rehearsal)
        decisions.decide(rehearsal.number, "go", by="another", reason="x", seen=seen)
        work(rehearsal)
    if state == "cancelled":
        tasks.cancel(rehearsal.number, by=by)
    return rehearsal


def work(rehearsal: Rehearsal) -> None:
    while queued := CheckItem.objects.filter(rehearsal=rehearsal, status=Status.QUEUED):
        for item in queued:
            tasks.perform.apply((item.pk, item.attempt))


def addresses(rehearsal: Rehearsal) -> Iterator[tuple[str, str]]:
    values = {"number": rehearsal.number, "ref": "1.1", "a": rehearsal.number}
    values["b"] = rehearsal.number
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        wanted = {name: values[name] for name in pattern.pattern.converters}
        yield str(pattern.name), "/rehearsal/" + _filled(str(pattern.pattern), wanted)


def _filled(route: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        for kind in ("int", "str"):
            route = route.replace(f"<{kind}:{name}>", str(value))
    assert "<" not in route
    return route


def everything() -> dict[str, list[object]]:
    """Every row of both databases; but sessions, which are of signing in."""
    return {
        f"{alias}: {model._meta.label}": list(model.objects.using(alias).order_by("pk").values())
        for alias in ("default", "rehearsal")
        for model in apps.get_models()
        if model._meta.label != "sessions.Session" and router.allow_migrate_model(alias, model)
    }


def test_everything_is_compared() -> None:
    held = {name.partition(": ")[2] for name in everything()}
    assert {model._meta.label for model in apps.get_models()} - held == {"sessions.Session"}
    assert len(everything()["default: auth.Permission"]) > 20


def test_every_address_is_in_the_matrix() -> None:
    assert {pattern.name for pattern in urls.urlpatterns} == PAGES | ACTIONS.keys()


@pytest.mark.security(
    "every address by every role in every state", promised="right, no row changed"
)
@pytest.mark.parametrize("by", ["everything", pytest.param("somebody", marks=pytest.mark.long)])
@pytest.mark.parametrize("state", STATES)
def test_no_wrong_answer(state: str, by: str, record_property: Any) -> None:
    rehearsal = rehearsal_in(state, by=by)
    visitors = {role: client(role) for role in ROLES}
    before, tried = everything(), 0
    for role, visitor in visitors.items():
        for name, address in addresses(rehearsal):
            if name in ACTIONS and ACTIONS[name] in (ROLES[role] or ()) and VIEW in ROLES[role]:
                continue  # what it does to whom it is allowed is in the tests of the actions
            send = visitor.post if name in ACTIONS else visitor.get
            status = send(address).status_code
            assert status in expected(role, name, state), (role, name, status)
            tried += 1
        assert everything() == before, role
    record_property("tried", tried)


@pytest.mark.security("every other method", promised="405, no row changed")
def test_no_other_method_does_anything(record_property: Any) -> None:
    rehearsal = rehearsal_in("waiting", by="somebody")
    visitor = client("everything")
    before, tried = everything(), 0
    for name, address in addresses(rehearsal):
        for method in METHODS - {"post" if name in ACTIONS else "get"}:
            assert getattr(visitor, method)(address).status_code == 405, (name, method)
            tried += 1
    assert everything() == before
    record_property("tried", tried)


def expected(role: str, name: str, state: str) -> set[int]:
    permissions = ROLES[role]
    if name == "stream":
        return {204}  # this server is not asynchronous, and so it streams to nobody
    if permissions is None or (name == "item_trends" and VIEW in permissions):
        return {302}  # to sign in; to the page that it is a part of
    if VIEW not in permissions or name in ACTIONS:
        return {403}
    if name == "seal" and state != "decided":
        return {404}
    return {200, 204, 286}


@pytest.mark.security("actions without the form's token", promised="403, no row changed")
@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_without_the_forms_token_does_nothing(name: str) -> None:
    rehearsal = rehearsal_in("waiting", by="somebody")
    address = dict(addresses(rehearsal))[name]
    visitor = client("everything", check=True)
    before = everything()
    assert visitor.post(address, {"reason": "x"}).status_code == 403
    assert everything() == before


@pytest.mark.security("what does not exist", promised="404, no row changed")
@pytest.mark.parametrize("name", sorted({*ACTIONS, *PAGES} - {"index", "start", "trends"}))
def test_what_does_not_exist_is_404_and_no_fault(name: str) -> None:
    rehearsal = rehearsal_in("red", by="somebody")
    address = dict(addresses(rehearsal))[name].replace(str(rehearsal.number), "987654", 1)
    send = client("everything").post if name in ACTIONS else client("everything").get
    before = everything()
    assert send(address).status_code in (ELSEWHERE.get(name, {404}))
    assert everything() == before


def test_ones_own_go_is_refused_and_anothers_is_taken(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast
    password = "a password of the tests"  # noqa: S105
    for starter, decided in (("everything", ""), ("somebody", "go")):
        rehearsal = tasks.start(document("Passes", "SignsOff"), by=starter, revision="abc")
        work(rehearsal)
        found = client("everything")
        person = get_user_model().objects.get(username="everything")
        person.set_password(password)
        person.save()
        found.force_login(person)
        said = {"choice": "go", "reason": "x", "password": password}
        said["outcomes"] = sealing.outcomes(rehearsal)
        found.post(f"/rehearsal/{rehearsal.number}/decide/", said)
        rehearsal.refresh_from_db()
        assert rehearsal.decision == decided
        if not decided:
            tasks.cancel(rehearsal.number, by="x")


PASSWORD = "a password of the tests"  # noqa: S105
TAKEN = {
    "running": {"cancel"},
    "waiting": {"cancel", "rerun", "confirm", "decide no-go"},
    "red": {"start", "rerun", "waive", "decide no-go"},
    "decided": {"start"},
    "cancelled": {"start"},
}
"""What changes anything in each state, for who may do everything; all else is refused in words."""


@pytest.mark.security("every action in every state, own and another's", promised="only what can be")
@pytest.mark.parametrize("by", ["everything", "somebody"])
@pytest.mark.parametrize(
    "state", ["red", *(pytest.param(one, marks=pytest.mark.long) for one in TAKEN if one != "red")]
)
def test_what_may_be_done_is_done_where_it_can_be_and_nowhere_else(
    state: str, by: str, settings: Any
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast
    rehearsal = rehearsal_in(state, by=by)
    rehearsal.refresh_from_db()
    visitor = client("everything")
    person = get_user_model().objects.get(username="everything")
    person.set_password(PASSWORD)
    person.save()
    visitor.force_login(person)
    before = everything()
    at = dict(addresses(rehearsal))
    said = {"reason": "x", "password": PASSWORD, "outcomes": sealing.outcomes(rehearsal)}
    done = set()
    for action in [*(ACTIONS.keys() - {"decide"}), "decide go", "decide no-go"]:
        name, _, choice = action.partition(" ")
        with transaction.atomic(using="rehearsal"):
            answer = visitor.post(at[name], said | {"choice": choice})
            assert answer.status_code == 302, action
            assert list(get_messages(answer.wsgi_request)) or action == "start", action
            # The cursor of pages moves on whatever is tried.
            Rehearsal.objects.filter(pk=rehearsal.pk).update(version=rehearsal.version)
            if everything() != before:
                done.add(action)
            transaction.set_rollback(True, using="rehearsal")
        assert everything() == before, action
    assert done == TAKEN[state]
