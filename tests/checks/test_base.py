"""The options of a line are what its check declares, or the line is refused with the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehearsal import plan
from rehearsal.checks import base
from tests.fuzzing import ANYTHING, cases


@dataclass(frozen=True)
class Declares(base.Check):
    text: str = ""
    count: int = 0
    ratio: float = 0.0
    flag: bool = False
    maybe: int | None = None
    names: tuple[str, ...] = ()
    things: Sequence[object] = ()
    pairs: Mapping[str, int] | None = None
    how: Literal["one", "two"] = "one"
    thing: Any = None
    unusual: complex = 0j


OPTIONS = [entry.name for entry in fields(Declares)]
HERE = f"{__name__}.Declares"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", 2025, "expects a text as 'text', found 2025; write text='\"2025\"'"),
        ("count", "many", "expects a whole number as 'count', found 'many'"),
        ("count", True, "a whole number"),
        ("count", 1.5, "a whole number"),
        ("ratio", "1", "a number"),
        ("flag", 1, "true or false"),
        ("maybe", "x", "a whole number or null"),
        ("names", "one", "a list"),
        ("names", ["one", 2], "a list"),
        ("things", {}, "a list"),
        ("pairs", {"a": "b"}, "an object or null"),
        ("how", "three", "one of ('one', 'two')"),
    ],
)
def test_a_value_of_another_kind_is_refused(name: str, value: object, expected: str) -> None:
    with pytest.raises(base.BindingError) as caught:
        base.build(HERE, {name: value})
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", "2025"), ("count", 3), ("ratio", 3), ("ratio", 0.5), ("flag", True),
        ("maybe", None), ("maybe", 0), ("names", ["a"]), ("things", [1, None]),
        ("pairs", {"a": 1}), ("how", "two"), ("thing", [{}]), ("unusual", "as it likes"),
    ],
)  # fmt: skip
def test_a_value_of_its_kind_is_taken(name: str, value: object) -> None:
    assert getattr(base.build(HERE, {name: value}), name) == value


@cases(60)
@given(st.dictionaries(st.sampled_from(OPTIONS), ANYTHING, max_size=3))
def test_any_options_are_taken_or_refused(options: dict[str, object]) -> None:
    try:
        base.build(HERE, options)
    except base.BindingError as error:
        assert "expects" in str(error)


def test_a_document_with_such_a_line_is_refused_by_its_number() -> None:
    line = "- [ ] It opens. <!-- check: rehearsal.checks.functional.Page path=/ rows=many -->\n"
    with pytest.raises(plan.StartError, match=r"Line 2: .* a whole number"):
        plan.bound(f"## A\n{line}")
