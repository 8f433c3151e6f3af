"""The lock and the cache of the examples: one holds it at a time, one computes, and what a killed one held is taken over."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import signal
import time
from multiprocessing.context import SpawnProcess
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from examples.locks import Lock, cached
from examples.log import AT_ONCE, Log
from examples.request_cache import show
from holdall import Dict
from tests.examples import pictures
from tests.processes import WAIT_SECONDS, until

SPAWN = multiprocessing.get_context("spawn")
TURNS = 40


def started(target: Any, *arguments: Any, processes: int = 4) -> list[SpawnProcess]:
    pool = [SPAWN.Process(target=target, args=arguments, daemon=True) for _ in range(processes)]
    for each in pool:
        each.start()
    return pool


def ended(pool: list[SpawnProcess]) -> None:
    for each in pool:
        each.join(WAIT_SECONDS)
        assert each.exitcode == 0


def count_up(d: Dict[Any, Any]) -> None:
    """Add 1 so often: two at once would lose some, and two turns of one number would be seen."""
    for _ in range(TURNS):
        with Lock(d, "counter") as lock:
            d["count"] = d.get("count", 0) + 1
            assert d.put(("was", lock.turn), os.getpid(), skip_if_exists=True)


@pytest.mark.slow
def test_one_process_at_a_time_holds_a_lock(d: Dict[Any, Any]) -> None:
    ended(started(count_up, d))
    assert d["count"] == 4 * TURNS
    assert sorted(key[1] for key in d if key[0] == "was") == list(range(4 * TURNS))


def hold(d: Dict[Any, Any], name: str) -> None:
    Lock(d, name, seconds=0.5).acquire()
    d["held"] = os.getpid()
    time.sleep(WAIT_SECONDS)


def test_a_lock_whose_holder_was_killed_is_free_after_its_time(d: Dict[Any, Any]) -> None:
    (holder,) = started(hold, d, "a lock", processes=1)
    until(lambda: "held" in d)
    lock = Lock(d, "a lock")
    assert not lock.try_acquire()
    os.kill(d["held"], signal.SIGKILL)
    holder.join()
    until(lock.try_acquire)
    assert lock.turn == 1
    assert not Lock(d, "a lock").try_acquire()
    assert Lock(d, "another lock").try_acquire()
    lock.release()
    assert Lock(d, "a lock").try_acquire()


def test_a_turn_that_is_renewed_goes_on_and_one_that_is_over_is_told_by_its_number(d: Dict[Any, Any]) -> None:
    first, second = Lock(d, "a lock", seconds=0.3), Lock(d, "a lock", seconds=30)
    assert first.try_acquire()
    for _ in range(5):
        time.sleep(0.1)
        assert first.renew()
        assert not second.try_acquire()
    until(second.try_acquire)
    assert second.turn > first.turn
    assert not first.renew()
    first.release()  # too late: it ends its own turn again, and nobody else's
    assert not Lock(d, "a lock").try_acquire()


def want(d: Dict[Any, Any], counts: Dict[Any, Any], locks: Dict[Any, Any]) -> None:
    def compute() -> int:
        counts[os.getpid(), time.time()] = True
        time.sleep(0.2)
        return 42

    assert cached(d, "key", compute, locks=locks) == 42


def test_of_all_that_want_a_value_one_computes_it(d: Dict[Any, Any]) -> None:
    with Dict.ephemeral() as counts, Dict.ephemeral() as locks:
        ended(started(want, d, counts, locks))
        assert len(counts) == 1
        assert len(d) == 1


def test_what_could_not_be_computed_is_tried_by_the_next(d: Dict[Any, Any]) -> None:
    with Dict.ephemeral() as locks:
        with pytest.raises(ZeroDivisionError):
            cached(d, "key", lambda: 1 // 0, locks=locks)
        assert cached(d, "key", lambda: None, locks=locks) is None
        assert cached(d, "key", lambda: 1 // 0, locks=locks) is None


def test_the_first_that_is_stored_is_what_all_get(d: Dict[Any, Any]) -> None:
    def late() -> str:
        d["key"] = "in time"  # another one computed it, after the time of this one was up
        return "late"

    with Dict.ephemeral() as locks:
        assert cached(d, "key", late, locks=locks) == "in time"
    assert d["key"] == "in time"


@pytest.mark.slow
def test_the_request_cache_holds_what_it_claims(d: Dict[Any, Any]) -> None:
    console = Console(file=io.StringIO(), width=100)
    assert show(console, 4, 12, 1.0) == 0
    pictures.terminal("request_cache.svg", "python -m examples.request_cache", Text(console.file.getvalue()))  # type: ignore[attr-defined]


def append(name: str, number: int) -> None:
    async def some() -> None:
        log = Log(name)
        await log.begin()
        for each in range(TURNS):
            await log.append((number, each))

    asyncio.run(some())


async def all_of(log: Log) -> list[Any]:
    found: list[Any] = []
    while records := await log.read():
        found += records
    return found


@pytest.mark.slow
def test_all_readers_of_a_log_see_one_order(name: str) -> None:
    pool = [SPAWN.Process(target=append, args=(name, number)) for number in range(4)]
    for each in pool:
        each.start()

    async def read_twice() -> tuple[list[Any], list[Any]]:
        follows, comes_later = Log(name), Log(name)
        early: list[Any] = []
        while any(each.is_alive() for each in pool):
            early += await follows.read() or ()
        return early + await all_of(follows), await all_of(comes_later)

    first, second = asyncio.run(read_twice())
    ended(pool)
    assert first == second
    assert len(first) == 4 * TURNS
    assert [[each for each in first if each[0] == number] for number in range(4)] == [
        [(number, each) for each in range(TURNS)] for number in range(4)
    ]


def test_who_comes_later_reads_from_the_end_and_who_sleeps_too_long_is_told(name: str) -> None:
    async def read() -> None:
        writer, sleeper, late = Log(name), Log(name), Log(name)
        for each in range(2 * AT_ONCE):
            await writer.append(each)
        await late.begin()
        assert await late.read() == []
        await writer.append("new")
        assert await late.read() == ["new"]
        records: Dict[Any, Any] = Dict.from_name(name)
        for key in [key for key in records if key != "last"]:
            del records[key]  # as if they had expired
        assert [await sleeper.read(), await sleeper.read()] == [[], None]
        await writer.append("again")
        assert await sleeper.read() == ["again"]

    asyncio.run(read())
