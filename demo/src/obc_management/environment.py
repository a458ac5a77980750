"""Reads the environment: real variables first, then a file of KEY=VALUE lines."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def read_file(path: Path) -> None:
    """Put the lines of `path` into the environment where it does not say otherwise."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not key.startswith("#"):
            os.environ.setdefault(key.strip(), value.strip().strip("\"'"))


def text(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def items(name: str, default: str = "") -> list[str]:
    return [item.strip() for item in text(name, default).split(",") if item.strip()]


def given(*names: str) -> dict[str, str]:
    """Those of the variables that are set."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def flag(name: str, default: bool) -> bool:
    """A yes or no. Raises ImproperlyConfigured for anything else."""
    value = os.environ.get(name, "1" if default else "0").strip().lower()
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} is neither 1 nor 0. Set it to one of them.")
    return value in TRUE


def database(name: str, fallback: Path) -> dict[str, Any]:
    """The database a URL variable names, or a SQLite file at `fallback` when it is not set.

    Understands postgres://user:password@host:port/name?option=value and sqlite:///path; a
    `host` option is a socket directory. Raises ImproperlyConfigured, never showing the URL.
    """
    url = urlsplit(text(name, f"sqlite:///{fallback}"))
    options: dict[str, Any] = dict(parse_qsl(url.query))
    if url.scheme == "sqlite":
        path = Path(unquote(url.path[1:]))  # sqlite:////absolute or sqlite:///relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            # Taking the write lock first lets a second writer wait instead of failing half way.
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    if url.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            f"{name} should start with postgres:// or sqlite:///, found "
            f"{url.scheme or 'no scheme'!r}. Correct it in the environment or in src/.env."
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(url.path.lstrip("/")),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": options.pop("host", url.hostname or ""),
        "PORT": str(url.port or ""),
        "OPTIONS": options,
    }
