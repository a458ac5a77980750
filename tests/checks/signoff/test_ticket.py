"""7.3: attached, fetched back, compared; or handed to a person with all there is."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from rehearsal.checks.base import ActionRequired, Exports, Failed, Rehearsed, Report
from rehearsal.checks.signoff import TicketAttached, forges
from tests.checks.signoff.site import TOKEN, Site, serving

BIG = "0123456789" * 9_000
FILES = {
    "checklist.md": "- [x] One. @somebody ```` #1\r\n  - passed: `é`\n",
    "evidence.json": json.dumps({"passed": BIG}) + "\n",
    "evidence.seal": "{}\n",
    "report.html": "<!doctype html>passed",
}


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("REHEARSAL_TICKET_TOKEN", TOKEN)
    settings.REHEARSAL = {**settings.REHEARSAL, "FOLDER": tmp_path / "kept"}


def run(settings: Any, where: str, ticket: str = "", revision: str = "abc") -> Report:
    settings.REHEARSAL = {**settings.REHEARSAL, "TICKET": where}
    told = {"rehearsal": 7, "decision": {"ticket": ticket}}
    now = datetime.datetime(2025, 10, 3, tzinfo=datetime.UTC)
    report = Report("A line.", Rehearsed(7, revision, now), exports=lambda: Exports(told, FILES))
    TicketAttached().run(report)
    return report


@pytest.mark.parametrize("kind", ["github", "gitlab", "jira"])
def test_what_is_attached_is_fetched_back_and_the_same(
    kind: str, site: Site, settings: Any
) -> None:
    report = run(settings, site.tickets()[kind])
    assert "fetched back and the same" in report.said
    names = [said.split(",")[0] for said in report.facts["fetched back and equal"]]
    assert names == list(FILES)[: 3 if kind == "github" else 4]
    assert report.facts["ticket"] == site.tickets()[kind]
    if kind == "github":
        assert len(site.comments) == 4  # of the long one two parts
        # What the document says mentions nobody and links nothing.
        assert all(re.search(r"\n\n(`{3,})\n", comment) for comment in site.comments)
    else:
        held = {name.removeprefix("rehearsal-7-"): data for name, data in site.files.items()}
        assert held == {name: text.encode() for name, text in FILES.items()}
    assert TOKEN not in report.output


def test_the_ticket_is_named_by_who_decides(site: Site, settings: Any) -> None:
    where = site.tickets()["jira"].replace("REL-12", "{ticket}")
    assert "fetched back" in run(settings, where, ticket="REL-12").said
    with pytest.raises(ActionRequired, match="Nobody named the release ticket"):
        run(settings, where)


@pytest.mark.parametrize("kind", ["github", "gitlab", "jira"])
def test_a_closed_ticket_is_left_alone(kind: str, site: Site, settings: Any) -> None:
    site.state = {"github": "closed", "gitlab": "closed", "jira": "done"}
    with pytest.raises(ActionRequired, match="attach the files in"):
        run(settings, site.tickets()[kind])
    assert not site.comments
    assert not site.files
    for name, text in FILES.items():
        kept = settings.REHEARSAL["FOLDER"] / "tickets" / "rehearsal-7" / name
        assert kept.read_bytes() == text.encode()


def test_a_ticket_that_was_moved_is_a_persons_matter(site: Site, settings: Any) -> None:
    site.state["github"] = "moved"
    with pytest.raises(ActionRequired, match="The ticket was moved: .* answered 301"):
        run(settings, site.tickets()["github"])
    assert not site.comments


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("", "No release ticket is configured"),
        ("{site}/office/obcms/issues/13", "There is no such ticket"),
        ("{site}/nobody/knows", "is no ticket of GitHub's"),
        ("http://forge.example.org/office/obcms/issues/12", "not reached by https"),
        ("https://me:pass@forge.example.org/a/b/issues/12", "is no ticket"),
        ("releases/{{ticket}}", "Nobody named the release ticket"),
        ("no-such-folder", "does not exist"),
    ],
)
def test_what_cannot_be_attached_is_handed_to_a_person(
    where: str, said: str, site: Site, settings: Any
) -> None:
    with pytest.raises(ActionRequired, match=re.escape(said)) as raised:
        run(settings, where.format(site=site.address))
    assert "then confirm" in str(raised.value)


def test_a_missing_or_refused_token_is_a_persons_matter(
    site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REHEARSAL_TICKET_TOKEN", "another")
    with pytest.raises(ActionRequired, match="The token is refused"):
        run(settings, site.tickets()["github"])
    monkeypatch.delenv("REHEARSAL_TICKET_TOKEN")
    with pytest.raises(ActionRequired, match="set the variable REHEARSAL_TICKET_TOKEN"):
        run(settings, site.tickets()["github"])


@pytest.mark.parametrize("kind", ["github", "gitlab", "jira"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("spoil", "is not what was attached"),
        ("500", "answered 500"),
        ("redirect", "answered 302"),
        ("html", "did not answer in JSON"),
    ],
)
def test_a_forge_that_does_otherwise_is_not_believed(
    kind: str, harm: str, said: str, site: Site, settings: Any
) -> None:
    site.harm = harm
    with pytest.raises(Failed, match=said):
        run(settings, site.tickets()[kind])


def test_a_release_folder_holds_them_side_by_side(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "releases" / "abc").mkdir(parents=True)
    report = run(settings, f"{tmp_path}/releases/{{revision}}")
    place = tmp_path / "releases" / "abc" / "rehearsal-7"
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        name: text.encode() for name, text in FILES.items()
    }
    assert report.facts["ticket"] == str(place)


@pytest.mark.parametrize("revision", ["", "..", "../elsewhere", "a/b"])
def test_a_revision_leads_nowhere_else(revision: str, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    with pytest.raises(ActionRequired, match="is no name for it"):
        run(settings, f"{tmp_path}/releases/{{revision}}", revision=revision)
    assert not list((tmp_path / "releases").iterdir())


def test_an_attachment_said_to_be_elsewhere_is_not_asked_for_with_our_token() -> None:
    jira = forges.Jira("https://office.example.org", TOKEN, "REL-12")
    with pytest.raises(forges.ForgeError, match="elsewhere"):
        jira.fetch("a", "https://evil.example.org/rest/api/3/attachment/content/1")


@given(text=st.text(alphabet=st.sampled_from("`~\n\r a#@é"), max_size=60))
@hypothesis(max_examples=100, deadline=None)
def test_a_fence_gives_back_what_was_put_into_it(text: str) -> None:
    body = f"head\n\n{forges._fenced(text)}"
    assert forges._unfenced(body) == text
