"""Release tickets on GitHub, GitLab and Jira, by the interfaces that these publish."""

from __future__ import annotations

import base64
import json
import re
import secrets
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, ClassVar, Protocol
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from rehearsal.checks.opener import OPENER

SECONDS = 30
MAX_BYTES = 32 * 1024 * 1024
"""More than that is no answer of a ticket's."""
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
COMMENT = 60_000
"""Characters of a file in one comment; GitHub takes 65,536 in all."""


class ForgeError(Exception):
    """The forge did not do what was asked: what it said, in a sentence."""


class HandOver(Exception):
    """Only a person can attach here: the sentence says why."""


class Forge(Protocol):
    """A ticket on a forge."""

    def prove_open(self) -> None:
        """Raise HandOver when there is no such ticket, or it is closed."""

    def attach(self, name: str, files: Mapping[str, bytes]) -> dict[str, str]:
        """Attach files, and say that they are of `name`; returns an address for each attached."""

    def fetch(self, name: str, address: str) -> bytes:
        """A file as the forge gives it back."""


def forge(address: str, token: str) -> Forge:
    """The forge of a ticket by the ticket's address; raises HandOver for one that is none."""
    try:
        parts = urlsplit(address)
        host, path = parts.hostname or "", parts.path.rstrip("/")
        if parts.username or parts.query or parts.fragment or parts.port == 0:
            host = ""
    except ValueError:
        host, path = "", ""
    if host and parts.scheme != "https" and host not in LOOPBACK:
        raise HandOver(f"{address} is not reached by https, and the token would be seen.")
    site = f"{parts.scheme}://{parts.netloc}" if host else ""
    if host and (found := re.fullmatch(r"/(.+)/-/(?:issues|work_items)/(\d+)", path)):
        return GitLab(site, token, found[1], found[2])
    if host and (found := re.fullmatch(r"(/.*)?/browse/([A-Za-z][A-Za-z0-9_]*-\d+)", path)):
        return Jira(f"{site}{found[1] or ''}", token, found[2])
    if host and (found := re.fullmatch(r"/([\w.-]+)/([\w.-]+)/issues/(\d+)", path)):
        api = "https://api.github.com" if host == "github.com" else f"{site}/api/v3"
        return GitHub(api, token, f"{found[1]}/{found[2]}", found[3])
    raise HandOver(f"{address} is no ticket of GitHub's, GitLab's or Jira's.")


@dataclass
class Site:
    """A forge's interface and the right to use it."""

    api: str
    token: str

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}

    def call(
        self, path: str, data: bytes | None = None, kind: str = "application/json", **more: str
    ) -> bytes:
        """GET, or POST where there is data; raises HandOver and ForgeError."""
        url = path if path.startswith("http") else f"{self.api}{path}"
        headers = {**self.headers(), "User-Agent": "rehearsal", **more}
        if data is not None:
            headers["Content-Type"] = kind
        request = urllib.request.Request(url, data, headers)
        place = urlsplit(url).path
        try:
            with OPENER.open(request, timeout=SECONDS) as answer:
                body: bytes = answer.read(MAX_BYTES + 1)
        except HTTPError as error:
            with error:
                said = f"{urlsplit(url).hostname} answered {error.code} to {place}"
            if error.code in {401, 403}:
                raise HandOver(f"The token is refused: {said}.") from None
            if error.code == 301:
                raise HandOver(f"The ticket was moved: {said}.") from None
            if error.code in {404, 410}:
                raise HandOver(f"There is no such ticket for this token: {said}.") from None
            raise ForgeError(f"Nothing was attached: {said}.") from None
        except (OSError, HTTPException, ValueError) as error:
            # Of an address that cannot be used, urllib's words hold no header.
            raise ForgeError(f"{urlsplit(url).hostname} cannot be reached: {error}.") from None
        if len(body) > MAX_BYTES:
            raise ForgeError(f"The answer to {place} is longer than {MAX_BYTES} bytes.")
        return body

    def read(self, path: str, sent: object = None, **more: str) -> Any:
        """The JSON of an answer."""
        data = None if sent is None else json.dumps(sent).encode()
        return _json(path, self.call(path, data, **more))

    def upload(self, path: str, name: str, data: bytes, **more: str) -> Any:
        """Send one file as a form's field `file`; returns the JSON of the answer."""
        boundary = secrets.token_hex(16)
        head = (
            f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream"
        )
        body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (
            *(boundary.encode(), head.encode(), data, boundary.encode()),
        )
        kind = f"multipart/form-data; boundary={boundary}"
        return _json(path, self.call(path, body, kind, **more))


def _json(path: str, body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ForgeError(f"{path} did not answer in JSON: is the address a forge's?") from None


def _expect(found: Any, *keys: str | int) -> Any:
    """What an answer holds under the keys; raises ForgeError when it does not."""
    for key in keys:
        try:
            found = found[key]
        except (KeyError, TypeError, IndexError):
            raise ForgeError(f"The forge's answer lacks {key!r}: is it one of its kind?") from None
    return found


@dataclass
class GitHub(Site):
    """An issue on GitHub, whose interface attaches no files: they become comments."""

    repository: str
    number: str

    ATTACHED: ClassVar[tuple[str, ...]] = ("checklist.md", "evidence.json", "evidence.seal")

    def headers(self) -> dict[str, str]:
        return {
            **super().headers(),
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }

    @property
    def issue(self) -> str:
        return f"/repos/{self.repository}/issues/{self.number}"

    def prove_open(self) -> None:
        if (state := _expect(self.read(self.issue), "state")) != "open":
            raise HandOver(f"The ticket {self.repository}#{self.number} is {state}.")

    def attach(self, name: str, files: Mapping[str, bytes]) -> dict[str, str]:
        attached = {}
        for one in self.ATTACHED:
            text = files[one].decode().replace("\r\n", "\n")
            parts = [text[at : at + COMMENT] for at in range(0, len(text), COMMENT)] or [""]
            made = []
            for place, part in enumerate(parts, start=1):
                head = f"{name}: {one}, part {place} of {len(parts)}"
                body = f"{head}\n\n{_fenced(part)}"
                made.append(str(_expect(self.read(f"{self.issue}/comments", {"body": body}), "id")))
            attached[one] = " ".join(made)
        return attached

    def fetch(self, name: str, address: str) -> bytes:
        parts = []
        for made in address.split():
            path = f"/repos/{self.repository}/issues/comments/{made}"
            body = str(_expect(self.read(path), "body")).replace("\r\n", "\n")
            parts.append(_unfenced(body))
        return "".join(parts).encode()


def _fenced(text: str) -> str:
    # Within a fence nobody is mentioned and nothing is linked by what the text says.
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}\n{text}\n{fence}"


def _unfenced(body: str) -> str:
    found = re.search(r"\n\n(`{3,})\n(.*)\n\1\s*\Z", body, re.DOTALL)
    return found[2] if found else ""


@dataclass
class GitLab(Site):
    """An issue on GitLab."""

    project: str
    number: str

    def headers(self) -> dict[str, str]:
        return {"PRIVATE-TOKEN": self.token, "Accept": "application/json"}

    @property
    def base(self) -> str:
        return f"/api/v4/projects/{quote(self.project, safe='')}"

    def prove_open(self) -> None:
        state = _expect(self.read(f"{self.base}/issues/{self.number}"), "state")
        if state != "opened":
            raise HandOver(f"The ticket {self.project}#{self.number} is {state}.")

    def attach(self, name: str, files: Mapping[str, bytes]) -> dict[str, str]:
        attached, links = {}, []
        for one, data in files.items():
            answer = self.upload(f"{self.base}/uploads", one, data)
            links.append(str(_expect(answer, "markdown")))
            attached[one] = str(_expect(answer, "url"))
        said = f"{name}\n\n" + "\n".join(f"- {link}" for link in links)
        made = self.read(f"{self.base}/issues/{self.number}/notes", {"body": said})
        note = self.read(f"{self.base}/issues/{self.number}/notes/{_expect(made, 'id')}")
        body = str(_expect(note, "body"))
        if lost := [one for one, link in zip(attached, links, strict=True) if link not in body]:
            raise ForgeError(f"The note on the ticket does not name {', '.join(lost)}.")
        return attached

    def fetch(self, name: str, address: str) -> bytes:
        found = re.fullmatch(r"/uploads/([0-9a-f]+)/([^/]+)", address)
        if not found:
            raise ForgeError(f"{address} is not how GitLab names an upload.")
        return self.call(f"{self.base}/uploads/{found[1]}/{quote(found[2])}")


@dataclass
class Jira(Site):
    """An issue on Jira, in the cloud (a token `address:token`) or on a server of one's own."""

    key: str

    def headers(self) -> dict[str, str]:
        if ":" not in self.token:
            return super().headers()
        basic = base64.b64encode(self.token.encode()).decode()
        return {"Authorization": f"Basic {basic}", "Accept": "application/json"}

    @property
    def issue(self) -> str:
        return f"/rest/api/2/issue/{self.key}"

    def prove_open(self) -> None:
        found = self.read(f"{self.issue}?fields=status")
        status = _expect(found, "fields", "status")
        if _expect(status, "statusCategory", "key") == "done":
            raise HandOver(f"The ticket {self.key} is {_expect(status, 'name')}.")

    def attach(self, name: str, files: Mapping[str, bytes]) -> dict[str, str]:
        attached = {}
        for one, data in files.items():
            answer = self.upload(
                f"{self.issue}/attachments", f"{name}-{one}", data,
                **{"X-Atlassian-Token": "no-check"},
            )  # fmt: skip
            attached[one] = str(_expect(answer, 0, "content"))
        said = f"{name}: " + ", ".join(f"[^{name}-{one}]" for one in attached)
        self.read(f"{self.issue}/comment", {"body": said})
        return attached

    def fetch(self, name: str, address: str) -> bytes:
        # The token goes to no other place than the one that was named.
        if urlsplit(address)[:2] != urlsplit(self.api)[:2]:
            raise ForgeError(f"The attachment is said to be elsewhere: {address}.")
        # The cloud answers with a redirect to its store unless told not to.
        in_cloud = "/rest/api/" in address
        return self.call(f"{address}?redirect=false" if in_cloud else address, Accept="*/*")
