"""3,000 placements of a secret: whatever is around it, however it is spelt, it is not seen."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from rehearsal.checks.base import Rehearsed, Report
from rehearsal.redaction import Redactor
from tests.checks.projects import make_report

SECRETS = [
    "tulip-7315-garden", "p@ss/word:4711", "s3cr3t with spaces", "schlüssel-7315", "a+b=c&d%e-99",
    "quote'in\"side-12", "back\\slash-4711", "$dollar{4711}", "semi;colon,comma-1", "<tag>&amp;-99",
    "UPPER_lower-0815", "tab\tinside-4711", "0123456789abcdef",
    "emoji-\U0001f511-4711", "#hash-4711!",
    # Each of the spellings of these is another.
    "it's \"é\" / 4711\\", "\\ürsprung's / \"0815\"", "'\"ß\" \\/ 7315-garden'",
    "99 / \"€\" & 'ten'\\", "\u4e2d\u6587's \"key\" /\\4711",
]  # fmt: skip
SPELLINGS = [
    str,
    quote,
    quote_plus,
    lambda text: quote(text, safe=""),
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: text.encode("unicode_escape").decode(),
]
AROUND = [
    "{}", "x {} y", "password={}", "PASSWORD='{}'", 'token: "{}"', "redis://:{}@queue:6379/0",
    "https://me:{}@site.example/", "Authorization: Bearer {}", '{{"key": "{}"}}', "[{}, {}]",
    "\x1b[31m{}\x1b[0m", "2026-01-01 ERROR {}", "E   AssertionError: '{}' != ''", "--password {}",
    "?token={}&next=/", "Cookie: sessionid={}", "{}\n{}", "\t{}\r\n", "<pre>{}</pre>", "`{}`",
    "DETAIL: Key (name)=({}) exists.", "curl -u me:{} https://site.example", "{}.", "({})", "{}/{}",
    "X-Api-Key: {}", "postgres://office:{}@db.example:5432/office", "export TOKEN={}", "key={};",
    "- {}", "# {}", "{} {}", "<{}>", "\"{}\"", "+ {}\n- {}", "a: {}\n  b: {}", "|{}|", "…{}…",
    "secret: {}, user: me", "line 1\n\n\n{}",
]  # fmt: skip
PLACED = {
    around.replace("{}", spelt): (spelt, secret)
    for secret in SECRETS
    for spelt in {spell(secret) for spell in SPELLINGS}
    for around in AROUND
}


def test_there_are_three_thousand() -> None:
    assert len(PLACED) >= 3000


@pytest.mark.security("placements and spellings of a secret", promised="it is never shown")
def test_no_placement_shows_it(record_property: Any) -> None:
    record_property("tried", len(PLACED))
    redactor = Redactor(SECRETS)
    shown: list[str] = []
    for placed, (spelt, secret) in PLACED.items():
        text = redactor.redact(placed)
        if spelt in text or secret in text:
            shown.append(f"{placed!r} → {text!r}")
    assert shown == []


def test_every_way_a_check_speaks_is_looked_through() -> None:
    redactor = Redactor(SECRETS)
    made = make_report("A line.")
    report = Report("A line.", Rehearsed(1, "", made.rehearsal.started_at), redact=redactor.redact)
    for secret in SECRETS:
        report.write(f"a {secret} b")
        report.progress(f"a {secret} b")
        report.evidence(f"a {secret} b", [f"a {secret} b"])
        report.evidence("b", f"a {secret} b")
        report.measure(f"a {secret} b", 1, "s")
        said = repr((report.output, report.said, report.facts, report.measurements))
        assert secret not in said
        assert repr(secret)[1:-1] not in said


def test_what_is_packed_beyond_recognition_is_not_promised() -> None:
    # Stated in docs/security.md: base64 of a known value is another value.
    packed = base64.b64encode(SECRETS[0].encode()).decode()
    assert packed in Redactor(SECRETS).redact(f"x {packed}")
