"""What is deployed here: a revision becomes a commit, and settings a digest."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from rehearsal import release


def test_the_digest_of_the_settings_takes_whatever_they_hold(settings: Any) -> None:
    first = release.settings_digest()
    assert first == release.settings_digest()
    around: dict[object, object] = {1: "a", "b": {None: {2, "c"}}, (3,): object}
    around["itself"] = around
    settings.ODD = around
    second = release.settings_digest()
    assert first != second == release.settings_digest()
    settings.ODD = {**around, 1: "another"}
    assert release.settings_digest() != second


def test_a_branch_or_a_tag_is_the_commit_it_stands_for_now(tmp_path: Path, settings: Any) -> None:
    settings.REHEARSAL = {"ROOT": tmp_path}
    assert release.commit("release") == "release"  # no repository: as it was named

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "One")
    git("tag", "-a", "release", "-m", "One")
    one = git("rev-parse", "HEAD")
    assert {release.commit(name) for name in ("release", "HEAD", one[:9], one.upper())} == {one}
    git("commit", "-q", "--allow-empty", "-m", "Two")
    assert release.commit("HEAD") == release.revision() != one
    for other in ("--all", "2026.11", "ABCDEF1", "", "a\x00b"):
        assert release.commit(other) in {other, other.lower()}
