"""Who else performs tasks in order: each in an environment of its own, below .venv.

What they pin does not go together with what this project needs. A module's `ready` brings its peer
up and yields how to perform once, and how to know from the peer's own records that it is finished;
its `drive` runs in the peer's Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rehearsal import command
from rehearsal.redaction import Redactor

ROOT = Path(__file__).parent.parent.parent
INSTALL_SECONDS = 600


class Missing(Exception):
    """A peer that cannot be had here, with the reason."""


def environment(requirement: str, module: str) -> str:
    """The interpreter of an environment that has `requirement`, made where there is none yet.

    Raises Missing when it cannot be installed or `module` cannot be imported there.
    """
    folder = Path(sys.prefix) / "peers" / requirement
    python, made = folder / "bin" / "python", folder / "made"
    steps = [[str(python), "-c", f"import {module}"]]
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        steps = [
            [sys.executable, "-m", "venv", "--without-pip", str(folder)],
            [
                *(sys.executable, "-m", "pip", "--python", str(python), "install", "--no-input"),
                *("--disable-pip-version-check", requirement),
            ],
            *steps,
        ]
        print(f"installing {requirement} into {folder}", file=sys.stderr)
    for step in steps:
        done = subprocess.run(
            step, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        if done.returncode:
            said = done.stderr.strip() or f"{step[1:3]} ended with {done.returncode}"
            version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
            raise Missing(f"{requirement} on {version}: {said.splitlines()[-1]}")
    made.touch()
    return str(python)


def environ() -> dict[str, str]:
    """This process's environment without what is said to Django, which they would look for."""
    return {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}


@contextmanager
def service(argv: list[str], folder: Path, environ: Mapping[str, str]) -> Iterator[command.Command]:
    """A process of the peer that stays; its whole tree ends with the block, or with this process.

    What it says goes to `service.log` in `folder`.
    """
    with (
        (folder / "service.log").open("a", buffering=1) as log,
        command.Command(
            argv,
            cwd=folder,
            env=environ,
            write=lambda line: print(line, file=log),
            redactor=Redactor.from_environment(environ),
        ) as started,
    ):
        yield started


@contextmanager
def driver(python: str, module: str, environ: Mapping[str, str]) -> Iterator[Callable[[], str]]:
    """`drive` of one of the modules here, in the peer's Python: call it to have it perform once.

    It returns the key of what was begun, which may go on; RuntimeError when the peer has ended.
    """
    with subprocess.Popen(
        [python, "-c", f"from {module} import drive; drive()"],
        cwd=ROOT,
        env={**environ, "PYTHONPATH": os.fspath(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        asked, answers = process.stdin, process.stdout
        assert asked and answers

        def hear() -> str:
            if not (said := answers.readline()):
                raise RuntimeError(f"{module} ended: see above what it said.")
            return said.strip()

        def perform() -> str:
            print(file=asked, flush=True)
            return hear()

        try:
            hear()
            yield perform
        finally:
            process.kill()


def answer(perform: Callable[[], object]) -> None:
    """The other end: say that it can begin, then perform for each line and say what it returned."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(perform(), flush=True)


def until(look: Callable[[], object]) -> None:
    """Look every 5 ms, for at most a minute."""
    deadline = time.monotonic() + 60
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError("what the benchmark waits for did not come within a minute")
        time.sleep(0.005)
