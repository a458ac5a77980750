"""What goes wrong around a page: it recovers, or says what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.sessions.models import Session

from demo import servers
from rehearsal.checks import base
from rehearsal.journal import change
from rehearsal.models import CheckItem, Rehearsal, Status
from tests.browser.conftest import sync_api
from tests.browser.test_page import Open, address, begin, settle
from tests.browser.test_stream import Server, server, site  # noqa: F401  fixtures

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"]),
    pytest.mark.usefixtures("no_worker"),
]
expect = sync_api.expect
SOON = 15_000
"""Milliseconds for what needs a new connection."""


def test_a_session_that_expired_is_told_and_leads_to_the_sign_in_and_back(
    window: Open,
    server: Server,  # noqa: F811
) -> None:
    rehearsal = begin("Passes")
    opened = window()
    opened.page.goto(address(rehearsal))
    Session.objects.all().delete()
    # The stream was let in while the session held; the next one is not, and asking tells why.
    server.kill()
    server.start()
    said = opened.page.locator(".rehearsal-message")
    expect(said).to_contain_text("You are signed out", timeout=SOON)
    said.get_by_role("link").click()
    opened.page.wait_for_url(f"**/admin/login/?next={address(rehearsal)}")


def test_a_tab_that_slept_catches_up_when_it_is_looked_at(
    window: Open,
    server: Server,  # noqa: F811
) -> None:
    rehearsal = begin("Passes", "Passes", "Passes")
    opened = window()
    opened.page.goto(address(rehearsal))
    # A tab that sleeps is frozen: no script runs and no answer is read.
    session = opened.page.context.new_cdp_session(opened.page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    for position in range(3):
        settle(rehearsal, position)
    server.kill()  # what was open is lost meanwhile
    server.start()
    session.send("Page.setWebLifecycleState", {"state": "active"})
    expect(opened.page.locator(".rehearsal-headline")).to_have_text("Green", timeout=SOON)
    expect(opened.page.locator(".rehearsal-stale")).to_have_count(0)


@pytest.fixture
def stopped_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A broker of the test's own, that can be stopped."""
    with servers.redis() as own:
        monkeypatch.setitem(os.environ, "TEST_REDIS_URL", own.url())
        yield own


@pytest.fixture
def beside(stopped_redis: Any, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.kill()


def test_while_redis_is_stopped_the_page_ticks_on_and_says_that_checks_wait(
    transactional_db: None, browser: Any, stopped_redis: Any, beside: Server
) -> None:
    from django.contrib.auth import get_user_model
    from django.test import Client

    person = get_user_model().objects.create_superuser("owner-of-the-tests")
    client = Client()
    client.force_login(person)
    rehearsal = begin("Passes", "Passes")
    with redis.Redis.from_url(stopped_redis.url()) as broker:
        broker.shutdown(nosave=True)
    context = browser.new_context(base_url=beside.address)
    name = "sessionid"
    context.add_cookies(
        [{"name": name, "value": client.cookies[name].value, "url": beside.address}]
    )
    page = context.new_page()
    page.goto(address(rehearsal))
    settle(rehearsal, 0)
    expect(page.locator("#item-1-1 .rehearsal-word")).to_have_text("passed", timeout=SOON)
    settle(rehearsal, 1)
    expect(page.locator(".rehearsal-headline")).to_have_text("Green", timeout=SOON)
    page.goto("/rehearsal/")
    page.get_by_role("button", name="Start a rehearsal").click()
    expect(page.locator(".rehearsal-message")).to_contain_text(
        "The broker cannot be reached", timeout=SOON
    )
    context.close()


@pytest.mark.long
def test_a_flood_of_output_reaches_neither_the_page_nor_the_stream(
    window: Open,
    server: Server,  # noqa: F811
) -> None:
    rehearsal = begin("Floods", "Passes")
    opened = window()
    sizes: list[int] = []
    session = opened.page.context.new_cdp_session(opened.page)
    session.send("Network.enable")
    session.on("Network.dataReceived", lambda said: sizes.append(said["dataLength"]))
    opened.page.goto(address(rehearsal))
    opened.page.click("#item-1-1 > summary")
    loaded, version = sum(sizes), Rehearsal.objects.get(pk=rehearsal.pk).version
    settle(rehearsal, 0)
    row = opened.page.locator("#item-1-1 .rehearsal-word")
    expect(row).to_have_text("passed", timeout=SOON)
    opened.page.click("#item-1-2 > summary")  # what is shown answers still
    item = CheckItem.objects.get(rehearsal=rehearsal, position=0)
    assert len(item.output) <= base.OUTPUT_LIMIT + base.HEAD + 100
    assert "characters were cut here" in item.output
    # Twice a second, for as long as it takes here, a row with the end of its output.
    changes = Rehearsal.objects.get(pk=rehearsal.pk).version - version
    assert sum(sizes) - loaded < 20_000 * changes
    expect(opened.page.locator("#item-1-1-detail pre")).to_contain_text("line 699999")
    opened.page.goto(address(rehearsal) + "items/1.1/")
    expect(opened.page.locator("pre")).to_contain_text("line 699999")


def test_output_that_grows_fast_is_sent_as_its_end_only(
    window: Open,
    server: Server,  # noqa: F811
) -> None:
    rehearsal = begin("Passes")
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.click("#item-1-1 > summary")
    item = rehearsal.items.get()
    for step in range(10):
        with change(rehearsal.number, "a worker") as made:
            made.move(item, Status.RUNNING, output=f"{'x' * 250_000}\nstep {step}\n")
    shown = opened.page.locator("#item-1-1-detail pre")
    expect(shown).to_contain_text("step 9")
    assert len(shown.inner_text()) <= 4_100


@pytest.mark.long
def test_a_checklist_of_2000_lines_is_shown_and_its_ticks_stay_small(
    window: Open,
    server: Server,  # noqa: F811
) -> None:
    """Bounds are far from what is measured: they hold on a busy machine."""
    rehearsal = begin(*["Ends how=action_required"] * 2000)
    opened = window()
    opened.page.goto(address(rehearsal), timeout=SOON)
    assert opened.page.locator(".rehearsal-item").count() == 2000
    assert opened.page.locator(".rehearsal-segment").count() <= 100
    sizes: list[int] = []
    session = opened.page.context.new_cdp_session(opened.page)
    session.send("Network.enable")
    session.on("Network.dataReceived", lambda said: sizes.append(said["dataLength"]))
    for position in (0, 999, 1999):
        settle(rehearsal, position)
        row = opened.page.locator(f"#item-1-{position + 1} .rehearsal-word")
        expect(row).to_have_text("waits for a person", timeout=SOON)
    assert sum(sizes) < 200_000
    opened.page.click("#item-1-2000 > summary")
    expect(opened.page.locator("#item-1-2000-detail")).to_be_visible(timeout=SOON)
