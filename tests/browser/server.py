"""An asynchronous server of the tests' project, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT, wait_for


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """Bring one up on `port`, or on any; gives its address. It is killed at the end."""
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "tests.browser.asgi:application"),
                *("--host", "127.0.0.1", "--port", str(port), "--lifespan", "off"),
            ],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.browser.settings"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        said = "Uvicorn running on "
        wait_for(lambda: said in log.read_text() or process.poll() is not None)
        text = log.read_text()
        assert said in text, text
        yield text.split(said)[1].split()[0]
    finally:
        process.kill()
        process.wait(timeout=10)
