"""Every supported Python with every supported Django: `make matrix`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

SUPPORTED = {"5.2": ("3.11", "3.12", "3.13"), "6.1": ("3.12", "3.13")}
"""The Pythons, by the Django they are tested with."""

nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"  # one that is missing is skipped, and with CI=true fails
nox.options.reuse_venv = "yes"

if pyenv := shutil.which("pyenv"):  # whose python3.12 is there, and refuses unless it is chosen
    there = subprocess.run(
        [pyenv, "versions", "--bare"], capture_output=True, text=True, check=True
    )
    os.environ.setdefault("PYENV_VERSION", ":".join(there.stdout.split()))

each = nox.parametrize(
    "python, django",
    [
        nox.param(python, django, id=f"{python}-django{django}")
        for django, pythons in SUPPORTED.items()
        for python in pythons
    ],
)


@nox.session
@each
def tests(session: nox.Session, django: str) -> None:
    """The default suite; what follows `--` is for pytest."""
    session.install("-e", ".[demo,test,migrations]", f"django=={django}.*")
    session.run("python", "-m", "pytest", "-n", "4", *session.posargs)


@nox.session(reuse_venv=False)
@each
def wheel(session: nox.Session, django: str) -> None:
    """The wheel alone in an environment, plugged into a new project and rehearsed."""
    folder = Path(session.create_tmp()).resolve()
    # This Python, and not the session's, builds the wheel and runs the tests.
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    session.run(*build, external=True)
    (built,) = folder.glob("*.whl")
    session.install(str(built), f"django=={django}.*")
    session.run("python", "-m", "pip", "check")
    bare = shutil.which("python", path=session.bin)
    session.run(
        *(sys.executable, "-m", "pytest", "-n", "0", "tests/test_other_project.py"),
        *("tests/test_wheel.py", "-m", "long or not long", *session.posargs),
        env={"BARE_PYTHON": bare},
        external=True,
    )
