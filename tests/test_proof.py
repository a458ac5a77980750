"""The page of what was shown is written by a whole run of a state that can be checked out."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import proof

TESTS = """
import os, pytest

@pytest.mark.fault("one", promised="held")
def test_one():
    assert not os.environ.get("FAILS")

@pytest.mark.fault("two", promised="held")
@pytest.mark.parametrize("number", [1, 2])
def test_two(number):
    if os.environ.get("CRASHES"):
        os._exit(1)
    if os.environ.get("INTERRUPTED"):
        raise KeyboardInterrupt

def test_of_no_part():
    pass
"""
INI = """
[pytest]
testpaths = tests
addopts = -p tests.proof -p no:cacheprovider
markers = fault
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own, committed, with the page, a test of one fault and one of two cases."""
    for path, text in {
        "pytest.ini": INI, "tests/__init__.py": "", "tests/test_a.py": TESTS,
        "tests/proof.py": Path(proof.__file__).read_text(), ".gitignore": "__pycache__",
        "docs/proof.md": "<!-- begin fault -->\nbefore\n<!-- end fault -->\n",
    }.items():  # fmt: skip
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    return tmp_path


def commit(project: Path) -> None:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@site.example")
    for command in (["add", "."], [*who, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", *command], cwd=project, check=True)


def run(project: Path, *arguments: str, **environ: str) -> str:
    """What a run says of the page."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "fault", "--proof", *arguments],
        cwd=project, env={"PATH": "/usr/bin:/bin", **environ}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    said = [line for line in ended.stdout.splitlines() if line.startswith("proof: ")]
    assert said, ended.stdout + ended.stderr
    return said[-1]


def page(project: Path) -> str:
    return (project / "docs" / "proof.md").read_text()


@pytest.mark.parametrize("processes", ["0", pytest.param("2", marks=pytest.mark.long)])
def test_a_whole_run_is_written(project: Path, processes: str) -> None:
    assert run(project, "-n", processes) == "proof: proof.md was written."
    assert "2 of 2 as promised. Commit `" in page(project)
    assert "| two | held | passed × 2 | `test_a.py` `test_two` |" in page(project)
    # What was written changes nothing that is looked at.
    assert run(project, FAILS="yes") == "proof: proof.md was written."
    assert "1 of 2 as promised. Commit `" in page(project)
    assert "| one | held | failed | `test_a.py` `test_one` |" in page(project)


@pytest.mark.parametrize(
    ("arguments", "environ", "why"),
    [
        (["-k", "one"], {}, "tests were chosen by hand (keyword)"),
        (["-x"], {"FAILS": "yes"}, "2 of 3 tests did not report: tests/test_a.py::test_two[1]"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                (["--deselect", "tests/test_a.py::test_one"], {}, "chosen by hand (deselect)"),
                (["tests"], {}, "paths were given"),
                ([], {"INTERRUPTED": "yes"}, "the run ended with exit status 2"),
                (["-n", "2"], {"CRASHES": "yes"}, "did not report: tests/test_a.py::test_two[1]"),
            )
        ),
    ],
)
def test_a_part_of_a_run_is_not_written(
    project: Path, arguments: list[str], environ: dict[str, str], why: str
) -> None:
    said = run(project, *arguments, **environ)
    assert said.startswith("proof: proof.md was not written, since "), said
    assert why in said
    assert "before" in page(project)


@pytest.mark.long
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_file_that_cannot_be_imported_leaves_the_page(project: Path, processes: str) -> None:
    (project / "tests" / "test_b.py").write_text("import nothing_of_that_name\n")
    assert "the working tree is changed" in run(project, "-n", processes)
    commit(project)
    for more in ([], ["--continue-on-collection-errors"]):
        assert "test_b.py cannot be read" in run(project, "-n", processes, *more)
    assert "before" in page(project)


def bears_fault(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault"
        for mark in function.decorator_list
    )


def test_there_are_enough_faults() -> None:
    """What is promised of their number, without collecting them all."""
    marked = [
        f"{path.relative_to(proof.ROOT / 'tests')}::{function.name}"
        for path in (proof.ROOT / "tests").rglob("test_*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and bears_fault(function)
    ]
    assert len(set(marked)) >= 47
