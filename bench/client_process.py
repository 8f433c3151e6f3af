"""One process of clients: it connects, waits for its turns, and ends when its parent closes the pipe."""

from __future__ import annotations

import asyncio
import threading
import traceback
from array import array
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from multiprocessing.connection import Connection
from time import perf_counter_ns, process_time_ns
from typing import Any, NamedTuple, cast

from holdall.bench import latencies
from holdall.bench.calls import awaited_calls, blocking_calls, put_all
from holdall.bench.closed_loop import awaited_loop, closed_loop
from holdall.bench.open_loop import open_loop
from holdall.bench.peers.peer import AwaitingConnector, Connector
from holdall.bench.turn import Length, Part
from holdall.bench.workload import Workload

READY, WARM, GO = "ready", "warm", "go"
WARM_UP_SECONDS_MAX = 5.0
"""A slow peer has warmed up after fewer calls."""


class Failed(Exception):
    """A client process cannot go on; the message is its traceback."""


class _Done(NamedTuple):
    """What one client did in a turn."""

    taken: array[int]
    started: int
    ended: int
    cpu_started: int
    cpu_ended: int


Caller = Callable[[Length, threading.Barrier], _Done]
"""A client: it warms up, meets the others at the barrier, and makes its calls."""


def main(connector: Connector, workload: Workload, index: int, fill: bool, pipe: Connection[Any, Any]) -> None:
    """Run clients until the pipe is closed. It says READY; in each turn WARM, and when its parent lets it go, its Part."""
    try:
        with ExitStack() as stack:
            seeds = range(index * workload.threads, (index + 1) * workload.threads)
            caller = _awaiting_caller if workload.operation == "gather" else _blocking_caller
            callers = [stack.enter_context(caller(connector, workload, seed, fill and seed == 0)) for seed in seeds]
            pool = stack.enter_context(ThreadPoolExecutor(workload.threads))
            pipe.send(READY)
            while (length := _next_turn(pipe)) is not None:
                pipe.send(_turn(pool, callers, length, pipe))
    except (EOFError, BrokenPipeError):
        pass  # the parent has given up
    except Exception:
        pipe.send(Failed(traceback.format_exc()))


def _next_turn(pipe: Connection[Any, Any]) -> Length | None:
    """None: there is none any more."""
    try:
        length: Length = pipe.recv()
    except EOFError:
        return None
    return length


def _turn(pool: ThreadPoolExecutor, callers: list[Caller], length: Length, pipe: Connection[Any, Any]) -> Part:
    """Let all clients of this process warm up, and call when the parent says so."""
    barrier = threading.Barrier(len(callers) + 1)
    calling = pool.map(_called, callers, repeat(length), repeat(barrier))
    try:
        barrier.wait()
        pipe.send(WARM)
        pipe.recv()
        barrier.wait()
    except threading.BrokenBarrierError:
        pass  # the reason is among the results
    except EOFError:  # the parent gives up
        barrier.abort()
        raise
    return _part([*calling])


def _called(caller: Caller, length: Length, barrier: threading.Barrier) -> _Done:
    try:
        return caller(length, barrier)
    except Exception:
        barrier.abort()
        raise


@contextmanager
def _blocking_caller(connector: Connector, workload: Workload, seed: int, fill: bool) -> Generator[Caller, None, None]:
    with connector.client() as client:
        if fill:
            put_all(client, workload)
        planned = blocking_calls(client, workload, seed)

        def call(length: Length, barrier: threading.Barrier) -> _Done:
            closed_loop(planned, WARM_UP_SECONDS_MAX, workload.warm_up_calls)
            _meet(barrier)
            cpu, started = process_time_ns(), perf_counter_ns()
            if length.rate is None:
                taken, due = closed_loop(planned, length.seconds), started
            else:
                taken = open_loop(planned, length.seconds, length.rate / workload.clients, seed / workload.clients)
                due = started + int(length.seconds * 10**9)  # the last call has an interval too
            return _Done(taken, started, max(due, perf_counter_ns()), cpu, process_time_ns())

        yield call


@contextmanager
def _awaiting_caller(connector: Connector, workload: Workload, seed: int, fill: bool) -> Generator[Caller, None, None]:
    if fill:
        with connector.client() as client:
            put_all(client, workload)
    loop = asyncio.new_event_loop()
    opened = cast(AwaitingConnector, connector).awaited_get()
    planned = awaited_calls(loop.run_until_complete(opened.__aenter__()), workload, seed)

    async def awaited(length: Length, barrier: threading.Barrier) -> _Done:
        await awaited_loop(planned, WARM_UP_SECONDS_MAX, workload.warm_up_calls)
        _meet(barrier)
        cpu, started = process_time_ns(), perf_counter_ns()
        taken = await awaited_loop(planned, length.seconds)
        return _Done(taken, started, perf_counter_ns(), cpu, process_time_ns())

    try:
        yield lambda length, barrier: loop.run_until_complete(awaited(length, barrier))
    finally:
        loop.run_until_complete(opened.__aexit__(None, None, None))
        loop.close()


def _meet(barrier: threading.Barrier) -> None:
    """Wait until all clients of this process have warmed up, and again until those of the others have."""
    barrier.wait()
    barrier.wait()


def _part(done: list[_Done]) -> Part:
    """What the threads of this process did together."""
    recorded = latencies.histogram(nanoseconds for each in done for nanoseconds in each.taken)
    return Part(
        recorded.encode(),
        sum(len(each.taken) for each in done),
        min(each.started for each in done),
        max(each.ended for each in done),
        (max(each.cpu_ended for each in done) - min(each.cpu_started for each in done)) / 10**9,
    )
