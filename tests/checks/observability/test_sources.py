"""Where lines of a log come from: rotated, truncated, binary, endless; nothing lost or leaked."""

from __future__ import annotations

import datetime
import gzip
import os
import sys
from pathlib import Path

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from rehearsal.checks.base import Rehearsed, Report
from rehearsal.checks.observability import sources
from rehearsal.checks.observability.entries import Entry, moment
from rehearsal.observed import LogSource
from rehearsal.redaction import Redactor
from tests.conftest import wait_for
from tests.fuzzing import cases

NOW = datetime.datetime.now(datetime.UTC)
SINCE = NOW - datetime.timedelta(minutes=5)
SECRET = "correct-horse-battery"


def line(text: str, minutes: float = -1, level: str = "INFO") -> str:
    """A line as Celery writes it, some minutes from now."""
    at = NOW + datetime.timedelta(minutes=minutes)
    return f"[{at:%Y-%m-%d %H:%M:%S},123+00:00: {level}/MainProcess] {text}\n"


OLD = line("before", minutes=-60)


def read(
    folder: Path, source: object, since: datetime.datetime = SINCE
) -> tuple[list[Entry], list[str], Report]:
    report = Report("A line.", Rehearsed(1, "", since), redact=Redactor([SECRET]).redact)
    found: list[Entry] = []
    with override_settings(REHEARSAL={"ROOT": folder}):
        window = sources.read(LogSource.read(source), since, report, found.append)
    return found, window.doubts, report


def texts(entries: list[Entry]) -> list[str]:
    return [entry.text.rpartition("] ")[2] for entry in entries]


def touched(path: Path, minutes: float) -> None:
    at = (NOW + datetime.timedelta(minutes=minutes)).timestamp()
    os.utime(path, (at, at))


def test_exactly_the_rehearsals_window_is_read(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text(OLD + "  of the old one\n" + line("inside") + "  of the new one\n")
    entries, doubts, _report = read(tmp_path, "worker.log")
    assert texts(entries) == ["inside"]
    assert entries[0].rest == ["  of the new one"]
    assert doubts == []


@pytest.mark.parametrize("packed", [False, True])
def test_a_rotated_file_is_followed(tmp_path: Path, packed: bool) -> None:
    first = (OLD + line("one", -4)).encode()
    name = "worker.log.1.gz" if packed else "worker.log.1"
    (tmp_path / name).write_bytes(gzip.compress(first) if packed else first)
    touched(tmp_path / name, -3)
    (tmp_path / "worker.log.2").write_text(line("yesterday", -2000))
    touched(tmp_path / "worker.log.2", -1440)
    (tmp_path / "worker.log").write_text(line("two", -2))
    for source in ("worker.log", "worker*"):
        entries, doubts, _report = read(tmp_path, source)
        assert texts(entries) == ["one", "two"]
        assert doubts == []


def test_a_log_copied_and_truncated_under_its_writer_is_followed(tmp_path: Path) -> None:
    (tmp_path / "worker.log.1").write_text(OLD + line("one", -4))
    # A writer that does not append goes on where it was, behind a hole.
    (tmp_path / "worker.log").write_bytes(b"\0" * 70_000 + line("two", -2).encode())
    entries, doubts, _report = read(tmp_path, "worker.log")
    assert texts(entries) == ["one", "two"]
    assert doubts == []


def test_a_worker_that_starts_onto_an_emptied_log_leaves_a_doubt(tmp_path: Path) -> None:
    banner = "SecurityWarning: You're running the worker with superuser privileges\n"
    (tmp_path / "worker.log").write_text(banner + line("what is left"))
    _entries, doubts, _report = read(tmp_path, "worker.log")
    assert "begins within the rehearsal's time" in doubts[0]


def test_what_was_truncated_away_is_a_doubt(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text(line("what is left"))
    entries, doubts, _report = read(tmp_path, "worker.log")
    assert texts(entries) == ["what is left"]
    assert "begins within the rehearsal's time" in doubts[0]


def test_a_log_that_was_removed_is_a_doubt_whatever_is_left_of_other_weeks(tmp_path: Path) -> None:
    old = tmp_path / "worker.log.1"
    old.write_text(line("last week", -10_000))
    touched(old, -9_000)
    (tmp_path / "worker.log").write_text(line("what is left"))
    # Nobody can set when a file was last renamed, so the window begins now.
    since = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
    wait_for(lambda: datetime.datetime.now(datetime.UTC) > since)
    old_one = (tmp_path / "worker.log").rename(tmp_path / "gone")
    (tmp_path / "worker.log").write_text(f"{datetime.datetime.now(datetime.UTC)} what is left\n")
    old_one.unlink()
    assert "begins within" in read(tmp_path, "worker.log", since)[1][0]
    # The same, rotated in time: a rename is seen.
    old.rename(tmp_path / "worker.log.2")
    assert read(tmp_path, "worker.log", since)[1] == []


def test_what_begins_with_a_hole_or_was_emptied_is_a_doubt(tmp_path: Path) -> None:
    """A writer that does not append goes on behind a hole that nobody kept a copy for."""
    (tmp_path / "worker.log").write_bytes(b"\0" * 2 * sources.BLOCK + line("left").encode())
    assert "begins within" in read(tmp_path, "worker.log")[1][0]
    (tmp_path / "worker.log").write_bytes(b"")
    assert "begins within" in read(tmp_path, "worker.log")[1][0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "there is no file"),
        (b"", "has no line"),
        (os.urandom(300_000).replace(b":", b""), "no line of binary.log carries a date"),
        (b"\x1f\x8b" + os.urandom(5000), "cannot be read"),
        (b"no date at all\n" * 10, "no line of binary.log carries a date"),
        (line("x", minutes=300).encode(), "a time that is still to come"),
    ],
    # Processes that test in parallel collect at other seconds, and must agree on the names.
    ids=["missing", "empty", "bytes", "broken gzip", "undated", "of the future"],
)
def test_what_is_no_log_of_this_time_is_a_doubt(
    tmp_path: Path, data: bytes | None, said: str
) -> None:
    if data is not None:
        (tmp_path / "binary.log").write_bytes(data)
        if not data:
            touched(tmp_path / "binary.log", -60)
    entries, doubts, _report = read(tmp_path, "binary.log")
    assert entries == []
    assert any(said in doubt for doubt in doubts)


def test_bytes_that_are_no_text_lose_no_line(tmp_path: Path) -> None:
    bad = b"\xff\xfe\x00\xc3 \x1b[31m \x9f\x92"
    (tmp_path / "worker.log").write_bytes(
        OLD.encode() + bad + b"\n" + line("one").encode() + bad + b"\n" + line("two").encode()
    )
    entries, doubts, _report = read(tmp_path, "worker.log")
    assert texts(entries) == ["one", "two"]
    assert doubts == []


def test_an_error_at_the_end_of_10_megabytes_on_one_line_is_found_and_its_secret_is_not_shown(
    tmp_path: Path,
) -> None:
    # A secret across each border at which text is cut somewhere.
    text = "x" * (sources.LONGEST_SHOWN - 60) + SECRET + " " + "y" * 65_400 + SECRET + "z" * 200
    long = line(text + "w" * 10_000_000 + SECRET, level="ERROR")
    (tmp_path / "worker.log").write_text(OLD + long + line("after it"))
    entries, doubts, report = read(tmp_path, "worker.log")
    assert [entry.level for entry in entries] == ["ERROR", "INFO"]
    assert doubts == []
    shown = sources.shown(entries[0], report)
    assert len(shown) < 2 * sources.LONGEST_SHOWN
    assert "correct" not in shown
    assert "battery" not in shown
    report.write(shown)
    assert "battery" not in report.output


@hypothesis(max_examples=8, deadline=None)
@given(st.integers(-30, 30))
def test_secrets_on_the_border_of_a_chunk_do_not_leak(offset: int) -> None:
    head = b"a" * (sources.BLOCK - len(SECRET) // 2 + offset)
    data = head + SECRET.encode() + b"b" * 100
    chunks = [data[: sources.BLOCK], data[sources.BLOCK :]]
    (whole,) = sources._lines(chunks)
    assert SECRET in whole  # in one piece, so that the redactor finds it
    assert SECRET not in Redactor([SECRET]).redact(whole)


def test_a_large_log_of_other_days_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK", 1 << 12)
    days = "".join(line(f"day {day}", -1440 * day) for day in range(4000, 0, -1))
    (tmp_path / "worker.log").write_text(days + line("inside"))
    seen: list[str] = []
    monkeypatch.setattr(
        "rehearsal.checks.observability.entries.moment",
        lambda text, now: (seen.append(text), moment(text, now))[1],
    )
    entries, doubts, _report = read(tmp_path, "worker.log")
    assert texts(entries) == ["inside"]
    assert doubts == []
    assert len(seen) < 1500


def test_a_command_is_asked_from_the_beginning_of_the_window(tmp_path: Path) -> None:
    script = tmp_path / "logs"
    script.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1])\nprint('''{OLD}''')\n")
    script.write_text(script.read_text() + f"print('''{line('inside')}''')\n")
    script.chmod(0o755)
    entries, doubts, _report = read(tmp_path, [str(script), "--since={since}"])
    since = SINCE.replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert texts(entries) == [f"--since={since}", "inside"]
    assert doubts == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sh", "-c", "echo no such unit; exit 3"], "exit code 3; its last line is: no such unit"),
        (["no-such-program"], "could not be run"),
        (["echo", "no date"], "no line of it carries a date"),
    ],
)
def test_a_command_that_fails_is_a_doubt(tmp_path: Path, arguments: list[str], said: str) -> None:
    entries, doubts, _report = read(tmp_path, arguments)
    assert entries == []
    assert any(said in doubt for doubt in doubts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[2026-03-01 10:00:00,5: INFO/MainProcess] x", "2026-03-01T02:00:00.5+00:00"),
        ("[INFO] 2026-03-01 10:00:00,123 django x", "2026-03-01T02:00:00.123+00:00"),
        ('{"at": "2026-03-01T10:00:00.123456+00:00"}', "2026-03-01T10:00:00.123456+00:00"),
        ("2026-03-01T10:00:00Z x", "2026-03-01T10:00:00+00:00"),
        ('1.2.3.4 - - [01/Mar/2026:10:00:00 +0800] "GET', "2026-03-01T02:00:00+00:00"),
        ('[01/Mar/2026 10:00:00] "GET', "2026-03-01T02:00:00+00:00"),
        ("[2026-03-01 10:00:00 +0000] [7] [INFO] Booting", "2026-03-01T10:00:00+00:00"),
        ("Mar  1 10:00:00 host unit[7]: x", "2026-03-01T02:00:00+00:00"),
        ("[2026-13-01 10:00:00] x", None),
        ("nothing", None),
    ],
)
def test_the_moments_of_common_logs_are_read(text: str, expected: str | None) -> None:
    now = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
    found = moment(text, now)
    assert found == (datetime.datetime.fromisoformat(expected) if expected else None)


@cases(50)
@given(st.text())
def test_any_line_has_a_moment_or_none(text: str) -> None:
    found = moment(text, NOW)
    assert found is None or found.tzinfo is not None
