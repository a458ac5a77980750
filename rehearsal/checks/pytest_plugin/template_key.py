"""What determines the content of a freshly made test database, in one digest.

Migrations run the project's own code, so the digest covers, besides Django, the server and all
installed packages by their versions, the project's files themselves: the packages of its apps and
of its settings, whatever these import by name, and the data files beside them; not its tests,
templates and static files. Of the settings it covers those that Django's own commands read, and
those that a migration names.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

SUFFIXES = {
    ".py", ".sql", ".json", ".geojson", ".yaml", ".yml", ".xml", ".csv", ".tsv", ".toml", ".txt",
    ".gz", ".zip",
}  # fmt: skip
"""Files that a migration may run or read. Logs, databases and uploads change without meaning."""
SKIPPED = {"tests", "test", "static", "staticfiles", "node_modules", "__pycache__"}
SETTINGS = (
    "AUTH_USER_MODEL", "CACHES", "DATABASE_ROUTERS", "DEFAULT_AUTO_FIELD",
    "DEFAULT_INDEX_TABLESPACE", "DEFAULT_TABLESPACE", "INSTALLED_APPS", "LANGUAGES",
    "LANGUAGE_CODE", "PASSWORD_HASHERS", "SETTINGS_MODULE", "SITE_ID", "TIME_ZONE", "USE_I18N",
    "USE_TZ",
)  # fmt: skip
IMPORTS = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
IS_TEST = re.compile(r"(test_.*|.*_test|tests|conftest)\.py$")
NAMED_SETTING = re.compile(r"\bsettings\.([A-Z][A-Z0-9_]+)")
LIBRARIES = tuple(
    os.path.join(os.path.realpath(folder), "")
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(entry for entry in sys.path if "-packages" in entry),
    }
)
ROOT = os.getcwd()


def digest(connection: Any, more: dict[str, str]) -> str:
    """The digest for a connection whose test database is about to be made, and of more facts."""
    from django.conf import settings

    database = connection.settings_dict
    test = {name: value for name, value in database["TEST"].items() if name != "NAME"}
    modules = settings.MIGRATION_MODULES
    facts = {
        "alias": connection.alias,
        "aliases": sorted(settings.DATABASES),
        "engine": database["ENGINE"],
        "user": database["USER"],
        "zone": database["TIME_ZONE"],
        "test": test,
        **more,
        # pytest-django's --nomigrations puts an object here that has every app and no module.
        "modules": modules if type(modules) is dict else type(modules).__qualname__,
        "settings": {name: getattr(settings, name, None) for name in SETTINGS},
        "python": sys.version,
    }
    whole = hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode())
    whole.update(code().encode())
    return whole.hexdigest()


@cache
def code() -> str:
    """The digest of all code: by version where it is installed, by content where it is not."""
    from django.conf import settings

    found = hashlib.sha256()
    for name in sorted(installed()):
        found.update(name.encode() + b"\n")
    named: set[str] = set()
    for path in sorted(project_files()):
        content = path.read_bytes()
        found.update(f"{os.path.relpath(path, ROOT)}\0{len(content)}\0".encode())
        found.update(content)
        if path.parent.name == "migrations" and path.suffix == ".py":
            named.update(NAMED_SETTING.findall(content.decode(errors="replace")))
    for name in sorted(named):
        found.update(f"{name}={plain(getattr(settings, name, None))}\n".encode())
    return found.hexdigest()


def installed() -> set[str]:
    """The installed packages, as their metadata folders name them, with their versions."""
    return {
        name
        for folder in sys.path
        if "-packages" in folder and os.path.isdir(folder)
        for name in os.listdir(folder)
        if name.endswith((".dist-info", ".egg-info"))
    }


def plain(value: object) -> str:
    """A value's text where that is the same in every process; else no more than its type."""
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return type(value).__qualname__
    return text


def project_files() -> set[Path]:
    """The project's own files that may have a part in the making of a database."""
    from django.apps import apps
    from django.conf import settings

    files: set[Path] = set()
    modules = {(settings.SETTINGS_MODULE or "").partition(".")[0]}
    for app in apps.get_app_configs():
        modules.add(app.name.partition(".")[0])
        files.update(below(Path(app.path)))
    looked: set[str] = set()
    read: set[Path] = set()
    while modules:
        for name in modules:
            files.update(files_of(name))
        looked |= modules
        new, read = files - read, set(files)
        # What they import in turn, by the top-level names.
        modules = {
            name.decode()
            for path in new
            if path.suffix == ".py"
            for name in IMPORTS.findall(path.read_bytes())
        } - looked
    return files


def files_of(name: str) -> Iterator[Path]:
    """The files of a top-level package or module, if it is the project's own."""
    if not name or name in sys.stdlib_module_names:
        return
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return
    if found is None:
        return
    if found.submodule_search_locations is not None:
        for folder in found.submodule_search_locations:
            yield from below(Path(folder))
    elif found.origin and found.origin.endswith(".py"):
        path = Path(os.path.realpath(found.origin))
        if not str(path).startswith(LIBRARIES):
            yield path


def below(folder: Path) -> Iterator[Path]:
    """The files that count in a folder of the project."""
    top = os.path.realpath(folder)
    if os.path.join(top, "").startswith(LIBRARIES):
        return
    for here, folders, names in os.walk(top):
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        folders[:] = [one for one in folders if one not in SKIPPED and not one.startswith(".")]
        for name in names:
            if os.path.splitext(name)[1] in SUFFIXES and not IS_TEST.match(name):
                yield Path(here, name)
