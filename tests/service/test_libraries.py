"""Libraries that want a MutableMapping, and know nothing of holdall, take a Dict."""

from __future__ import annotations

from collections import ChainMap
from typing import Any

import pytest

from holdall import Dict

cachetools: Any = pytest.importorskip("cachetools")
fsspec: Any = pytest.importorskip("fsspec")
zict: Any = pytest.importorskip("zict")


def test_chain_map(d: Dict[Any, Any]) -> None:
    chained: ChainMap[Any, Any] = ChainMap(d, {"a": "default", "b": "default"})
    chained["a"] = 1
    assert (chained["a"], chained["b"], dict(chained)) == (1, "default", {"a": 1, "b": "default"})
    assert d == {"a": 1}


def test_cachetools_memoizes_into_a_dict(d: Dict[Any, Any]) -> None:
    calls: list[int] = []

    @cachetools.cached(cache=d)  # type: ignore[untyped-decorator]
    def square(number: int) -> int:
        calls.append(number)
        return number * number

    assert [square(3), square(3), square(4), square(3)] == [9, 9, 16, 9]
    assert calls == [3, 4]
    assert d[cachetools.keys.hashkey(3)] == 9


def test_zict_spills_into_a_dict(d: Dict[Any, Any]) -> None:
    fast: dict[str, int] = {}
    buffer = zict.Buffer(fast, d, n=2)
    for number in range(5):
        buffer[str(number)] = number
    assert len(fast) == 2
    assert len(d) == 3
    assert [buffer[str(number)] for number in range(5)] == list(range(5))


def test_zict_transforms_over_a_dict(d: Dict[Any, Any]) -> None:
    texts = zict.Func(str.encode, bytes.decode, d)
    texts["a"] = "text"
    assert (d["a"], texts["a"], list(texts.items())) == (b"text", "text", [("a", "text")])


def test_fsspec_copies_files_through_its_mapper_into_a_dict(d: Dict[Any, Any]) -> None:
    files = fsspec.get_mapper("memory://holdall-test")
    files.update({"a/1": b"one", "a/2": b"two"})
    d.update(files)
    assert d.get_many(["a/1", "a/2", "a/3"]) == {"a/1": b"one", "a/2": b"two"}
    files.clear()
    files.update(d)
    assert files["a/2"] == b"two"
