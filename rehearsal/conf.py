"""The `REHEARSAL` setting as a frozen dataclass, read when it is asked for and not before."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from rehearsal.env_file import EnvFile, EnvFileError
from rehearsal.observed import KnownNoise, LogSource, Monitor, PageName, web_address
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
    site_url: str = ""
    """Where this environment's web server is reached, such as `https://staging.example.org`."""
    mail_seen_in: str = ""
    """Where captured mail can be seen: a file or folder, or a sink's address with `{address}` in it
    that answers what it holds for that address. Without it, Django's file backend's folder."""
    pages: tuple[PageName, ...] = ()
    """The dashboards and interfaces that matter: crawled for errors, and measured."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Whose eyes they are looked at with: the username of an account for each role."""
    worker_logs: tuple[LogSource, ...] = ()
    """Where the log of the project's Celery workers is."""
    request_logs: tuple[LogSource, ...] = ()
    """Where the web server's log is; without it, what `rehearsal.request_log.Handler` wrote."""
    known_noise: tuple[KnownNoise, ...] = ()
    """Complaints in logs and alerts that people know of, each with a reason and its last day."""
    monitoring: tuple[Monitor, ...] = ()
    """The servers that know of alerts; none where monitoring is not enabled."""
    base_template: str = "rehearsal/base.html"
    """The template that the pages extend: the project's own, if it has the block `content`."""
    env_file: Path | None = None
    """The file of the environment's secrets; without it, `.env.staging` in `root` for staging."""
    env_template: Path | None = None
    """Names the keys that file must have; without it, the same name with `.example`, if there."""
    required_secrets: tuple[str, ...] = ()
    """More keys that file must have."""
    secrets_source: Path | str | tuple[str, ...] | None = None
    """Where the latest queue and API credentials are: another such file, `environment:PREFIX_`
    for variables of the checks' worker, or the arguments of a command that prints them."""
    production_env: Path | None = None
    """Production's file, whose secrets and addresses must be none of this environment's."""
    shared_secrets: tuple[str, ...] = ()
    """The keys whose value may be production's."""
    sign_off: str = "person"
    """Who decides: a `person`, or, when everything was sensed green, the policy: `automatic`."""
    quorum: int = 1
    """How many people must say go."""
    starter_may_decide: bool = False
    """Whether who started a rehearsal may also say go, as in an office of one."""
    waiver_days: int = 30
    """How long a waiver holds that does not say so itself."""
    ticket: str = ""
    """The release ticket: its address on GitHub, GitLab or Jira, or a folder. `{ticket}` stands for
    what who decides calls it, `{revision}` for the commit."""
    ticket_token: str = "REHEARSAL_TICKET_TOKEN"  # noqa: S105
    """The environment variable that holds the token for it; for Jira in the cloud, `mail:token`."""
    owners: tuple[str, ...] = ()
    """The mail addresses of those who are told what was decided."""
    owners_mail: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How mail gets to them, where the environment's own mail is captured: `BACKEND`, `FROM`, and
    what the backend takes, in capitals: `HOST`, `PORT`, `USERNAME`, `PASSWORD`, `USE_TLS` …"""
    owners_apprise: str = ""
    """The environment variable that holds addresses of apprise's, by which they are told too."""
    gate_max_age_hours: int = 72
    """How old a decision may be for rehearsal_gate to let a deployment pass."""

    @property
    def manage_path(self) -> Path:
        """The manage.py that serves `python manage.py` lines; it may not exist."""
        if self.manage:
            return self.manage
        candidates = (self.root / "manage.py", self.root / "src" / "manage.py")
        return next((path for path in candidates if _is_file(path)), candidates[0])

    @property
    def env_path(self) -> Path:
        """The file of the environment's secrets; it may not exist."""
        return self.env_file or self.root / f".env.{self.environment}"

    @property
    def template_path(self) -> Path | None:
        """What names the keys that file must have; None when there is no such thing."""
        beside = self.env_path.with_name(f"{self.env_path.name}.example")
        return self.env_template or (beside if _is_file(beside) else None)


FILES = {"manage", "checklist", "env_file", "env_template", "production_env"}
PATHS = FILES | {"root", "folder", "snapshot", "postgresql_bin"}
LISTS = {
    "queues": "queue names",
    "target_names": "names of databases",
    "mail_sinks": "hosts or mail backends",
    "required_secrets": "keys",
    "shared_secrets": "keys",
    "owners": "mail addresses",
}
NUMBERS = {
    "snapshot_max_age_hours": "hours",
    "keep_snapshots": "snapshots",
    "quorum": "people",
    "waiver_days": "days",
    "gate_max_age_hours": "hours",
}
FLAGS = {"starter_may_decide"}
OBSERVED: dict[str, Callable[[object], object]] = {
    "pages": PageName.read,
    "worker_logs": LogSource.read,
    "request_logs": LogSource.read,
    "known_noise": KnownNoise.read,
    "monitoring": Monitor.read,
}
CHOICES = {
    "credentials": ("source", "target"),
    "test_database": ("migrations", "schema", "plain"),
    "sign_off": ("person", "automatic"),
}
MAY_BE_EMPTY = {
    "ticket",
    "owners_apprise",
    "revision",
    "source",
    "target_admin",
    "site_url",
    "mail_seen_in",
}
FROM_VARIABLES = "environment:"


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
            shown = Redactor().redact(repr(value))
            wrong.append((f"REHEARSAL[{key!r}] is {shown}: {error}.", "Correct the value."))
    return Configuration(**values), wrong


def _typed(name: str, value: object) -> object:
    if name in PATHS:
        if not isinstance(value, (str, Path)):
            raise TypeError("a path was expected")
        path = _path(value)
        if name in FILES and not path.name:
            raise ValueError("a file was expected")
        return path
    if name in NUMBERS or name.endswith("_seconds"):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            of = NUMBERS.get(name, "seconds")
            raise ValueError(f"a whole number of {of}, 1 or more, was expected")
        return value
    if name in FLAGS:
        if not isinstance(value, bool):
            raise TypeError("True or False was expected")
        return value
    if name in LISTS:
        return _strings(value, LISTS[name])
    if name in OBSERVED:
        if not isinstance(value, (list, tuple)):
            raise TypeError("a list was expected")
        read = [OBSERVED[name](entry) for entry in value]
        for one in read:
            _prove_no_secret(getattr(one, "arguments", ()))
        return tuple(read)
    if name == "roles":
        if not isinstance(value, Mapping) or not all(
            isinstance(word, str) and word for pair in value.items() for word in pair
        ):
            raise TypeError("a dict of usernames by role was expected")
        return dict(value)
    if name == "owners_mail":
        if not isinstance(value, Mapping) or not all(
            isinstance(key, str) and key.isupper() for key in value
        ):
            raise TypeError("a dict was expected, its keys in capitals, such as HOST")
        return dict(value)
    if name == "secrets_source":
        return _source(value)
    if name == "test_environment":
        if not isinstance(value, Mapping) or not all(
            isinstance(key, str) and isinstance(entry, str | None) for key, entry in value.items()
        ):
            raise TypeError("a dict of variables was expected, each a string or None")
        return dict(value)
    if name == "mail_seen_in" and isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        raise TypeError("a string was expected")
    if not value and name not in MAY_BE_EMPTY:
        raise ValueError("it is empty")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{' or '.join(map(repr, CHOICES[name]))} was expected")
    return web_address(value) if value and name.endswith("_url") else value


def _path(value: str | Path) -> Path:
    if "\0" in str(value):
        raise ValueError("a path was expected, without a NUL character")
    return Path(value)


def _strings(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"a list of {what} was expected")
    return tuple(value)


def _prove_no_secret(arguments: Sequence[str]) -> None:
    # All users of the machine can see the arguments of a command.
    if Redactor().redact(shown := " ".join(arguments)) != shown:
        raise ValueError("an argument holds a secret; give it to the command by a variable")


def _source(value: object) -> Path | str | tuple[str, ...]:
    if isinstance(value, (list, tuple)):
        arguments = _strings(value, "arguments")
        if not arguments:
            raise ValueError("it is empty")
        _prove_no_secret(arguments)
        return arguments
    if isinstance(value, str) and value.startswith(FROM_VARIABLES):
        # Without a prefix it would be the variables that were read from the very file.
        if value == FROM_VARIABLES:
            raise ValueError("a prefix of the variables was expected after the colon")
        return value
    if not isinstance(value, (str, Path)) or not str(value):
        raise TypeError(f"a path, {FROM_VARIABLES}PREFIX_ or a list of arguments was expected")
    return _path(value)


@cache
def configuration() -> Configuration:
    """The project's configuration; raises ImproperlyConfigured naming what is wrong with it."""
    found, wrong = read(getattr(settings, "REHEARSAL", {}))
    if wrong:
        raise ImproperlyConfigured(" ".join(f"{said} {remedy}" for said, remedy in wrong))
    return found


def _is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file system takes is that of none."""
    try:
        return path.is_file()
    except OSError:
        return False


def folder(*parts: str) -> Path:
    """A folder of the app's own, made if need be, for its user alone and out of git's sight.

    Raises OSError when it cannot be made.
    """
    top = configuration().folder or configuration().root / ".rehearsal"
    if not top.is_dir():
        top.mkdir(mode=0o700, parents=True, exist_ok=True)  # several checks begin at once
    ignore = top / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    found = top
    for part in parts:
        # Each for itself: what mkdir makes on the way has the mode of the day, and `top` may be
        # open to others where somebody else made it.
        found = found / part
        found.mkdir(mode=0o700, exist_ok=True)
    return found


def all_settings() -> dict[str, Any]:
    """Every setting by its name, in order, defaults and those that Django gives up included."""
    # As `diffsettings` reads them: through `settings` itself, one that is given up is a warning.
    names = [name for name in dir(settings) if name.isupper()]
    here: Any = settings
    return {name: getattr(here._wrapped, name) for name in names}


def redactor() -> Redactor:
    """Takes out of text whatever this process's environment, settings and files hold as secrets."""
    here, _wrong = read(getattr(settings, "REHEARSAL", {}))
    files = [here.env_path, here.production_env, here.secrets_source]
    return _redactor(tuple(_version(file) for file in files if isinstance(file, Path)))


def _version(file: Path) -> tuple[Path, int, int]:
    """What tells a file from what it was before, so that new secrets are known at once."""
    try:
        told = file.stat()
    except OSError:
        return file, 0, 0
    return file, told.st_ino, told.st_mtime_ns


@lru_cache(maxsize=1)
def _redactor(files: tuple[tuple[Path, int, int], ...]) -> Redactor:
    said = list(_nested(all_settings()))
    passwords = [str(entry.get("PASSWORD") or "") for entry in settings.DATABASES.values()]
    for file, *_version in files:
        # Who may not read a file cannot tell what is in it.
        with suppress(EnvFileError):
            said += EnvFile.read(file).values.items()
    return Redactor.from_pairs([*said, *os.environ.items()], passwords)


def _nested(values: Mapping[Any, Any], path: str = "", depth: int = 6) -> Iterator[tuple[str, str]]:
    """Each string in nested settings by its path, such as `CACHES.default.OPTIONS.PASSWORD`.

    An entry of a list is named as the list is: `0.SECRET_KEY_FALLBACKS`.
    """
    for key, value in values.items():
        name = f"{path}{key}"
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping) and depth:
            yield from _nested(value, f"{name}.", depth - 1)
        elif isinstance(value, (list, tuple, set, frozenset)) and depth:
            entries = {f"{number}.{name}": entry for number, entry in enumerate(value)}
            yield from _nested(entries, "", depth - 1)


def _forget(*, setting: str, **_: object) -> None:
    if setting == "REHEARSAL":
        configuration.cache_clear()


setting_changed.connect(_forget)
