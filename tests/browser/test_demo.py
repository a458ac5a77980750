"""The demo with a person required: it waits after section 6, and the page finishes it.

With SCREENSHOTS=folder, pictures of what a person sees and prints are kept there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from demo.run import VAR, first_here
from tests.conftest import ROOT

PASSWORD = "correct horse battery staple"  # noqa: S105
OWNERS = ["deployment-owner@obcms.example", "release-manager@obcms.example"]
FILES = ["checklist.md", "evidence.json", "evidence.seal", "report.html"]


@dataclass
class Demo:
    """`demo/run.py` as a person starts it, which stays until it is interrupted."""

    process: subprocess.Popen[bytes]
    log: Path
    environ: dict[str, str]

    def wait_for(self, said: str, seconds: float) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while not (found := re.search(said, self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, (said, self.log.read_text()[-3000:])
            time.sleep(0.2)
        return found

    def manage(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """`manage.py` beside demo/, which finds the servers of the running demo."""
        return subprocess.run(
            [sys.executable, "manage.py", *argv],
            cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def mail(self) -> list[Any]:
        """What the owners' mail server took."""
        told = dict(line.split("=", 1) for line in (VAR / "demo.env").read_text().splitlines())
        box = Path(told["REHEARSAL_FOLDER"]).parent / "owners-mail" / "new"
        return [message_from_bytes(one.read_bytes(), policy=default) for one in box.iterdir()]


@pytest.fixture
def no_earlier_run() -> Iterator[None]:
    """The demo finds no rehearsal of the runs before, and leaves none to those to come."""
    with first_here():
        yield


@pytest.fixture
def demo(tmp_path: Path, no_earlier_run: None) -> Iterator[Demo]:
    ours = ("DJANGO_", "TEST_", "PYTEST_", "COV_")
    environ = {key: said for key, said in os.environ.items() if not key.startswith(ours)}
    log = tmp_path / "demo.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "demo/run.py"],
            cwd=ROOT, env=environ | {"DEMO_PASSWORD": PASSWORD},
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    yield Demo(process, log, environ)
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(60) == 130
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def picture() -> Callable[[Any, str], None]:
    def take(page: Any, name: str) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(ROOT, folder, f"{name}.png"), full_page=True)

    return take


@pytest.mark.long
def test_a_person_is_waited_for_and_the_page_finishes_it(
    demo: Demo, browser: Any, picture: Callable[[Any, str], None], tmp_path: Path
) -> None:
    assert demo.wait_for(r"start_rehearsal ended with (\d+)", 280)[1] == "3"
    assert (VAR / "exit_code").read_text() == "3\n"
    told = json.loads((VAR / "rehearsal.json").read_text())
    statuses = [[item["status"] for item in section["items"]] for section in told["sections"]]
    assert told["verdict"] == "action_required"
    assert {one for section in statuses[:6] for one in section} == {"passed", "skipped"}
    assert statuses[6] == ["pending"] * 3
    closed = demo.manage("rehearsal_gate", "--json")
    assert closed.returncode == 1, closed.stderr
    assert "nobody has decided it" in closed.stderr
    assert demo.mail == []

    context = browser.new_context(base_url=demo.wait_for(r"The page: (http://[^/]+)", 1)[1])
    page = context.new_page()
    page.goto("/rehearsal/1/")
    page.fill("input[name=username]", "owner")
    page.fill("input[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Go or no-go?").wait_for()
    picture(page, "demo-waits")
    for password, said in (("another", "The password is not yours"), (PASSWORD, "decided: go")):
        page.get_by_label("What does your decision rest on?").fill("The migrations were read.")
        page.get_by_label("Your password, once more").fill(password)
        page.get_by_role("button", name="Go", exact=True).click()
        page.get_by_text(said).first.wait_for()
    page.get_by_text("Sealed and intact").wait_for(timeout=60_000)
    page.locator("#item-7-3.rehearsal-is-passed, #item-7-3 .rehearsal-is-passed").first.wait_for(
        timeout=60_000
    )
    page.reload()
    picture(page, "demo-decided")

    # Section 7 has done what its lines say.
    assert sorted(mail["To"] for mail in demo.mail) == OWNERS
    assert all("go, green (" in mail["Subject"] for mail in demo.mail)
    release = VAR / "release" / "rehearsal-1"
    assert sorted(path.name for path in release.iterdir()) == FILES
    files = {name: str(release / name) for name in FILES}
    intact = demo.manage(
        "rehearsal_verify", files["evidence.json"], "--checklist", files["checklist.md"]
    )
    assert intact.returncode == 0, intact.stdout + intact.stderr
    opened = demo.manage("rehearsal_gate", "--json")
    assert opened.returncode == 0, opened.stderr
    answer = json.loads(opened.stdout)
    assert answer["decision"]["by"] == ["owner"]
    evidence = page.request.get("/rehearsal/1/evidence.json").body()
    assert hashlib.sha256(evidence).hexdigest() == answer["evidence_sha256"]
    assert {item["status"] for item in json.loads(evidence)["sections"][6]["items"]} == {"passed"}

    # The document comes back as it was, but for its boxes and what stands under its lines.
    adopted = (ROOT / "demo/docs/testing/staging_rehearsal_checklist.md").read_text()
    ticked = page.request.get("/rehearsal/1/checklist.md").text()
    boxes = re.findall(r"^- \[(.)\] ", ticked, re.MULTILINE)
    assert (len(boxes), boxes.count("x")) == (24, sum(one == "passed" for one in _all(evidence)))
    kept = [line for line in ticked.splitlines() if not line.startswith("  - ")]
    assert [line.replace("- [x] ", "- [ ] ") for line in kept] == adopted.splitlines()

    report = tmp_path / "report.html"
    report.write_bytes(page.request.get("/rehearsal/1/report.html").body())
    page.goto(report.as_uri())
    assert page.locator(".item").count() == 24
    picture(page, "demo-report")
    if folder := os.environ.get("SCREENSHOTS"):
        page.pdf(path=Path(ROOT, folder, "demo-report.pdf"), format="A4")
    context.close()


def _all(evidence: bytes) -> list[str]:
    sections = json.loads(evidence)["sections"]
    return [item["status"] for section in sections for item in section["items"]]
