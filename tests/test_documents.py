"""Every block of code in the documents is executed, loaded or parsed here; none is merely shown."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.urls import include, path, resolve
from django.utils.module_loading import import_string

from rehearsal import checklist, conf, plan
from rehearsal.checks import base
from rehearsal.management.commands import start_rehearsal
from tests.conftest import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for document in DOCUMENTS:
        text = document.read_text()
        assert text.count("\n```") % 2 == 0, document
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(document, line, found[1], found[2])


def of(*languages: str) -> Any:
    found = [block for block in blocks() if block.language in languages]
    assert found
    names = [f"{block.document.name}:{number}" for number, block in enumerate(found)]
    return pytest.mark.parametrize("block", found, ids=names)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in blocks()} == {"", "python", "markdown", "ini", "yaml"}


# Commands. `make demo` and `make test` take minutes and install: CI and the tests of the demo run
# them. Those that write docs/proof.md take longer still, and it shows that they ran. The others are
# executed, by a shell, in tests/test_other_project.py. Here the program and its options are held
# against the parsers, those too that a block shows in brackets.

MAKE = re.compile(r"^([a-z]+):.*## ", re.MULTILINE)


@of("")
def test_the_commands_of_a_block_are_there_with_their_options(block: Block) -> None:
    text = re.sub(r"\n +", " ", block.text).replace("\\\n", " ")
    targets = set(MAKE.findall((ROOT / "Makefile").read_text()))
    for line in text.splitlines():
        words = line.split("||")[0].split()
        if words[0] == "make":
            assert words[1] in targets, line
            for name in re.findall(r"NAME=(\w+)", line):
                assert (ROOT / "benchmarks" / f"{name}.py").is_file(), line
        elif words[0] == "manage.py":
            name = words[1]
            command = load_command_class(get_commands()[name], name)
            known = {
                option
                for action in command.create_parser("manage.py", name)._actions
                for option in action.option_strings
            }
            assert set(re.findall(r"--[a-z-]+", line)) <= known, line
            if "[" not in line and "NUMBER" not in line:
                command.create_parser("manage.py", name).parse_args(words[2:])
        else:
            assert shutil.which(words[0]), line
            assert words == ["sha256sum", "evidence.json"], f"{line}: say here how it is tested"


# Python: what is executed, with the names that the text around it presupposes.


class Environment:
    """As django-environ's `env`, of which the document speaks."""

    def db(self, name: str) -> dict[str, str]:
        assert name == "REHEARSAL_DATABASE_URL"
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


@of("python")
def test_a_block_of_python_runs_and_its_settings_are_right(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("office.checks")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = module.__dict__

    names |= {
        "INSTALLED_APPS": [], "MIDDLEWARE": [], "DATABASES": {}, "BASE_DIR": ROOT / "src",
        "env": Environment(), "LOGGING": {"handlers": {}, "loggers": {}}, "urlpatterns": [],
        "apps": apps, "path": path, "include": include,
    }  # fmt: skip
    exec(compile(block.text, f"{block.document.name}:{block.line}", "exec"), names)  # noqa: S102
    settings = dict(names.get("REHEARSAL", {}))
    known = {key for key in names if key.lower() in conf.Configuration.__dataclass_fields__}
    settings |= {key: names[key] for key in known}
    assert conf.read(settings)[1] == []
    for dotted in [*names["MIDDLEWARE"], *names.get("DATABASE_ROUTERS", [])]:
        assert import_string(dotted)
    for handler in names["LOGGING"]["handlers"].values():
        assert import_string(handler["class"])
    for pattern in names["urlpatterns"]:
        assert resolve("/rehearsal/") and pattern.resolve("rehearsal/")
    for value in list(names.values()):
        if isinstance(value, type) and issubclass(value, base.Check) and value is not base.Check:
            assert value().run
    assert ast.parse(block.text).body


@of("markdown")
def test_a_block_of_a_checklist_is_read_and_its_checks_take_its_options(block: Block) -> None:
    parsed = checklist.parse(f"## 1. A\n{block.text}")
    assert parsed.items
    for item in parsed.items:
        if item.check and not item.check.startswith("office."):
            assert plan.base.build(item.check, item.options)


@of("ini")
def test_a_unit_of_systemd_is_one(block: Block, tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block.text)
    assert {"Unit", "Service", "Install"} >= set(unit.sections()) >= {"Service"}
    words = unit["Service"]["ExecStart"].split()
    assert words[0].startswith("/")
    name = next(word for word in words if word.startswith("rehearsal_"))
    load_command_class(get_commands()[name], name)
    if (analyze := shutil.which("systemd-analyze")) is None:
        said = "systemd-analyze is not on PATH: install Debian's package systemd."
        (pytest.fail if os.environ.get("REHEARSAL_TEST_STRICT") else pytest.skip)(said)
    file = tmp_path / "rehearsal.service"
    # Its user, folder and interpreter are the office's.
    kept = [line for line in block.text.splitlines() if not re.match("User=|WorkingDir|Env", line)]
    file.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", "\n".join(kept)) + "\n")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if file.name in line]
    assert said == []


@of("yaml")
def test_a_service_of_compose_is_one(block: Block) -> None:
    """There is no Docker here to start it: what Compose takes for a service is written here."""
    presupposed = "x-staging: &staging {image: obcms}\nvolumes: {rehearsal: {}}\nservices:\n"
    said = yaml.safe_load(presupposed + block.text)
    (service,) = said["services"].values()
    kinds = {"image": str, "command": str, "environment": dict, "volumes": list}
    assert {key: type(value) for key, value in service.items()} == kinds
    words = service["command"].split()
    assert words[:2] == ["python", "manage.py"]
    load_command_class(get_commands()[words[2]], words[2])
    for volume in service["volumes"]:
        assert volume.partition(":")[0] in said["volumes"]


def test_the_exit_codes_are_those_of_the_command() -> None:
    told = (ROOT / "docs" / "plugging-in.md").read_text().partition("| exit code |")[2]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", told, re.MULTILINE)}
    others = {
        start_rehearsal.USAGE, start_rehearsal.ALREADY_OPEN, start_rehearsal.NO_WORKER,
        start_rehearsal.TIMED_OUT, start_rehearsal.INTERRUPTED,
    }  # fmt: skip
    assert codes == {*start_rehearsal.EXIT_CODES.values(), *others}


def test_the_layers_are_those_that_the_linter_holds() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    held = config["tool"]["importlinter"]["contracts"][0]["layers"]
    told = (ROOT / "docs" / "architecture.md").read_text().partition("## Layers\n")[2]
    names = [re.findall(r"\w+", layer) for layer in held]
    written = re.findall(r"`([^`]+)`", told.partition("\n\n`lint-imports`")[0].replace("\n", " "))
    assert [re.findall(r"\w+", layer) for layer in written] == names


def test_what_is_linked_is_there() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
