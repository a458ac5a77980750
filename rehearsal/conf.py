"""The `REHEARSAL` setting as a frozen dataclass, read when it is asked for and not before."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from rehearsal.redaction import Redactor

SHIPPED_CHECKLIST = Path(__file__).parent / "checklists" / "staging.md"


@dataclass(frozen=True)
class Configuration:
    """What a project says in its `REHEARSAL` setting; each field is a key, in capitals."""

    environment: str = "staging"
    """What is rehearsed; one rehearsal at a time is open in each environment."""
    root: Path = field(default_factory=Path.cwd)
    """The project's repository: pytest runs here, the checklist's paths begin here."""
    manage: Path | None = None
    """The project's manage.py; without it, the one in `root` or in `root/src`."""
    checklist: Path = SHIPPED_CHECKLIST
    """The adopted document that is performed unless another is named."""
    folder: Path | None = None
    """Where snapshots, reports and worktrees are kept; without it, `.rehearsal` in `root`."""
    database: str = "rehearsal"
    """The alias of the database that holds the app's own tables and the task results."""
    queue: str = "rehearsal"
    """The Celery queue of the checks: the worker under test is not the worker that drives."""
    lease_seconds: int = 30
    """How long a claimed check may stay silent before its worker counts as lost."""
    python: str = sys.executable
    """The interpreter that runs the project's tests and management commands."""
    test_database: str = "migrations"
    """How test databases are made: as clones of a template that "migrations" made, or of one with
    the "schema" of the migrated database and none of its rows, or each for itself: "plain"."""
    test_environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables set for tests; None takes out one that the worker was started with."""
    revision: str = ""
    """The commit that is deployed, for images without git; otherwise git is asked."""
    queues: tuple[str, ...] = ()
    """The queues that must have a worker; without them, those Celery is configured with."""
    beat_seconds: int = 10
    """How often Celery beat proves that it is alive."""
    source: str = ""
    """The database that a snapshot is taken of, by a role that may only read: an alias, or the name
    of an environment variable that holds its URL. None by itself."""
    snapshot: Path | None = None
    """An archive of the source that exists already, to be adopted instead of dumping; beside it,
    its digests in a file of the same name and `.sha256`."""
    snapshot_max_age_hours: int = 24
    """How old an adopted archive may be."""
    keep_snapshots: int = 3
    """How many snapshots stay, the newest ones; each new one removes those beyond."""
    postgresql_bin: Path | None = None
    """The folder of pg_dump and pg_restore, where PATH and Debian's folders do not have them."""
    target: str = "default"
    """The database that a snapshot is restored into: an alias, or the name of an environment
    variable that holds its URL."""
    target_admin: str = ""
    """Another database on the target's server, reached directly and by a role that may create
    databases, named in the same way; without it, `postgres` by the target's own address."""
    target_names: tuple[str, ...] = ()
    """The databases that may be replaced; without them, those whose name holds `environment`."""
    credentials: str = "source"
    """Whose passwords stand in the restored database: those of the `source`, exactly as they are
    there, or those of the `target`, for the accounts that existed in it."""
    mail_sinks: tuple[str, ...] = ()
    """Where mail may go because nobody gets it there: SMTP hosts, with `:port` or without, and
    dotted paths of mail backends. Django's console, file, memory and dummy backends need not
    be named."""
    base_template: str = "rehearsal/base.html"
    """The template that the pages extend: the project's own, if it has the block `content`."""

    @property
    def manage_path(self) -> Path:
        """The manage.py that serves `python manage.py` lines; it may not exist."""
        if self.manage:
            return self.manage
        candidates = (self.root / "manage.py", self.root / "src" / "manage.py")
        return next((path for path in candidates if path.is_file()), candidates[0])


PATHS = {"root", "manage", "checklist", "folder", "snapshot", "postgresql_bin"}
LISTS = {
    "queues": "queue names",
    "target_names": "names of databases",
    "mail_sinks": "hosts or mail backends",
}
NUMBERS = {"snapshot_max_age_hours": "hours", "keep_snapshots": "snapshots"}
CHOICES = {
    "credentials": ("source", "target"),
    "test_database": ("migrations", "schema", "plain"),
}
MAY_BE_EMPTY = {"revision", "source", "target_admin"}


def read(raw: object) -> tuple[Configuration, list[tuple[str, str]]]:
    """Read a `REHEARSAL` value.

    Returns the configuration, with defaults where the value is wrong, and what is wrong with it
    as pairs of sentence and remedy.
    """
    if not isinstance(raw, dict):
        found = type(raw).__name__
        return Configuration(), [
            (f"REHEARSAL is a {found}; a dict was expected.", "Write REHEARSAL = {...}.")
        ]
    known = {item.name.upper(): item for item in fields(Configuration)}
    values: dict[str, Any] = {}
    wrong: list[tuple[str, str]] = []
    for key, value in raw.items():
        if key not in known:
            near = difflib.get_close_matches(str(key).upper(), known, n=1)
            remedy = f"Did you mean {near[0]}?" if near else f"Known keys: {', '.join(known)}."
            wrong.append((f"REHEARSAL has an unknown key {key!r}.", remedy))
            continue
        name = known[key].name
        try:
            values[name] = _typed(name, value)
        except (TypeError, ValueError) as error:
            wrong.append((f"REHEARSAL[{key!r}] is {value!r}: {error}.", "Correct the value."))
    return Configuration(**values), wrong


def _typed(name: str, value: object) -> object:
    if name in PATHS:
        if not isinstance(value, (str, Path)):
            raise TypeError("a path was expected")
        return Path(value)
    if name in NUMBERS or name.endswith("_seconds"):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            of = NUMBERS.get(name, "seconds")
            raise ValueError(f"a whole number of {of}, 1 or more, was expected")
        return value
    if name in LISTS:
        if isinstance(value, str) or not all(isinstance(item, str) for item in value):  # type: ignore[attr-defined]
            raise TypeError(f"a list of {LISTS[name]} was expected")
        return tuple(value)  # type: ignore[arg-type]
    if name == "test_environment":
        if not isinstance(value, Mapping) or not all(
            isinstance(key, str) and isinstance(entry, str | None) for key, entry in value.items()
        ):
            raise TypeError("a dict of variables was expected, each a string or None")
        return dict(value)
    if not isinstance(value, str):
        raise TypeError("a string was expected")
    if not value and name not in MAY_BE_EMPTY:
        raise ValueError("it is empty")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{' or '.join(map(repr, CHOICES[name]))} was expected")
    return value


@cache
def configuration() -> Configuration:
    """The project's configuration; raises ImproperlyConfigured naming what is wrong with it."""
    found, wrong = read(getattr(settings, "REHEARSAL", {}))
    if wrong:
        raise ImproperlyConfigured(" ".join(f"{said} {remedy}" for said, remedy in wrong))
    return found


def folder(*parts: str) -> Path:
    """A folder of the app's own, made if need be, for its user alone and out of git's sight.

    Raises OSError when it cannot be made.
    """
    top = configuration().folder or configuration().root / ".rehearsal"
    if not top.is_dir():
        top.mkdir(mode=0o700, parents=True)
    ignore = top / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    found = top.joinpath(*parts)
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found


def revision() -> str:
    """The commit that is in `root` now: as configured, else as git says, else empty."""
    here = configuration()
    if here.revision:
        return here.revision
    try:
        answer = subprocess.run(
            ["git", "-C", str(here.root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


@cache
def release() -> str:
    """The commit this process was started from: later changes on disk do not change it."""
    return revision()


@cache
def redactor() -> Redactor:
    """Takes out of text whatever this process's environment and settings hold as secrets."""
    values = {name: getattr(settings, name) for name in dir(settings) if name.isupper()}
    said = {name: value for name, value in values.items() if isinstance(value, str)}
    passwords = [str(entry.get("PASSWORD") or "") for entry in settings.DATABASES.values()]
    here, _wrong = read(getattr(settings, "REHEARSAL", {}))
    # Under names of their own: they may differ from what this process has under the same names.
    tests = {f"TESTS_{name}": value for name, value in here.test_environment.items() if value}
    return Redactor.from_environment({**said, **os.environ, **tests}, passwords)


def _forget(*, setting: str, **_: object) -> None:
    if setting == "REHEARSAL":
        configuration.cache_clear()


setting_changed.connect(_forget)
