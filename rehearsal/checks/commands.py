"""Running the project's own manage.py, as a line of the checklist says it."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from django.core.management import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from rehearsal import command
from rehearsal.checklist import code_spans, first_code_span
from rehearsal.checks.base import ActionRequired, Check, Failed, Inconclusive, Report
from rehearsal.conf import configuration, redactor
from rehearsal.databases import describe, identity_or_error, same
from rehearsal.release import revision

ASK_SECONDS = 240
"""How long one of our own management commands may take; loading hundreds of migrations is slow."""

COMMIT = "[0-9a-f]{7,64}"
COMMAND = re.compile(r"\s*(pytest|python3?)\s")


def words(line: str, *expected: str) -> list[str]:
    """The arguments that the line's first code span gives to manage.py.

    With `expected`, the first of them must be one of these. Raises Failed with the remedy.
    """
    form = f"`python manage.py {'|'.join(expected) or '<command>'} …`"
    span = first_code_span(line)
    if span is None:
        raise Failed(f"The line names no command; write it in the line as {form}.")
    if other := other_command(line):
        raise Failed(
            f"The line names several commands, `{span}` and `{other}`, and only the first would "
            "be run; give each a line of its own."
        )
    try:
        program, script, *rest = shlex.split(span)
    except ValueError as error:
        raise Failed(
            f"The line's command `{span}` cannot be read ({error}); write {form}."
        ) from None
    python = PurePath(program).name in {"python", "python3"}
    known = python and PurePath(script).name == "manage.py"
    if not known or not rest or (expected and rest[0] not in expected):
        raise Failed(f"The line's command is `{span}` where {form} was expected; correct the line.")
    return rest


def other_command(line: str) -> str | None:
    """The second code span, or a later one, that is a command as the first may be."""
    return next((span for span in code_spans(line)[1:] if COMMAND.match(span)), None)


@dataclass(frozen=True)
class Ran:
    """A run of manage.py: how it ended, and the last line that it wrote."""

    finished: command.Finished
    last: str

    @property
    def code(self) -> int | None:
        return self.finished.code

    def ending(self) -> str:
        """How it ended, and what it said last, for a sentence."""
        how = {
            command.Ending.EXITED: f"ended with exit code {self.code}",
            command.Ending.TIMED_OUT: f"did not end within {self.finished.seconds:.0f} seconds",
            command.Ending.STOPPED: "was stopped",
            command.Ending.LOST: "was lost, and what it did by then is unknown",
        }[self.finished.ending]
        return f"{how}; its last line is: {self.last}" if self.last else f"{how} and said nothing"


def prove_revision(report: Report) -> None:
    """Raise Inconclusive where the code on disk is known not to be the commit rehearsed."""
    here, rehearsed = revision(), report.rehearsal.revision
    if not (re.fullmatch(COMMIT, here) and re.fullmatch(COMMIT, rehearsed)):
        return  # a release by another name, or none: nothing to compare
    if not (here.startswith(rehearsed) or rehearsed.startswith(here)):
        raise Inconclusive(
            f"The code in {configuration().root} is at {here[:12]}, and {rehearsed[:12]} is "
            "rehearsed, so nothing was run; check that commit out, or rehearse this one."
        )


def manage(
    report: Report, arguments: Sequence[str], *, timeout: float,
    hear: Callable[[str], object] = str, environ: Mapping[str, str] | None = None,
) -> Ran:  # fmt: skip
    """Run manage.py with `arguments` in its own folder; its output goes to the report.

    `hear` also gets each line; `environ` comes on top of this process's own. Raises Failed when
    it cannot be started, Inconclusive when the item was cancelled while it ran.
    """
    said: deque[str] = deque(maxlen=1)

    def write(line: str) -> None:
        report.write(line)
        hear(line)
        if line.strip():
            said.append(line.strip()[:500])

    here = configuration()
    prove_revision(report)
    path = here.manage_path
    if not path.is_file():
        raise Failed(
            f"There is no {path}; name the project's manage.py in REHEARSAL['MANAGE'], "
            "or its repository in REHEARSAL['ROOT']."
        )
    report.write(f"$ python manage.py {shlex.join(arguments)}")
    try:
        finished = command.run(
            [here.python, path.name, *arguments],
            cwd=path.parent,
            # Unbuffered, so that a line is seen when it is written.
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})},
            timeout=timeout,
            write=write,
            stop=report.stop,
            redactor=redactor(),
        )
    except command.CommandError as error:
        raise Failed(f"manage.py could not be run: {error}") from None
    if finished.cut:
        report.write(f"… {finished.cut} bytes of output were not kept …")
    return Ran(finished, said[-1] if said else "")


def ask(
    report: Report, question: Sequence[str], arguments: Sequence[str] = (),
    timeout: float = ASK_SECONDS,
) -> dict[str, Any]:  # fmt: skip
    """What our own management command, `question` with its options, answers in the project's
    manage.py.

    The `--settings` and `--pythonpath` among `arguments` are passed on, so that it is asked under
    the conditions of the command it is asked for. Raises Failed when there is no answer.
    """
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        # A file: whatever a project prints when it starts is no part of the answer.
        answer = Path(folder) / "answer.json"
        asked = [*question, "--output", str(answer), *_conditions(arguments)]
        # Shown only when it fails, since it is not what the line says.
        unsaid = Report(report.line, report.rehearsal, redact=report.redact)
        unsaid.stop = report.stop
        ran = manage(unsaid, asked, timeout=timeout)
        if ran.code == 0 and answer.is_file():
            if isinstance(found := _read(answer), dict):
                return found
            raise Failed(
                f"manage.py {question[0]} was expected to answer in JSON, and did not: let the "
                "project's manage.py have the same release of rehearsal as this worker."
            )
    report.write(unsaid.output)
    if report.stop.is_set():
        raise Inconclusive("Stopped before anything was done.")
    raise Failed(
        f"manage.py {question[0]} {ran.ending()}. Run it by hand in "
        f"{configuration().manage_path.parent}; the settings it uses need 'rehearsal' in "
        "INSTALLED_APPS."
    )


def _read(answer: Path) -> object:
    try:
        return json.loads(answer.read_bytes())
    except (ValueError, RecursionError):
        return None


def _conditions(arguments: Sequence[str]) -> list[str]:
    # As Django's own ManagementUtility looks for them, before any command is known.
    parser = CommandParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    try:
        found, _ = parser.parse_known_args(list(arguments[1:]))
    except CommandError as error:
        raise Failed(f"The line's command cannot be read ({error}); correct the line.") from None
    return [f"--{name}={value}" for name, value in vars(found).items() if value is not None]


def prove_databases(report: Report, found: dict[str, dict[str, str]]) -> None:
    """Raise Failed unless manage.py and this process are connected to the same databases.

    `found` are the identities, by alias, that a process of manage.py gave. What can be reached
    from neither is noted as evidence.
    """
    for alias in sorted({*found, *connections}):
        there = found.get(alias, {"error": "it has no such alias"})
        here = identity_or_error(alias) if alias in connections else {"error": "no such alias"}
        if alias != DEFAULT_DB_ALIAS and "error" in here and "error" in there:
            report.evidence(f"database {alias}", f"cannot be reached: {here['error']}")
        elif not same(here, there):
            raise Failed(
                f"manage.py works on {describe(there)} as {alias!r}, and this environment on "
                f"{describe(here)}; nothing was run. Give the worker and manage.py the same "
                "settings and variables (DJANGO_SETTINGS_MODULE, DATABASE_URL), then restart the "
                "worker."
            )
    report.evidence("database", describe(found[DEFAULT_DB_ALIAS]))


@dataclass(frozen=True)
class ManagementCommand(Check):
    """A line that says `python manage.py …`: the command is run, and a person judges it.

    An exit code of 0 says that the command ran, not that what it showed is right.
    """

    timeout = 1200

    def run(self, report: Report) -> None:
        arguments = words(report.line)
        prove_databases(report, ask(report, ["rehearsal_identity"], arguments))
        report.progress(f"manage.py {arguments[0]} runs.")
        ran = manage(report, arguments, timeout=self.timeout - ASK_SECONDS - 60)
        report.evidence("exit code", "unknown" if ran.code is None else ran.code)
        if ran.finished.ending is command.Ending.STOPPED:
            raise Inconclusive(f"manage.py {arguments[0]} {ran.ending()}.")
        if ran.code != 0:
            raise Failed(
                f"manage.py {arguments[0]} {ran.ending()}. Read its output, then run again."
            )
        raise ActionRequired(
            f"manage.py {arguments[0]} ran with exit code 0; "
            "a person reads its output and confirms that it is as it should be."
        )
