"""What must not be seen: secrets are taken out of text before anybody stores or shows it.

Two nets, one behind the other:

- *Known values.* A secret whose value we hold is found wherever it stands, also URL-quoted or
  backslash-escaped. Values of 8 characters and more are found inside other words; shorter ones
  only as a word of their own; below 4 characters not at all, since they would shred the text.
- *Shapes.* Passwords in URLs, values assigned to a name that says secret, `Authorization` headers,
  private keys, Django's password hashes, session cookies.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

__all__ = [
    "REDACTED",
    "PlainStream",
    "Redactor",
    "StreamRedactor",
    "is_secret_name",
    "plain",
    "secrets_in",
]

REDACTED = "[redacted]"

UNIT = 65_536
"""Characters of one line that are looked at together. A longer line is taken in such pieces."""

# --- Names and values ---------------------------------------------------------------------------

# Only the tail of a name is matched: `POSTGRES_PASSWORD`, `csrfmiddlewaretoken` and `dbPassword`
# are found by what they end in, without walking back over a long word again and again.
_NAME = (
    r"(?:(?:secret|passw(?:or)?d|passphrase|token|credential|dsn|sessionid"
    r"|(?:secret|api|access|private|signing|encryption|auth)[_-]?key)s?(?:[_-][\w-]{0,32})?"
    r"|(?<![a-z0-9])pass|(?<=[_;])pwd)"  # PWD is the shell's directory
)
# What follows the telling word may say that the value is about a secret, not the secret itself.
_ABOUT = re.compile(
    r"[_-](?:file|path|dir|name|field|timeout|age|ttl|expiry|expires|seconds|days|hours|count|length|"
    r"min|max|reset|change|changed|hashers?|validators?|policy|type|header|class|backend|status|"
    r"required|enabled|valid|url|uri|param|prefix|algorithm)$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"(?:true|false|none|null|nil|undefined|yes|no|on|off|set|unset|missing|required|invalid|valid|"
    r"expired|expected|passed|failed|skipped|error|ok|\*+|" + re.escape(REDACTED) + r")[.!]?",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(_NAME + r"$", re.IGNORECASE)
_URL_PASSWORD = r"://[^\s/?#:@\"'<>]{0,256}:([^\s/\"'<>]{1,4096})@"


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name says that its value is secret."""
    return _SECRET_NAME.search(name) is not None and _ABOUT.search(name) is None


def _is_harmless(name: str, value: str) -> bool:
    """Whether a value says nothing: `token=None`, `tokens: 5`, `password=password`."""
    counted = name.lower().endswith("s") and value.isdigit()
    return counted or value.lower() == name.lower() or _HARMLESS.fullmatch(value) is not None


def secrets_in(name: str, value: str) -> list[str]:
    """What of a variable is secret: the whole value if its name says so, and a URL's password."""
    found = [match[1] for match in re.finditer(_URL_PASSWORD, value)]
    if is_secret_name(name) and not _is_harmless(name, value) and value.strip():
        found.append(value)
    return found


# --- Shapes -------------------------------------------------------------------------------------

_ASSIGNMENT = re.compile(
    rf"(?P<name>{_NAME})"
    r"(?P<sign>\\?[\"']?\s{0,8}(?:=>?(?!=)|:[\w.|\[\] ]{1,40}=(?!=)|:)\s{0,8})"
    r"(?:[rbuf]{0,2}(?P<quote>\\?[\"'])(?P<quoted>(?:\\.|[^\\])*?)(?P<close>(?P=quote)|\Z)"
    r"|(?P<bare>[^\s\"',;&()<>\[\]{}]+))",
    re.IGNORECASE,
)
_VARIABLE = re.compile(rf"(?P<name>{_NAME})=(?P<value>[^\s\"'\\]\S*)", re.IGNORECASE)
_ALONE = re.compile(r"(?:^|[{,])[\s>#+-]*(?:E\s+)?[\w.-]{0,80}[\"']?$")
_LAST = re.compile(r"[ \r,}]*(?:#|\Z)")
_REST_OF_VALUE = re.compile(r"\A[^\s\"',;&()<>\[\]{}]+")
_CODE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def _variable(match: re.Match[str]) -> str:
    """`POSTGRES_PASSWORD=value`, whatever characters the value is made of."""
    name, value = match["name"], match["value"]
    if not name.isupper() or _ABOUT.search(name) or _is_harmless(name, value):
        return match[0]
    return f"{name}={REDACTED}"


def _assignment(match: re.Match[str]) -> str:
    """`"token": "value"`, `password='value'`, `api_key: value`, `?token=value`."""
    name, sign, bare = match["name"], match["sign"], match["bare"]
    value = match["quoted"] if bare is None else bare
    before = match[0][: match.start("quoted" if bare is None else "bare") - match.start()]
    if not value or _ABOUT.search(name) or _is_harmless(name, value):
        return match[0]
    if bare is None:
        return before + REDACTED + match["close"]
    if "=" in sign:
        # A line of source code in a traceback tells no value: token = make_token(user).
        called = match.string[match.end() : match.end() + 1] in ("(", "[")
        code = called or _CODE.fullmatch(value) is not None
        return match[0] if code else before + REDACTED
    # Prose has colons too: "Password: at least eight characters", "test_token:12". A header or a
    # line of YAML has one word after the name; inside a sentence it has to look like a secret.
    last = _LAST.match(match.string, match.end())
    if sign == ":" or not last or re.fullmatch(r"\d{1,3}", value):
        return match[0]
    alone = _ALONE.search(match.string[max(0, match.start() - 100) : match.start()])
    return before + REDACTED if alone or re.search(r"[^A-Za-z.!?_-]", value) else match[0]


def _part(group: int) -> Callable[[re.Match[str]], str]:
    """Replace one group of a match and keep what stands around it."""

    def replace(match: re.Match[str]) -> str:
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:start] + REDACTED + match[0][end:]

    return replace


class _Shape(NamedTuple):
    hints: tuple[str, ...]
    """A text without any of these, in lower case, needs no closer look: far the most do not."""
    pattern: re.Pattern[str]
    replace: Callable[[re.Match[str]], str]


_NAME_HINTS = ("secret", "pass", "token", "credential", "dsn", "sessionid", "key", "pwd")
_SHAPES = (
    _Shape(("://",), re.compile(_URL_PASSWORD), _part(1)),
    _Shape(
        ("authorization",),
        re.compile(
            r"authorization\\?[\"']?\s{0,8}[:=]\s{0,8}\\?[\"']?(?:[a-z][\w-]{0,30} {1,8})?"
            r"([^\s\"'\\,]+)",
            re.IGNORECASE,
        ),
        _part(1),
    ),
    _Shape(
        ("bearer",),
        re.compile(r"\bbearer +((?=[a-z._~+/-]{0,512}\d)[\w.~+/=-]{16,})", re.IGNORECASE),
        _part(1),
    ),
    _Shape(
        ("$",),
        re.compile(
            r"\b(?:pbkdf2_\w{1,20}|argon2|bcrypt(?:_sha256)?|scrypt|md5|sha1)\$[\w+/=.,$-]+"
            r"|\$2[abxy]?\$\d\d\$[\w./]{53}|\$argon2(?:id|i|d)\$[\w+/=.,$-]+"
        ),
        lambda match: REDACTED,
    ),
    _Shape(_NAME_HINTS, _VARIABLE, _variable),
    _Shape(_NAME_HINTS, _ASSIGNMENT, _assignment),
)


def _shapes_in(text: str) -> list[_Shape]:
    lower = text.lower()
    return [shape for shape in _SHAPES if any(hint in lower for hint in shape.hints)]


_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# A line inside a key: base64 or a header, perhaps indented, quoted, or marked by pytest or diff.
_KEY_BODY = re.compile(
    r"[\sE>|+#\"'\d]{0,40}(?:(?:Proc-Type|DEK-Info|Version|Comment): .*"
    r"|[A-Za-z0-9+/=\\]*[\s\"',)]*)"
)


# --- Known values -------------------------------------------------------------------------------


def _spelling(secret: str) -> str:
    """A pattern for the secret as it is, URL-quoted, or backslash-escaped, also partly so."""
    pieces = []
    for character in secret:
        if character.isascii() and character.isalnum():
            pieces.append(character)
            continue
        spellings = [r"\\?" + re.escape(character)]
        spellings.append("".join(f"%(?i:{byte:02x})" for byte in character.encode()))
        if character == " ":
            spellings.append(r"\+")
        if not (character.isascii() and character.isprintable()):
            # As Python writes it, and as JSON does.
            escaped = {character.encode("unicode_escape").decode(), json.dumps(character)[1:-1]}
            spellings += [rf"(?i:{re.escape(one)})" for one in sorted(escaped)]
        pieces.append(f"(?:{'|'.join(spellings)})")
    pattern = "".join(pieces)
    return pattern if len(secret) >= 8 else rf"(?<!\w){pattern}(?!\w)"


class Redactor:
    """Takes secrets out of text: the given ones by value, unknown ones by their shape."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values: set[str] = set()
        for secret in secrets:
            # A value of several lines is known by each of its lines, so a line suffices to see it.
            lines = [line.strip("\r") for line in secret.split("\n")]
            least = 4 if len(lines) == 1 else 8
            for line in lines:
                values.update(v for v in (line, unquote(line)) if len(v.strip()) >= least)
        values = {value for value in values if value not in REDACTED and "\n" not in value}
        longest_first = sorted(values, key=lambda value: (-len(value), value))
        self._known = re.compile("|".join(map(_spelling, longest_first))) if values else None
        self._overlap = max([4096, *(10 * len(value.encode()) for value in values)])

    def __repr__(self) -> str:
        return "Redactor(...)"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], extra: Iterable[str] = ()) -> "Redactor":
        """Know the values of variables whose name says secret, and passwords in URL values."""
        return cls.from_pairs(environ.items(), extra)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]], extra: Iterable[str] = ()) -> "Redactor":
        """The same for names that may come more than once, each time with another value."""
        found = (secret for name, value in pairs for secret in secrets_in(name, value))
        return cls([*extra, *found])

    def redact(self, text: str) -> str:
        """The text without its secrets."""
        stream = self.stream()
        return stream.feed(text) + stream.close()

    def stream(self) -> "StreamRedactor":
        """A redactor for text that arrives in pieces."""
        return StreamRedactor(self)

    def _line(self, text: str) -> str:
        """Redact a line, or a piece of one; multi-line shapes are the stream's to see."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        for shape in _shapes_in(text):
            text = shape.pattern.sub(shape.replace, text)
        return text

    def _border(self, text: str) -> int:
        """Where an overlong line may be cut so that no secret is cut."""
        border = end = len(text) - self._overlap
        patterns = [shape.pattern for shape in _shapes_in(text)] + [_KEY_BEGINS, _KEY_ENDS]
        # The known values come last: their borders hold, whatever the shapes wished.
        for pattern in [*patterns, self._known] if self._known else patterns:
            for match in pattern.finditer(text):
                if match.start() < border < match.end():
                    border = match.start() or end
        return border


class StreamRedactor:
    """Redacts text that arrives in pieces: the same result however it was cut.

    A line is held back until it is complete. Of a line longer than `UNIT` characters (or eight
    times the longest known secret) only that much is held.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._unit = max(UNIT, 8 * redactor._overlap)
        self._held: list[str] = []
        self._length = 0
        self._in_key = False
        self._in_value = False

    def feed(self, text: str) -> str:
        """Take a piece; return what can be shown by now."""
        self._held.append(text)
        self._length += len(text)
        if "\n" not in text and self._length <= self._unit:
            return ""
        shown: list[str] = []
        *lines, rest = "".join(self._held).split("\n")
        for line in lines:
            shown.append(self._finish(self._shorten(line, shown), "\n"))
            self._in_value = False
        rest = self._shorten(rest, shown)
        self._held, self._length = [rest], len(rest)
        return "".join(shown)

    def close(self) -> str:
        """The end of the text; return what was held back."""
        return self._finish(self.withdraw(), "")

    def withdraw(self) -> str:
        """Take back what is held, not redacted: for whoever cuts the text here and counts it."""
        held = "".join(self._held)
        self._held, self._length = [], 0
        return held

    def _shorten(self, line: str, shown: list[str]) -> str:
        """Put the first pieces of an overlong line into `shown`; return its rest."""
        start = 0
        while len(line) - start > self._unit:
            piece = line[start : start + self._unit]
            border = self._redactor._border(piece)
            shown.append(self._finish(piece[:border], ""))
            # A value that reaches the border goes on behind it.
            self._in_value = self._in_value or shown[-1].endswith(REDACTED)
            start += border
        return line[start:]

    def _finish(self, text: str, end: str) -> str:
        """Redact a line, or a piece of one, knowing what the lines above have begun."""
        if self._in_value:
            text = _REST_OF_VALUE.sub("", text)
            self._in_value = not text
        begun = ""
        if self._in_key:
            if ends := _KEY_ENDS.search(text):
                text = text[ends.end() :]
            elif _KEY_BODY.fullmatch(text):
                return ""
            else:
                begun = "\n"  # the key was cut off: go on as usual
            self._in_key = False
        while begins := _KEY_BEGINS.search(text):
            ends = _KEY_ENDS.search(text, begins.end())
            if ends is None:
                self._in_key = True
                return begun + self._redactor._line(text[: begins.start()]) + REDACTED
            text = text[: begins.start()] + REDACTED + text[ends.end() :]
        return begun + self._redactor._line(text) + end


# --- Control characters -------------------------------------------------------------------------

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|(?:\x1b[\]PX^_])[^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"  # titles, links: to their terminator
    r"|\x1b[ -/]*[0-~]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# The beginning of an escape sequence (or of \r\n) whose end has not arrived.
_UNFINISHED = re.compile(
    r"(?:\r|(?:\x1b\[|\x9b)[0-?]{0,256}[ -/]{0,16}|\x1b[\]PX^_][^\x07\x1b\r\n]{0,4096}\x1b?"
    r"|\x1b[ -/]{0,16})\Z"
)


def plain(text: str) -> str:
    r"""The text without terminal escape sequences and control characters but \n and \t.

    \r\n is one line end; so is \r alone: the states of a progress bar become lines.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", _ESCAPE.sub("", text))


class PlainStream:
    """`plain` for text that arrives in pieces: the same result however it was cut."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Take a piece; return it plain, but for an unfinished escape sequence at its end."""
        text = self._held + text
        unfinished = _UNFINISHED.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._held = text[end:]
        return plain(text[:end])

    def close(self) -> str:
        """The end of the text; return what was held back."""
        text, self._held = self._held, ""
        return plain(text)
