"""A workload as the calls of one client: functions and arguments, all made beforehand."""

from __future__ import annotations

import asyncio
from typing import Any

from holdall.bench import sampling
from holdall.bench.closed_loop import AwaitedCall, Call
from holdall.bench.peers.peer import AwaitedGet, Client
from holdall.bench.workload import Workload


def blocking_calls(client: Client, workload: Workload, seed: int) -> list[Call]:
    """For a client that blocks."""
    value = sampling.value_of(workload)
    if workload.operation == "mixed":
        drawn = sampling.single_calls(workload, seed)
        return [(client.get, (key,)) if reads else (client.put, (key, value)) for reads, key in drawn]
    batches = sampling.batches(workload, seed)
    if workload.operation == "get_many":
        assert client.get_many is not None
        return [(client.get_many, (keys,)) for keys in batches]
    assert client.put_many is not None
    return [(client.put_many, (dict.fromkeys(keys, value),)) for keys in batches]


def awaited_calls(get: AwaitedGet, workload: Workload, seed: int) -> list[AwaitedCall]:
    """For an event loop."""

    async def gather(keys: list[str]) -> list[Any]:
        return await asyncio.gather(*(get(key) for key in keys))

    return [(gather, (keys,)) for keys in sampling.batches(workload, seed)]


def put_all(client: Client, workload: Workload) -> None:
    """Put all entries."""
    for entries in sampling.fills(workload):
        if client.put_many is not None:
            client.put_many(entries)
        else:
            for key, value in entries.items():
                client.put(key, value)
