"""Values come back as they were, whatever pickler served them."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import values

atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
plain = st.recursive(
    atoms | st.complex_numbers(allow_nan=False),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children) | st.tuples(children) | st.sets(st.integers()),
    max_leaves=10,
)


@given(plain)
def test_a_plain_value_comes_back(value: Any) -> None:
    assert values.load(values.dump(value)) == value


def test_a_list_that_contains_itself_comes_back() -> None:
    knot: list[Any] = [1]
    knot.append(knot)
    back = values.load(values.dump(knot))
    assert back[1] is back


def test_what_only_cloudpickle_can_pickle_comes_back() -> None:
    factor = 3
    assert values.load(values.dump({"f": lambda x: x * factor}))["f"](2) == 6
    assert values.load(values.dump([json])) == [json]


def test_a_class_that_others_cannot_import_travels_with_its_value() -> None:
    local = type("Local", (), {"__module__": "__main__"})
    data = values.dump([local()])
    with pytest.raises(AttributeError):  # what pickle alone would have stored
        pickle.loads(b"\x80\x05c__main__\nLocal\n.")
    assert type(values.load(data)[0]).__name__ == "Local"


def test_an_array_comes_back() -> None:
    array = np.arange(12).reshape(3, 4)
    assert (values.load(values.dump(array)) == array).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_comes_back_writable_and_equal(order: Any) -> None:
    arrays = {"a": np.arange(100_000, dtype="f8").reshape(100, 1000, order=order), "small": np.arange(3), "b": np.ones(20_000)}
    data = values.dump(arrays)
    assert data[:1] == values.OUT_OF_BAND
    back = values.load(memoryview(data))
    assert all((back[name] == array).all() for name, array in arrays.items())
    back["a"] += 1
    assert back["a"].flags.aligned
    assert (back["a"] == arrays["a"] + 1).all()


def test_an_array_that_is_not_contiguous_comes_back() -> None:
    array = np.arange(100_000)[::3]
    assert (values.load(values.dump(array)) == array).all()


def test_damaged_bytes_of_a_large_array_raise_and_never_crash() -> None:
    data = values.dump(np.arange(20_000))
    for end in (1, 3, 10, 30, 200):
        with pytest.raises(Exception, match=r"."):
            values.load(data[:end])


def test_too_deep_a_nesting_is_an_error_and_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(pickle.PicklingError, match="recursion"):
        values.dump(deep)
