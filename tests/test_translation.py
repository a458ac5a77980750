"""The Filipino catalogue: complete, compiled, and what the pages are shown in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import translation
from django.utils.translation.template import templatize

import rehearsal
from rehearsal import records, tasks, wording
from tests.conftest import document

PACKAGE = Path(rehearsal.__file__).parent
CATALOGUE = PACKAGE / "locale" / "fil" / "LC_MESSAGES" / "django.po"
RECORDS = {"report.html"}
"""Templates that are records, and so are English for everybody."""
CALLS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext"}


def in_templates() -> Iterator[str]:
    # templatize() writes a template as the calls that it amounts to.
    call = re.compile(r"""\b(?:_|gettext|ngettext)\(\s*u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
    for path in sorted(PACKAGE.rglob("templates/rehearsal/*.html")):
        found = call.findall(templatize(path.read_text()))
        assert found or path.name in RECORDS or "{% translate" not in path.read_text(), path
        yield from map(ast.literal_eval, found)


def in_modules() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if named and node.func.id in CALLS:
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
                yield str(node.args[0].value)


def test_the_catalogue_holds_every_text_and_no_other() -> None:
    wanted = {*in_templates(), *in_modules()}
    assert len(wanted) > 100
    held = {entry.msgid for entry in polib.pofile(str(CATALOGUE))}
    assert wanted - held == set(), "add them to the catalogue, translated"
    assert held - wanted == set(), "nothing says these any more: remove them"


def test_every_text_is_translated_with_its_places_and_its_markup() -> None:
    parts = re.compile(r"%\(\w+\)[sd]|%[sd]|</?\w+|href=\"[^\"]*\"|class=\"[^\"]*\"")
    for entry in polib.pofile(str(CATALOGUE)):
        assert not entry.fuzzy and not entry.obsolete, entry.msgid
        for said in [*entry.msgstr_plural.values()] or [entry.msgstr]:
            assert sorted(parts.findall(said)) == sorted(parts.findall(entry.msgid)), entry.msgid
            assert said.strip(), entry.msgid


def test_what_is_compiled_is_what_is_written() -> None:
    def pairs(entries: list[polib.POEntry]) -> dict[str, object]:
        return {one.msgid: one.msgstr_plural or one.msgstr for one in entries}

    compiled = polib.mofile(str(CATALOGUE.with_suffix(".mo")))
    assert pairs(compiled) == pairs(polib.pofile(str(CATALOGUE)))


@pytest.mark.django_db(databases=["default", "rehearsal"])
def test_the_pages_speak_filipino_and_the_records_english() -> None:
    made = tasks.start(document("Passes", "Ends how=failed"), by="tester", revision="abc")
    for item in made.items.all():
        tasks.perform.apply((item.pk, item.attempt))
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("looks"))
    with translation.override("fil"):
        shown = client.get(made.get_absolute_url()).content.decode()
        printed = records.as_html(made)
        written = records.ticked(made)
    for expected in ('<html lang="fil">', "Pula", "bumagsak", "Walang go sa ngayon", "ngayon lang"):
        assert expected in shown
    for record in (printed, written):
        assert "failed" in record and "bumagsak" not in record


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "just now"), (59, "just now"), (60, "1 minute ago"), (3599, "59 minutes ago"),
        (3600, "1 hour ago"), (86_399, "23 hours ago"), (86_400, "1 day ago"), (1e6, "11 days ago"),
    ],
)  # fmt: skip
def test_how_long_ago(seconds: float, said: str) -> None:
    assert wording.ago(seconds) == said
