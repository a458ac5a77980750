"""Takes what the tests need out of a forge's published description of its interface.

    python -m tests.checks.signoff.openapi.extract github api.github.com.json > github.json
    python -m tests.checks.signoff.openapi.extract jira platform-swagger.v3.json > jira.json

Facts alone are kept: the operations that the sign-off uses, with their parameters, fields and
types, down to the fields of what is sent and answered. Where each was taken from is in the extract.

GitLab's is not made by this, for the operations on notes are missing in what GitLab publishes in
that form: `gitlab.json` was written from what that form is generated from, GitLab's own source.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TAKEN = {
    "github": "npm @octokit/openapi 23.0.2, generated/api.github.com.json; MIT licence",
    "jira": "Atlassian's swagger-v3.v3.json of 2022-07-16, as kept by github.com/salto-io/"
    "jira-swaggers in commit e9edd0efc751; Apache License 2.0",
}
SERVERS = {"github": "/api/v3", "jira": "/"}
"""Where the forge's interface begins at an address of one's own."""
OPERATIONS = {
    "github": [
        ("get", "/repos/{owner}/{repo}/issues/{issue_number}"),
        ("post", "/repos/{owner}/{repo}/issues/{issue_number}/comments"),
        ("get", "/repos/{owner}/{repo}/issues/comments/{comment_id}"),
    ],
    "jira": [
        ("get", "/rest/api/3/issue/{issueIdOrKey}"),
        ("post", "/rest/api/3/issue/{issueIdOrKey}/attachments"),
        ("get", "/rest/api/3/attachment/content/{id}"),
        ("post", "/rest/api/3/issue/{issueIdOrKey}/comment"),
    ],
}
FILES = {"/rest/api/3/attachment/content/{id}"}
"""What answers with a file, where the description says JSON."""

FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}
IN_WORDS = {
    "/rest/api/3/issue/{issueIdOrKey}/attachments": {
        "header": {"name": "X-Atlassian-Token", "in": "header", "required": True}
        | {"schema": {"type": "string", "enum": ["no-check"]}},
        "body": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}},
    }
}
"""What a description says of an operation in its sentences alone."""


class Description:
    """A whole description, whose references are followed."""

    def __init__(self, whole: dict[str, Any]) -> None:
        self.whole = whole

    def followed(self, part: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in part:
            found: Any = self.whole
            for name in part["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            part = found
        if len(part.get("allOf", ())) == 1:
            return self.followed(part["allOf"][0])
        return part

    def schema(self, part: dict[str, Any], depth: int = 0) -> dict[str, Any]:
        """The types of a value and of its fields; of what is deeper, whether it is an object."""
        part = self.followed(part)
        kept = {key: part[key] for key in ("type", "nullable", "enum") if key in part}
        if part.get("format") == "binary":
            kept["format"] = "binary"
        if part.get("type") == "array":
            return kept | {"items": self.schema(part["items"], depth)}
        if "properties" in part:
            kept.setdefault("type", "object")
            if depth == 0:
                kept["required"] = part.get("required", [])
                kept["properties"] = {
                    name: self.schema(value, depth + 1)
                    for name, value in part["properties"].items()
                }
        return {key: value for key, value in kept.items() if value != []}

    def content(self, part: dict[str, Any]) -> dict[str, Any]:
        return {
            kind: {"schema": self.schema(said["schema"])} if "schema" in said else {}
            for kind, said in part.get("content", {}).items()
        }

    def operation(self, path: str, method: str) -> dict[str, Any]:
        found = self.whole["paths"][path][method]
        parameters = [self.followed(one) for one in found.get("parameters", ())]
        kept: dict[str, Any] = {
            "parameters": [
                {"name": one["name"], "in": one["in"], "required": one.get("required", False)}
                | {"schema": self.schema(one["schema"])}
                for one in parameters
            ]
        }
        if path in IN_WORDS:
            kept["parameters"].append(IN_WORDS[path]["header"])
            kept["requestBody"] = IN_WORDS[path]["body"]
        elif "requestBody" in found:
            body = self.followed(found["requestBody"])
            kept["requestBody"] = {"required": True, "content": self.content(body)}
        kept["responses"] = {}
        for code, said in found["responses"].items():
            answer = {"description": ""}
            content = self.content(self.followed(said))
            if code < "300" and content and path not in FILES:
                answer |= {"content": content}
            kept["responses"][code] = answer
        return kept


def extract(forge: str, whole: dict[str, Any]) -> dict[str, Any]:
    """The facts about the operations that the sign-off uses."""
    description = Description(whole)
    paths: dict[str, Any] = {}
    for method, path in OPERATIONS[forge]:
        paths.setdefault(path, {})[method] = description.operation(path, method)
    info = {"title": forge, "version": whole["info"]["version"], "x-taken-from": TAKEN[forge]}
    return {"openapi": "3.0.3", "info": info, "servers": [{"url": SERVERS[forge]}], "paths": paths}


if __name__ == "__main__":
    name, source = sys.argv[1:]
    print(json.dumps(extract(name, json.loads(Path(source).read_text())), indent=1))
