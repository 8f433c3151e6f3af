"""A Dict does what dict does, over a real service."""

from __future__ import annotations

import itertools
import json
import pickle
import threading
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

import holdall
from holdall import Dict, plain
from holdall.protocol import OBJECT_BYTES_MAX


def test_the_bracket_forms(d: Dict[Any, Any]) -> None:
    d["key"] = "value"
    assert d["key"] == "value"
    assert "key" in d
    assert len(d) == 1
    del d["key"]
    assert "key" not in d
    with pytest.raises(KeyError, match="key"):
        d["key"]
    with pytest.raises(KeyError, match="key"):
        del d["key"]


def test_none_is_a_value_and_missing_is_not(d: Dict[Any, Any]) -> None:
    d["none"] = None
    assert d["none"] is None
    assert d.get("none", 1) is None
    assert d.get("missing", 1) == 1
    assert d.pop("none", 1) is None
    assert d.pop("none", 1) == 1
    with pytest.raises(KeyError):
        d.pop("none")


def test_put_if_absent_says_whether_it_stored(d: Dict[Any, Any]) -> None:
    assert d.put("key", 1, skip_if_exists=True) is True
    assert d.put("key", 2, skip_if_exists=True) is False
    assert d.put("key", 3) is True
    assert d["key"] == 3


ODD_KEYS: list[Any] = ["", b"", "\0", "\ud800", (1, ("a", None)), 1.5, frozenset("ab"), "long" * 1000, 10**3000, ...]


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
def test_any_key_is_found_and_comes_back(d: Dict[Any, Any], key: Any) -> None:
    d[key] = "value"
    assert d[key] == "value"
    assert list(d.items()) == [(key, "value")]


ODD_VALUES: list[Any] = ["", b"", "\0", "a\0b", "\ud800", b"\0\xff", (), [], {}, 0, ...]


@pytest.mark.parametrize("value", ODD_VALUES, ids=range(len(ODD_VALUES)))
def test_an_empty_or_odd_value_comes_back(d: Dict[Any, Any], value: Any) -> None:
    d[""] = value
    assert d[""] == value
    assert d.pop("") == value
    assert "" not in d


def test_a_nan_key_is_found_again(d: Dict[Any, Any]) -> None:
    d[float("nan")] = "value"
    assert d[float("nan")] == "value"
    assert len(d) == 1
    [key] = d
    assert key != key
    assert d.pop(key) == "value"


def test_equal_keys_are_one_and_the_first_one_stays(d: Dict[Any, Any]) -> None:
    d[True] = "a"
    d[1.0] = "b"
    assert len(d) == 1
    assert d[1] == "b"
    assert next(iter(d)) is True


def test_values_of_every_size_come_back(d: Dict[Any, Any]) -> None:
    for size in (0, 1, 65_000, 66_000, 300_000, 5_000_000):
        d[size] = bytes([size % 251]) * size
    for size, value in d.items():
        assert value == bytes([size % 251]) * size


def test_views_stream_all_entries(d: Dict[Any, Any]) -> None:
    expected = {number: str(number) for number in range(2500)}
    d.update(expected)
    assert len(d) == 2500
    assert dict(d.items()) == expected
    assert sorted(d) == sorted(d.keys()) == list(expected)
    assert sorted(d.values()) == sorted(expected.values())
    assert "7" in d.values()
    assert (7, "7") in d.items()
    assert (7, "8") not in d.items()
    assert d.keys() & {1, 2, -1} == {1, 2}
    assert d == expected


def test_update_takes_what_dict_takes(d: Dict[Any, Any]) -> None:
    class Keyed:
        def keys(self) -> list[str]:
            return ["b"]

        def __getitem__(self, key: str) -> int:
            return 2

    d.update({"a": 1}, c=3)
    d.update(Keyed())
    d.update([("d", 4), ("d", 5)])
    d.update(other=6)
    d.update()
    assert dict(d.items()) == {"a": 1, "b": 2, "c": 3, "d": 5, "other": 6}


def test_clear_empties_and_the_dict_goes_on(d: Dict[Any, Any]) -> None:
    d.update({number: number for number in range(1000)})
    d.clear()
    assert len(d) == 0
    assert list(d) == []
    d["again"] = 1
    assert dict(d.items()) == {"again": 1}


def test_it_is_a_mutable_mapping(d: Dict[Any, Any]) -> None:
    assert isinstance(d, MutableMapping)
    assert d.setdefault("key", 1) == 1
    assert d.setdefault("key", 2) == 1
    assert d.popitem() == ("key", 1)
    with pytest.raises(KeyError):
        d.popitem()


def test_two_handles_and_a_pickled_one_are_the_same_dict(d: Dict[Any, Any], name: str) -> None:
    d["key"] = 1
    assert Dict[Any, Any].from_name(name)["key"] == 1
    assert pickle.loads(pickle.dumps(d))["key"] == 1
    d["self"] = d
    assert d["self"]["key"] == 1


def test_modules_lambdas_and_local_classes_are_values(d: Dict[Any, Any]) -> None:
    class Local:
        x = 1

    d.update({"module": json, "lambda": lambda x: x + 1, "object": Local()})
    assert d["module"] is json
    assert d["lambda"](1) == 2
    assert d["object"].x == 1


def test_a_missing_dict_is_not_found_at_its_first_use_and_no_sooner(name: str) -> None:
    missing: Dict[Any, Any] = Dict.from_name(f"{name}-missing")
    with pytest.raises(holdall.NotFoundError, match=r"create_if_missing=True"):
        missing["key"]
    assert not isinstance(holdall.NotFoundError(), KeyError)


def test_hydrate_looks_up_at_once(name: str) -> None:
    with pytest.raises(holdall.NotFoundError):
        Dict.from_name(name).hydrate()
    made: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True).hydrate()
    assert made.object_id.startswith("di-")
    assert made.object_id == Dict.from_name(name).object_id


def test_a_deleted_dict_is_gone_for_old_handles_and_new_for_new_ones(d: Dict[Any, Any], name: str) -> None:
    d.update({number: number for number in range(10)})
    Dict.objects.delete(name)
    for number in range(10):
        with pytest.raises(holdall.NotFoundError, match="deleted"):
            d[number] = 1
    with pytest.raises(holdall.NotFoundError):
        d.len()
    again: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True)
    assert len(again) == 0
    with pytest.raises(holdall.NotFoundError):
        d.get(1)


def test_what_was_made_at_a_moment_was_not_made_before_it(service: holdall.LocalService) -> None:
    for number in range(40):  # the clock has parts of a microsecond, and a datetime has none
        Dict.objects.create(f"moment-{number}", environment_name="moments")
    for d in Dict.objects.list(environment_name="moments"):
        made = d.info().created_at
        for moment in (made, made.isoformat(), made.astimezone(timezone(timedelta(hours=5)))):
            assert d not in Dict.objects.list(environment_name="moments", created_before=moment)
        assert d in Dict.objects.list(environment_name="moments", created_before=made + timedelta(microseconds=1))


def test_objects_create_list_and_delete(service: holdall.LocalService, name: str) -> None:
    names = [f"{name}-{number}" for number in range(3)]
    for each in names:
        Dict.objects.create(each, environment_name="objects")
    with pytest.raises(holdall.AlreadyExistsError, match="exists"):
        Dict.objects.create(names[0], environment_name="objects")
    Dict.objects.create(names[0], environment_name="objects", allow_existing=True)
    assert [each.name for each in Dict.objects.list(environment_name="objects")] == names[::-1]
    assert [each.name for each in Dict.objects.list(environment_name="objects", max_objects=1)] == names[-1:]
    past = datetime.now(UTC) - timedelta(days=1)
    assert Dict.objects.list(environment_name="objects", created_before=past) == []
    assert Dict.objects.list(environment_name="elsewhere") == []
    with pytest.raises(holdall.InvalidError, match="max_objects"):
        Dict.objects.list(max_objects=-1)
    with pytest.raises(holdall.InvalidError, match="created_before"):
        Dict.objects.list(created_before="yesterday")
    for each in names:
        Dict.objects.delete(each, environment_name="objects")
    with pytest.raises(holdall.NotFoundError, match="none of this name"):
        Dict.objects.delete(names[0], environment_name="objects")
    Dict.objects.delete(names[0], environment_name="objects", allow_missing=True)


def test_environments_keep_names_apart(d: Dict[Any, Any], name: str) -> None:
    other: Dict[Any, Any] = Dict.from_name(name, environment_name="other", create_if_missing=True)
    d["key"], other["key"] = 1, 2
    assert (d["key"], other["key"]) == (1, 2)
    Dict.objects.delete(name, environment_name="other")


# Bad input: a typed error in a sentence that helps, and the next call works.


@pytest.mark.parametrize("bad", ["", "a b", "x" * 65, "a/b", "ä", 5, None])
def test_a_bad_name_is_an_invalid_error(bad: Any) -> None:
    with pytest.raises(holdall.InvalidError, match="Invalid Dict name"):
        Dict.from_name(bad)
    with pytest.raises(holdall.InvalidError, match="Invalid Dict name"):
        Dict.objects.create(bad)


def test_an_unhashable_key_is_a_type_error(d: Dict[Any, Any]) -> None:
    bad: Any = []
    calls = lambda: d.get(bad), lambda: d.put(bad, 1), lambda: d.pop(bad), lambda: d.contains(bad), lambda: d.update([(bad, 1)])
    for call in calls:
        with pytest.raises(TypeError, match="unhashable type"):
            call()
    d["next"] = 1
    assert len(d) == 1


def test_an_unhashable_key_that_is_read_asks_no_service() -> None:
    nobody: Dict[Any, Any] = Dict.from_name("kv", client=holdall.Client("ipc:///tmp/holdall-nobody", timeout=0.2))
    bad: Any = []
    with pytest.raises(TypeError, match="unhashable type"):
        nobody.get(bad)
    with pytest.raises(TypeError, match="unhashable type"):
        nobody[bad]


def test_an_unpicklable_value_is_a_serialization_error_and_nothing_is_stored(d: Dict[Any, Any]) -> None:
    with pytest.raises(holdall.SerializationError, match="'key' for Dict") as caught:
        d["key"] = (number for number in "ab")
    assert "nothing was sent" in str(caught.value)
    with pytest.raises(holdall.SerializationError):
        d.update({"fine": 1, "bad": threading.Lock()})
    with pytest.raises(holdall.SerializationError):
        d[(number for number in "ab")] = 1
    assert len(d) == 0
    d["key"] = 1
    assert d["key"] == 1


def test_too_deep_a_value_is_a_serialization_error(d: Dict[Any, Any]) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(holdall.SerializationError, match="recursion"):
        d["deep"] = deep
    assert len(d) == 0


def test_100_mib_fit_and_one_byte_more_is_a_request_size_error(d: Dict[Any, Any]) -> None:
    overhead = len(plain.encode(bytes(OBJECT_BYTES_MAX // 2), keeps_shared=True)) - OBJECT_BYTES_MAX // 2 + len(b"skey")
    with pytest.raises(holdall.RequestSizeError, match="104,857,600"):
        d["key"] = bytes(OBJECT_BYTES_MAX - overhead + 1)
    assert len(d) == 0
    d["key"] = bytes(OBJECT_BYTES_MAX - overhead)
    assert len(d["key"]) == OBJECT_BYTES_MAX - overhead


def test_10001_entries_are_a_request_size_error_and_10000_are_not(d: Dict[Any, Any]) -> None:
    with pytest.raises(holdall.RequestSizeError, match="10,000"):
        d.update((number, number) for number in range(10_001))
    assert len(d) == 0
    d.update({number: number for number in range(10_000)})
    assert len(d) == 10_000


def test_an_update_whose_iterator_fails_keeps_what_it_gave_as_dict_does(d: Dict[Any, Any]) -> None:
    def pairs() -> Any:
        yield "a", 1
        raise RuntimeError("the iterator's own")

    with pytest.raises(RuntimeError, match="own"):
        d.update(pairs())
    assert d.copy() == {"a": 1}


def test_a_value_that_cannot_be_read_here_is_a_deserialization_error_that_names_key_and_dict(d: Dict[Any, Any]) -> None:
    d["key"] = Unreadable()
    with pytest.raises(holdall.DeserializationError, match=r"'key' in Dict .*ModuleNotFoundError"):
        d["key"]
    d["key"] = 1
    assert d["key"] == 1


class Unreadable:
    """Pickles to an import that fails."""

    def __reduce__(self) -> Any:
        return __import__, ("no_such_module",)


def test_a_key_whose_hash_or_repr_raises_is_heard(d: Dict[Any, Any]) -> None:
    class NoHash:
        def __hash__(self) -> int:
            raise ValueError("no hash today")

    class NoRepr:
        def __repr__(self) -> str:
            raise ValueError("no repr today")

        def __reduce__(self) -> Any:
            raise TypeError("no pickle either")

    with pytest.raises(ValueError, match="no hash today"):
        d[NoHash()]
    with pytest.raises(holdall.SerializationError, match="NoRepr object"):
        d[NoRepr()] = 1


def test_every_error_survives_pickling() -> None:
    for name in holdall.__all__:
        kind = getattr(holdall, name)
        if isinstance(kind, type) and issubclass(kind, holdall.Error):
            error = pickle.loads(pickle.dumps(kind("a sentence")))
            assert (type(error), str(error)) == (kind, "a sentence")


def test_a_dict_is_not_made_by_calling_its_class() -> None:
    with pytest.raises(TypeError, match="from_name"):
        Dict()


def test_the_handle_says_what_it_is(d: Dict[Any, Any], name: str) -> None:
    assert repr(d) == f"<holdall.Dict {name!r}>"
    assert "get" in repr(d.get)
    assert d.get.__wrapped__.__doc__ == Dict.get.__doc__


def test_iterating_while_writing_gives_what_stays_exactly_once(d: Dict[Any, Any]) -> None:
    stays = {("stays", number): number for number in range(3000)}
    d.update(stays)
    d.update({("goes", number): number for number in range(1000)})
    seen: list[Any] = []
    for step, key in zip(itertools.count(), d, strict=False):
        seen.append(key)
        if step % 10 == 0:
            d.pop(("goes", step // 10), None)
            d["comes", step] = step
    assert len(seen) == len(set(seen))
    assert set(stays) <= set(seen)


@pytest.mark.parametrize("key", ["1e100000000", "1e-100000000"])
def test_a_decimal_of_huge_exponent_is_refused_at_once(d: Dict[Any, Any], key: str) -> None:
    with pytest.raises(holdall.SerializationError, match="digits"):
        d[Decimal(key)] = 1
    d[Decimal("1e300")] = 1
    assert d[10**300] == 1
