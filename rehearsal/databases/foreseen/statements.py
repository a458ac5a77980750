"""What PostgreSQL does for a statement: which locks it takes, and what may be lost or break.

By PostgreSQL's documentation ("Explicit Locking", "ALTER TABLE"). Whether a lock lasts longer the
larger its table is, the server itself says where it can (`probe`); what stands here is assumed
where it does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlparse
from sqlparse import lexer
from sqlparse import tokens as T

READERS = "AccessExclusiveLock"
"""Blocks readers and writers."""
TRIGGERS, INDEX = "ShareRowExclusiveLock", "ShareLock"
"""These two block writers."""
LOSES, BREAKS, UNKNOWN, CODE = "loses", "breaks", "unknown", "code"
"""Dangers: rows are lost; the release that still runs fails; nothing is known of the statement; it
runs code whose doing nobody can foresee."""
LONGEST = 100_000
"""Characters of a statement that are read."""

NAME = r'(?:"[^"]+"|[\w$]+)'
TABLE = rf"(?:ONLY\s+)?(?P<table>{NAME}(?:\s*\.\s*{NAME})?)"


@dataclass(frozen=True)
class Touch:
    """What a statement does to a table, in words that follow the table's name."""

    does: str
    table: str = ""
    mode: str = ""
    """The lock, where it blocks readers or writers."""
    grows: bool = False
    """Whether it takes longer the more rows the table has."""
    rewrites: bool = False
    danger: str = ""
    to: str = ""
    """The table's name from then on, where it gets another."""

    @property
    def blocks(self) -> str:
        """Who waits meanwhile: nobody, when it is empty."""
        return {READERS: "readers and writers", TRIGGERS: "writers", INDEX: "writers"}.get(
            self.mode, ""
        )


def split(sql: str) -> list[str]:
    """The statements of a text, without comments of Django's or an end."""
    if len(sql) > LONGEST:
        return [sql.strip().rstrip(";")]
    found = (plain(one).strip().rstrip("; ") for one in sqlparse.split(sql))
    return [one for one in found if one]


def plain(sql: str) -> str:
    """The statement without comments, in one line."""
    if len(sql) > LONGEST:
        return sql
    words = [
        value if ttype not in T.Whitespace else " "
        for ttype, value in _tokens(sql)
        if ttype not in T.Comment or ttype in T.Comment.Multiline.Hint
    ]
    return "".join(words).strip()


def outline(sql: str) -> str:
    """The statement without what stands in quotes, for patterns that look for words."""
    words = [
        "''" if ttype in T.Literal and value[:1] not in '"0123456789' else value
        for ttype, value in _tokens(sql[:LONGEST])
    ]
    return re.sub(r"\s+", " ", "".join(words)).strip()


def _tokens(sql: str) -> Iterator[tuple[Any, str]]:
    yield from lexer.tokenize(sql)  # type: ignore[no-untyped-call]


def bare(name: str) -> str:
    """A table's name as the catalogue has it; with its schema only where it was named."""
    return ".".join(
        part[1:-1] if part.startswith('"') else part.lower() for part in re.findall(NAME, name)
    )


def of_operation(statements: Iterable[str]) -> list[list[Touch]]:
    """What each of an operation's statements does.

    A default that Django gives to a column and takes away again is none for anybody else.
    """
    found = [touches(one) for one in statements]
    for sql in statements:
        if gone := re.match(rf"ALTER TABLE {TABLE} {SET}DROP DEFAULT", outline(sql), re.IGNORECASE):
            added = f"gets the column {bare(gone['column'])}"
            for number, (own, said) in enumerate(zip(found, statements, strict=True)):
                if " NOT NULL" in said.upper():
                    found[number] = [
                        replace(
                            one,
                            does=f"{added}, which must not be null and keeps no default",
                            danger=BREAKS,
                        )
                        if one.does == added and one.table == bare(gone["table"])
                        else one
                        for one in own
                    ]
    return found


def touches(sql: str) -> list[Touch]:
    """Everything that a statement does to tables that are there."""
    text = outline(sql)
    for pattern, read in RULES:
        if found := re.match(pattern, text, re.IGNORECASE):
            return list(read(found, text))
    return [Touch(f"is not known to be harmless: {text[:80]}", danger=UNKNOWN)]


# ALTER TABLE, action by action.


def _alter(found: re.Match[str], text: str) -> Iterator[Touch]:
    table = bare(found["table"])
    actions = list(_actions(text[found.end() :]))
    for action in actions:
        for one in _action(action.strip()):
            yield one if one.table else replace(one, table=table)


def _actions(text: str) -> Iterator[str]:
    """The parts of a list, split at the commas that stand in no parentheses."""
    depth, begin = 0, 0
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]


def _action(action: str) -> Iterator[Touch]:
    for pattern, touch in ACTIONS:
        if found := re.match(pattern, action, re.IGNORECASE):
            named = {key: bare(value) for key, value in found.groupdict().items() if value}
            to = named.get("column", "") if touch.to else ""
            yield replace(touch, does=touch.does.format(**{"column": "", **named}), to=to)
            break
    else:
        yield Touch("changes in a way that is not known to be harmless", mode=READERS, grows=True)
    if other := re.search(rf"\bREFERENCES\s+{TABLE}", action, re.IGNORECASE):
        yield Touch("gets triggers of a foreign key", bare(other["table"]), TRIGGERS)


COLUMN = rf"(?:COLUMN\s+)?+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?+(?P<column>{NAME})"
SET = rf"ALTER\s+{COLUMN}\s+"
CONSTRAINT = rf"ADD\s+(?:CONSTRAINT\s+{NAME}\s+)?"
ADD = rf"ADD\s+{COLUMN}(?=\s)"
ACTIONS: list[tuple[str, Touch]] = [
    (r"VALIDATE\s+CONSTRAINT", Touch("is checked row by row, and nobody waits")),
    (rf"{CONSTRAINT}FOREIGN\s+KEY.*NOT\s+VALID", Touch("gets a foreign key", mode=TRIGGERS)),
    (rf"{CONSTRAINT}FOREIGN\s+KEY",
     Touch("is checked for a foreign key", mode=TRIGGERS, grows=True)),
    (rf"{CONSTRAINT}CHECK\b.*NOT\s+VALID", Touch("gets a constraint", mode=READERS)),
    (rf"{CONSTRAINT}CHECK\b", Touch("is checked for a constraint", mode=READERS, grows=True)),
    (rf"{CONSTRAINT}(UNIQUE|PRIMARY\s+KEY)\s+USING", Touch("gets a constraint", mode=READERS)),
    (rf"{CONSTRAINT}(UNIQUE|PRIMARY\s+KEY|EXCLUDE)\b",
     Touch("gets the index of a constraint", mode=READERS, grows=True)),
    (rf"{ADD}(.*\bGENERATED\s+ALWAYS\s+AS\s+\(|\s+\w*SERIAL\b|.*\bAS\s+IDENTITY)",
     Touch("gets the column {column}", mode=READERS, grows=True, rewrites=True)),
    (rf"{ADD}(?=.*\bUNIQUE\b)", Touch("gets the unique column {column}", mode=READERS, grows=True)),
    (rf"{ADD}(?=.*\bNOT\s+NULL\b)(?!.*\bDEFAULT\s+(?!NULL))",
     Touch("gets the column {column}, which must not be null and has no default", mode=READERS,
           danger=BREAKS)),
    (rf"{ADD}(?=.*\bDEFAULT\b.*\()",
     Touch("gets the column {column}", mode=READERS, grows=True, rewrites=True)),
    (rf"{ADD}", Touch("gets the column {column}", mode=READERS)),
    (r"DROP\s+CONSTRAINT", Touch("loses a constraint", mode=READERS)),
    (rf"DROP\s+{COLUMN}", Touch("loses the column {column}", mode=READERS, danger=LOSES)),
    (rf"{SET}SET\s+NOT\s+NULL",
     Touch("is checked for nulls in {column}, which must not be null from then on", mode=READERS,
           grows=True, danger=BREAKS)),
    (rf"{SET}(SET\s+DATA\s+)?TYPE\b",
     Touch("has the type of {column} changed", mode=READERS, grows=True, rewrites=True)),
    (rf"{SET}((SET|DROP)\s+(DEFAULT|EXPRESSION|IDENTITY)|DROP\s+NOT\s+NULL|ADD\s+GENERATED"
     r"|RESTART|SET\s+(GENERATED|INCREMENT|STORAGE|COMPRESSION))",
     Touch("has the column {column} changed", mode=READERS)),
    (rf"{SET}(SET|RESET)\s+(STATISTICS|\()", Touch("has its statistics set")),
    (r"RENAME\s+CONSTRAINT|ALTER\s+CONSTRAINT", Touch("has a constraint changed", mode=READERS)),
    (rf"RENAME\s+TO\s+(?P<column>{NAME})",
     Touch("is called {column} from then on", mode=READERS, danger=BREAKS, to="{column}")),
    (rf"RENAME\s+{COLUMN}\s+TO",
     Touch("has the column {column} renamed", mode=READERS, danger=BREAKS)),
    (r"SET\s+SCHEMA", Touch("moves to another schema", mode=READERS, danger=BREAKS)),
    (r"(ENABLE|DISABLE)\s+(ALWAYS\s+|REPLICA\s+)?TRIGGER",
     Touch("has triggers switched", mode=TRIGGERS)),
    (r"SET\s+\(|RESET\s+\(|CLUSTER\s+ON|SET\s+WITHOUT\s+CLUSTER", Touch("has its storage set")),
    (r"(ATTACH|DETACH)\s+PARTITION.*", Touch("has a partition changed", mode=READERS, grows=True)),
    (r"OWNER\s+TO|REPLICA\s+IDENTITY|(ENABLE|DISABLE|FORCE|NO\s+FORCE)\s+ROW\s+LEVEL",
     Touch("has its settings changed", mode=READERS)),
]  # fmt: skip


# Other statements: a pattern, and what reads the match.

Reader = Callable[[re.Match[str], str], Iterable[Touch]]


def _nothing(found: re.Match[str], text: str) -> Iterator[Touch]:
    # A new table with foreign keys gives triggers to those it points to.
    if text[:6].upper() == "CREATE":
        for other in re.finditer(rf"\bREFERENCES\s+{TABLE}", text, re.IGNORECASE):
            yield Touch("gets triggers of a foreign key", bare(other["table"]), TRIGGERS)


def _one(touch: Touch) -> Reader:
    """A statement about one table at most."""

    def read(found: re.Match[str], text: str) -> Iterator[Touch]:
        yield replace(touch, table=bare(found.groupdict().get("table") or ""))

    return read


def _several(touch: Touch) -> Reader:
    """A statement that lists tables."""

    def read(found: re.Match[str], text: str) -> Iterator[Touch]:
        for name in found["tables"].split(","):
            if named := re.match(rf"\s*(?:TABLE\s+)?{TABLE}", name, re.IGNORECASE):
                yield replace(touch, table=bare(named["table"]))

    return read


EXISTS = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?"
TABLES = r"(?P<tables>.+?)(?:\s+(?:CASCADE|RESTRICT|RESTART|CONTINUE|IN|NOWAIT)\b.*)?$"
HARMLESS = (
    "SET", "RESET", "SHOW", "COMMENT", "ANALYZE", "GRANT", "REVOKE", "INSERT", "EXPLAIN",
    r"CREATE\s+((UNLOGGED|TEMP|TEMPORARY)\s+)?TABLE", r"(CREATE|ALTER)\s+(EXTENSION|SCHEMA|TYPE|"
    r"DOMAIN|SEQUENCE|FUNCTION|PROCEDURE|AGGREGATE|COLLATION|ROLE|STATISTICS|VIEW|OPERATOR|TEXT)",
    r"CREATE\s+OR\s+REPLACE\s+(FUNCTION|PROCEDURE|VIEW)", r"CREATE\s+MATERIALIZED",
    r"DROP\s+(FUNCTION|PROCEDURE|AGGREGATE|STATISTICS|EXTENSION|SEQUENCE)", r"ALTER\s+INDEX",
)  # fmt: skip
RULES: list[tuple[str, Reader]] = [
    (rf"ALTER\s+TABLE\s+{EXISTS}{TABLE}\s", _alter),
    (rf"CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY.*?\sON\s+{TABLE}",
     _one(Touch("gets an index, and nobody waits"))),
    (rf"CREATE\s+(UNIQUE\s+)?INDEX.*?\sON\s+{TABLE}",
     _one(Touch("gets an index", mode=INDEX, grows=True))),
    (r"(DROP\s+INDEX|REINDEX.*|REFRESH\s+MATERIALIZED\s+VIEW)\s+CONCURRENTLY", _nothing),
    (r"DROP\s+INDEX", _one(Touch("a table loses an index", mode=READERS))),
    (rf"DROP\s+TABLE\s+{EXISTS}{TABLES}",
     _several(Touch("is dropped with its rows", mode=READERS, danger=LOSES))),
    (rf"TRUNCATE\s+{TABLES}",
     _several(Touch("loses all its rows", mode=READERS, danger=LOSES))),
    (rf"DELETE\s+FROM\s+{TABLE}", _one(Touch("loses rows", danger=LOSES))),
    (rf"(UPDATE|MERGE\s+INTO)\s+{TABLE}",
     _one(Touch("has rows changed, and who writes the same rows waits for all", grows=True))),
    (rf"LOCK\s+{TABLES}", _several(Touch("is locked", mode=READERS, grows=True))),
    (rf"(CLUSTER|REINDEX\s+TABLE|VACUUM\s+FULL|REFRESH\s+MATERIALIZED\s+VIEW)\s+{TABLE}",
     _one(Touch("is written anew", mode=READERS, grows=True, rewrites=True))),
    (rf"CREATE\s+(OR\s+REPLACE\s+)?(CONSTRAINT\s+)?TRIGGER.*?\sON\s+{TABLE}",
     _one(Touch("gets a trigger", mode=TRIGGERS))),
    (rf"DROP\s+(TRIGGER|POLICY|RULE).*?\sON\s+{TABLE}",
     _one(Touch("loses a trigger or rule", mode=READERS))),
    (rf"CREATE\s+(POLICY|(OR\s+REPLACE\s+)?RULE).*?\s(ON|TO)\s+{TABLE}",
     _one(Touch("gets a rule", mode=READERS))),
    (r"DROP\s+(MATERIALIZED\s+)?VIEW|DROP\s+(SCHEMA|TYPE|DOMAIN)",
     _one(Touch("something else than a table is dropped", danger=BREAKS))),
    (r"(SELECT|WITH|DO|CALL)\b", _one(Touch("code in the database is run", danger=CODE))),
    (rf"({'|'.join(HARMLESS)})\b", _nothing),
]  # fmt: skip
