"""Manifests and digests as they are found beside an archive: believed whole, or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rehearsal.databases.snapshots import SnapshotError
from rehearsal.databases.snapshots.adoption import adopted
from rehearsal.databases.snapshots.manifest import MANIFEST, Manifest, differences, intact, read
from tests.fuzzing import ANYTHING, altered, cases

TAKEN = Manifest(
    engine="postgresql",
    server="16.4",
    taken_at="2026-11-27T08:00:00+08:00",
    seconds=1.5,
    database="office on 127.0.0.1",
    database_bytes=4096,
    tables={"public.shop": [2, "a1"], "public.visit": [0, "00"]},
    sequences={"public.shop_id_seq": [1, 3]},
    structure={"columns": ["public.shop.id\tbigint"], "indexes": []},
    files={"dump/toc.dat": "ab" * 32},
    archive_bytes=100,
)


@cases(100)
@given(data=st.data())
def test_a_manifest_that_was_changed_is_none(data: st.DataObject, tmp_path: Path) -> None:
    TAKEN.save(tmp_path)
    file = tmp_path / MANIFEST
    changed = altered(json.loads(file.read_text()), data.draw)
    file.write_text(json.dumps(changed, indent=1, sort_keys=True, default=str))
    try:
        assert read(tmp_path) == TAKEN
    except SnapshotError as error:
        assert "Take the snapshot again." in str(error)


@cases(100)
@given(data=st.binary(max_size=200) | ANYTHING.map(lambda said: json.dumps(said).encode()))
@example(data=b"[" * 200_000)
@example(data=b'{"engine": "sqlite"}')
@example(data=b"\xff\xfe")
def test_whatever_stands_in_its_place_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(SnapshotError, match="Take the snapshot again"):
        read(tmp_path)


@cases(100)
@given(data=st.data())
def test_whatever_else_was_restored_is_told(data: st.DataObject) -> None:
    found = TAKEN.contents()
    where = data.draw(st.sampled_from(["public.shop", "public.visit"]))
    count, digest = data.draw(st.tuples(st.integers(0, 9), st.sampled_from(["a1", "00", "b2"])))
    restored = {**found, "tables": {**found["tables"], where: [count, digest]}}
    assert bool(differences(TAKEN, restored)) is (restored != found)


DIGEST = hashlib.sha256(b"an archive").hexdigest()
LINE = st.sampled_from(
    [
        f"{DIGEST}  dump.sqlite3", f"{DIGEST} *dump.sqlite3", f"\\{DIGEST}  dump.sqlite3",
        f"{DIGEST.upper()}  /var/dump.sqlite3", f"{DIGEST}  other", f"{'0' * 64}  dump.sqlite3",
        DIGEST, f"{DIGEST}\tdump.sqlite3", f"{DIGEST}  \x00", f"{DIGEST}  ..", f"{DIGEST}  /", "",
    ]
)  # fmt: skip
TOLD = st.lists(LINE | st.text(max_size=80), max_size=3).map(lambda said: "\n".join(said).encode())


@cases(60)
@given(told=TOLD | st.binary(max_size=100))
@example(told=f"{DIGEST}  dump.sqlite3\n".encode())
@example(told=b"\xff\xfe")
def test_only_who_vouches_for_this_archive_is_believed(told: bytes, tmp_path: Path) -> None:
    archive, folder = tmp_path / "dump.sqlite3", tmp_path / "kept"
    archive.write_bytes(b"an archive")
    (tmp_path / "dump.sqlite3.sha256").write_bytes(told)
    folder.mkdir(exist_ok=True)
    try:
        taken = adopted(archive, folder, "sqlite", 1)
    except SnapshotError as error:
        assert str(error).endswith(".")
    else:
        intact(folder, taken)
        assert DIGEST in told.decode().lower()


def test_differences_name_what_differs() -> None:
    found: dict[str, Any] = {**TAKEN.contents(), "sequences": {}}
    assert differences(TAKEN, found) == ["sequence public.shop_id_seq is missing"]
