"""A project to measure, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checks.performance.shop import SETTINGS, Shop


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(made: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A copy of it; the processes of the check are started with its settings."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
    own = Shop.__new__(Shop)
    own.path = shutil.copytree(made.path, tmp_path / "shop")
    own.write("src/shop/settings.py", SETTINGS % {"database": own.path / "shop.sqlite3"})
    own.first = own.commit()
    return own
