"""Where the latest credentials come from: a file, variables, or a command such as a vault's client.

What a command prints on its standard output never leaves this process's memory; what it says on
its standard error is shown, without the secrets.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rehearsal import command
from rehearsal.checks.base import Inconclusive, Report
from rehearsal.conf import FROM_VARIABLES, configuration, redactor
from rehearsal.env_file import EnvFile, EnvFileError
from rehearsal.redaction import Redactor, secrets_in

MAXIMUM = 1024 * 1024
"""Bytes a command may print."""
SECONDS = 60
"""How long a command may take."""


def latest(report: Report) -> dict[str, str]:
    """What the configured source says, by key. Raises Inconclusive when it says nothing."""
    source = configuration().secrets_source
    if source is None:
        raise Inconclusive(
            "Whether the credentials are the latest is unknown, since no source of them is named: "
            "set REHEARSAL['SECRETS_SOURCE'] to a file, 'environment:PREFIX_', or a command."
        )
    try:
        if isinstance(source, Path):
            values = _readable(EnvFile.read(source), source.name)
            changed = datetime.datetime.fromtimestamp(source.stat().st_mtime, datetime.UTC)
            named = f"the file {source.name}, of {changed.isoformat(timespec='seconds')}"
        elif isinstance(source, str):
            prefix = source.removeprefix(FROM_VARIABLES)
            begin = ((key.removeprefix(prefix), value) for key, value in os.environ.items()
                     if key.startswith(prefix))  # fmt: skip
            values, named = {key: value for key, value in begin if key}, f"variables {prefix}*"
        else:
            values, named = _printed(report, source), f"the command {source[0]}"
    except (EnvFileError, OSError) as error:
        raise Inconclusive(f"The source of the latest credentials gave none: {error}.") from None
    if not values:
        raise Inconclusive(
            f"The source of the latest credentials ({named}) gave none: put KEY=value into it, or "
            "correct REHEARSAL['SECRETS_SOURCE']."
        )
    report.evidence("source", f"{named}; {len(values)} keys")
    return values


def _readable(file: EnvFile, name: str) -> dict[str, str]:
    wrong = [f"line {line} is not KEY=value" for line in file.malformed]
    wrong += [f"{key} is given twice with different values" for key in file.contradictory]
    if wrong:
        raise EnvFileError(f"in {name} {', '.join(wrong)}; correct that")
    return file.values


def _printed(report: Report, argv: Sequence[str]) -> dict[str, str]:
    """What a command prints: a JSON object of strings, or lines of KEY=value."""
    said: list[str] = []
    with _memory() as (path, read):
        try:
            # The shell only opens standard output; the arguments are not its to look at.
            finished = command.run(
                ["/bin/sh", "-c", 'output=$1; shift; exec "$@" 1<>"$output"', "sh", path, *argv],
                cwd=configuration().root,
                env=os.environ,
                timeout=SECONDS,
                write=said.append,
                redactor=redactor(),
                stop=report.stop,
            )
        except command.CommandError as error:
            raise EnvFileError(str(error).rstrip(".")) from None
        data = read()
    values, problem = _understood(data)
    # Only now is it known what must not be seen of what the command said beside.
    passwords = [secret for pair in values.items() for secret in secrets_in(*pair)]
    words = [] if values else data.decode(errors="replace").split()
    known = Redactor([*values.values(), *passwords, *words])
    for line in said:
        report.write(known.redact(line))
    if finished.code != 0:
        how = f"with {finished.code}" if finished.code is not None else f"{finished.ending.value}"
        raise EnvFileError(f"{argv[0]} ended {how}; see its output, and run it by hand")
    if problem:
        raise EnvFileError(f"what {argv[0]} printed {problem}")
    return values


def _understood(data: bytes) -> tuple[dict[str, str], str]:
    """The values in what was printed, and what is wrong with it, never showing any of it."""
    if len(data) == MAXIMUM:
        return {}, f"is longer than {MAXIMUM} bytes; let it print the credentials alone"
    if not data.lstrip().startswith(b"{"):
        try:
            return _readable(EnvFile.parse(data, "it"), "it"), ""
        except EnvFileError:
            return {}, "are no lines of KEY=value; let it print those, or one JSON object"
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}, "is no JSON object; let it print one, or lines of KEY=value"
    if not all(isinstance(value, str) for value in told.values()):
        return {}, "is a JSON object of more than texts; let it print the innermost object"
    return told, ""


@contextmanager
def _memory() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """A file that is on no disk and cannot grow beyond the maximum: its path, and its content."""
    descriptor = os.memfd_create("rehearsal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, MAXIMUM)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        yield (
            f"/proc/{os.getpid()}/fd/{descriptor}",
            lambda: os.pread(descriptor, MAXIMUM, 0).rstrip(b"\0"),
        )
    finally:
        os.close(descriptor)
