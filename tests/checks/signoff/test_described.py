"""The published descriptions notice what is otherwise: a server held to them proves something."""

from __future__ import annotations

import json

import pytest

from tests.checks.signoff import described

JSON = {"Content-Type": "application/json"}
TOKEN = {"PRIVATE-TOKEN": "x"}
FORM = {"Content-Type": "multipart/form-data; boundary=b", "X-Atlassian-Token": "no-check"}
FILE = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n\xff\r\n--b--\r\n"
)
GITHUB = "/api/v3/repos/office/obcms/issues"
GITLAB = "/api/v4/projects/office%2Fobcms"
JIRA = "/rest/api/2/issue/REL-12"
BODY = json.dumps({"body": "x"}).encode()
RIGHT = [
    ("GET", f"{GITHUB}/12", {}, b""),
    ("POST", f"{GITHUB}/12/comments", JSON, BODY),
    ("POST", f"{GITLAB}/issues/12/notes", JSON | TOKEN, BODY),
    ("POST", f"{GITLAB}/uploads", FORM | TOKEN, FILE),
    ("GET", f"{JIRA}?fields=status", {}, b""),
    ("POST", f"{JIRA}/attachments", FORM, FILE),
]


@pytest.mark.parametrize(("method", "target", "headers", "body"), RIGHT)
def test_what_is_published_is_taken(
    method: str, target: str, headers: dict[str, str], body: bytes
) -> None:
    assert described.wrong(method, target, headers, body) == []


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "said"),
    [
        ("GET", f"{GITHUB}/twelve", {}, b"", "issue_number"),
        ("GET", f"{GITHUB}/12?state=open", {}, b"", "state is no parameter"),
        ("PUT", f"{GITHUB}/12", {}, b"", "Operation put not found"),
        ("POST", f"{GITHUB}/12/comments", JSON, b'{"text": "x"}', "'body' is a required"),
        ("POST", f"{GITHUB}/12/comments", JSON, b'{"body": 1}', "not of type 'string'"),
        ("POST", f"{GITHUB}/12/comments", JSON, b"", "Missing required request body"),
        ("GET", f"{GITHUB}/comments", {}, b"", "issue_number"),
        ("POST", f"{GITLAB}/issues/12/notes", JSON, BODY, "Security not found"),
        ("POST", "/api/v4/projects/office/obcms/uploads", TOKEN, FILE, "Path not found"),
        ("POST", f"{GITLAB}/issues/12/notes", JSON | TOKEN, b'{"body": "", "a": 1}', "Additional"),
        ("POST", f"{GITLAB}/uploads", FORM | TOKEN, FILE.replace(b'"file"', b'"f"'), "'file' is"),
        ("POST", f"{JIRA}/attachments", {"Content-Type": FORM["Content-Type"]}, FILE, "Atlassian"),
        ("GET", f"{JIRA}?field=status", {}, b"", "field is no parameter"),
    ],
)
def test_what_is_sent_otherwise_is_named(
    method: str, target: str, headers: dict[str, str], body: bytes, said: str
) -> None:
    (found,) = described.wrong(method, target, headers, body)
    assert said in found


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, "application/json", b'{"state": "open"}'), "'number' is a required property"),
        ((200, "text/html", b"<html>"), "mimetype not found"),
        ((201, "application/json", b"{}"), "Unknown response http status"),
    ],
)
def test_what_is_answered_otherwise_is_named(answer: tuple[int, str, bytes], said: str) -> None:
    (found,) = described.wrong("GET", f"{GITHUB}/12", {}, b"", answer)
    assert said in found
