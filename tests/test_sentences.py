"""What is recorded stays English; what staff read of it is in their language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.contrib.messages import get_messages
from django.test import Client
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

import rehearsal
from rehearsal import sentences, tasks
from rehearsal.models import CheckItem, Event, Rehearsal
from rehearsal.sentences import NUMBERS, PLACE, SENTENCES, WORDS, translated
from tests.conftest import document

PACKAGE = Path(rehearsal.__file__).parent


def said(node: ast.expr) -> str:
    """A sentence as the code writes it, with a name in place of each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr), ast.dump(node)
    return "".join(str(p.value) if isinstance(p, ast.Constant) else "1" for p in node.values)


def raised(path: Path, name: str) -> Iterator[str]:
    source = path.read_text()
    for node in ast.walk(ast.parse(source if name in source else "")):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            if name in {called, getattr(called, "id", None)} and not isinstance(
                node.args[0], ast.Call
            ):
                yield said(node.args[0])


def test_every_reason_for_which_a_person_is_asked_is_known() -> None:
    found = [one for path in PACKAGE.rglob("*.py") for one in raised(path, "ActionRequired")]
    assert len(found) >= 5
    with translation.override("fil"):
        assert [one for one in found if translated(one) == one] == []


def test_every_reason_for_which_a_line_does_not_run_again_is_known() -> None:
    found = list(raised(PACKAGE / "tasks.py", "StartError"))
    assert len(found) >= 3
    with translation.override("fil"):
        assert [one for one in found if translated(one) == one] == []


def test_nothing_is_known_that_nobody_says() -> None:
    spoken = "\n".join(
        said(node)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "sentences.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    )
    # A sentence may be put together where it is said: its clauses are looked for.
    clauses = {one: re.split(r"[.;:] ?", max(PLACE.split(one)[::2], key=len)) for one in SENTENCES}
    assert [one for one in SENTENCES if any(c.strip() not in spoken for c in clauses[one])] == []


NUMBER = st.integers(0, 10**6).map(str)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(st.sampled_from(SENTENCES), st.data())
def test_a_sentence_keeps_its_values_whatever_they_are(sentence: str, data: st.DataObject) -> None:
    kinds = {name: NUMBER if name in NUMBERS else VALUES for name in PLACE.findall(sentence)}
    values = {name: data.draw(kind) for name, kind in kinds.items()}
    recorded = sentence % values
    assert translated(recorded) == recorded  # in English
    with translation.override("fil"):
        read = translated(recorded)
    if not values:
        assert read == translated_whole(sentence)
    for value in values.values():
        assert value in read or value in WORDS


def test_a_value_ends_where_the_next_begins() -> None:
    recorded = (
        "81 migrations known, 5 of them of 2026. 2 of 5 operations are dangerous, first a.0032: "
        "3 values of 1 are lost. A person reads each and acknowledges it."
    )
    with translation.override("fil"):
        assert translated(recorded) == (
            "81 migrations known, 5 of them of 2026. Mapanganib ang 2 sa 5 operasyon, una ang "
            "a.0032: 3 values of 1 are lost. Babasahin at kikilalanin ng isang tao ang bawat isa."
        )


def translated_whole(sentence: str) -> str:
    with translation.override("fil"):
        return translation.gettext(sentence)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_not_known_stays_as_it_was_recorded(text: str) -> None:
    with translation.override("fil"):
        known = any(pattern.fullmatch(text) for _, _, pattern in sentences._PATTERNS)
        assert known or text in WORDS or translated(text) == text


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_staff_read_their_language_and_the_records_stay_english() -> None:
    text = document("Passes", "Ends how=failed") + "- [ ] Somebody looks at it.\n"
    made = tasks.start(text, by="tester", revision="abc")
    for item in made.items.all():
        tasks.perform.apply((item.pk, item.attempt))
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("looks"))

    def shown() -> str:
        with translation.override("fil"):
            return client.get(made.get_absolute_url()).content.decode()

    assert "gagawin ng isang tao ang sinasabi nito at kukumpirmahin dito" in shown()
    assert "No check is bound to this line" not in shown()

    def refused(action: str, **given: str) -> str:
        with translation.override("fil"):
            response = client.post(f"{made.get_absolute_url()}{action}", given)
        return " ".join(str(one) for one in get_messages(response.wsgi_request))

    assert "naghihintay ng tao" in refused("items/1.1/confirm/")
    assert "Kailangan ng dahilan" in refused("items/1.2/waive/")
    assert "Walang linyang 9.9" in refused("rerun/", ref="9.9")
    assert "Hindi sa iyo ang password" in refused("decide/", choice="go")
    Rehearsal.objects.filter(pk=made.pk).update(environment="elsewhere")
    assert "doon dapat gawin" in refused("rerun/", ref="1.2")
    Rehearsal.objects.filter(pk=made.pk).update(environment=made.environment)
    refused("items/1.3/confirm/")
    recorded = [*CheckItem.objects.values_list("summary", flat=True)]
    recorded += Event.objects.values_list("message", flat=True)
    assert "Confirmed by looks." in recorded
    assert not any(word in " ".join(recorded) for word in (" ng ", " ang ", "Kinumpirma"))
    assert "Kinumpirma ni looks." in shown()
