"""How many cases a property is tried on, and the cases that are kept.

The default suite tries few, `make fuzz` 10,000 for each reader. A case that once broke something
is kept as an `@example` beside its test or as a file in tests/data/corpus/, one folder a reader.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "data" / "corpus"
LONG = "long"
settings.register_profile(LONG, suppress_health_check=list(HealthCheck), print_blob=True)

Test = TypeVar("Test", bound=Callable[..., Any])


def cases(quick: int, long: int = 10_000) -> Callable[[Test], Test]:
    """Marks a property of a reader, to be tried on so many cases; `long` ones in `make fuzz`."""
    many = settings.get_current_profile_name() == LONG

    def mark(test: Test) -> Test:
        # No deadline: a busy machine is not a slow reader. A fixture may last for all cases, where
        # each case writes what it reads.
        bounded = settings(
            max_examples=long if many else quick,
            deadline=None,
            suppress_health_check=list(
                HealthCheck if many else [HealthCheck.function_scoped_fixture]
            ),
        )(test)
        return pytest.mark.fuzz(bounded)

    return mark


def corpus(reader: str) -> list[Any]:
    """The files kept for a reader, as parameters named after them."""
    files = sorted((CORPUS / reader).iterdir())
    assert files, f"nothing is kept for {reader}"
    return [pytest.param(file, id=file.name) for file in files]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([10**400, "2026-01-01T00:00:00Z", "ok", "up", "firing", "\u00b2", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
"""Whatever Python's json reads, its own numbers without an end among it."""


def altered(document: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The document with one thing in it replaced by anything, left out, or doubled."""
    places = list(_places(document))
    at = draw(st.sampled_from(places))
    how = draw(st.sampled_from(["replace", "replace", "replace", "leave out", "double"]))
    return _changed(document, at, how, draw)


def _places(document: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _places(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _places(value, (*path, index))


def _changed(document: Any, at: tuple[Any, ...], how: str, draw: Callable[..., Any]) -> Any:
    if not at:
        return draw(ANYTHING)
    first, *rest = at
    copy = list(document) if isinstance(document, list) else dict(document)
    if rest or how == "replace":
        copy[first] = _changed(document[first], tuple(rest), how, draw)
    elif how == "leave out":
        del copy[first]
    elif isinstance(copy, list):
        copy.insert(first, document[first])
    else:
        copy[f"{first}2"] = document[first]
    return copy
