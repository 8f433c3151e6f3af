"""Servers of checkboxes come to what is stored, whatever fails between the steps of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import holdall
from examples.checkboxes import boxes as module
from examples.checkboxes.boxes import Boxes
from holdall import Dict


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAY_SECONDS", 0.05)
    monkeypatch.setattr(module, "GONE_SECONDS", 0.3)


def server(name: str) -> Boxes:
    return Boxes(name, lambda _changed: None, lambda: 1)


def after(*servers: Boxes, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let these servers run while something is done."""

    async def run() -> None:
        following = []
        for each in servers:
            await each.load()
            following.append(asyncio.create_task(each.follow()))
        await do()
        for task in following:
            task.cancel()

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("this did not come about")


def test_what_was_said_is_read_though_the_dict_failed_just_then(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = server(name), server(name)
    real, fails = b._dict.get_many.aio, [holdall.ConnectionError("now")]

    async def get_many(boxes: Any) -> Any:
        if boxes and fails:
            raise fails.pop()
        return await real(boxes)

    class Failing:
        aio = staticmethod(get_many)

    async def do() -> None:
        dict_of_b: Any = b._dict

        class Shadow:
            get_many = Failing

            def __getattr__(self, method: str) -> Any:
                return getattr(dict_of_b, method)

        b._dict = Shadow()  # type: ignore[assignment]
        for each, is_checked in ((1, True), (2, True), (1, False)):
            a.wanted[each] = [is_checked]
            a.asked.set()
            await until(lambda: not a.wanted)
        await until(lambda: not fails and b.checked == a.checked == {2})

    after(a, b, do=do)


def test_a_server_that_was_killed_before_it_said_so_is_made_up_for(name: str) -> None:
    a, killed = server(name), server(name)

    async def do() -> None:
        killed.wanted |= {1: [True], 2: [True]}
        following = asyncio.create_task(killed.follow())
        await until(lambda: a.checked == {1, 2})
        following.cancel()
        d: Dict[int, bool] = Dict.from_name(name)
        await d.put.aio(3, True)  # as many as it takes away: the number of entries is the same
        await d.pop.aio(1)
        await until(lambda: a.checked == {2, 3})

    after(a, do=do)


def test_a_click_is_done_when_it_was_stored_and_not_when_another_of_the_same_box_was(name: str) -> None:
    a = server(name)

    async def do() -> None:
        real = a._log.append

        async def append(record: Any) -> None:
            await real(record)
            if record[0] == [5]:
                a._log.append = real  # type: ignore[method-assign]
                await Dict.from_name(name).pop.aio(5)  # another server
                a.wanted[5] = [True]  # and another click here, before this step has ended
                a.asked.set()

        a._log.append = append  # type: ignore[method-assign]
        a.wanted[5] = [True]
        a.asked.set()
        await until(lambda: not a.wanted)
        assert a.checked == {5} == {each async for each in Dict.from_name(name).keys.aio()}

    after(a, do=do)
