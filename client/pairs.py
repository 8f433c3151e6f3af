"""The pairs that `dict.update` would find in its arguments, and the errors that it would raise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

_DICT_ITEMS: Any = type(dict[str, str]().items())


class Together:
    """Pairs that are all here: none of the caller's code runs between two of them."""

    def __init__(self, keys: list[Any], values: list[Any]) -> None:
        self.keys = keys
        self.values = values

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return zip(self.keys, self.values, strict=True)


def pairs_of(other: Any, more: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    """The pairs of a mapping, an object with `keys()`, or an iterable of pairs; then those of `more`. Those of a plain dict
    alone are together.
    """
    if more:
        return _one_by_one(other, more)
    if type(other) is dict:
        copy: Any = cast(Any, other).copy()  # at once, whatever other threads do with it
        return Together(list(copy), list(copy.values()))
    if type(other) is _DICT_ITEMS:
        pairs: list[tuple[Any, Any]] = list(other)
        return Together([key for key, _value in pairs], [value for _key, value in pairs])
    return _one_by_one(other, more)


def _one_by_one(other: Any, more: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    if isinstance(other, Mapping):
        yield from other.items()
    elif hasattr(other, "keys"):
        for key in other.keys():  # noqa: SIM118 - as dict.update does it: `other` need not be iterable
            yield key, other[key]
    else:
        for position, pair in enumerate(other):
            is_pair = type(pair) is tuple and len(pair) == 2  # pyright: ignore[reportUnknownArgumentType]
            yield pair if is_pair else _pair(position, pair)
    yield from more.items()


def _pair(position: int, pair: Any) -> tuple[Any, Any]:
    try:
        members = tuple(pair)
    except TypeError:
        raise TypeError(f"cannot convert dictionary update sequence element #{position} to a sequence") from None
    if len(members) != 2:
        raise ValueError(f"dictionary update sequence element #{position} has length {len(members)}; 2 is required")
    return members
