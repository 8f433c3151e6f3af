"""Iteration asks for the next pages while its caller has those before."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import holdall
from holdall import Dict
from holdall.client import ahead, operations
from holdall.client.ahead import Ahead
from holdall.client.blocking import BlockingLine
from holdall.client.client import AHEAD_MAX

ENTRIES = 100
PAGE = 20


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    with holdall.LocalService(workers=2, sync="off"):
        yield


@pytest.fixture
def full(d: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Dict[Any, Any]:
    monkeypatch.setattr(operations, "PAGE_ENTRIES", PAGE)
    d.update({number: str(number) for number in range(ENTRIES)})
    return d


def idle(d: Dict[Any, Any]) -> int:
    return len(d.connected()._idle)


def test_the_next_pages_are_on_their_way_while_the_first_items_are_used(
    full: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    begin = BlockingLine.begin

    def counted(line: BlockingLine, operation: Any, timeout: float) -> Any:
        started = begin(line, operation, timeout)
        begun.append(len(started._sent))
        return started

    monkeypatch.setattr(BlockingLine, "begin", counted)
    items = iter(full.items())
    first = next(items)
    assert begun == [2]  # one of each worker
    assert dict([first, *items]) == {number: str(number) for number in range(ENTRIES)}


def test_every_entry_comes_once_whatever_the_caller_does_meanwhile(full: Dict[Any, Any]) -> None:
    seen: list[Any] = []
    for key in full:
        if isinstance(key, int):
            assert full[key] == str(key)
            full["new", key] = key
            seen.append(key)
    assert sorted(seen) == list(range(ENTRIES))


def test_an_iteration_that_is_left_gives_its_line_back(full: Dict[Any, Any]) -> None:
    for _ in range(3):
        for _key in full:
            break
        gc.collect()
    before = idle(full)
    for _key in full:
        break
    gc.collect()
    assert idle(full) == before
    assert len(full) == ENTRIES  # and no late page is taken for its answer


def test_an_iteration_goes_on_in_a_forked_child(full: Dict[Any, Any]) -> None:
    items = iter(full)
    first = next(items)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads forks
        pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if {first, *items} == set(range(ENTRIES)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert {first, *items} == set(range(ENTRIES))


def test_pages_that_were_asked_for_long_ago_are_asked_for_anew(full: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "FRESH_SECONDS", 0.0)
    assert set(full) == set(range(ENTRIES))


def test_what_fails_when_it_is_begun_is_met_when_its_result_is_wanted(d: Dict[Any, Any]) -> None:
    client = holdall.Client(d.connected().address)
    mine = Dict[Any, Any].from_name(d.name or "", client=client).hydrate()
    client.close()
    begun = Ahead(client, lambda: operations.pages(mine, None, False))
    with begun, pytest.raises(holdall.ConnectionError, match="closed"):
        begun.result()


def test_a_client_may_be_closed_while_pages_are_on_their_way(full: Dict[Any, Any]) -> None:
    client = holdall.Client(full.connected().address)
    mine = Dict[Any, Any].from_name(full.name or "", client=client)
    items = iter(mine)
    next(items)
    streams = list(client._streams)
    client.close()
    del items
    gc.collect()
    assert streams
    assert all(stream.fileno() == -1 for stream in streams)


def test_of_many_iterations_at_once_some_read_ahead(full: Dict[Any, Any]) -> None:
    client = full.connected()
    iterations = [iter(full) for _ in range(AHEAD_MAX + 5)]
    keys = [{next(each)} for each in iterations]
    assert len(client._ahead) == 0
    for seen, each in zip(keys, iterations, strict=True):
        assert seen | set(each) == set(range(ENTRIES))
    assert len(client._ahead) == AHEAD_MAX


def test_one_that_is_interrupted_when_it_begins_leaves_nothing_behind(
    full: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = BlockingLine._send
    sent: list[Any] = []

    def interrupted(line: BlockingLine, ask: Any, deadline: float) -> Any:
        sent.append(ask)
        if len(sent) == 4:
            raise KeyboardInterrupt
        return send(line, ask, deadline)

    monkeypatch.setattr(BlockingLine, "_send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(iter(full))
    monkeypatch.setattr(BlockingLine, "_send", send)
    client = full.connected()
    assert [len(line._channel.waiting) for line in client._idle] == [0] * len(client._idle)
    assert len(client._ahead) == AHEAD_MAX
    assert set(full) == set(range(ENTRIES))


def test_awaited_iteration_reads_ahead_and_may_be_left(full: Dict[Any, Any]) -> None:
    async def all_of_it() -> None:
        assert {key async for key in full.keys.aio()} == set(range(ENTRIES))
        async for _key in full.keys.aio():
            break
        assert await full.get.aio(1) == "1"

    asyncio.run(all_of_it())
