"""The open loop: calls are due at a fixed rate, as requests of independent users are.

A latency counts from when its call was due, not from when it began: one that waits behind a slow one is as late as its user
finds it. So nothing has to be corrected for coordinated omission. Between calls a client sleeps, and the sleep's own
lateness (some 60 µs on Linux) counts too, for all peers alike: spinning instead would take a core from the service.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from itertools import count, cycle
from time import perf_counter_ns, sleep

from holdall.bench.closed_loop import Call, Clock


def open_loop(
    planned: Iterable[Call],
    seconds: float,
    rate: float,
    phase: float = 0.0,
    now: Clock = perf_counter_ns,
    pause: Callable[[float], None] = sleep,
) -> array[int]:
    """Make all calls that fall due within so many seconds, `rate` a second. From due to done, in nanoseconds.

    `phase`, from 0 to 1, is which part of an interval the first call waits: clients of one service do not all call at once.
    """
    taken = array("q")
    record = taken.append
    interval = 10**9 / rate
    started = now()
    for number, (function, arguments) in zip(count(), cycle(planned), strict=False):
        since_start = int((number + phase) * interval)
        if since_start >= seconds * 10**9:
            break
        early = started + since_start - now()
        if early > 0:
            pause(early / 10**9)
        function(*arguments)
        record(now() - started - since_start)
    return taken
