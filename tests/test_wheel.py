"""What is released holds all of the package and nothing else."""

from __future__ import annotations

import re
import subprocess
import zipfile
from email import message_from_bytes
from pathlib import Path

from tests.conftest import ROOT


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    known = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "rehearsal"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    with zipfile.ZipFile(wheel) as built:
        held = set(built.namelist())
        (described,) = (name for name in held if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(built.read(described))
    package = {name for name in held if not re.match(r"rehearsal-[\d.]+\.dist-info/", name)}
    assert package == set(known.stdout.split())
    kinds = ("py.typed", "migrations/0001_initial.py", "checklists/staging.md",
             "locale/fil/LC_MESSAGES/django.mo", "templates/rehearsal/page.html",
             "static/rehearsal/rehearsal.css", "contrib/oobc/__init__.py",
             "management/commands/start_rehearsal.py")  # fmt: skip
    assert {f"rehearsal/{name}" for name in kinds} <= package
    asked = metadata.get_all("Requires-Dist", [])
    needed = {re.split(r"[>=;\[ ]", line)[0] for line in asked if "extra ==" not in line}
    assert needed == {
        "celery", "django", "django-celery-results", "django-htmx", "markdown-it-py", "redis",
    }  # fmt: skip
    assert "The document is the program" in str(metadata.get_payload())
