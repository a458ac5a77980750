"""Every state of the page: axe finds nothing wrong with it, in light and in dark.

With SCREENSHOTS=folder (`make screenshots`) a picture of each is kept there, to be looked at, the
README's is made anew, and axe looks at the phone's too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from rehearsal import decisions, tasks
from rehearsal.conf import SHIPPED_CHECKLIST
from tests.browser.conftest import CUT, Window
from tests.browser.stage import (
    A_COLUMN_IS_DROPPED,
    A_DOUBT,
    A_TEST_FAILS,
    REVISION,
    Play,
    past,
)
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "rehearsal"]),
    pytest.mark.usefixtures("no_worker"),
]

FOLDER = os.environ.get("SCREENSHOTS", "")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
axe = Axe()


class Gallery:
    """Looks at one state after the other."""

    def __init__(self, window: Window) -> None:
        self.window, self.page = window, window.page
        self.wrong: list[str] = []

    def go(self, path: str, *opened: str, unfold: bool = False) -> None:
        self.page.goto("/rehearsal/" + path)
        for ref in opened:
            self.page.click(f"#item-{ref.replace('.', '-')} > summary")
        if unfold:
            self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")

    def speak(self, language: str) -> None:
        self.page.context.set_extra_http_headers({"Accept-Language": language})

    def judge(self, name: str, dark: bool = True) -> None:
        """Axe in light and, where it shows what others do not, in dark; and a picture of each."""
        for scheme in ("light", "dark") if dark or FOLDER else ("light",):
            self.page.emulate_media(color_scheme=scheme)
            rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
            self.axe(f"{name}, {scheme}", rules)
            self.picture(f"{name}-{scheme}" if scheme == "dark" else name)
        self.page.emulate_media(color_scheme="light")

    def axe(self, name: str, options: dict[str, list[str]]) -> None:
        for rule in axe.run(self.page, options=options).response["violations"]:
            for node in rule["nodes"]:
                summary = " ".join(node["failureSummary"].split())
                self.wrong.append(f"{name}: {rule['id']}: {node['target']} {summary}")

    def picture(self, name: str, whole: bool = True) -> None:
        if FOLDER:
            path = Path(ROOT, FOLDER, f"{name}.png")
            self.page.screenshot(path=path, full_page=whole, animations="allow")

    def narrow(self, name: str) -> None:
        """On a phone, and on a screen of 640 pixels as 200 % of zoom leaves of 1280."""
        for width, suffix in ((390, "phone"), (640, "zoomed")):
            self.page.set_viewport_size({"width": width, "height": 844})
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                self.wrong.append(f"{name}: {wide} pixels on a screen of {width}")
            for cut in self.page.evaluate(CUT):
                self.wrong.append(f"{name}: {cut} is cut off on a screen of {width}")
            if FOLDER and suffix == "phone":
                self.axe(f"{name}, phone", {})
            self.picture(f"{name}-{suffix}")
        self.page.set_viewport_size(DESK)


@pytest.mark.long  # a minute
def test_axe_finds_nothing_in_any_state(window: Callable[..., Window], settings: Any) -> None:
    settings.REHEARSAL = {
        **settings.REHEARSAL,
        "CHECKLIST": SHIPPED_CHECKLIST,
        "REVISION": REVISION,
    }
    gallery = Gallery(window(viewport=DESK))
    gallery.go("")
    gallery.judge("nothing-yet", dark=False)
    for days, failing, slower in ((9, 0, 1.0), (8, 1, 1.1), (6, 0, 1.05), (2, 0, 1.4)):
        past(days, number_of_failures=failing, slower=slower, revision=f"{days:x}a41c" * 8)
    red = Play(otherwise=A_TEST_FAILS).until()
    gallery.go(f"{red.number}/", "3.2")
    gallery.judge("red-failure-opened")
    gallery.narrow("red-failure-opened")
    gallery.go(f"{red.number}/", "3.2")
    gallery.page.locator("#item-3-2").get_by_text("Waive …").click()
    gallery.judge("waiving", dark=False)
    gallery.go(f"{red.number}/items/3.2/")
    gallery.judge("item", dark=False)
    gallery.narrow("item")

    running = Play().until("4.1")
    gallery.go(f"{running.number}/")
    gallery.judge("running", dark=False)
    gallery.narrow("running")
    gallery.go(f"{running.number}/", unfold=True)
    gallery.judge("running-everything-opened", dark=False)
    tasks.cancel(running.number, by="release-engineer")

    play = Play(otherwise={**A_COLUMN_IS_DROPPED, **A_DOUBT}).until()
    number = play.number
    gallery.go(f"{number}/", "2.1")
    gallery.judge("waiting-for-a-person")
    gallery.narrow("waiting-for-a-person")
    if FOLDER:
        gallery.speak("fil")
        gallery.go(f"{number}/", "2.1")
        gallery.picture("waiting-for-a-person-filipino")
        gallery.go("")
        gallery.picture("overview-filipino")
        gallery.speak("en")
    decisions.confirm(
        number, "2.1", by="staff-member-12",
        acknowledged=A_COLUMN_IS_DROPPED["2.1"]["evidence"]["to be acknowledged"],
    )  # fmt: skip
    play.go_on()
    decisions.waive(
        number, "6.1", by="release-manager", reason="The log was rotated by hand today."
    )
    play.until()
    gallery.go(f"{number}/")
    gallery.judge("go-or-no-go")
    play.decide("go", "release-manager", "Seen on staging by both offices.")
    gallery.go(f"{number}/")
    gallery.judge("decided")
    gallery.narrow("decided")
    if FOLDER:
        top = {"x": 0, "y": 0, "width": 1280, "height": 1500}
        image = Path(ROOT, "docs", "images", "rehearsal.png")
        gallery.page.screenshot(path=image, full_page=True, clip=top)
        gallery.page.emulate_media(media="print")
        gallery.picture("decided-print")
        gallery.page.pdf(path=Path(ROOT, FOLDER, "decided.pdf"), format="A4", print_background=True)
        gallery.page.emulate_media(media="screen")
    gallery.go(f"{number}/", "2.2")
    coming = gallery.page.locator("#item-2-2 .rehearsal-over-time")
    coming.evaluate("one => one.scrollIntoView()")  # what is out of sight fetches nothing
    coming.locator("svg").first.wait_for()
    gallery.page.get_by_text("Journal", exact=True).click()
    gallery.judge("decided-trends-and-journal", dark=False)
    gallery.go(f"{number}/journal/")
    gallery.judge("journal", dark=False)
    gallery.narrow("journal")
    gallery.go("")
    gallery.judge("overview")
    gallery.narrow("overview")
    gallery.go("trends/")
    gallery.judge("trends")
    gallery.narrow("trends")
    gallery.go(f"compare/{red.number}/{number}/")
    gallery.judge("compare")
    gallery.narrow("compare")
    assert (gallery.wrong, gallery.window.complaints) == ([], [])


def test_axe_finds_nothing_where_somebody_may_not_come_in(
    window: Callable[..., Window], django_user_model: Any
) -> None:
    gallery = Gallery(window(viewport=DESK))
    django_user_model.objects.get().user_permissions.clear()
    gallery.go("")
    gallery.judge("not-permitted")
    assert gallery.wrong == []
