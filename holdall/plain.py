"""Plain data ↔ msgpack: reading it runs nothing, and gives back exactly what was written.

    plain  = array of one member               so its first byte is 0x91
    member = nil | bool | int | float 64 | str | bin
           | array                             list
           | map                               dict, if no key is a container or an ext
           | ext 1 little-endian               int beyond 64 bits, two's complement
           | ext 2 utf-8                       str, lone surrogates passed through, which msgpack's own has not
           | ext 3 array | ext 4 … | ext 5 …   tuple, set, frozenset
           | ext 6 array                       any other dict: key, value, key, value, …

1. Types are exact: an instance of a subclass is not plain, nor is what is nested more than DEPTH_MAX deep.
2. A reader's memory is bounded by a small multiple of the bytes: nothing in them refers to anything else in them.
3. So a list, dict or set that a value holds twice comes back as two; with `keeps_shared` it is no plain data.
4. What other threads change meanwhile is stored as it was at some moment, if all that they put in is plain too.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import chain
from operator import length_hint
from typing import Any, cast

import msgspec
from msgspec.msgpack import Ext

from holdall.errors import RequestSizeError
from holdall.protocol import OBJECT_BYTES_MAX

DEPTH_MAX = 100
"""So many containers in one another can be read with what Python allows of recursion, wherever the reader stands."""
REPEATS_MAX = 100_000
"""Of containers that a value holds again: of one that holds another twice, and that one a third, and so on, there is no end."""
FLAT_MAX, FLAT_BYTES = 10_000, 1024 * 1024
"""Members, and bytes of texts, of a container that is looked at by itself; any larger one level by level."""
_INT, _STR, _TUPLE, _SET, _FROZENSET, _DICT = range(1, 7)
_BUILDERS: dict[int, Callable[[list[Any]], Any]] = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset}
_CODES: dict[type, int] = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}
_ATOMS = frozenset((type(None), bool, int, float, str, bytes))
_NUMBERS = frozenset((type(None), bool, int, float))
_TEXTS = _ATOMS - _NUMBERS
_CONSTANT = frozenset((tuple, frozenset))
_DIRECT = _ATOMS | {list, dict}
_PLAIN = _DIRECT | _CODES.keys()

dump = msgspec.msgpack.Encoder().encode
"""The bytes of an array whose members msgpack has, as it has them; `encode` is for any."""


class Unsupported(Exception):
    """What a serializer does not write, or does not read: the message says what."""


def encode(value: object, *, keeps_shared: bool) -> bytes:
    """The bytes of a value. Raises Unsupported if it is not plain, RequestSizeError if it is larger than an entry may be."""
    kind = type(value)
    is_direct = kind in _DIRECT if _is_flat(value) else _is_direct(value, keeps_shared=keeps_shared)
    if is_direct:
        try:
            return dump((value,))
        except (OverflowError, UnicodeEncodeError):
            pass
    return dump((_tagged(value, [OBJECT_BYTES_MAX]),))


def _is_flat(value: Any) -> bool:
    """Whether it is no container, or one of few that are none: what most values are, known with few calls."""
    kind = cast(Any, type(value))
    if kind in _ATOMS:
        return True
    if kind not in _PLAIN or len(value) > FLAT_MAX:
        return False
    members = [*value, *value.values()] if kind is dict else [*value]
    kinds = set(map(type, members))
    return kinds <= _NUMBERS or (kinds <= _ATOMS and sum([len(each) for each in members if type(each) in _TEXTS]) <= FLAT_BYTES)


def _is_direct(value: object, *, keeps_shared: bool) -> bool:
    """Whether msgpack has all kinds of containers in a value. Level by level, so that C does what is done for each member."""
    level: list[Any] = [(value,)]
    is_direct, size, repeats, seen = True, 0, 0, set[int]()
    for _ in range(DEPTH_MAX + 1):
        members = gc.get_referents(*level)
        dicts: list[dict[Any, Any]] = [each for each in level if type(each) is dict]
        keys = [*chain.from_iterable(dicts)]  # of a dict whose keys are all strings, the collector knows the values alone
        kinds = set(map(type, members))
        if not kinds <= _PLAIN:
            other = next(iter(kinds - _PLAIN))
            raise Unsupported(f"an object of type {other.__module__}.{other.__qualname__} is no plain data")
        is_direct = is_direct and kinds <= _DIRECT and _ATOMS.issuperset(map(type, keys))
        size += sum(map(length_hint, members)) + sum(map(length_hint, keys))
        if size > OBJECT_BYTES_MAX:
            raise RequestSizeError(f"it has more than {OBJECT_BYTES_MAX:,} bytes")
        if kinds <= _ATOMS:
            return is_direct
        if repeats > REPEATS_MAX:
            raise Unsupported(f"it holds more than {REPEATS_MAX:,} containers again and again")
        level = [each for each in members if type(each) not in _ATOMS]
        shared = _repeats([id(each) for each in level if type(each) not in _CONSTANT], seen)
        if shared and keeps_shared:
            raise Unsupported("it holds the same list, dict or set twice")
        repeats += shared + _repeats([id(each) for each in level if type(each) in _CONSTANT], seen)
    raise Unsupported(f"plain data is nested at most {DEPTH_MAX} deep, and does not contain itself")


def _repeats(ids: list[int], seen: set[int]) -> int:
    """How many of these there were before; the others are added."""
    before = len(seen)
    seen.update(ids)
    return len(ids) - (len(seen) - before)


def _tagged(value: Any, room: list[int]) -> Any:
    """This, or what stands for it where msgpack may have none of its kind. `room`: how many bytes large ints may take."""
    kind = cast(Any, type(value))
    if kind is int and not -1 << 63 <= value < 1 << 64:
        size = value.bit_length() // 8 + 1
        room[0] -= size
        if room[0] < 0:
            raise RequestSizeError(f"it has more than {OBJECT_BYTES_MAX:,} bytes")
        return Ext(_INT, value.to_bytes(size, "little", signed=True))
    if kind is str and not value.isascii():
        return Ext(_STR, value.encode("utf-8", "surrogatepass"))
    if kind in _ATOMS:
        return value
    if kind is dict:
        items = value.copy()
        keys, members = [_tagged(each, room) for each in items], [_tagged(each, room) for each in items.values()]
        if Ext not in map(type, keys):
            return dict(zip(keys, members, strict=True))
        return Ext(_DICT, dump([*chain.from_iterable(zip(keys, members, strict=True))]))
    code = 0 if kind is list else _CODES[kind]
    members = [*value]
    if code and _ATOMS.issuperset(map(type, members)):
        try:
            return Ext(code, dump(members))
        except (OverflowError, UnicodeEncodeError):
            pass
    members = [_tagged(each, room) for each in members]
    return Ext(code, dump(members)) if code else members


def _extended(code: int, data: memoryview) -> Any:
    if code == _INT:
        return int.from_bytes(data, "little", signed=True)
    if code == _STR:
        return str(data, "utf-8", "surrogatepass")
    members = decode(data)
    if code in _BUILDERS:
        return _BUILDERS[code](members)
    if code == _DICT:
        return dict(zip(members[::2], members[1::2], strict=True))
    raise Unsupported(f"plain data has no ext {code}")


decode = msgspec.msgpack.Decoder(list[Any], ext_hook=_extended).decode
"""The members of the array that these bytes are. Raises msgspec's errors, or what building one of them raises."""
