"""An iteration asks for page after page, and may be left, closed or forked in the middle."""

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
from holdall.client.operations import pages

ENTRIES = 100
PAGE = 20


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    with holdall.LocalService(workers=2, sync="off"):
        yield


@pytest.fixture
def full(d: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Dict[Any, Any]:
    monkeypatch.setattr(pages, "PAGE_ENTRIES", PAGE)
    d.update({number: str(number) for number in range(ENTRIES)})
    return d


def test_every_entry_comes_once_whatever_the_caller_does_meanwhile(full: Dict[Any, Any]) -> None:
    seen: list[Any] = []
    for key in full:
        if isinstance(key, int):
            assert full[key] == str(key)
            full["new", key] = key
            seen.append(key)
    assert sorted(seen) == list(range(ENTRIES))


def test_an_iteration_that_is_left_leaves_nothing_behind(full: Dict[Any, Any]) -> None:
    for _ in range(3):
        for _key in full:
            break
    gc.collect()
    assert len(full) == ENTRIES  # and no late page is taken for its answer
    assert dict(full.items()) == {number: str(number) for number in range(ENTRIES)}


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


def test_an_iteration_whose_client_is_closed_says_so(full: Dict[Any, Any]) -> None:
    client = holdall.Client(full.connected().address)
    items = iter(Dict[Any, Any].from_name(full.name or "", client=client))
    next(items)
    client.close()
    with pytest.raises(holdall.ConnectionError, match="closed"):
        list(items)


def test_many_iterations_at_once_each_see_all(full: Dict[Any, Any]) -> None:
    iterations = [iter(full) for _ in range(13)]
    keys = [{next(each)} for each in iterations]
    for seen, each in zip(keys, iterations, strict=True):
        assert seen | set(each) == set(range(ENTRIES))


def test_an_awaited_iteration_may_be_left(full: Dict[Any, Any]) -> None:
    async def all_of_it() -> None:
        assert {key async for key in full.keys.aio()} == set(range(ENTRIES))
        async for _key in full.keys.aio():
            break
        assert await full.get.aio(1) == "1"

    asyncio.run(all_of_it())
