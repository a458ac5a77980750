"""Sections of a report that people keep by hand, written by us between markers of our own.

`docs/testing/TEST_RESULTS_REPORT.md` belongs to people. What a check writes into it stands between
two comments; every byte outside of them stays as it was.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rehearsal import env_file
from rehearsal.checklist import code_spans
from rehearsal.checks.base import Failed, Report
from rehearsal.command import CommandError, run
from rehearsal.conf import configuration, redactor

MAX_BYTES = 4_000_000
"""A report of more than that is not one that people keep by hand."""


def report_path(line: str) -> Path:
    """The Markdown file that the line names in a code span, inside the project's repository.

    Raises Failed with the remedy when it names none, or one that is elsewhere.
    """
    root = configuration().root.resolve()
    for span in code_spans(line):
        if span.endswith(".md"):
            found = (root / span).resolve()
            if found.is_relative_to(root):
                return found
            raise Failed(f"The line names {span}, which is outside of {root}: correct the line.")
    raise Failed(
        "The line names no report; write its path in the line between backticks, such as "
        "`docs/testing/TEST_RESULTS_REPORT.md`."
    )


def write_section(report: Report, path: Path, name: str, body: str) -> bool:
    """Put `body`, some Markdown, between the markers `name` in the report at `path`.

    A report without these markers gets them at its end. Returns whether anything had to change:
    the same body twice changes nothing. Secrets are taken out of the body. Raises Failed with the
    remedy when the file is missing, cannot be read, has broken markers, or holds changes by
    people that nobody committed: those are never mixed with ours.
    """
    begin, end = markers(name)
    old = _read(path)
    _prove_committed(report, path, old)
    starts, ends = _positions(old, begin), _positions(old, end)
    # As the section ends its lines already, else as the report does.
    sample = old[starts[0] :] if starts else old
    line_end = b"\r\n" if b"\r\n" in sample else b"\n"
    text = _harmless(report.redact(body)).strip("\n")
    ours = line_end.join(line.encode() for line in [begin, *text.split("\n"), end])
    if (len(starts), len(ends)) == (0, 0):
        gap = b"" if not old or old.endswith(line_end * 2) else line_end
        gap = gap if not old or old.endswith(b"\n") else gap + line_end
        new = old + gap + ours + line_end
    elif (len(starts), len(ends)) == (1, 1) and starts[0] < ends[0]:
        new = old[: starts[0]] + ours + old[ends[0] + len(end.encode()) :]
    else:
        raise Failed(
            f"One `{begin}` and below it one `{end}` were expected in {path.name}, found "
            f"{len(starts)} and {len(ends)}; nothing was written. Put them right, or take them "
            "out: they are written anew."
        )
    if new == old:
        return False
    try:
        env_file.replace(path, old, new)
    except env_file.EnvFileError as error:
        raise Failed(f"{error}") from None
    return True


def markers(name: str) -> tuple[str, str]:
    """The comments before and after the section `name`; who reads the page does not see them."""
    return f"<!-- rehearsal: {name}, written by machine -->", f"<!-- rehearsal: end of {name} -->"


def cell(text: str) -> str:
    """Text for one cell of a Markdown table: on one line, and none of it is Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|&~#!])", r"\\\1", " ".join(text.split()))


def _harmless(body: str) -> str:
    # No comment of the body's own may look like a marker.
    return body.replace("<!--", "&lt;!--").replace("\r", "")


def _positions(data: bytes, marker: str) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(marker.encode()), data)]


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise Failed(
            f"The report {path} cannot be read ({error.strerror}): create it, or correct the line."
        ) from None
    if data is None:
        raise Failed(f"The report {path} holds more than {MAX_BYTES} bytes: it was left alone.")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Failed(f"The report {path} is not UTF-8 text: save it as such.") from None
    return data


def _prove_committed(report: Report, path: Path, data: bytes) -> None:
    """Raise Failed when people changed the report and did not commit it; without git, go on."""
    if not _in_git(path, ["ls-files", "--", path.name], report):
        return  # no git here, or the file is none of its
    committed = _in_git(path, ["show", f"HEAD:./{path.name}"], report)
    if committed is not None and _of_people(committed) != _of_people(data.decode()):
        raise Failed(
            f"{path.name} has changes that nobody committed, so nothing was written into it: "
            "commit or discard them, then run this again."
        )


def _in_git(path: Path, arguments: list[str], report: Report) -> str | None:
    """What git says in the folder of `path`; None when it cannot say."""
    lines: list[str] = []
    try:
        ended = run(
            ["git", *arguments],
            cwd=path.parent,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            timeout=30,
            write=lines.append,
            stop=report.stop,
            redactor=redactor(),
            max_output=2 * MAX_BYTES,
        )
    except CommandError:
        return None
    return "\n".join(lines) if ended.code == 0 else None


_OURS = re.compile(
    r"<!-- rehearsal: (.{1,80}), written by machine -->.*?<!-- rehearsal: end of \1 -->", re.DOTALL
)


def _of_people(text: str) -> str:
    """What people wrote, as far as it can be read: not our sections, and no line ends."""
    redacted = redactor().redact(text)
    return "\n".join(line.rstrip() for line in _OURS.sub("", redacted).splitlines()).strip()
