"""What is encoded and decoded together is as if it were one by one."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdall import Dict, keys, values
from holdall.client.operations.encoding import decode_values, keys_data
from holdall.client.operations.many import _encode_each, _Many, pairs_of
from holdall.errors import SerializationError

HANDLE: Dict[Any, Any] = Dict.from_name("kv")
some_keys = st.text(max_size=300) | st.binary(max_size=3) | st.integers(-3, 3) | st.sampled_from([1.0, True, None, "\udc80"])


@given(st.lists(some_keys))
@example(["a" * (keys.SHORT + 1)])
@example(["a", "\udc80"])
def test_keys_encoded_together_are_as_if_one_by_one(some: list[Any]) -> None:
    assert keys_data(HANDLE, some) == [keys.encode(key).data for key in some]


def test_a_value_that_changes_while_it_is_iterated_over_is_stored_as_it_was() -> None:
    changing: list[int] = []

    def pairs() -> Any:
        for number in range(3):
            changing.append(number)
            yield str(number), changing

    entries: dict[bytes, Any] = {}
    _encode_each(HANDLE, pairs_of(pairs(), {}), False, entries, {})
    assert [values.load(field) for _key, _shown_as, field in entries.values()] == [[0], [0, 1], [0, 1, 2]]


def test_one_of_many_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(SerializationError, match="'bad'"):
        _encode_each(HANDLE, pairs_of({"a": 1, "bad": threading.Lock()}, {}), False, {}, {})


@given(st.lists(st.none() | st.integers(0, 300) | st.just(b"\x02" + bytes(28))))
def test_values_decoded_together_are_as_if_one_by_one(some: list[Any]) -> None:
    names: list[object] = list(range(len(some)))
    data = [values.dump(value) if isinstance(value, int) else value for value in some]
    found: dict[Any, Any] = {}
    blobs = decode_values(HANDLE, names, data, found)
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
