r"""Files of KEY=value lines: read as their readers do, and changed without touching anything else.

The readers (shells, Django's and other loaders, container and service managers) agree on this much,
and where they do not, the line is reported instead of guessed at:

- `KEY=value`, perhaps after `export`; spaces around the sign; `#` begins a comment at the start of
  a line or after a blank, and is part of the value anywhere else.
- `'…'` holds what it says; `"…"` knows \\ \" \$ \` \n \r \t; both may span lines, and nothing but
  a comment may follow them.
- Lines end in \n or \r\n. A byte order mark is kept. The text is UTF-8.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Entry", "EnvFile", "EnvFileError", "keep", "replace"]

MARK = "\ufeff"
KEPT = 10
"""How many previous versions of a file are kept; the oldest go first."""

_KEY = r"[A-Za-z_][A-Za-z0-9_.-]*"
_BEGIN = re.compile(rf"[ \t]*(?:export[ \t]+)?(?P<key>{_KEY})[ \t]*=(?P<space>[ \t]*)")
_NOTHING = re.compile(r"[ \t]*(?:#[^\n]*)?\r*(?:\n|\Z)")
_AFTER_QUOTE = re.compile(r"(?:[ \t]+#[^\n]*|[ \t]*)\r*(?:\n|\Z)")
_QUOTED = {"'": re.compile(r"'([^']*)'"), '"': re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)}
_ESCAPE = re.compile(r"\\([\\\"$`nrt])")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_REFERENCE = re.compile(r"\$[{(A-Za-z_]|`")
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")


class EnvFileError(ValueError):
    """A file cannot be read or replaced: one sentence, with the remedy, without any value."""


@dataclass(frozen=True)
class Entry:
    """One KEY=value of a file."""

    key: str
    value: str
    quote: str
    """The quotation mark around the value, or nothing."""
    start: int
    end: int
    """Where the value stands in the text, quotation marks included."""
    refers: bool
    """Whether readers differ on the value, since some of them put other variables into it."""

    def __repr__(self) -> str:
        return f"Entry({self.key!r})"


@dataclass(frozen=True, repr=False)
class EnvFile:
    """The text of a file and what its lines say."""

    text: str
    entries: tuple[Entry, ...]
    malformed: tuple[int, ...]
    """The numbers of the lines that are neither KEY=value, nor a comment, nor empty."""

    @classmethod
    def read(cls, path: Path) -> EnvFile:
        """Read a file; raises EnvFileError when it is not there or not such a text."""
        try:
            return cls.parse(path.read_bytes(), path.name)
        except FileNotFoundError:
            raise EnvFileError(
                f"{path.name} does not exist: create it, or correct its path"
            ) from None
        except OSError as error:
            raise EnvFileError(
                f"{path.name} cannot be read ({error.strerror}): let this process's user read it"
            ) from None

    @classmethod
    def parse(cls, data: bytes, name: str = "the file") -> EnvFile:
        """Read the content of a file called `name`; raises EnvFileError when it is no such text."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise EnvFileError(f"{name} is not a UTF-8 text: save it as UTF-8") from None
        if "\0" in text:
            raise EnvFileError(f"{name} holds NUL characters: save it as a UTF-8 text") from None
        return _parse(text)

    @property
    def data(self) -> bytes:
        """The content of the file: what was parsed, to the byte."""
        return self.text.encode()

    @cached_property
    def values(self) -> dict[str, str]:
        """The value of each key; of a key given twice, the last."""
        return {entry.key: entry.value for entry in self.entries}

    @property
    def contradictory(self) -> list[str]:
        """The keys given more than once, with different values: readers take one or the other."""
        said: dict[str, set[str]] = {}
        for entry in self.entries:
            said.setdefault(entry.key, set()).add(entry.value)
        return [key for key, values in said.items() if len(values) > 1]

    @property
    def referring(self) -> list[str]:
        """The keys on whose value readers differ, since it has a `$` outside single quotes."""
        return list(dict.fromkeys(entry.key for entry in self.entries if entry.refers))

    def with_values(self, values: Mapping[str, str]) -> EnvFile:
        """This file with other values for some keys; the keys it does not have come at its end.

        Comments, order, line ends and every other value stay. Raises EnvFileError for a value
        that no file can hold.
        """
        pieces: list[str] = []
        at = 0
        for entry in self.entries:
            if entry.key in values and entry.value != values[entry.key]:
                pieces += [self.text[at : entry.start], self._written(entry, values[entry.key])]
                at = entry.end
        pieces.append(self.text[at:])
        added = [key for key in values if key not in self.values]
        text = "".join(pieces)
        if added and text not in ("", MARK) and not text.endswith("\n"):
            text += self._line_end
        for key in added:
            if not re.fullmatch(_KEY, key):
                raise EnvFileError(
                    "A key that is not a variable's name cannot be added: correct it"
                )
            text += f"{key}={self._written(None, values[key])}{self._line_end}"
        changed = _parse(text)
        if changed.values != {**self.values, **values}:
            raise EnvFileError("A new value cannot be written so that all readers agree: change it")
        return changed

    @property
    def _line_end(self) -> str:
        first = re.search(r"\r?\n", self.text)
        return first[0] if first else "\n"

    def _written(self, entry: Entry | None, value: str) -> str:
        """The value as it stands in a file, in the quotes that were there if they will do."""
        if re.search(r"[\0\ud800-\udfff]", value):
            raise EnvFileError("A new value holds characters that no variable can: correct it")
        quote = entry.quote if entry else ""
        if not quote and (not value or _BARE.fullmatch(value)):
            return value
        plain = not re.search(r"['\\\r\n]", value)
        if plain and (quote != '"' or re.search(r"[\"$`]", value)):
            return f"'{value}'"
        escaped = re.sub(r"[\\\"$`]", r"\\\g<0>", value).replace("\r", "\\r")
        return '"' + escaped.replace("\n", self._line_end) + '"'


def _parse(text: str) -> EnvFile:
    entries: list[Entry] = []
    malformed: list[int] = []
    at = len(MARK) if text.startswith(MARK) else 0
    line = 1
    while at < len(text):
        after = _NOTHING.match(text, at)
        if after is None:
            begun = _BEGIN.match(text, at)
            found = _entry(text, begun) if begun else None
            if found:
                entries.append(found[0])
            else:
                malformed.append(line)
        end = after.end() if after else found[1] if found else text.find("\n", at) + 1 or len(text)
        line += text.count("\n", at, end)
        at = end
    return EnvFile(text, tuple(entries), tuple(malformed))


def _entry(text: str, begun: re.Match[str]) -> tuple[Entry, int] | None:
    """The entry that begins so, and where the next line begins; None when it is malformed."""
    at, key = begun.end(), begun["key"]
    quote = text[at : at + 1]
    if quote in _QUOTED:
        quoted = _QUOTED[quote].match(text, at)
        after = quoted and _AFTER_QUOTE.match(text, quoted.end())
        if not quoted or not after:
            return None
        value = quoted[1].replace("\r\n", "\n")
        refers = False
        if quote == '"':
            refers = _REFERENCE.search(re.sub(r"\\.", "", value, flags=re.DOTALL)) is not None
            value = _ESCAPE.sub(lambda one: _ESCAPED.get(one[1], one[1]), value)
        return Entry(key, value, quote, at, quoted.end(), refers), after.end()
    end = text.find("\n", at)
    after_line = end + 1 if end >= 0 else len(text)
    value = text[at : end if end >= 0 else len(text)]
    comment = re.search(r"(?:\A|[ \t])#" if begun["space"] else r"[ \t]#", value)
    value = (value[: comment.start()] if comment else value).rstrip(" \t\r")
    if not value:
        at = begun.start("space")
    refers = _REFERENCE.search(value) is not None
    return Entry(key, value, "", at, at + len(value), refers), after_line


# Writing


def replace(path: Path, old: bytes, new: bytes) -> None:
    """Put `new` in the place of `old` in one step: a reader sees the one or the other, whole.

    Mode, owner and extended attributes stay; of a symbolic link, the file it leads to is replaced.
    Raises EnvFileError when the file does not hold `old`, or cannot be replaced like that.
    """
    path = path.resolve()
    left_over = f".{path.name}.rehearsal-"
    # What a process that was killed here has left holds secrets.
    for stray in path.parent.glob(f"{left_over}*"):
        with suppress(OSError):
            stray.unlink()
    try:
        # Private from its first moment, whatever the umask.
        descriptor, temporary = tempfile.mkstemp(prefix=left_over, dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(new)
                file.flush()
                _dress(file.fileno(), path)
                os.fsync(file.fileno())
            if path.read_bytes() != old:
                raise EnvFileError(
                    f"{path.name} was changed by somebody else at the same moment, and is left as "
                    "it is: run this item again"
                )
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _fsync(path.parent)
    except OSError as error:
        remedy = {
            errno.EBUSY: "it is mounted by itself: mount its directory instead",
            errno.EPERM: "its owner could not be kept: run the worker of the checks as its owner",
            errno.EACCES: f"let this process's user write in {path.parent.name}",
            errno.EROFS: "it is mounted read-only: mount it writable for the worker of the checks",
        }.get(error.errno or 0, "look at its directory")
        raise EnvFileError(f"{path.name} cannot be replaced ({error.strerror}): {remedy}") from None


def _dress(descriptor: int, like: Path) -> None:
    """Give an open file the owner, mode and extended attributes of another."""
    there, here = like.stat(), os.fstat(descriptor)
    if (there.st_uid, there.st_gid) != (here.st_uid, here.st_gid):
        os.fchown(descriptor, there.st_uid, there.st_gid)
    for name in os.listxattr(like):
        try:
            os.setxattr(descriptor, name, os.getxattr(like, name))
        except OSError as error:
            # A label of the system's own is given by the system.
            if error.errno not in (errno.EPERM, errno.ENOTSUP) or name.startswith("user."):
                raise
    os.fchmod(descriptor, there.st_mode & 0o7777)


def keep(data: bytes, name: str, folder: Path) -> Path:
    """Put a version of the file `name` into `folder`, readable by us alone; the last ten stay.

    Raises OSError when it cannot be written.
    """
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = folder / f"{name.lstrip('.')}.{moment}"
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _fsync(folder)
    for old in sorted(folder.glob(f"{name.lstrip('.')}.*Z"))[:-KEPT]:
        old.unlink()
    return target


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
