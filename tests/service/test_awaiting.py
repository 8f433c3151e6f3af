"""The awaitable twins: the same as the blocking calls, in any loop."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

import holdall
from holdall import Dict


def test_every_operation_has_a_twin(d: Dict[Any, Any], name: str) -> None:
    async def main() -> None:
        other: Dict[Any, Any] = Dict.from_name(name)
        await other.hydrate.aio()
        assert await d.put.aio("a", 1) is True
        assert await d.put.aio("a", 2, skip_if_exists=True) is False
        assert await d.get.aio("a") == 1
        assert await d.get.aio("b", 5) == 5
        assert await d.contains.aio("a") is True
        await d.update.aio({"b": 2}, c=3)
        assert await d.len.aio() == 3
        assert sorted([key async for key in d.keys.aio()]) == ["a", "b", "c"]
        assert sorted([value async for value in d.values.aio()]) == [1, 2, 3]
        assert sorted([item async for item in d.items.aio()]) == [("a", 1), ("b", 2), ("c", 3)]
        assert await d.pop.aio("a") == 1
        with pytest.raises(KeyError):
            await d.pop.aio("a")
        await d.clear.aio()
        assert await d.len.aio() == 0
        await Dict.objects.create.aio(f"{name}-2")
        assert f"{name}-2" in [each.name for each in await Dict.objects.list.aio()]
        await Dict.objects.delete.aio(f"{name}-2")
        with pytest.raises(holdall.NotFoundError):
            await Dict.objects.delete.aio(f"{name}-2")

    asyncio.run(main())


def test_the_twin_is_a_coroutine_function_with_the_methods_signature(d: Dict[Any, Any]) -> None:
    for twin in (d.get, d.put, d.len, d.update, Dict.objects.create, d.hydrate):
        assert inspect.iscoroutinefunction(twin.aio)
    call = d.get.aio("a", 3)
    assert inspect.iscoroutine(call)
    assert asyncio.run(call) == 3
    assert list(inspect.signature(d.get).parameters) == ["key", "default", "progress"]


async def in_a_group(call: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(call)
    return task.result()


async def waited_for(call: Coroutine[Any, Any, Any]) -> Any:
    [done], pending = await asyncio.wait([asyncio.create_task(call)])
    assert not pending
    return done.result()


async def first_of_all(call: Coroutine[Any, Any, Any]) -> Any:
    [first] = asyncio.as_completed([call])
    return await first


async def gathered(call: Coroutine[Any, Any, Any]) -> Any:
    [result] = await asyncio.gather(call)
    return result


async def of_another_thread(call: Coroutine[Any, Any, Any]) -> Any:
    future = asyncio.run_coroutine_threadsafe(call, asyncio.get_running_loop())
    return await asyncio.to_thread(future.result, 10)


async def with_a_callback(call: Coroutine[Any, Any, Any]) -> Any:
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(call)
    task.add_done_callback(lambda done: told.set_result(done.result()))
    return await told


HOLDERS: dict[str, Callable[[Coroutine[Any, Any, Any]], Any]] = {
    "ensure_future": asyncio.ensure_future,
    "create_task": lambda call: asyncio.create_task(call),
    "wait": waited_for,
    "wait_for": lambda call: asyncio.wait_for(call, 10),
    "as_completed": first_of_all,
    "gather": gathered,
    "shield": asyncio.shield,
    "TaskGroup": in_a_group,
    "run_coroutine_threadsafe": of_another_thread,
    "add_done_callback": with_a_callback,
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_a_call_may_be_held_as_any_coroutine_may_and_no_write_is_lost(d: Dict[Any, Any], holder: Any) -> None:
    async def main() -> None:
        assert await holder(d.put.aio("key", 1)) is True
        assert await holder(d.get.aio("key")) == 1

    asyncio.run(main())
    assert d["key"] == 1


def test_writes_that_nobody_waits_for_are_made_all_the_same(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        tasks = [asyncio.ensure_future(d.put.aio(number, number)) for number in range(100)]
        tasks += [asyncio.create_task(d.put.aio(number, number)) for number in range(100, 200)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert dict(d) == {number: number for number in range(200)}


def test_a_shielded_call_goes_on_when_its_caller_is_cancelled(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        putting = asyncio.create_task(d.put.aio("key", 1))
        waiting = asyncio.create_task(asyncio.wait_for(asyncio.shield(putting), 10))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await putting is True
        assert await d.get.aio("key") == 1

    asyncio.run(main())


def test_nest_asyncio_may_run_calls_within_a_loop_that_runs(d: Dict[Any, Any]) -> None:
    """In a process of its own: nest_asyncio changes asyncio for good."""
    program = (
        "import asyncio, nest_asyncio, holdall\n"
        "nest_asyncio.apply()\n"
        f"d = holdall.Dict.from_name({d.name!r})\n"
        "async def main():\n"
        "    await d.put.aio('a', 1)\n"
        "    return asyncio.run(d.get.aio('a')), asyncio.get_event_loop().run_until_complete(d.put.aio('b', 2)), d['b']\n"
        "print(asyncio.run(main()))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("(1, True, 2)\n", "")


def test_a_call_that_nobody_awaits_is_not_made_and_says_so(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        await d.put.aio("a", 1)
        with pytest.warns(RuntimeWarning, match="never awaited"):  # noqa: PT031
            _ = d.put.aio("a", 2)
            del _
        assert await d.get.aio("a") == 1

    asyncio.run(main())


def test_a_thousand_calls_of_one_tick_each_get_their_own_answer(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        await asyncio.gather(*(d.put.aio(number, number) for number in range(1000)))
        assert await asyncio.gather(*(d.get.aio(number) for number in range(1000))) == list(range(1000))
        popped = await asyncio.gather(*(d.pop.aio(number % 100, None) for number in range(1000)))
        assert sorted(value for value in popped if value is not None) == list(range(100))

    asyncio.run(main())


def test_small_and_large_values_in_one_tick(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        await asyncio.gather(*(d.put.aio(size, bytes(size)) for size in (10, 100_000, 20, 200_000)))
        assert await asyncio.gather(*(d.get.aio(size) for size in (200_000, 20, 100_000, 10))) == [
            bytes(size) for size in (200_000, 20, 100_000, 10)
        ]

    asyncio.run(main())


def test_one_failing_call_leaves_its_neighbours_alone(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        calls = d.put.aio("a", 1), d.get.aio([]), d.pop.aio("missing"), d.get.aio("a")
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[0] is True
        assert isinstance(results[1], TypeError)
        assert isinstance(results[2], KeyError)

    asyncio.run(main())


def test_cancelled_calls_never_hand_their_answer_to_others(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        await d.update.aio({number: number for number in range(100)})
        for _ in range(20):
            tasks = [asyncio.create_task(d.get.aio(number)) for number in range(100)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(answer == number for number, answer in enumerate(answers) if number % 2)
            assert await asyncio.gather(*(d.get.aio(number) for number in range(100))) == list(range(100))

    asyncio.run(main())


def test_a_second_run_a_uvloop_and_loops_in_threads(d: Dict[Any, Any]) -> None:
    async def main(number: int) -> Any:
        await d.put.aio(number, number)
        return await d.get.aio(number)

    assert [asyncio.run(main(number)) for number in range(3)] == [0, 1, 2]
    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(main(3)) == 3
    finally:
        loop.close()
    found: list[Any] = []
    threads = [threading.Thread(target=lambda number=number: found.append(asyncio.run(main(number)))) for number in range(4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [4, 5, 6, 7]
    assert d.len() == 8


def test_a_client_is_closed_by_its_block(service: holdall.LocalService, name: str) -> None:
    async def main() -> None:
        async with holdall.Client(service.url) as client:
            other: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True, client=client)
            await other.put.aio("key", 1)
        with pytest.raises(holdall.ConnectionError, match="closed"):
            await other.get.aio("key")

    asyncio.run(main())


def test_a_wrong_url_is_a_connection_error_and_the_loop_goes_on(d: Dict[Any, Any], tmp_path: Path) -> None:
    async def main() -> None:
        async with holdall.Client(f"ipc://{tmp_path}/nobody-listens-here", timeout=0.5) as client:
            with pytest.raises(holdall.ConnectionError, match=f"no service answered at ipc://{tmp_path}/nobody"):
                await Dict.from_name("kv", client=client).get.aio("key")
        assert await d.get.aio("key") is None

    asyncio.run(main())
