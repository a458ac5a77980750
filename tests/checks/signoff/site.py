"""A server that answers as GitHub, GitLab and Jira publish that they do, for one ticket on each.

What each operation is asked and answers is held to the forges' published descriptions of their
interfaces (see `described`): path, method, query, token, fields, status. What is not so is kept in
`Site.wrong`, and `serving` ends with it. What is no operation is answered with 404, as there.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.checks.signoff import described

TOKEN = "a-token-of-the-tests"  # noqa: S105
AT = "2025-10-03T00:00:00Z"
PERSON = {"id": 1, "login": "rehearsal", "username": "rehearsal"}
SECRET = "66dbcd21ec5d24ed6ea225176098d52b"  # noqa: S105


class Site(ThreadingHTTPServer):
    """Holds one open ticket for each forge and what was attached to it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = {"github": "open", "gitlab": "opened", "jira": "indeterminate"}
        self.comments: list[str] = []
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.wrong: list[str] = []
        """What was asked or answered otherwise than the forges publish."""
        self.harm = ""
        """What goes wrong: `spoil` changes what is given back, `redirect` sends elsewhere,
        `500` breaks, `html` answers with a page."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tickets(self) -> dict[str, str]:
        return {
            "github": f"{self.address}/office/obcms/issues/12",
            "gitlab": f"{self.address}/office/group/obcms/-/issues/12",
            "jira": f"{self.address}/browse/REL-12",
        }


class Handler(BaseHTTPRequestHandler):
    server: Site

    OPERATIONS = (
        ("GET", r"/api/v3/repos/office/obcms/issues/12", "github_issue"),
        ("POST", r"/api/v3/repos/office/obcms/issues/12/comments", "github_comment"),
        ("GET", r"/api/v3/repos/office/obcms/issues/comments/(\d+)", "github_commented"),
        ("GET", r"/api/v4/projects/office%2Fgroup%2Fobcms/issues/12", "gitlab_issue"),
        ("POST", r"/api/v4/projects/office%2Fgroup%2Fobcms/uploads", "gitlab_upload"),
        ("GET", rf"/api/v4/projects/office%2Fgroup%2Fobcms/uploads/{SECRET}/(.+)", "gitlab_file"),
        ("POST", r"/api/v4/projects/office%2Fgroup%2Fobcms/issues/12/notes", "gitlab_note"),
        ("GET", r"/api/v4/projects/office%2Fgroup%2Fobcms/issues/12/notes/(\d+)", "gitlab_noted"),
        ("GET", r"/rest/api/2/issue/REL-12", "jira_issue"),
        ("POST", r"/rest/api/2/issue/REL-12/attachments", "jira_attach"),
        ("GET", r"/rest/api/3/attachment/content/(\d+)", "jira_file"),
        ("POST", r"/rest/api/2/issue/REL-12/comment", "jira_comment"),
    )

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.query = parse_qs(parts.query)
        self.server.asked.append((method, parts.path))
        self.server.wrong += described.wrong(method, self.path, self.headers, self.body)
        for wanted, pattern, name in self.OPERATIONS:
            found = re.fullmatch(pattern, parts.path)
            if wanted != method or not found:
                continue
            if not self._may(name):
                return self._send(401, {"message": "Bad credentials"})
            if self.server.harm == "500":
                return self._send(500, {"message": "Server Error"})
            if self.server.harm == "redirect":
                return self._send(302, {}, Location="http://127.0.0.1:1/elsewhere")
            if self.server.harm == "html":
                return self._send(200, b"<html>Sign in</html>", kind="text/html")
            try:
                return getattr(self, name)(*found.groups())
            except (KeyError, ValueError, TypeError) as error:
                return self._send(400, {"message": repr(error)})
        return self._send(404, {"message": "Not Found"})

    def _may(self, name: str) -> bool:
        header = "PRIVATE-TOKEN" if name.startswith("gitlab") else "Authorization"
        wanted = TOKEN if name.startswith("gitlab") else f"Bearer {TOKEN}"
        return self.headers.get(header) == wanted

    def _send(self, status: int, body: object, kind: str = "application/json", **more: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        # That a token is refused is published for all operations at once, and not with each.
        if status != 401 and self.server.harm not in {"500", "redirect", "html"}:
            asked = (self.command, self.path, self.headers, self.body)
            self.server.wrong += described.wrong(*asked, answer=(status, kind, data))
        self.send_response(status)
        for name, value in {"Content-Type": kind, **more}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _json(self, field: str) -> str:
        assert self.headers["Content-Type"] == "application/json"
        value = json.loads(self.body)[field]
        if not isinstance(value, str) or not value:
            raise ValueError(field)
        return value

    def _file(self) -> tuple[str, bytes]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = message_from_bytes(head + self.body, policy=HTTP)
        (part,) = form.iter_parts()
        if part.get_param("name", header="Content-Disposition") != "file":
            raise ValueError("the field is not called file")
        return str(part.get_filename()), part.get_payload(decode=True)

    def _spoiled(self, data: bytes) -> bytes:
        return data.replace(b"passed", b"passeD", 1) if self.server.harm == "spoil" else data

    # GitHub: issues-get, issues-create-comment, issues-get-comment.

    def github_issue(self) -> None:
        url = f"{self.server.address}/api/v3/repos/office/obcms"
        issue = f"{url}/issues/12"
        if self.server.state["github"] == "moved":
            return self._send(301, {"message": "Moved Permanently"}, Location=f"{url}/issues/99")
        told = {"id": 1, "node_id": "I_1", "number": 12, "title": "Release", "body": None}
        told |= {"state": self.server.state["github"], "locked": False, "comments": 0}
        told |= {"user": PERSON, "assignee": None, "labels": [], "milestone": None}
        told |= {"created_at": AT, "updated_at": AT, "closed_at": None}
        told |= {"url": issue, "repository_url": url, "html_url": self.server.tickets()["github"]}
        told |= {f"{name}_url": f"{issue}/{name}" for name in ("labels", "comments", "events")}
        self._send(200, told)

    def _github_comment(self, number: int, body: str) -> dict[str, object]:
        issue = f"{self.server.address}/api/v3/repos/office/obcms/issues"
        html = f"{self.server.tickets()['github']}#issuecomment-{number}"
        told = {"id": number, "node_id": f"IC_{number}", "body": body, "user": PERSON}
        told |= {"url": f"{issue}/comments/{number}", "issue_url": f"{issue}/12"}
        return told | {"html_url": html, "created_at": AT, "updated_at": AT}

    def github_comment(self) -> None:
        body = self._json("body")
        if len(body) > 65536:
            return self._send(422, {"message": "body is too long (maximum is 65536 characters)"})
        self.server.comments.append(body)
        self._send(201, self._github_comment(len(self.server.comments), body))

    def github_commented(self, made: str) -> None:
        body = self._spoiled(self.server.comments[int(made) - 1].encode()).decode()
        self._send(200, self._github_comment(int(made), body.replace("\n", "\r\n")))

    # GitLab: single project issue, markdown uploads, notes.

    def gitlab_issue(self) -> None:
        told = {"id": 1, "iid": 12, "project_id": 1, "title": "Release", "description": None}
        told |= {"state": self.server.state["gitlab"], "web_url": self.server.tickets()["gitlab"]}
        self._send(200, told)

    def gitlab_upload(self) -> None:
        name, data = self._file()
        self.server.files[name] = data
        url = f"/uploads/{SECRET}/{name}"
        told = {"id": 5, "alt": name, "url": url, "full_path": f"/-/project/1{url}"}
        self._send(201, told | {"markdown": f"[{name}]({url})"})

    def gitlab_file(self, name: str) -> None:
        data = self._spoiled(self.server.files[unquote(name)])
        self._send(200, data, kind="application/octet-stream")

    def gitlab_note(self) -> None:
        self.server.comments.append(self._json("body"))
        self._send(201, self._gitlab_note(len(self.server.comments)))

    def gitlab_noted(self, made: str) -> None:
        self._send(200, self._gitlab_note(int(made)))

    def _gitlab_note(self, number: int) -> dict[str, object]:
        told = {"id": number, "type": None, "body": self.server.comments[number - 1]}
        told |= {"author": PERSON, "created_at": AT, "updated_at": AT, "system": False}
        return told | {"noteable_id": 1, "noteable_type": "Issue", "noteable_iid": 12}

    # Jira: Get issue, Add attachment, Get attachment content, Add comment.

    def jira_issue(self) -> None:
        status = {"name": "In Progress", "statusCategory": {"key": self.server.state["jira"]}}
        self._send(200, {"id": "1", "key": "REL-12", "fields": {"status": status}})

    def jira_attach(self) -> None:
        if self.headers.get("X-Atlassian-Token") != "no-check":
            return self._send(403, {"errorMessages": ["XSRF check failed"]})
        name, data = self._file()
        self.server.files[name] = data
        content = f"{self.server.address}/rest/api/3/attachment/content/{len(self.server.files)}"
        self._send(200, [{"id": "1", "filename": name, "size": len(data), "content": content}])

    def jira_file(self, made: str) -> None:
        if self.query.get("redirect") != ["false"]:
            return self._send(303, {}, Location="https://media.example.org/")
        data = self._spoiled(list(self.server.files.values())[int(made) - 1])
        self._send(200, data, kind="application/octet-stream")

    def jira_comment(self) -> None:
        self.server.comments.append(self._json("body"))
        self._send(201, {"id": "1", "body": self.server.comments[-1]})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving() -> Iterator[Site]:
    """A site that answers until the block ends."""
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join(10)
        assert not site.wrong, site.wrong
