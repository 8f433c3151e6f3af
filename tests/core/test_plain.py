"""Plain data comes back exactly, nothing else passes for it, and hostile bytes cost little."""

from __future__ import annotations

import collections
import datetime
import enum
import math
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdall import plain, values
from holdall.errors import RequestSizeError
from holdall.plain import DEPTH_MAX, Unsupported

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=5)
    | st.binary(max_size=5)
)
keys = st.recursive(atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
plain_values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.frozensets(keys)
        | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=12,
)


def exactly(value: Any) -> Any:
    """What two values have in common that are the same: types, bits, order."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack("<d", value)
    if kind in (list, tuple):
        return kind, [exactly(each) for each in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(exactly(each)) for each in value)
    if kind is dict:
        return kind, [(exactly(key), exactly(each)) for key, each in value.items()]
    return kind, value


@settings(max_examples=50)
@given(plain_values)
@example([True, 1, 1.0, -0.0, 0, False])
@example({True: 1, 2: True, None: None, 1.5: b"", b"x": ""})
@example([(), [], {}, set(), frozenset(), "", b""])
@example(struct.unpack("<d", bytes.fromhex("230100000000f87f"))[0])
@example([2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**300, -(10**300)])
@example({2**64: "\udc80", "\udc80": {"\udc80"}, "é": "é"})
@example({(1, (2, "x")): [frozenset({(3,)})], frozenset(): {}})
@example([float("nan"), float("inf"), -float("inf")])
@example(b"\x02" * 70_000)
@example({b"k": b"\x02" * 70_000, "s": "x" * 70_000})
@example([*range(70_000)])
def test_plain_data_comes_back_exactly_from_bytes_that_hold_no_pickle(value: Any) -> None:
    for serializer in ("auto", "plain"):
        data = values.dump(value, serializer)
        assert data[:1] == values.PLAIN
        assert exactly(values.load(data, "plain")) == exactly(value)
        assert exactly(values.load(bytearray(data), "auto")) == exactly(value)


class Level(enum.IntEnum):
    LOW = 1


class Flag(enum.IntFlag):
    UP = 1


class Name(str):
    __slots__ = ()


class Raw(bytes):
    __slots__ = ()


class Half(float):
    __slots__ = ()


class Row(list[int]):
    pass


class Names(frozenset[str]):
    pass


class Point(NamedTuple):
    x: int


class Struct(msgspec.Struct, frozen=True):
    x: int


NOT_PLAIN = [
    Level.LOW,
    Flag.UP,
    Name("x"),
    Raw(b"x"),
    Half(0.5),
    Point(1),
    Names(),
    Struct(1),
    1j,
    ...,
    range(3),
    np.float64(1),
    int,
    len,
    np.str_("x"),
    np.bytes_(b"x"),
    np.int64(1),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    datetime.date(2020, 1, 1),
]
UNHASHABLE = [
    bytearray(b"x"),
    Row(),
    np.zeros(2),
    {}.keys(),
    collections.OrderedDict(),
    collections.defaultdict(list),
    collections.Counter(),
]
PLACES: dict[str, Callable[[Any], Any]] = {
    "alone": lambda each: each,
    "in a list": lambda each: [1, each],
    "in a tuple": lambda each: (each, "x"),
    "deep in dicts": lambda each: {"a": {"b": [each]}},
    "beside a large int": lambda each: [2**64, (each,)],
}
HASHED: dict[str, Callable[[Any], Any]] = {
    "in a set": lambda each: {each},
    "in a frozenset": lambda each: [frozenset([each])],
    "as a key": lambda each: {each: 1},
    "in a key": lambda each: [{(1, each): 1}],
    "as a key beside strings": lambda each: {"a": 1, each: 2},
}


def refused(value: Any) -> bool:
    """Whether it is no plain data."""
    try:
        plain.encode(value, keeps_shared=False)
    except Unsupported:
        return True
    return False


@pytest.mark.parametrize("place", [*PLACES, *HASHED])
def test_what_only_looks_plain_is_not(place: str) -> None:
    put = PLACES.get(place) or HASHED[place]
    some = NOT_PLAIN if place in HASHED else [*NOT_PLAIN, *UNHASHABLE]
    assert [repr(each) for each in some if not refused(put(each))] == []


def nested(kind: str, depth: int) -> Any:
    """A container in a container and so on."""
    made: Any = 1
    for _ in range(depth):
        made = {"list": [made], "tuple": (made,), "dict": {"k": made}}[kind]
    return made


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_deep_plain_data_comes_back_up_to_a_depth_and_is_refused_beyond(kind: str) -> None:
    deepest = nested(kind, DEPTH_MAX)
    assert plain.decode(plain.encode(deepest, keeps_shared=True)) == [deepest]
    with pytest.raises(Unsupported, match="nested at most 100 deep"):
        plain.encode(nested(kind, DEPTH_MAX + 1), keeps_shared=True)
    back = values.load(values.dump(nested(kind, DEPTH_MAX + 1)))
    assert back == nested(kind, DEPTH_MAX + 1)


def cycle(kind: str) -> Any:
    """What contains itself."""
    knot: Any = {} if kind == "dict" else []
    if kind == "dict":
        knot["again"] = knot
    else:
        knot += [(knot,)] if kind == "tuple" else [knot, knot]
    return knot


@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_what_contains_itself_is_no_plain_data_and_comes_back_by_pickle(kind: str) -> None:
    with pytest.raises((Unsupported, RequestSizeError)):
        values.dump(cycle(kind), "plain")
    back = values.load(values.dump(cycle(kind)))
    inner = back["again"] if kind == "dict" else back[0]
    assert (inner[0] if kind == "tuple" else inner) is back


@pytest.mark.parametrize("shared", [[1], {"a": 1}, {1}, []], ids=repr)
@pytest.mark.parametrize(
    "twice", [lambda s: [s, s], lambda s: {"a": s, "b": [s]}, lambda s: [(s,), [(s,)]], lambda s: ((s,),) * 2], ids=range(4)
)
def test_what_a_value_holds_twice_comes_back_as_one(shared: Any, twice: Callable[[Any], Any]) -> None:
    value = twice(shared)
    back = values.load(values.dump(value))
    assert back == value
    found: list[Any] = []
    level: list[Any] = [back]
    while level:
        each = level.pop()
        found += [each] if each == shared and type(each) is type(shared) else []
        level += each.values() if isinstance(each, dict) else each if isinstance(each, (list, tuple)) else []
    assert len(found) == 2
    assert found[0] is found[1]
    assert values.load(values.dump(value, "plain"), "plain") == value


@pytest.mark.parametrize(
    "value", [[(), ()], [("a", 1)] * 3, {"a": "x" * 100, "b": "x" * 100}, [frozenset({1})] * 2], ids=range(4)
)
def test_what_cannot_change_may_be_held_twice(value: Any) -> None:
    assert values.dump(value)[:1] == values.PLAIN


def many_times(kind: str, levels: int) -> Any:
    """Little in memory, and very much written out."""
    made: Any = ("x",)
    for _ in range(levels):
        made = (made, made) if kind == "tuple" else [made, made] if kind == "list" else {"a": made, "b": made}
    return made


@pytest.mark.parametrize(
    "value",
    [
        many_times("tuple", 200),
        many_times("list", 90),
        many_times("dict", 90),
        ["x" * 2**20] * 200,
        {"k": [b"x" * 2**20] * 200},
    ],
    ids=range(5),
)
def test_what_is_much_larger_written_out_is_refused_soon_and_pickled(value: Any) -> None:
    began = time.process_time()
    with pytest.raises((RequestSizeError, Unsupported)):
        values.dump(value, "plain")
    assert len(values.dump(value)) < 2**21
    assert time.process_time() - began < 30


def test_large_ints_that_are_held_again_and_again_are_refused() -> None:
    for value in ([1 << 2**23] * 200, ((-1 << 2**23,) * 200,), dict.fromkeys(range(200), 1 << 2**23)):
        with pytest.raises(RequestSizeError):
            values.dump(value, "plain")


CLAIMS = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x03",
]
HOSTILE: dict[str, bytes] = {
    **{f"claims {claim.hex()}": claim + bytes(1000) for claim in CLAIMS},
    "claims within claims": b"\xdd\x00\x00\xff\x00" * 900 + b"\xc0" * 100_000,
    "deep arrays": b"\x91" * 50_000,
    "deep maps": b"\x81\x01" * 50_000,
    "a map as a key": b"\x81\x80\x01",
    "a list in a set": b"\xc7\x02\x04\x91\x90",
    "a dict of an odd number": b"\xc7\x02\x06\x91\x01",
    "no array in a tuple": b"\xc7\x01\x03\x01",
    "two values in a tuple": b"\xc7\x02\x03\x90\x90",
    "a str that is none": b"\xc7\x01\x02\xff",
    "an unknown ext": b"\xc7\x01\x63\x90",
    "more after it": b"\x01\x01",
    "nothing": b"",
    "half an int": b"\xcf\x00",
}


def deep_tuples(depth: int) -> bytes:
    """Tuples in one another, as nobody writes them here."""
    data = b"\x90"
    for _ in range(depth):
        data = b"\xc9" + len(data).to_bytes(4, "big") + b"\x03" + data
    return data


@pytest.mark.parametrize("hostile", [*HOSTILE, "deep tuples"])
def test_hostile_bytes_are_an_error_of_little_memory(hostile: str) -> None:
    data = b"\x91" + (deep_tuples(5_000) if hostile == "deep tuples" else HOSTILE[hostile])
    tracemalloc.start()
    with pytest.raises(Exception, match=r".") as raised:
        values.load(data, "plain")
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert type(raised.value).__module__ in ("builtins", "msgspec", "holdall.plain")
    assert peak < 100 * len(data) + 2**20


@pytest.mark.parametrize(
    "member", [b"\xc0", b"\x90", b"\x80", b"\xd4\x03\x90", b"\xd4\x04\x90", b"\xd4\x06\x90", b"\x81\x01\x01"], ids=bytes.hex
)
def test_what_is_read_takes_a_small_multiple_of_its_bytes(member: bytes) -> None:
    count = 20_000
    data = b"\x91\xdd" + count.to_bytes(4, "big") + member * count
    tracemalloc.start()
    assert len(values.load(data, "plain")) == count
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * len(data) + 2**20


@given(st.binary(max_size=60))
def test_any_bytes_are_plain_data_or_an_error_that_gets_a_name(data: bytes) -> None:
    try:
        values.load(b"\x91" + data, "plain")
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError, Unsupported):
        pass


def test_a_reader_that_stands_deep_itself_gets_an_error_and_no_crash() -> None:
    data = plain.encode(nested("tuple", DEPTH_MAX), keeps_shared=True)

    def deep(left: int) -> Any:
        return plain.decode(data) if left == 0 else deep(left - 1)

    with pytest.raises(RecursionError):
        deep(sys.getrecursionlimit() - 150)


JSON = [None, True, 1, -1.5, 2**100, "é", [], {}, {"a": [1, {"b": None}]}, -0.0, 1e300, ["x"] * 3, nested("list", 50)]
NO_JSON = [
    (),
    (1,),
    [(1,)],
    {1},
    b"x",
    {"a": b""},
    {1: 2},
    {None: 1},
    {"a": {2.5: 1}},
    math.nan,
    [math.inf],
    {"a": -math.inf},
    10**5000,
    "\udc80",
    ["\udc80"],
    {"\udc80": 1},
    Level.LOW,
    [Point(1)],
    Name("x"),
    datetime.date(2020, 1, 1),
    cycle("list"),
    nested("list", DEPTH_MAX + 1),
]


@pytest.mark.parametrize("value", JSON, ids=range(len(JSON)))
def test_json_comes_back_exactly(value: Any) -> None:
    data = values.dump(value, "json")
    assert data[:1] == values.JSON
    assert exactly(values.load(data, "json")) == exactly(values.load(data, "auto")) == exactly(value)


@pytest.mark.parametrize("value", NO_JSON, ids=range(len(NO_JSON)))
def test_what_json_cannot_say_exactly_is_refused(value: Any) -> None:
    with pytest.raises((Unsupported, TypeError, ValueError, RequestSizeError)):
        values.dump(value, "json")


TABLE: Any = np.arange(6).reshape(2, 3)
MEMORY = [
    b"",
    b"abc",
    bytearray(b"abc"),
    memoryview(b"abc"),
    memoryview(b"abcdef")[::2],
    memoryview(TABLE),
    memoryview(TABLE[:0]),
    Raw(b"x"),
    memoryview(bytearray(300_000)),
]


@pytest.mark.parametrize("value", MEMORY, ids=range(len(MEMORY)))
def test_bytes_come_back_as_bytes(value: Any) -> None:
    data = values.dump(value, "bytes")
    assert data[:1] == values.RAW
    back = values.load(bytearray(data), "bytes")
    assert type(back) is bytes
    assert back == bytes(value)


@pytest.mark.parametrize("value", ["abc", 1, None, [1], np.zeros(3)], ids=repr)
def test_what_is_no_bytes_is_refused(value: Any) -> None:
    with pytest.raises(Unsupported, match="neither bytes, a bytearray nor a memoryview"):
        values.dump(value, "bytes")


def test_large_bytes_are_not_copied() -> None:
    large = bytes(1_000_000)
    assert values.parts(large)[-1] is large
    writable = bytearray(1_000_000)
    assert memoryview(values.parts(writable, "bytes")[-1]).obj is writable
