"""Dicts as objects: by id, ephemeral, described, compared, hashed, pickled, stored in each other."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import holdall
from holdall import Dict, LocalService
from holdall.client.ephemeral import Ephemeral
from holdall.client.operations import entries


def test_a_dict_by_its_id(d: Dict[Any, Any], name: str) -> None:
    d["key"] = "value"
    same: Dict[Any, Any] = Dict.from_id(d.object_id)
    assert same["key"] == "value"
    assert (same.name, same.environment, same.object_id) == (name, "main", d.object_id)


@pytest.mark.parametrize("dict_id", ["", "kv", "di-", "di-XYZ", "di-" + "0" * 31, None, 7])
def test_an_id_that_is_none_is_an_invalid_error(dict_id: Any) -> None:
    with pytest.raises(holdall.InvalidError, match="Invalid Dict id"):
        Dict.from_id(dict_id)


@pytest.mark.usefixtures("service")
def test_an_unknown_id_is_a_not_found_error_at_first_use() -> None:
    d: Dict[Any, Any] = Dict.from_id("di-" + "0" * 32)
    for use in (lambda: d["key"], lambda: d.put("key", 1), d.len, d.info, d.hydrate, lambda: d.name):
        with pytest.raises(holdall.NotFoundError, match="di-000"):
            use()


def test_info_says_when_and_by_whom_it_was_made(d: Dict[Any, Any], name: str) -> None:
    info = d.info()
    assert isinstance(info, holdall.DictInfo)
    assert info.name == name
    assert datetime.now(UTC) - info.created_at < timedelta(minutes=1)
    assert "@" in info.created_by
    assert asyncio.run(Dict.from_id(d.object_id).info.aio()) == info


def test_a_deleted_dict_has_no_info(d: Dict[Any, Any], name: str) -> None:
    Dict.objects.delete(name)
    with pytest.raises(holdall.NotFoundError, match="deleted"):
        d.info()


def test_an_ephemeral_dict_is_gone_after_its_block(service: holdall.LocalService) -> None:
    with Dict.ephemeral() as d:
        d.update({number: number for number in range(100)})
        other: Dict[Any, Any] = pickle.loads(pickle.dumps(d))
        assert (d.name, other.name, len(other), d.info().name) == (None, None, 100, None)
        assert all(each.object_id != d.object_id for each in Dict.objects.list())
    for handle in (d, other):
        for use in (lambda handle=handle: handle[1], handle.len, lambda handle=handle: handle.put(1, 1)):
            with pytest.raises(holdall.NotFoundError):
                use()


def test_an_ephemeral_dict_of_a_task(service: holdall.LocalService) -> None:
    async def main() -> Dict[Any, Any]:
        async with Dict.ephemeral() as d:
            await d.put.aio("key", 1)
            assert [key async for key in d] == ["key"]
            return d

    d = asyncio.run(main())
    with pytest.raises(holdall.NotFoundError):
        d["key"]


def test_an_ephemeral_dict_goes_when_its_block_raises(service: holdall.LocalService) -> None:
    with contextlib.suppress(RuntimeError), Dict.ephemeral() as d:
        d["key"] = 1
        raise RuntimeError
    with pytest.raises(holdall.NotFoundError):
        d["key"]


def test_an_ephemeral_dict_goes_soon_after_its_process_and_not_while_it_lives(
    service: holdall.LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdall.client.ephemeral.LEASE_SECONDS", 2.0)
    monkeypatch.setattr("holdall.client.ephemeral.RENEW_SECONDS", 0.5)
    program = """
import holdall, os
from holdall.client import ephemeral
ephemeral.LEASE_SECONDS = 2.0
d = holdall.Dict.ephemeral().__enter__()
d["key"] = 1
print(d.object_id, flush=True)
os._exit(0)
"""
    with Dict.ephemeral() as mine:
        mine["key"] = 1
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ})
        orphan: Dict[Any, Any] = Dict.from_id(ran.stdout.strip())
        tried = threading.Event()
        for _ in range(100):  # bounded: the lease is 2 s
            try:
                orphan.len()
            except holdall.NotFoundError:
                break
            tried.wait(0.1)
        else:
            pytest.fail("an ephemeral Dict outlived its process by 10 s")
        assert mine["key"] == 1


def test_handles_are_equal_when_they_name_the_same_dict(d: Dict[Any, Any], name: str) -> None:
    fresh: Dict[Any, Any] = Dict.from_name(name)
    by_id: Dict[Any, Any] = Dict.from_id(d.object_id)
    assert d == fresh == by_id
    assert len({d, fresh, by_id, pickle.loads(pickle.dumps(d))}) == 1
    with Dict.ephemeral() as other:
        assert d != other
        assert len({d, other}) == 2


def test_a_handle_equals_a_plain_mapping_with_the_same_items(d: Dict[Any, Any]) -> None:
    assert d == {}
    d.update(a=1, b=[2])
    assert d == {"b": [2], "a": 1}
    assert d == {"a": 1, "b": [2]}
    assert d != {"a": 1}
    assert d != 1
    assert d | {"a": 2} == {"a": 2, "b": [2]}
    assert {"a": 2, "c": 3} | d == {"a": 1, "b": [2], "c": 3}
    d |= {"c": 3}
    assert d.copy() == {"a": 1, "b": [2], "c": 3}


def test_a_dict_that_holds_itself_as_key_and_value(d: Dict[Any, Any], name: str) -> None:
    d[d] = d
    d["name"] = name
    assert d[Dict.from_name(name)]["name"] == name
    assert d[d][d][d] == d
    assert d in list(d)
    assert d.pop(Dict.from_id(d.object_id)) == d
    assert d not in d


def test_a_stale_handle_stays_stale_also_where_it_is_unpickled(d: Dict[Any, Any], name: str) -> None:
    d["key"] = 1
    sent = pickle.dumps(d)
    Dict.objects.delete(name)
    Dict.objects.create(name)
    for stale in (d, pickle.loads(sent)):
        for use in (lambda stale=stale: stale["key"], lambda stale=stale: stale.put("key", 2), stale.len, stale.popitem):
            with pytest.raises(holdall.NotFoundError):
                use()
    assert Dict.from_name(name).len() == 0


def test_environments_have_names_of_their_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there: Dict[Any, Any] = Dict.from_name(name, environment_name="there", create_if_missing=True)
    there["key"] = "there"
    with pytest.raises(holdall.NotFoundError):
        Dict.from_name(name)["key"]
    monkeypatch.setenv("HOLDALL_ENVIRONMENT", "there")
    assert Dict.from_name(name)["key"] == "there"
    assert [each.name for each in Dict.objects.list()] == [name]
    Dict.objects.delete(name)
    with pytest.raises(holdall.InvalidError, match="environment"):
        Dict.from_name(name, environment_name="no/such")


def test_a_first_use_by_many_threads_at_once_makes_one_dict(name: str) -> None:
    d: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True)
    start = threading.Barrier(32)

    def use(number: int) -> str:
        start.wait()
        d[number] = number
        return d.object_id

    with ThreadPoolExecutor(32) as threads:
        ids = set(threads.map(use, range(32)))
    assert ids == {Dict.from_name(name).object_id}
    assert dict(d) == {number: number for number in range(32)}


def test_a_thousand_first_calls_gathered_make_one_dict(name: str) -> None:
    async def calls(d: Dict[Any, Any]) -> None:
        assert await asyncio.gather(*(d.put.aio(number, number) for number in range(1000))) == [True] * 1000
        assert await asyncio.gather(*(Dict.from_name(name).get.aio(number) for number in range(1000))) == list(range(1000))
        assert await d.len.aio() == 1000

    asyncio.run(calls(Dict.from_name(name, create_if_missing=True)))
    assert [each.name for each in Dict.objects.list()].count(name) == 1


def test_a_cancelled_first_use_leaves_the_others_their_look_up(name: str, d: Dict[Any, Any]) -> None:
    async def main() -> None:
        fresh: Dict[Any, Any] = Dict.from_name(name)
        tasks = [asyncio.create_task(fresh.get.aio("key", number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await asyncio.gather(*tasks[1:]) == [1, 2, 3]

    asyncio.run(main())


def test_an_ephemeral_dict_is_entered_once(service: holdall.LocalService) -> None:
    block: Ephemeral[Dict[Any, Any]] = Dict.ephemeral()
    with block as d:
        d["key"] = 1
    with pytest.raises(RuntimeError, match="once"), block:
        pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_that_leaves_the_block_ends_nothing(service: holdall.LocalService) -> None:
    with Dict.ephemeral() as d:
        d["key"] = 1
        block = Dict.ephemeral()
        with block as other:
            other["key"] = 2
            child = os.fork()
            if child == 0:
                try:
                    block.__exit__(None, None, None)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert other["key"] == 2
        assert d["key"] == 1


def test_methods_can_be_pickled(d: Dict[Any, Any]) -> None:
    d["key"] = 1
    assert pickle.loads(pickle.dumps(d.get))("key") == 1
    assert asyncio.run(pickle.loads(pickle.dumps(d.len.aio))()) == 1
    assert name_of(pickle.loads(pickle.dumps(Dict.objects.list))()) >= {d.name}


def name_of(found: list[Dict[Any, Any]]) -> set[str | None]:
    return {each.name for each in found}


def test_any_keyword_is_an_entry_of_an_update(d: Dict[Any, Any]) -> None:
    d.update({"a": 0}, self=1, client=2, other=3, items=4)
    assert d == {"a": 0, "self": 1, "client": 2, "other": 3, "items": 4}
    assert "a" not in d.items()  # type: ignore[operator]
    assert ("a", 0) in d.items()


def test_calls_that_wait_when_their_client_is_closed_get_a_connection_error(d: Dict[Any, Any], name: str) -> None:
    async def main() -> None:
        client = holdall.Client()
        other: Dict[Any, Any] = Dict.from_name(name, client=client)
        await other.len.aio()
        tasks = [asyncio.create_task(other.get.aio(number)) for number in range(10)]
        await asyncio.sleep(0)
        client.close()
        failed = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in failed} == {holdall.ConnectionError}

    asyncio.run(main())


def test_operations_are_generators_that_name_what_they_ask(d: Dict[Any, Any]) -> None:
    ask = next(entries.get(d, "key", b"skey", None))
    assert str(ask) == f"get 'key' in Dict '{d.name}'"


def test_a_copy_of_a_handle_is_the_handle(d: Dict[Any, Any], service: holdall.LocalService) -> None:
    with holdall.Client(service.url) as client:
        own: Dict[Any, Any] = Dict.from_name(str(d.name), client=client)
        assert copy.copy(own) is own
        assert copy.deepcopy([own])[0] is own


def test_hydrate_with_a_client_looks_the_dict_up_there(d: Dict[Any, Any], name: str, service: holdall.LocalService) -> None:
    d["where"] = "here"
    with holdall.LocalService(workers=1, sync="off") as other, holdall.Client(other.url) as client:
        there: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True, client=client)
        there["where"] = "there"
        with holdall.Client(service.url) as back:
            handle: Dict[Any, Any] = Dict.from_name(name)
            assert handle["where"] == "there"
            assert handle.hydrate(client=back)["where"] == "here"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_that_leaves_a_services_block_ends_nothing() -> None:
    local = holdall.LocalService(workers=1, sync="off")
    with local:
        mine: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True)
        mine["key"] = 1
        child = os.fork()
        if child == 0:
            try:
                local.stop()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        mine["other"] = 2
        assert mine.copy() == {"key": 1, "other": 2}


def test_of_two_equal_keys_in_an_update_the_first_key_and_the_last_value_stay(d: Dict[Any, Any]) -> None:
    d.update([(True, "first"), (1, "last")])
    assert repr(list(d.items())) == "[(True, 'last')]"
    assert d.put_many([("a", 1), ("a", 2)], skip_if_exists=True) == 1
    assert d["a"] == 1


def test_at_a_prompt_a_method_shows_what_its_caller_gives_and_gets(d: Dict[Any, Any]) -> None:
    for method, shown in {
        d.get: "(key: 'K', default: 'V | None' = None, *, progress: 'Progress | None' = None) -> 'Union[V, None]'",
        d.len: "() -> 'int'",
        d.clear: "() -> 'None'",
    }.items():
        assert str(inspect.signature(method)) == shown
    assert not hasattr(d.get, "anything_else")


def test_at_a_prompt_only_what_users_call_is_offered(d: Dict[Any, Any]) -> None:
    offered = {name for name in dir(d) if not name.startswith("_")}
    assert {"get", "put", "pop", "keys", "object_id", "from_name"} <= offered
    assert offered.isdisjoint({"connected", "crc", "hydration", "id", "label", "of_entry", "register"})


@pytest.mark.parametrize("arguments", [(), ("kv",), ({"a": 1},), ([("a", 1)],)])
def test_a_dict_is_not_made_by_calling_its_class_and_the_error_says_how(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"Dict\.from_name"):
        Dict(*arguments)


def test_what_a_service_and_the_objects_are_is_shown(service: LocalService) -> None:
    assert service.url in repr(service)
    assert "does not run" in repr(LocalService())
    assert repr(Dict.objects) == "<the objects of holdall.Dict>"


def test_views_are_awaited_as_they_are(d: Any) -> None:
    async def main() -> None:
        await d.update.aio({"a": 1, "b": 2})
        assert sorted([key async for key in d.keys()]) == ["a", "b"]  # noqa: SIM118
        assert sorted([value async for value in d.values()]) == [1, 2]
        assert sorted([item async for item in d.items()]) == [("a", 1), ("b", 2)]

    asyncio.run(main())
