"""Equal keys have equal encodings, and only they do."""

from __future__ import annotations

import datetime
import enum
import math
import pathlib
import subprocess
import sys
import uuid
import warnings
import weakref
import zoneinfo
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import KeyTypeWarning, keys

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.integers(-3, 3).map(float),
    st.complex_numbers(allow_nan=False),
    st.integers(-3, 3).map(complex),
    st.text(),
    st.binary(),
    st.fractions(),
    st.decimals(allow_nan=False),
    st.integers(-3, 3).map(np.int64),
    st.integers(-3, 3).map(np.float32),
    st.text(max_size=3).map(np.str_),
)
hashables = st.recursive(
    scalars, lambda children: st.tuples() | st.tuples(children, children) | st.frozensets(children, max_size=4), max_leaves=8
)

Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Word(str, enum.Enum):  # noqa: UP042 - what people have
    HI = "hi"


class CaseBlind(str):
    """A str with an equality of its own."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


def equal(a: Any, b: Any) -> bool:
    """Whether a dict takes them for the same key."""
    try:
        return bool({a: None}.keys() == {b: None}.keys())
    except TypeError:  # comparing a huge int with a numpy scalar
        return False


@given(hashables, hashables)
def test_two_keys_have_equal_bytes_exactly_when_dict_takes_them_for_one(a: Any, b: Any) -> None:
    try:
        same = equal(a, b)
    except (OverflowError, ValueError):  # numpy cannot compare these; then dict cannot hold both either
        return
    assert (keys.encode(a).data == keys.encode(b).data) == same


@given(hashables)
def test_decoding_an_exact_encoding_gives_back_the_key(key: Any) -> None:
    encoded = keys.encode(key)
    if encoded.exact:
        assert keys.decode(encoded.data) == key
        assert type(keys.decode(encoded.data)) is type(key)


@pytest.mark.parametrize(
    "same",
    [
        (1, 1.0, True, 1 + 0j, Decimal(1), Fraction(1), np.int8(1), np.float16(1), np.bool_(True), Colour.RED),
        (0, 0.0, -0.0, False, -0j),
        ("hi", Word.HI, np.str_("hi")),
        ((1, 1), Point(1.0, True)),
        (b"x", np.bytes_(b"x")),
        (frozenset([1, "a", (2.0,)]), frozenset([(2,), True, "a"])),
        (0.5, Fraction(1, 2), Decimal("0.5"), np.float64(0.5)),
        (Fraction(1, 10), Decimal("0.1")),
        (math.inf, Decimal("inf"), np.float32(math.inf)),
        (2**70, 2.0**70),
        (math.nan, Decimal("nan"), np.float64("nan")),
    ],
    ids=lambda same: f"{type(same[0]).__name__} {len(repr(same))}",  # not the repr of a set: it differs from process to process
)
def test_common_types_that_compare_equal_are_one_key(same: tuple[Any, ...]) -> None:
    assert len({keys.encode(key).data for key in same}) == 1


@pytest.mark.filterwarnings("ignore::holdall.KeyTypeWarning")
@pytest.mark.parametrize("key", ["", b"", "\0", b"\0", "\ud800", (), frozenset(), ((),), ..., range(3)], ids=repr)
def test_odd_keys_come_back(key: Any) -> None:
    assert keys.decode(keys.encode(key).data) == key


@pytest.mark.filterwarnings("ignore::holdall.KeyTypeWarning")
def test_a_subclass_with_an_equality_of_its_own_is_keyed_by_its_pickle() -> None:
    assert keys.encode(CaseBlind("a")).data[:1] == b"p"


@dataclass(frozen=True)
class Place:
    x: float


class Lonely:
    """Equal to itself alone."""


class Plain(enum.Enum):
    ONE = 1


UTC = datetime.UTC
OWN_EQUALITY = [
    Place(1),
    CaseBlind("a"),
    range(3),
    pathlib.PurePosixPath("a"),
    datetime.datetime(2020, 1, 1, tzinfo=UTC),
    datetime.time(1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime.timezone(datetime.timedelta(hours=1)),
]
PICKLE_ALIKE = [
    Plain.ONE,
    Colour.RED,
    Lonely(),
    uuid.UUID(int=1),
    datetime.date(2020, 1, 1),
    datetime.datetime(2020, 1, 1),
    datetime.time(1),
    datetime.timedelta(1),
    Place,
    ...,
    memoryview(b"abc"),
    np.int64(1),
    Point(1, 2),
    Decimal(1),
    "a",
]


@pytest.mark.parametrize("place", [lambda key: key, lambda key: ("a", (key,)), lambda key: frozenset({key})], ids=range(3))
@pytest.mark.parametrize("key", OWN_EQUALITY, ids=lambda key: type(key).__name__)
def test_keys_whose_type_says_what_equals_them_warn_once(key: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_WARNED", weakref.WeakSet())
    with pytest.warns(KeyTypeWarning, match=rf"keys of type \S*{type(key).__name__} .*use a str, or a tuple") as caught:
        keys.encode(place(key))
    assert [each.filename for each in caught] == [__file__]
    keys.encode(place(key))


@pytest.mark.parametrize("key", PICKLE_ALIKE, ids=range(len(PICKLE_ALIKE)))
def test_keys_that_pickle_alike_if_they_are_equal_do_not_warn(key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_WARNED", weakref.WeakSet())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keys.encode((key,))


@pytest.mark.parametrize("key", [[], {}, set(), ([],), (1, ({},)), bytearray()], ids=repr)
def test_an_unhashable_key_is_a_type_error(key: Any) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        keys.encode(key)


def test_a_long_key_is_replaced_by_its_digest() -> None:
    long, other = "x" * 5000, "x" * 4999 + "y"
    assert len(keys.encode(long).data) == 33
    assert not keys.encode(long).exact
    assert keys.encode(long).data != keys.encode(other).data


def test_encodings_are_the_same_in_a_process_with_another_hash_seed() -> None:
    program = "from holdall import keys; print(keys.encode(frozenset('abcdef')).data.hex(), keys.encode((1.5, 'a')).data.hex())"
    ran = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert ran[0] == ran[1] == f"{keys.encode(frozenset('abcdef')).data.hex()} {keys.encode((1.5, 'a')).data.hex()}\n"


class Lazy:
    """A string that is made when it is needed, as translations are: equal to it, and pickled as it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __reduce__(self) -> Any:
        return type(self.value), (self.value,)


class Pretends(Lazy):
    """Is pickled as another key than it equals."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@pytest.mark.parametrize("value", ["a", "é" * 2_000, b"abc", 7, 1.5, (1, "a"), frozenset({1, 2}), 2**70, True])
def test_a_key_that_pickling_makes_another_type_of_is_that_key(value: Any) -> None:
    assert keys.encode(Lazy(value)).data == keys.encode(value).data


def test_a_memoryview_is_the_key_of_its_bytes() -> None:
    assert keys.encode(memoryview(b"abc")).data == keys.encode(b"abc").data


@pytest.mark.parametrize("value", ["a", b"abc", 7, (1, "a")])
def test_a_key_that_pickling_makes_another_key_of_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="another key"):
        keys.encode(Pretends(value))
