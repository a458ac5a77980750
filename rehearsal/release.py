"""What is deployed here: the commit, as git or the project says, and the settings it runs with."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path

from django.utils.crypto import salted_hmac
from django.utils.functional import Promise

from rehearsal import conf


def revision() -> str:
    """The commit that is in `root` now: as configured, else as git says, else empty."""
    return conf.configuration().revision or _git("rev-parse", "HEAD")


def commit(name: str) -> str:
    """The commit that a revision's name stands for now, in full and as git writes it: a branch or
    a tag moves on. What git does not know, or where there is none, stays as it was named."""
    known = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if known:
        return known
    return name.lower() if re.fullmatch("[0-9A-Fa-f]{7,64}", name) else name


def _git(*arguments: str) -> str:
    """What git says in `root`; empty where it fails or there is none."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(conf.configuration().root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):  # no git; a NUL in a name
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


@cache
def running() -> str:
    """The commit this process was started from: later changes on disk do not change it."""
    return revision()


def settings_digest() -> str:
    """A keyed SHA-256 over this process's settings, hexadecimal: it gives no value away."""
    said = repr([(name, _plain(value)) for name, value in conf.all_settings().items()])
    return salted_hmac("rehearsal.settings", said, algorithm="sha256").hexdigest()


def _plain(value: object, depth: int = 8) -> object:
    """A value as it is written in every process; an object (a function, a backend) by its type."""
    if isinstance(value, (str, int, float, bytes, type(None))):
        return value
    if isinstance(value, (Path, timedelta, re.Pattern, Promise)):
        return str(value)
    if depth and isinstance(value, Mapping):
        entries = ((repr(_plain(key, 0)), _plain(entry, depth - 1)) for key, entry in value.items())
        return sorted(entries, key=lambda entry: entry[0])
    if depth and isinstance(value, (list, tuple)):
        return [_plain(entry, depth - 1) for entry in value]
    if depth and isinstance(value, (set, frozenset)):
        return sorted(repr(_plain(entry, depth - 1)) for entry in value)
    return f"{type(value).__module__}.{type(value).__qualname__}"
