"""Memory that values are unpickled out of is nobody else's meanwhile, and no value's afterwards."""

from __future__ import annotations

import pickle

from holdall import values
from holdall.client.scratch import KEPT_BYTES_MAX, Scratch


def test_what_was_given_back_is_the_next_one_if_it_is_large_enough() -> None:
    scratch = Scratch()
    first = scratch.take(1_000)
    assert len(first) == 1_000
    scratch.give_back(first)
    assert scratch.take(600) is first
    assert len(first) == 600
    scratch.give_back(first)
    larger = scratch.take(700)
    assert larger is not first
    assert len(larger) == 700


def test_two_never_have_the_same() -> None:
    scratch = Scratch()
    scratch.give_back(bytearray(10))
    assert scratch.take(10) is not scratch.take(10)


def test_what_somebody_still_looks_into_is_not_cut() -> None:
    scratch = Scratch()
    memory = bytearray(b"x" * 10)
    view = memoryview(memory)
    scratch.give_back(memory)
    assert len(scratch.take(5)) == 5
    assert view == b"x" * 10


def test_no_more_is_kept_than_one_piece_of_some_size() -> None:
    scratch = Scratch()
    first, second = bytearray(10), bytearray(10)
    scratch.give_back(first)
    scratch.give_back(second)
    scratch.give_back(bytearray(KEPT_BYTES_MAX + 1))
    assert scratch.take(10) is second
    assert scratch.take(10) is not first


def test_a_value_that_is_copied_has_nothing_in_the_memory_it_came_in() -> None:
    memory = bytearray(values.dump({"bytes": b"b" * 100_000, "memory": bytearray(b"m" * 100_000)}))
    assert values.copies(memory)
    value = values.load(memory)
    memory[:] = bytes(len(memory))
    assert value == {"bytes": b"b" * 100_000, "memory": bytearray(b"m" * 100_000)}


class Memory:
    """Has memory of its own, as an array has, pickled beside the pickle."""

    def __init__(self, data: bytearray) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: object) -> tuple[type[Memory], tuple[pickle.PickleBuffer]]:
        return Memory, (pickle.PickleBuffer(self.data),)


def test_a_value_whose_memory_it_came_in_is_not_copied() -> None:
    memory = bytearray(values.dump(Memory(bytearray(b"m" * values.OUT_OF_BAND_BYTES_MIN))))
    assert not values.copies(memory)
    value = values.load(memory)
    memory[:] = bytes(len(memory))
    assert value.data == bytes(values.OUT_OF_BAND_BYTES_MIN)
