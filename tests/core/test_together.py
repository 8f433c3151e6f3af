"""What is encoded and decoded together is as if it were one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdall import keys, values
from holdall.client.encoding import SMALL, SMALL_INT, decode_values, encode_value, keys_data, small_values
from holdall.client.operations.batches import Entries, Together, _encode_each, _Many, _plain, pairs_of
from holdall.errors import SerializationError

some_keys = st.text(max_size=300) | st.binary(max_size=3) | st.integers(-3, 3) | st.sampled_from([1.0, True, None, "\udc80"])
some_values = st.one_of(
    st.lists(st.text(max_size=5)),
    st.lists(st.binary(max_size=5)),
    st.lists(st.integers()),
    st.lists(st.floats(allow_nan=False) | st.booleans() | st.none()),
    st.lists(st.integers(0, 3) | st.text(max_size=2) | st.just(["list"])),
)


@given(st.lists(some_keys))
@example(["a" * (keys.SHORT + 1)])
@example(["a", "\udc80"])
def test_keys_encoded_together_are_as_if_one_by_one(some: list[Any]) -> None:
    assert keys_data("Dict", some) == [keys.encode(key).data for key in some]


@given(some_values)
@example([SMALL_INT])
@example([-SMALL_INT, 1])
@example(["a" * (SMALL + 1)])
@example([b"a" * SMALL])
def test_values_encoded_together_are_as_if_one_by_one(some: list[Any]) -> None:
    assert small_values(some) in ([], [encode_value("Dict", "key", value) for value in some])


def test_large_values_are_not_encoded_together() -> None:
    for large in ("a" * (SMALL + 1), b"a" * (SMALL + 1), SMALL_INT, -SMALL_INT):
        assert small_values([type(large)(1), large]) == []


@given(st.dictionaries(some_keys, st.integers(0, 3) | st.text(max_size=2)), st.booleans())
@example({"a": 1, "b": 2}, False)
@example({"a": 1, 2: 2}, False)
def test_the_entries_of_a_dict_are_those_of_its_pairs(some: dict[Any, Any], skips: bool) -> None:
    for given_as in (some, some.items()):
        together = pairs_of(given_as, {})
        assert isinstance(together, Together)
        assert list(together) == list(some.items())
        one_by_one: dict[bytes, Any] = {}
        assert _encode_each("Dict", iter(together), skips, one_by_one, {}) is None
        assert _plain(together) in (None, Entries.of(one_by_one.values()))


@pytest.mark.parametrize("more", [{}, {"b": 2}])
@pytest.mark.parametrize("made", [iter, list, lambda pairs: type("Mine", (dict,), {})(pairs)])
def test_what_runs_code_of_the_caller_between_two_pairs_is_taken_one_by_one(
    made: Callable[[Any], Any], more: dict[str, int]
) -> None:
    pairs = pairs_of(made([("a", 1)]), more)
    assert not isinstance(pairs, Together)
    assert dict(pairs) == {"a": 1, **more}


def test_a_value_that_changes_while_it_is_iterated_over_is_stored_as_it_was() -> None:
    changing: list[int] = []

    def pairs() -> Any:
        for number in range(3):
            changing.append(number)
            yield str(number), changing

    entries: dict[bytes, Any] = {}
    _encode_each("Dict", pairs_of(pairs(), {}), False, entries, {})
    assert [values.load(field) for _key, _shown_as, field in entries.values()] == [[0], [0, 1], [0, 1, 2]]


def test_one_of_many_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(SerializationError, match="'bad'"):
        _encode_each("Dict", pairs_of({"a": 1, "bad": threading.Lock()}, {}), False, {}, {})


@given(st.lists(st.none() | st.integers(0, 300) | st.just(b"\x02" + bytes(28))))
def test_values_decoded_together_are_as_if_one_by_one(some: list[Any]) -> None:
    names: list[object] = list(range(len(some)))
    data = [values.dump(value) if isinstance(value, int) else value for value in some]
    found: dict[Any, Any] = {}
    blobs = decode_values("Dict", names, data, found)
    assert found == {at: value for at, value in enumerate(some) if isinstance(value, int)}
    assert blobs == [at for at, value in enumerate(some) if isinstance(value, bytes)]


class Particular:
    """A key that is compared with its like alone."""

    def __eq__(self, other: Any) -> bool:
        return bool(other.particular == self.particular)

    def __hash__(self) -> int:
        return 1

    particular = 0


def test_keys_of_many_are_compared_as_a_dict_compares_them() -> None:
    many = _Many.__new__(_Many)
    key = Particular()
    many.found = {key: 1, "large": 2}
    assert [*many.in_order_of(["large", key]).items()] == [("large", 2), (key, 1)]
    assert [*many.in_order_of([key, "missing", "large"]).items()] == [(key, 1), ("large", 2)]
