"""Files of KEY=value lines: read as a shell reads them, changed in one place alone, never half."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rehearsal.env_file import KEPT, EnvFile, EnvFileError, keep, replace
from tests.conftest import ROOT, wait_for
from tests.fuzzing import cases

KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
VALUES = st.text(LETTERS | st.sampled_from("'\"\\$`# \t\r\n="), max_size=20)
LINES = st.sampled_from(
    [
        "# a comment", "", "  ", "A=1", "export B='two words' # why", 'C="it\'s"', "D=",
        "E= # none",
        "F=a#b", "G='#'", 'H="one\ntwo\\n"', " I = spaced ", "A=1", "J=#x", "K='one\n\ntwo'#", "K",
        "L='open", 'M="a\\"b"', "export", "=x", "N=pa$word", "Ü=1", "O=\u2028", "P='' ",
    ]
)  # fmt: skip
FILES = st.builds(
    lambda mark, lines, end, last: mark + end.join(lines).replace("\n", end) + last,
    st.sampled_from(["", "\ufeff"]),
    st.lists(LINES, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n", "\r\n"]),
)


def parse(text: str) -> EnvFile:
    return EnvFile.parse(text.encode())


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=a", "a"),
        ("export K=a", "a"),
        (" K = a ", "a"),
        ("K=", ""),
        ("K= # nothing", ""),
        ("K=#a", "#a"),
        ("K=a#b", "a#b"),
        ("K=a #b", "a"),
        ("K='a #b' # c", "a #b"),
        ('K="a\\nb"', "a\nb"),
        ('K="a\nb"', "a\nb"),
        ('K="a\r\nb"', "a\nb"),
        ("K='a\nb'", "a\nb"),
        ("K='a\\nb'", "a\\nb"),
        ('K="\\\\\\"\\$\\x"', '\\"$\\x'),
        ("K=a=b==", "a=b=="),
        ("K=it's", "it's"),
        ("K=a\r", "a"),
        ("K=redis://:p%40ss@h:1/0?a=b&c=d#e", "redis://:p%40ss@h:1/0?a=b&c=d#e"),
    ],
)
def test_a_line_says_its_value(line: str, value: str) -> None:
    for text in (line, f"\ufeff{line}", f"A=1\n{line}\nZ=2\n", f"A=1\r\n{line}\r\nZ=2\r\n"):
        found = parse(text)
        assert found.values["K"] == value
        assert not found.malformed


@pytest.mark.parametrize(
    "line", ["K", "export K", "K: a", "=a", "1K=a", "K='a", 'K="a', "K='a'b", "K='it\\'s'", "K a=b"]
)
def test_a_line_on_which_readers_differ_is_named_by_its_number(line: str) -> None:
    found = parse(f"A='1\n2'\n\n{line}\nZ=2\n")
    assert found.malformed == (4,)
    assert found.values == {"A": "1\n2", "Z": "2"}


@pytest.mark.parametrize(
    ("text", "contradictory", "referring"),
    [
        ("A=1\nA=1\n", [], []),
        ("A=1\nB=1\nexport A='2'\n", ["A"], []),
        ('A=${B}\nC="$B"\nD=\'$B\'\nE=5$\nF="\\$B"\nG=$(ls)\nH=`ls`\n', [], ["A", "C", "G", "H"]),
    ],
)
def test_values_on_which_readers_differ(
    text: str, contradictory: list[str], referring: list[str]
) -> None:
    found = parse(text)
    assert (found.contradictory, found.referring) == (contradictory, referring)


@pytest.mark.parametrize("data", [b"A=\xff", "A=1".encode("utf-16"), b"A=1\0"])
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(EnvFileError, match="UTF-8"):
        EnvFile.parse(data)


@cases(100)
@given(st.text(LETTERS) | FILES)
def test_any_text_is_read_and_kept(text: str) -> None:
    found = parse(text)
    assert found.data == text.encode()
    for entry in found.entries:
        assert text[entry.start : entry.end].strip("'\"") or not entry.value


@cases(100)
@given(FILES, st.dictionaries(KEYS, VALUES, max_size=4))
@example("A=1", {"A": "", "B": "two words"})
@example("\ufeff", {"A": "x"})
@example("K= # c", {"K": "x"})
def test_a_change_changes_nothing_else(text: str, values: dict[str, str]) -> None:
    before = parse(text)
    assume(all("\r\n" not in value for value in values.values()))
    after = before.with_values(values)
    assert after.values == {**before.values, **values}
    assert len(after.malformed) == len(before.malformed)
    assert without_values(after, values).startswith(without_values(before, values))
    assert after.with_values(values).text == after.text
    assert before.with_values(before.values).text == text


def without_values(file: EnvFile, keys: dict[str, str]) -> str:
    """The text with the values of these keys taken out."""
    pieces, at = [], 0
    for entry in file.entries:
        if entry.key in keys:
            pieces.append(file.text[at : entry.start])
            at = entry.end
    return "".join([*pieces, file.text[at:]])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.text(LETTERS | st.sampled_from("'\"\\$`# \t\n=&;|*?~!<>("), max_size=12), min_size=1
    )
)
def test_a_shell_reads_what_was_written(values: list[str]) -> None:
    # A shell has no escape for a carriage return.
    given_values = {f"K{number}": value for number, value in enumerate(values) if "\r" not in value}
    written = parse("# A comment\nA=1\n").with_values(given_values)
    script = f'set -a; eval "$1"; exec {sys.executable} -c "$2"'
    show = "import os, json; print(json.dumps(dict(os.environ)))"
    ran = subprocess.run(
        ["sh", "-c", script, "sh", written.text, show],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        timeout=30,
        check=True,
    )
    told = json.loads(ran.stdout)
    assert {key: told[key] for key in given_values} == given_values


def test_mode_owner_and_link_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "real.env", tmp_path / ".env.staging"
    file.write_bytes(b"A=1\n")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)
    before = file.stat()
    link.symlink_to(file)
    replace(link, b"A=1\n", b"A=2\n")
    after = file.stat()
    assert file.read_bytes() == b"A=2\n"
    assert link.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env.staging", "real.env"]


def test_what_somebody_else_wrote_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / ".env.staging"
    file.write_bytes(b"A=other\n")
    with pytest.raises(EnvFileError, match="changed by somebody else"):
        replace(file, b"A=1\n", b"A=2\n")
    assert file.read_bytes() == b"A=other\n"
    assert list(tmp_path.iterdir()) == [file]


def test_the_last_versions_are_kept_for_us_alone(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        kept = keep(f"A={number}\n".encode(), ".env.staging", tmp_path)
        assert kept.stat().st_mode & 0o777 == 0o600
    versions = sorted(tmp_path.iterdir())
    assert len(versions) == KEPT
    assert versions[0].read_text() == "A=3\n"
    assert all(re.fullmatch(r"env\.staging\.\d{8}T\d{6}\.\d{6}Z", one.name) for one in versions)


def test_killed_at_any_moment_the_file_is_old_or_new(tmp_path: Path) -> None:
    file = tmp_path / ".env.staging"
    contents = [b"A=" + letter * 200_000 + b"\n" for letter in (b"a", b"b")]
    file.write_bytes(contents[0])
    for number in range(8):
        script = (
            "import sys; from pathlib import Path; from rehearsal.env_file import replace\n"
            "one, other = (b'A=' + letter * 200_000 + b'\\n' for letter in (b'a', b'b'))\n"
            "path = Path(sys.argv[1])\n"
            "if path.read_bytes() != one: one, other = other, one\n"
            "print('ready', flush=True)\n"
            "while True:\n    replace(path, one, other); replace(path, other, one)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(file)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout and process.stdout.readline() == b"ready\n"
        first = file.stat().st_ino
        wait_for(lambda first=first: file.stat().st_ino != first)
        for _ in range(number * 3):
            assert file.read_bytes() in contents
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        assert file.read_bytes() in contents
    now = file.read_bytes()
    replace(file, now, b"A=1\n")
    assert list(tmp_path.iterdir()) == [file], "what a killed process left is gone"
