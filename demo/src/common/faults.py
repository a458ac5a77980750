"""Faults that can be planted while everything runs, so that tests can see them found."""

from pathlib import Path

from django.conf import settings


def planted(name: str) -> bool:
    """Whether the file that PLANTED_FAULTS names has this fault on a line of its own."""
    file = settings.PLANTED_FAULTS
    return bool(file) and name in Path(file).read_text(encoding="utf-8").splitlines()
