"""What a handle's serializer refuses is neither written nor read, by whatever call, and nothing is lost by that."""

from __future__ import annotations

import asyncio
import enum
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest

from holdall import Client, DeserializationError, Dict, InvalidError, LargeValueWarning, RequestSizeError, SerializationError
from holdall.client.operations import encoding
from holdall.protocol import OBJECT_BYTES_MAX

Call = Callable[[Dict[Any, Any]], object]


unpickled: list[str] = []
"""What was unpickled."""


def noted(name: str, _padding: bytes) -> Noted:
    """What a pickle calls that should not be read."""
    unpickled.append(name)
    return Noted(name)


class Noted:
    """Tells when it is unpickled."""

    def __init__(self, name: str, padding: int = 0) -> None:
        self.name, self.padding = name, padding

    def __reduce__(self) -> tuple[Any, ...]:
        return noted, (self.name, bytes(self.padding))


class Colour(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int


def as_kind(d: Dict[Any, Any], serializer: Any) -> Dict[Any, Any]:
    """Another handle of the same Dict."""
    assert d.name is not None
    return Dict.from_name(d.name, serializer=serializer)


def label(d: Dict[Any, Any]) -> str:
    """What errors call it."""
    return re.escape(f"Dict {d.name!r}")


@pytest.fixture(params=["plain", "off"])
def careful(request: pytest.FixtureRequest, d: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Dict[Any, Any]:
    """A handle that has no pickles: its own serializer says so, or the whole process."""
    if request.param == "plain":
        return as_kind(d, "plain")
    monkeypatch.setenv("HOLDALL_PICKLE", "off")
    return as_kind(d, "auto")


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pickles or unpickles anything fails."""

    def fail(*_arguments: Any, **_more: Any) -> Any:
        raise AssertionError("pickle is used")

    for module, names in {pickle: ("dumps", "loads", "Pickler", "Unpickler"), cloudpickle: ("dump", "dumps")}.items():
        for name in names:
            monkeypatch.setattr(module, name, fail)


VALUES = [
    None,
    True,
    2**80,
    -0.5,
    "é\udc80",
    b"x",
    [1, (2, {3})],
    {"a": {(1, 2): frozenset({4})}},
    [0] * 100_000,
    b"y" * 300_000,
]


def test_plain_data_passes_by_every_call_without_any_pickle(careful: Dict[Any, Any], no_pickle: None) -> None:
    for value in VALUES:
        for key in ("k", 1.0, True, ("t", (1.0,)), "x" * 3000, frozenset({False})):
            careful[key] = value
            assert careful[key] == value
            assert type(careful[key]) is type(value)
            assert careful.setdefault(key, 0) == value
            assert list(careful.items()) == [(key, value)]
            assert type(next(iter(careful))) is type(key)
            assert careful.get_many([key]) == {key: value}
            assert careful.pop(key) == value
    careful.update(enumerate(VALUES))
    assert careful == dict(enumerate(VALUES))
    assert careful.pop_many(range(3)) == dict(enumerate(VALUES[:3]))
    for _ in VALUES[3:]:
        key, value = careful.popitem()
        assert value == VALUES[key]


OTHERS = [
    Colour.RED,
    Point(1),
    OrderedDict(),
    np.float64(1),
    np.zeros(2),
    1j,
    int,
    range(3),
    [1, {"a": (Point(1),)}],
    {Colour.RED: 1},
]
WRITES: dict[str, Callable[[Dict[Any, Any], Any, Any], object]] = {
    "put": lambda d, key, value: d.put(key, value),
    "put of what is missing": lambda d, key, value: d.put(key, value, skip_if_exists=True),
    "assignment": lambda d, key, value: d.__setitem__(key, value),
    "setdefault": lambda d, key, value: d.setdefault(key, value),
    "update": lambda d, key, value: d.update([("fine", 1), (key, value)]),
    "put_many": lambda d, key, value: d.put_many([(key, value), ("fine", 1)]),
}


@pytest.mark.parametrize("call", WRITES)
def test_nothing_else_is_written(careful: Dict[Any, Any], no_pickle: None, call: str) -> None:
    for other in [*OTHERS, careful]:
        with pytest.raises(SerializationError, match=rf"value of 'odd' for {label(careful)}.* no plain data; nothing was sent"):
            WRITES[call](careful, "odd", other)
    for key in [Colour.RED, Point(1), np.int64(1), range(3), ("a", Point(1)), frozenset({range(2)}), int, careful]:
        with pytest.raises(SerializationError, match=rf"the key .* for {label(careful)}.* no plain data; nothing was sent"):
            WRITES[call](careful, key, 1)
    assert len(careful) == 0


READS: dict[str, Call] = {
    "get": lambda d: d.get("k"),
    "subscription": lambda d: d["k"],
    "get_many": lambda d: d.get_many(["fine", "k"]),
    "get_many of some that are missing": lambda d: d.get_many(["k", "none"]),
    "setdefault": lambda d: d.setdefault("k", 0),
    "keys": lambda d: list(d.keys()),
    "values": lambda d: list(d.values()),
    "items": lambda d: list(d.items()),
    "copy": lambda d: d.copy(),
    "==": lambda d: d == {"k": 1},
    "pop": lambda d: d.pop("k"),
    "pop_many": lambda d: d.pop_many(["fine", "k"]),
    "popitem": lambda d: [d.popitem() for _ in range(9)],
}


@pytest.mark.parametrize("call", sorted(READS.keys() - {"keys"}))
def test_nothing_else_is_read_and_nothing_is_lost(d: Dict[Any, Any], call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for padding in (0, 300_000):
        monkeypatch.setenv("HOLDALL_PICKLE", "on")
        d["k"] = Noted("value", padding)
        plain, auto = as_kind(d, "plain"), as_kind(d, "auto")
        unpickled.clear()
        with pytest.raises(DeserializationError, match=rf"'k' in {label(d)} .*pickle") as raised:
            READS[call](plain)
        assert "serializer='plain'" in str(raised.value)
        monkeypatch.setenv("HOLDALL_PICKLE", "off")
        with pytest.raises(DeserializationError, match=rf"'k' in {label(d)} .*pickle.* HOLDALL_PICKLE=off"):
            READS[call](auto)
        assert unpickled == []
        monkeypatch.setenv("HOLDALL_PICKLE", "on")
        assert d.pop("k").name == "value"


KEYS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda noted: noted,
    "in a tuple": lambda noted: ("a", (1.5, noted)),
    "in a frozenset": lambda noted: frozenset({noted}),
    "in a tuple that is no exact one": lambda noted: (1.0, noted),
    "in a long one": lambda noted: ("x" * 2_000, noted),
}


@pytest.mark.parametrize("place", KEYS)
def test_no_key_is_unpickled(d: Dict[Any, Any], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    d.update([(KEYS[place](Noted("key")), 1), ("other", 1)])
    unpickled.clear()
    for serializer, setting in (("plain", "on"), ("auto", "off")):
        monkeypatch.setenv("HOLDALL_PICKLE", setting)
        careful = as_kind(d, serializer)
        for call in ("keys", "items", "copy", "popitem"):
            with pytest.raises(
                DeserializationError, match=rf"a key in {label(d)} cannot be read back in this process: it is a pickle"
            ):
                READS[call](careful)
            careful["other"] = 1
    assert unpickled == []
    assert len(d) == 2


def test_what_is_popped_under_a_key_of_another_type_and_cannot_be_read_stays(d: Dict[Any, Any]) -> None:
    d[1] = Noted("small")
    d["a", 2] = Noted("large", 300_000)
    plain = as_kind(d, "plain")
    for key in (np.int64(1), Colour.RED, ("a", np.int8(2))):
        with pytest.raises(DeserializationError):
            plain.pop(key)
        with pytest.raises(DeserializationError):
            plain.pop_many([key])
    assert sorted(map(repr, plain)) == ["('a', 2)", "1"]


WRITTEN: dict[str, Any] = {"auto": range(3), "plain": (1,), "json": {"a": [1]}, "bytes": b"abc"}


@pytest.mark.parametrize("size", [0, 300_000])
@pytest.mark.parametrize("reading", WRITTEN)
@pytest.mark.parametrize("writing", WRITTEN)
def test_each_serializer_reads_its_own_kind_and_auto_reads_all(
    d: Dict[Any, Any], writing: str, reading: str, size: int
) -> None:
    value = WRITTEN[writing]
    if size:
        value = {"auto": np.zeros(size), "plain": (size * "x",), "json": {"a": size * "x"}, "bytes": bytes(size)}[writing]
    as_kind(d, writing)["k"] = value
    if reading in (writing, "auto"):
        assert repr(as_kind(d, reading)["k"]) == repr(value)
        return
    kind = "a pickle" if writing == "auto" else writing
    for call in ("get", "subscription", "get_many of some that are missing", "pop", "pop_many", "popitem"):
        with pytest.raises(DeserializationError, match=rf"'k' in .*: it is {kind}, and is to be read with") as raised:
            READS[call](as_kind(d, reading))
        assert f"serializer='{reading}'" in str(raised.value)
    assert repr(d["k"]) == repr(value)


def test_json_and_bytes_write_nothing_but_their_own(d: Dict[Any, Any]) -> None:
    refused: dict[str, list[Any]] = {
        "json": [(1,), {1: 2}, float("nan"), b"x", "\udc80"],
        "bytes": ["x", None, [1], np.zeros(2)],
    }
    for serializer, some in refused.items():
        why = rf"'(odd|fine)' for {label(d)} cannot be stored with serializer='{serializer}': .*; nothing was sent"
        for call in WRITES.values():
            for value in some:
                with pytest.raises(SerializationError, match=why):
                    call(as_kind(d, serializer), "odd", value)
    assert len(d) == 0


def test_json_and_bytes_take_no_pickled_keys(d: Dict[Any, Any]) -> None:
    for serializer, value in {"json": 1, "bytes": b""}.items():
        handle = as_kind(d, serializer)
        handle["k", 1.0] = value
        with pytest.raises(SerializationError, match="no plain data"):
            handle[range(3)] = value
        assert list(handle) == [("k", 1.0)]


def test_awaiting_calls_refuse_as_blocking_ones_do(d: Dict[Any, Any]) -> None:
    d["k"] = Noted("value")
    unpickled.clear()

    async def ask(plain: Dict[Any, Any]) -> bool:
        with pytest.raises(DeserializationError, match="it is a pickle"):
            await plain.pop.aio("k")
        with pytest.raises(SerializationError, match="no plain data"):
            await plain.put.aio("k", Point(1))
        return await plain.contains.aio("k")

    assert asyncio.run(ask(as_kind(d, "plain")))
    assert unpickled == []


@pytest.mark.parametrize("serializer", ["auto", "plain", "json", "bytes"])
def test_a_serializer_travels_with_its_handle_and_changes_no_identity(d: Dict[Any, Any], name: str, serializer: Any) -> None:
    of_name = Dict[Any, Any].from_name(name, serializer=serializer)
    for handle in (
        of_name,
        as_kind(d, serializer),
        pickle.loads(pickle.dumps(of_name)),
        pickle.loads(pickle.dumps(as_kind(d, serializer))),
    ):
        assert handle == d
        assert hash(handle) == hash(d)
        if serializer != "auto":
            with pytest.raises(SerializationError):
                handle["k"] = {1}.__class__
    d[d] = of_name
    found = d[as_kind(d, "json")]
    assert (found, found.serializer, next(iter(d)).serializer) == (d, serializer, "auto")


def test_an_ephemeral_dict_has_a_serializer_too(d: Dict[Any, Any]) -> None:
    with Dict[Any, Any].ephemeral(serializer="json") as e:
        e["k"] = {"a": 1}
        with pytest.raises(SerializationError):
            e["k"] = (1,)
        assert Dict.from_id(e.object_id)["k"] == pickle.loads(pickle.dumps(e))["k"] == {"a": 1}


@pytest.mark.parametrize("wrong", ["pickle", "", "Plain", None, ["plain"], b"plain"])
def test_no_other_serializer_is_possible(wrong: Any) -> None:
    makes: list[Any] = [Dict.from_name, Dict.from_id]
    for make in makes:
        with pytest.raises(InvalidError, match=r"Invalid serializer .*use 'auto', 'plain', 'json' or 'bytes'"):
            make("di-" + "0" * 32, serializer=wrong)
    with pytest.raises(InvalidError, match="Invalid serializer"):
        Dict.ephemeral(serializer=wrong, client=Client("ipc:///nowhere"))


@pytest.mark.parametrize("setting", ["no", "OFF", "0"])
def test_a_setting_that_is_not_understood_lets_no_pickle_through(
    d: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    d["k"] = Noted("value")
    unpickled.clear()
    monkeypatch.setenv("HOLDALL_PICKLE", setting)
    with pytest.raises(DeserializationError, match="HOLDALL_PICKLE must be on or off"):
        _ = d["k"]
    with pytest.raises(SerializationError, match="HOLDALL_PICKLE must be on or off"):
        d["l"] = Point(1)
    assert unpickled == []


LARGE: dict[str, Callable[[int], Any]] = {
    "auto": lambda size: np.zeros(size, "u1"),
    "plain": lambda size: ["x" * size],
    "json": lambda size: {"a": "x" * size},
    "bytes": bytearray,
}


@pytest.mark.parametrize("serializer", LARGE)
def test_the_limits_hold_for_every_serializer(d: Dict[Any, Any], serializer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = as_kind(d, serializer)
    with pytest.raises(RequestSizeError, match=r"'k' .*nothing was stored: split it"):
        handle["k"] = LARGE[serializer](OBJECT_BYTES_MAX + 1)
    assert "k" not in d
    monkeypatch.setattr(encoding, "_warned", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        handle["k"] = LARGE[serializer](6 * 2**20)
    assert [(each.category, each.filename) for each in caught] == [(LargeValueWarning, __file__)]
