"""The closed loop: the next call begins when the last one has ended. It shows what a call takes when nobody waits in a line.

The clock is read twice around each call and the difference kept in an array; everything else comes before or after.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Iterable
from itertools import cycle, islice
from time import perf_counter_ns
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A call and its arguments."""
AwaitedCall = tuple[Callable[..., Awaitable[Any]], tuple[Any, ...]]
Clock = Callable[[], int]

CALLS_MAX = 10_000_000
"""Of one client in one turn: what its memory holds."""


def closed_loop(planned: Iterable[Call], seconds: float, most: int = CALLS_MAX, now: Clock = perf_counter_ns) -> array[int]:
    """Call for so many seconds, or so often, whichever ends sooner. How many nanoseconds each call took."""
    taken = array("q")
    record = taken.append
    ends = now() + int(seconds * 10**9)
    for function, arguments in islice(cycle(planned), most):
        started = now()
        function(*arguments)
        ended = now()
        record(ended - started)
        if ended >= ends:
            break
    return taken


async def awaited_loop(
    planned: Iterable[AwaitedCall], seconds: float, most: int = CALLS_MAX, now: Clock = perf_counter_ns
) -> array[int]:
    """The same on an event loop."""
    taken = array("q")
    record = taken.append
    ends = now() + int(seconds * 10**9)
    for function, arguments in islice(cycle(planned), most):
        started = now()
        await function(*arguments)
        ended = now()
        record(ended - started)
        if ended >= ends:
            break
    return taken
