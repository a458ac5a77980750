"""Whether what a line sets is of the kind that the check's fields declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@cache
def declared(check: type) -> dict[str, Any]:
    """What each option is declared as; nothing where that cannot be told."""
    try:
        return get_type_hints(check)
    except Exception:  # whatever names a module of the project's writes there
        return {}


def fits(value: object, kind: Any) -> bool:
    """Whether a value of JSON's is of a declared kind; of a kind that JSON lacks, it may be."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if kind in (str, bool, NoneType):
        return isinstance(value, kind)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    plain = origin or kind
    if plain in (list, tuple, Sequence, set, frozenset):
        entries = [one for one in inner if one is not Ellipsis][:1] or [Any]
        return isinstance(value, (list, tuple)) and all(fits(one, entries[0]) for one in value)
    if plain in (dict, Mapping):
        entry = inner[1] if len(inner) == 2 else Any
        return isinstance(value, Mapping) and all(fits(one, entry) for one in value.values())
    return True


def named(kind: Any) -> str:
    """A declared kind in words."""
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    words |= {NoneType: "null"}
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(named, get_args(kind)))
    listed = get_origin(kind) or kind
    lists = "a list" if listed in (list, tuple, Sequence, set, frozenset) else "an object"
    return words.get(kind) or (f"one of {get_args(kind)}" if listed is Literal else lists)
