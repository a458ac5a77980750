"""Holds requests and answers to the forges' published descriptions of their interfaces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from openapi_core import OpenAPI
from openapi_core.testing import MockRequest, MockResponse

FOLDER = Path(__file__).with_name("openapi")


@cache
def description(forge: str) -> OpenAPI:
    """The operations of `github`, `gitlab` or `jira` that the sign-off uses."""
    return OpenAPI.from_dict(json.loads((FOLDER / f"{forge}.json").read_text()))


def forge_of(path: str) -> str:
    """Whose interface a path belongs to, by where each begins."""
    beginnings = {"/api/v3/": "github", "/api/v4/": "gitlab"}
    return next((name for start, name in beginnings.items() if path.startswith(start)), "jira")


def wrong(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    answer: tuple[int, str, bytes] | None = None,
) -> list[str]:
    """Where a request, or its answer (status, media type, body), is not as it was published."""
    parts = urlsplit(target)
    forge = forge_of(parts.path)
    # Atlassian publishes both versions with the same operations; of the second, which servers of
    # one's own have too, a comment's body is text.
    path = parts.path.replace("/rest/api/2/", "/rest/api/3/", 1)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    request = MockRequest(
        "http://127.0.0.1", method.lower(), path,
        args=query, headers=dict(headers), data=body or None,
        content_type=headers.get("Content-Type") or "application/json",
    )  # fmt: skip
    place = f"{method} {parts.path}"
    if answer is None:
        read = description(forge).unmarshal_request(request)
        unknown = set(query) - set(read.parameters.query) if not read.errors else ()
        return [
            *(f"{place}: {error} {error.__cause__ or ''}".strip() for error in read.errors),
            *(f"{place}: {name} is no parameter of it" for name in unknown),
        ]
    status, kind, data = answer
    response = MockResponse(data, status, content_type=kind)
    found = description(forge).unmarshal_response(request, response)
    return [f"{place} {status}: {error} {error.__cause__ or ''}".strip() for error in found.errors]
