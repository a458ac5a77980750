"""What changed in the counts of a page, which no machine and no load changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rehearsal.checks.performance.sides import Profile
from rehearsal.checks.performance.statistics import Change

MORE = {"rows": (1.2, 50), "bytes": (1.2, 10_000), "calls": (1.15, 2000)}
"""From which share and by how many a count is more than before, where data may differ a little."""
NAMED = 3
LONGEST = 160


@dataclass(frozen=True)
class Counted:
    """The change of a page's counts, and what it is made of."""

    change: Change
    said: list[str]
    """What changed, each in words; the SQL that came or went among it."""

    def __str__(self) -> str:
        return "; ".join(self.said) or "the same queries"


def compare_counts(before: Profile, after: Profile) -> Counted:
    """Compare counts: queries exactly, rows, bytes and function calls from a certain size on."""
    said: list[str] = []
    change = Change.SAME
    more = after.queries - before.queries
    if more:
        change = Change.WORSE if more > 0 else Change.BETTER
        said.append(f"{before.queries} → {after.queries} queries")
    if after.warm_queries > before.warm_queries and more <= 0:
        change = Change.WORSE
        said.append(f"{before.warm_queries} → {after.warm_queries} queries with warm caches")
    came = Counter(after.sql)
    came.subtract(before.sql)
    said += [_named(sql, count, before) for sql, count in _ordered(came) if count > 0]
    said += [f"{count} × {short(sql)}" for sql, count in reversed(_ordered(came)) if count < 0]
    for name, (share, least) in MORE.items():
        old, new = getattr(before, name), getattr(after, name)
        if new > old * share and new - old > least:
            change = Change.WORSE
            said.append(f"{old} → {new} {_WORDS[name]}")
        elif old > new * share and old - new > least and change == Change.SAME:
            change = Change.BETTER
            said.append(f"{old} → {new} {_WORDS[name]}")
    return Counted(change, said)


_WORDS = {"rows": "rows read", "bytes": "bytes", "calls": "function calls"}


def _ordered(came: Counter[str]) -> list[tuple[str, int]]:
    largest = sorted(came.items(), key=lambda one: -one[1])
    return [one for one in largest if one[1] > 0][:NAMED] + [one for one in largest if one[1] < 0][
        -NAMED:
    ]


def _named(sql: str, count: int, before: Profile) -> str:
    text = f"+{count} × {short(sql)}"
    known = before.sql.get(sql, 0)
    # One query that is asked for each row of another: N+1.
    return f"{text} (repeats: N+1)" if count > 1 or known else text


def short(sql: str) -> str:
    """A query in one line: the names of the columns it reads are left out first."""
    text = sql
    head, found, tail = text.partition(" FROM ")
    if found and head.upper().startswith("SELECT") and len(head) > 40:
        text = f"SELECT … FROM {tail}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
