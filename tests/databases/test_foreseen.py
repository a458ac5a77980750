"""What is foreseen of a statement, however it is written."""

from __future__ import annotations

import random

from hypothesis import assume, example, given
from hypothesis import strategies as st

from rehearsal.databases.foreseen.statements import (
    BREAKS,
    CODE,
    LOSES,
    READERS,
    UNKNOWN,
    of_operation,
    split,
    touches,
)
from tests.fuzzing import cases

DANGERS = {
    "DROP TABLE shop": LOSES,
    'DROP TABLE IF EXISTS "shop" CASCADE': LOSES,
    "TRUNCATE shop , visit": LOSES,
    "DELETE FROM shop WHERE id = 1": LOSES,
    "ALTER TABLE shop DROP COLUMN name": LOSES,
    "ALTER TABLE shop ADD COLUMN a int , DROP COLUMN name": LOSES,
    "ALTER TABLE shop RENAME TO shops": BREAKS,
    "ALTER TABLE shop RENAME COLUMN name TO title": BREAKS,
    "ALTER TABLE shop ALTER COLUMN name SET NOT NULL": BREAKS,
    "ALTER TABLE shop ADD COLUMN a int NOT NULL": BREAKS,
    "DROP VIEW seen": BREAKS,
    "SELECT doing()": CODE,
    "DO $$ BEGIN END $$": CODE,
    "IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z": UNKNOWN,
}
BLANK = st.sampled_from([" ", "\n", "\t", "\r\n", "  ", " /* one */ ", " -- one\n", "\u00a0"])


WORDS = (
    "ALTER TABLE DROP ADD COLUMN shop ( ) , ; ' \" -- /* */ $$ SET NOT NULL RENAME TO E' {0} {x}"
)
WORD = st.sampled_from(WORDS.split(" "))


@cases(200)
@given(st.text(max_size=120) | st.lists(WORD, max_size=12).map(" ".join))
@example("ALTER TABLE shop ADD {x} int")
@example("ALTER TABLE")
def test_any_text_is_foreseen_somehow(text: str) -> None:
    statements = split(text)
    for own in of_operation(statements):
        for touch in own:
            assert touch.does
            assert touch.mode or touch.danger or not touch.blocks


@cases(100)
@given(st.sampled_from(sorted(DANGERS)), BLANK, st.integers(0, 2**32))
def test_a_danger_is_seen_however_it_is_written(sql: str, blank: str, seed: int) -> None:
    assume(not (blank.strip().startswith("--") and "$$" in sql))
    chance = random.Random(seed)
    words = [
        word if word[:1] in "\"'$" else "".join(chance.choice([a.lower(), a.upper()]) for a in word)
        for word in sql.split(" ")
    ]
    text = blank.join(words)
    found = [touch for own in of_operation(split(text)) for touch in own]
    assert any(touch.danger for touch in found), (text, found)


@cases(100)
@given(st.sampled_from(["name", "it''s", "DROP TABLE shop", "--", "/*", "a, DROP COLUMN b"]))
def test_what_stands_in_quotes_is_no_statement(text: str) -> None:
    found = touches(f"ALTER TABLE shop ALTER COLUMN a SET DEFAULT '{text}'")
    assert [(one.danger, one.mode) for one in found] == [("", READERS)]
