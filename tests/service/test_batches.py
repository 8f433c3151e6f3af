"""get_many, put_many, pop_many, popitem, setdefault: many entries, or one entry among many callers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import holdall
from holdall import Dict


def at_once(call: Callable[[int], Any], callers: int = 50) -> list[Any]:
    """What so many threads get that call at the same time."""
    start = threading.Barrier(callers)
    got: list[Any] = []

    def run(number: int) -> None:
        start.wait()
        got.append(call(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_get_many_finds_what_is_there(d: Dict[Any, Any]) -> None:
    d.update({number: str(number) for number in range(1000)})
    assert d.get_many(range(500, 1500)) == {number: str(number) for number in range(500, 1000)}
    assert d.get_many([]) == {}
    assert d.get_many(["x", 1.0, True, 1]) == {1: "1"}


def test_many_come_in_the_order_in_which_they_are_asked_for(d: Dict[Any, Any]) -> None:
    d.update({number: "x" * (300_000 if number == 7 else 1) for number in range(1000)})
    wanted = [*range(999, -1, -3), "missing", *range(0, 999, 3)]
    there = list(dict.fromkeys(key for key in wanted if key != "missing"))
    assert list(d.get_many(wanted)) == there
    assert list(d.pop_many(wanted)) == there


def test_get_many_of_more_than_fits_an_answer(d: Dict[Any, Any]) -> None:
    d.put_many((number, bytes([number]) * 300_000) for number in range(40))
    assert d.get_many(range(40)) == {number: bytes([number]) * 300_000 for number in range(40)}


def test_get_many_takes_any_number_of_keys(d: Dict[Any, Any]) -> None:
    d["here"] = 1
    assert d.get_many([*range(50_000), "here"]) == {"here": 1}


def test_pop_many_removes_what_it_returns(d: Dict[Any, Any]) -> None:
    d.update({number: bytes(200_000) for number in range(20)})
    d["stays"] = 1
    assert d.pop_many([*range(10), 3, "missing"]) == {number: bytes(200_000) for number in range(10)}
    assert sorted(d.keys() - {"stays"}) == list(range(10, 20))
    assert d.pop_many(range(30)).keys() == set(range(10, 20))
    assert d.copy() == {"stays": 1}


def test_pop_many_gives_each_value_to_one_caller(d: Dict[Any, Any]) -> None:
    d.update({number: number for number in range(200)})
    got = at_once(lambda _: d.pop_many(range(200)), 8)
    assert sorted(value for each in got for value in each) == list(range(200))


def test_put_many_says_how_many_it_stored(d: Dict[Any, Any]) -> None:
    assert d.put_many([("a", 1), ("b", 2)]) == 2
    assert d.put_many({"b": 3, "c": 4}, skip_if_exists=True) == 1
    assert d.copy() == {"a": 1, "b": 2, "c": 4}


def test_ten_thousand_entries_and_not_one_more(d: Dict[Any, Any]) -> None:
    assert d.put_many((number, None) for number in range(10_000)) == 10_000
    with pytest.raises(holdall.RequestSizeError, match="10,000"):
        d.put_many((number, None) for number in range(10_001, 20_002))
    assert len(d) == 10_000


def test_popitem_gives_each_entry_to_one_caller(d: Dict[Any, Any]) -> None:
    d.update({number: str(number) for number in range(50)})
    got = at_once(lambda _: d.popitem())
    assert sorted(got) == [(number, str(number)) for number in range(50)]
    with pytest.raises(KeyError, match="popitem"):
        d.popitem()


def test_setdefault_stores_one_callers_default(d: Dict[Any, Any]) -> None:
    got = at_once(lambda number: d.setdefault("key", number))
    assert set(got) == {d["key"]}
    assert d.setdefault("none") is None
    assert "none" in d


def test_setdefault_and_popitem_give_back_the_first_key_object(d: Dict[Any, Any]) -> None:
    d.setdefault(True, "first")
    d.setdefault(1, "second")
    assert repr(d.popitem()) == "(True, 'first')"


def test_fifty_callers_pop_one_key(d: Dict[Any, Any]) -> None:
    d["key"] = "value"
    assert sorted(at_once(lambda _: d.pop("key", ""))) == [""] * 49 + ["value"]


@pytest.mark.parametrize("bad", [None, 7, [1], [(1, 2, 3)], [(1,)]])
def test_update_refuses_what_dict_refuses_with_the_same_words(d: Dict[Any, Any], bad: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as expected:
        {}.update(bad)
    with pytest.raises(expected.type) as got:
        d.update(bad)
    assert str(got.value) == str(expected.value)


def test_update_with_an_unhashable_key_keeps_what_came_before_as_dict_does(d: Dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        d.update([("a", 1), ([], 2), ("b", 3)])
    assert d == {"a": 1}
