"""Many at once is as one after the other: what a worker does in one loop for plain entries it does for all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from holdall import Dict, blob, protocol, values
from holdall.bodies import Page, PageRequest, Update, decode, encode
from holdall.client.operations.encoding import decode_values
from holdall.errors import DeserializationError
from holdall.protocol import join_key_object
from holdall.worker.handlers.entries import PAGE_BYTES_MAX
from holdall.worker.state.transaction import STEP_SECONDS_MAX
from holdall.worker.store.rows import ENTRY_PREFIX, TOUCH_PREFIX, parse_record
from tests.blob_driver import DICT, Driver
from tests.memory_files import MemoryFiles
from tests.registration import lifetime

TTL = 100.0
Entry = tuple[bytes, "bytes | None", bytes]

keys = st.sampled_from([b"sa", b"sb", b"sc", b"i\x01"])
bodies = st.sampled_from([b"\x80small", b"", b"\x80" + b"x" * 5_000, b"\x80y"])
entries = st.lists(st.tuples(keys, st.none() | st.just(b"\x80object"), bodies), max_size=6)
steps = st.lists(entries | st.sampled_from([0.5, 3.0, 60.0]), max_size=8)


def made() -> Driver:
    driver = Driver(MemoryFiles())
    assert driver.ask(protocol.SET_TTL, value=lifetime(DICT, TTL, 1)).status == protocol.OK
    return driver


def passes(driver: Driver, seconds: float) -> None:
    end = driver.now + seconds
    while driver.now < end:
        driver.now = min(driver.now + STEP_SECONDS_MAX, end)
        driver.worker.sweep(driver.now)


def put(driver: Driver, entry: Entry) -> None:
    key, key_object, value = entry
    if key_object is not None:
        driver.ask(protocol.PUT, key, join_key_object(key_object, value), protocol.KEY_OBJECT)
    else:
        driver.ask(protocol.PUT, key, value)


def update(*some: Entry) -> bytes:
    key_objects = [key_object for _key, key_object, _value in some]
    return encode(Update([key for key, _, _ in some], [value for _, _, value in some], key_objects if any(key_objects) else []))


def got(driver: Driver, key: bytes) -> bytes | None:
    reply = driver.ask(protocol.GET, key)
    return bytes(reply.payload) if reply.status == protocol.OK else None


def got_many(driver: Driver, some: list[bytes]) -> list[Any]:
    return decode(list[Any], driver.ask(protocol.GET_MANY, value=encode(some)).payload)


def rows(driver: Driver) -> list[tuple[bytes, Any]]:
    """All rows of entries and touches, without what tells one store from another, nor one write."""
    entries = [
        (row, structs.replace(parse_record(row, data), version=0))
        for row, data in driver.store.scan(ENTRY_PREFIX)
        if row[:1] == ENTRY_PREFIX
    ]
    return [*entries, *[(row, data) for row, data in driver.store.scan(TOUCH_PREFIX) if row[:1] == TOUCH_PREFIX]]


@settings(max_examples=80, deadline=None)
@given(steps)
@example([[(b"sa", None, b"old")], 3.0, [(b"sa", None, b"new")]])
def test_entries_stored_and_read_together_are_as_if_one_by_one(plan: list[Any]) -> None:
    together, alone = made(), made()
    for step in plan:
        if isinstance(step, float):
            passes(together, step)
            passes(alone, step)
        else:
            reply = together.ask(protocol.PUT_MANY, value=update(*step))
            assert decode(int, reply.payload) == len(step)
            for entry in step:
                put(alone, entry)
        names = [b"sa", b"sb", b"none", b"sc", b"i\x01"]
        assert got_many(together, names) == [got(alone, name) for name in names]
    assert rows(together) == rows(alone)
    assert together.ask(protocol.LENGTH).payload == alone.ask(protocol.LENGTH).payload
    pages = [decode(Page, each.ask(protocol.PAGE, value=encode(PageRequest(b"", 10))).payload) for each in (together, alone)]
    assert pages[0] == pages[1]


def test_a_key_that_comes_twice_is_counted_once_and_has_its_last_value() -> None:
    driver = made()
    driver.ask(protocol.PUT_MANY, value=update((b"sa", None, b"1"), (b"sa", None, b"2")))
    assert (decode(int, driver.ask(protocol.LENGTH).payload), got(driver, b"sa")) == (1, b"2")


@pytest.mark.parametrize(
    "lacking", [Update([b"sa", b"sb"], [b"v"]), Update([b"sa"], [b"v"] * 2), Update([b"sa"] * 2, [b"v"] * 2, [None])]
)
def test_an_update_that_lacks_something_is_refused(lacking: Update) -> None:
    driver = made()
    assert driver.ask(protocol.PUT_MANY, value=encode(lacking)).status == protocol.MALFORMED
    assert rows(driver) == []


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        (b"", b"v", protocol.MALFORMED),
        (b"s" * (protocol.KEY_BYTES_MAX + 1), b"v", protocol.MALFORMED),
        (b"sa", b"\x80" + bytes(blob.BLOB_BYTES_MIN), protocol.TOO_LARGE),
        (b"sa", b"\x02" + bytes(28), protocol.UNKNOWN_BLOB),
    ],
)
def test_of_many_one_that_cannot_be_stored_keeps_all_out(key: bytes, value: bytes, status: int) -> None:
    driver = made()
    body = update((b"sb", None, b"v"), (key, None, value))
    assert driver.ask(protocol.PUT_MANY, value=body).status == status
    assert rows(driver) == []


def test_many_are_refused_without_room() -> None:
    driver = made()
    driver.worker.refuse_values("the disk is full")
    assert driver.ask(protocol.PUT_MANY, value=update((b"sb", None, b"v"))).status == protocol.NO_ROOM
    assert rows(driver) == []


def test_a_damaged_record_among_many_is_an_error_that_names_it() -> None:
    driver = made()
    driver.ask(protocol.PUT_MANY, value=update((b"sa", None, b"v"), (b"sb", None, b"v")))
    ((row, data),) = [each for each in driver.store.scan(ENTRY_PREFIX) if each[0].endswith(b"sb")]
    driver.store.write({row: data[:-1] + b"w"}, False)
    driver = driver.reopened()
    reply = driver.ask(protocol.GET_MANY, value=encode([b"sa", b"sb"]))
    assert reply.status == protocol.STORAGE
    assert "sb" in bytes(reply.payload).decode()
    assert driver.ask(protocol.PUT_MANY, value=update((b"sb", None, b"new"))).status == protocol.STORAGE


@pytest.mark.parametrize("size", [1_000, 200_000])
def test_an_answer_with_many_values_ends_near_its_bound(size: int) -> None:
    driver = made()
    names = [b"s%d" % number for number in range(3_000_000 // size)]
    for name in names:
        driver.ask(protocol.PUT, name, bytes([128]) * size)
    found = got_many(driver, names)
    assert PAGE_BYTES_MAX < sum(map(len, found)) <= PAGE_BYTES_MAX + size


def test_the_value_that_cannot_be_read_is_named_and_those_before_it_are_there() -> None:
    found: dict[Any, Any] = {"earlier": 0}
    data = [values.dump(number) for number in range(3)]
    with pytest.raises(DeserializationError, match="the value of 'bad' in Dict 'kv' cannot be read back"):
        decode_values(Dict.from_name("kv"), ["a", "b", "bad", "c"], [data[0], data[1], b"\x80\x05", data[2]], found)
    assert found == {"earlier": 0, "a": 0, "b": 1}
