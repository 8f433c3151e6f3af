"""What type checkers must infer: read by mypy and pyright, never run. Each line fails when a signature breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, ItemsView, KeysView, MutableMapping, ValuesView
from typing import Any, assert_type

from holdall import Client, Dict, DictInfo


def without_types() -> None:
    d = Dict.from_name("kv", create_if_missing=True)
    assert_type(d, Dict[Any, Any])
    d["key"] = 1


def blocking(d: Dict[str, int]) -> None:
    assert_type(d["key"], int)
    assert_type(d.get("key"), int | None)
    assert_type(d.get("key", 0), int)
    assert_type(d.get("key", "none"), int | str)
    assert_type(d.pop("key"), int)
    assert_type(d.pop("key", None), int | None)
    assert_type(d.put("key", 1, skip_if_exists=True), bool)
    assert_type(d.contains("key"), bool)
    assert_type(d.len(), int)
    assert_type(d.popitem(), tuple[str, int])
    assert_type(d.setdefault("key", 1), int)
    assert_type(d.get_many(["key"]), dict[str, int])
    assert_type(d.put_many({"key": 1}, skip_if_exists=True), int)
    assert_type(d.pop_many(["key"]), dict[str, int])
    assert_type(d.copy(), dict[str, int])
    assert_type(d.info(), DictInfo)
    assert_type(d.update({"key": 1}), None)
    assert_type(d.clear(), None)
    assert_type(d.keys(), KeysView[str])
    assert_type(d.values(), ValuesView[int])
    assert_type(d.items(), ItemsView[str, int])
    assert_type([key + key for key in d], list[str])
    assert_type(d.hydrate(), Dict[str, int])
    assert_type(d.name, str | None)
    assert_type(d.object_id, str)
    taken: MutableMapping[str, int] = d
    taken.update(d)


async def awaitable(d: Dict[str, int]) -> None:
    assert_type(await d.get.aio("key"), int | None)
    assert_type(await d.get.aio("key", 0), int)
    assert_type(await d.pop.aio("key"), int)
    assert_type(await d.put.aio("key", 1, skip_if_exists=True), bool)
    assert_type(await d.len.aio(), int)
    assert_type(await d.get_many.aio(["key"]), dict[str, int])
    assert_type(await d.popitem.aio(), tuple[str, int])
    assert_type(await d.info.aio(), DictInfo)
    async with Dict[str, int].ephemeral() as scratch:
        assert_type(scratch, Dict[str, int])
    assert_type(d.keys.aio(), AsyncIterator[str])
    assert_type(d.values.aio(), AsyncIterator[int])
    assert_type(d.items.aio(), AsyncIterator[tuple[str, int]])


def objects(client: Client) -> None:
    assert_type(Dict.objects.create("kv", allow_existing=True, client=client), None)
    assert_type(Dict.objects.list(max_objects=3), list[Dict[Any, Any]])
    assert_type(Dict.objects.delete("kv", allow_missing=True), None)


def mistakes(d: Dict[str, int]) -> None:
    d.put(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    d.put("key", "value")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    d.put("key", 1, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    d.get(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    d["key"] = "value"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
