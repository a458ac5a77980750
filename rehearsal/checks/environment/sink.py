"""Where captured mail is seen: that a message was handed over does not show that it came."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from django.utils.crypto import get_random_string

from rehearsal.checks.base import Inconclusive
from rehearsal.checks.environment import mail
from rehearsal.checks.opener import OPENER
from rehearsal.conf import configuration

ANSWER_SECONDS = 10
LARGEST = 16 * 1024 * 1024
"""Bytes that are read of a file, from its end, or of an answer."""
REMEDY = (
    "name in REHEARSAL['MAIL_SEEN_IN'] the folder or log file that captured mail is written to, or "
    "a mail catcher's search, such as http://mailpit:8025/api/v1/search?query=to:{address}"
)


class Sink:
    """What holds the mail that was captured; `how` says it in words.

    Raises Inconclusive where nothing is named, or where it cannot be looked into.
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self.how = configuration().mail_seen_in or mail.folder()
        if not self.how:
            raise Inconclusive(f"Captured mail cannot be seen: {REMEDY}.")
        if self._is_address and "{address}" not in self.how:
            raise Inconclusive(f"{self.how} has no {{address}} in it: {REMEDY}.")
        # What says of an address that nobody has that it got mail, says so of every address.
        nobody = f"nobody-{get_random_string(12).lower()}@example.invalid"
        if self.count([nobody])[nobody]:
            raise Inconclusive(
                f"{self.how} holds a message to an address that nobody has, so it shows nothing: "
                f"{REMEDY}."
            )

    @property
    def _is_address(self) -> bool:
        return self.how.startswith(("http://", "https://"))

    def count(self, addresses: Collection[str]) -> dict[str, int]:
        """How many messages it holds to each of these addresses, which are nobody else's.

        A catcher's search is only asked whether there is one.
        """
        if self._is_address:
            return {address: int(address in self._search(address)) for address in addresses}
        texts = list(self._texts())
        return {
            address: sum(len(_to(address).findall(text)) for text in texts) for address in addresses
        }

    def _search(self, address: str) -> str:
        url = self.how.replace("{address}", quote(address))
        try:
            with OPENER.open(url, timeout=ANSWER_SECONDS) as response:
                return str(response.read(LARGEST).decode("utf-8", "replace"))
        except (OSError, HTTPException, ValueError) as error:
            raise Inconclusive(
                f"The mail catcher at {self.how} cannot be asked ({error}): start it, or {REMEDY}."
            ) from None

    def _texts(self) -> Iterator[str]:
        """What is in the files that were written to since the mail was sent."""
        top = Path(self.how)
        try:
            files = [top] if top.is_file() else [one for one in top.rglob("*") if one.is_file()]
            for file in files:
                if file.stat().st_mtime >= self._since - 1:
                    with file.open("rb") as opened:
                        opened.seek(max(0, file.stat().st_size - LARGEST))
                        yield opened.read().decode("utf-8", "replace")
        except OSError as error:
            raise Inconclusive(
                f"Captured mail cannot be read ({error}): let this worker read it, or {REMEDY}."
            ) from None


def _to(address: str) -> re.Pattern[str]:
    """The header of a message to that address; in a log file, the line's own head is before it."""
    return re.compile(rf"^(?:.*[\]|:>-] +)?To: .*{re.escape(address)}", re.MULTILINE)
