"""The page behind an asynchronous server: what changes is pushed, and caught up with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import sync_api
from tests.browser.server import serving
from tests.browser.test_page import WITHIN, Open, address, begin, settle

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"]),
    pytest.mark.usefixtures("no_worker"),
]
expect = sync_api.expect


class Server:
    """A server that can be killed and come back at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.address = ""
        self.start()

    def start(self) -> None:
        port = urlsplit(self.address).port or 0
        self.address = self._stack.enter_context(serving(self._folder, port))

    def kill(self) -> None:
        self._stack.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def site(transactional_db: None, server: Server) -> str:
    return server.address


def test_rows_tick_by_what_is_pushed_and_nothing_is_asked_for(window: Open) -> None:
    rehearsal = begin("Passes", "Ends how=failed", "Ends how=action_required")
    opened = window()
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    opened.page.goto(address(rehearsal))
    opened.page.click("#item-1-1 > summary")
    for position, word in enumerate(("passed", "failed", "waits for a person")):
        settle(rehearsal, position)
        row = opened.page.locator(f"#item-1-{position + 1} .rehearsal-word")
        expect(row).to_have_text(word, timeout=WITHIN)
    assert opened.page.locator("#item-1-1").get_attribute("open") is not None
    assert len([path for path in asked if path.endswith("/stream/")]) == 1
    assert not [path for path in asked if path.endswith("/rows/")]
    # A form that was pushed is as good as one that came with the page.
    opened.page.click("#item-1-3 > summary")
    opened.page.get_by_role("button", name="confirm 1.3").click()
    expect(opened.page.locator("#item-1-3 .rehearsal-word")).to_have_text("confirmed")
    # What was red and closed is pushed again once it is run again.
    opened.page.get_by_role("button", name="Run again what did not pass").click()
    expect(opened.page.locator("#item-1-2 .rehearsal-word")).to_have_text("queued")
    settle(rehearsal, 1)
    expect(opened.page.locator("#item-1-2 .rehearsal-word")).to_have_text("failed", timeout=WITHIN)
    assert opened.complaints == []


def test_an_answer_arrives_though_its_form_was_replaced_by_what_was_pushed(window: Open) -> None:
    rehearsal = begin("Ends how=action_required", "Passes")
    settle(rehearsal, 0)
    opened = window()
    held: list[sync_api.Route] = []
    opened.page.route("**/confirm/", lambda route: held.append(route))
    opened.page.goto(address(rehearsal))
    opened.page.click("#item-1-1 > summary")
    opened.page.get_by_role("button", name="confirm 1.1").click()
    expect(opened.page.locator("#rehearsal-messages")).to_be_empty()
    answer = held[0].fetch()
    word = opened.page.locator("#item-1-1 .rehearsal-word")
    expect(word).to_have_text("confirmed", timeout=WITHIN)
    held[0].fulfill(response=answer)
    expect(opened.page.locator("#rehearsal-messages")).to_contain_text("1.1 is confirmed by")
    assert opened.complaints == []


def test_a_page_catches_up_when_the_server_is_back(window: Open, server: Server) -> None:
    rehearsal = begin("Passes", "Passes")
    opened = window()
    opened.page.goto(address(rehearsal))
    opened.page.evaluate("window.loadedOnce = true")
    second = opened.page.locator("#item-1-2 .rehearsal-word")
    expect(second).to_have_text("queued")
    stale = opened.page.get_by_text("Nothing was heard for a while")
    expect(stale).to_be_hidden()
    server.kill()
    settle(rehearsal, 1)
    # As if twelve seconds had passed.
    opened.page.evaluate(
        "document.querySelector('.rehearsal-stale').getAnimations().forEach(one => one.finish())"
    )
    expect(stale).to_be_visible()
    server.start()
    expect(second).to_have_text("passed", timeout=15_000)
    expect(stale).to_be_hidden()
    assert opened.page.evaluate("window.loadedOnce"), "the page was loaded again"
