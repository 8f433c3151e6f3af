"""The loops that call, on a clock that only the calls move."""

from __future__ import annotations

import asyncio

import pytest
from hdrh.histogram import HdrHistogram

from holdall.bench import latencies
from holdall.bench.closed_loop import awaited_loop, closed_loop
from holdall.bench.open_loop import open_loop

MS = 1_000_000


class Clock:
    """Moved by calls, the first of which is slow, and by pauses."""

    def __init__(self, slow_ms: int = 100) -> None:
        self.nanoseconds = 5 * MS
        self.calls = 0
        self._slow_ms = slow_ms

    def __call__(self) -> int:
        return self.nanoseconds

    def call(self) -> None:
        self.nanoseconds += (1 if self.calls else self._slow_ms) * MS
        self.calls += 1

    async def awaited_call(self) -> None:
        self.call()

    def pause(self, seconds: float) -> None:
        self.nanoseconds += round(seconds * 1_000 * MS)


def late(recorded: HdrHistogram) -> int:
    """How many calls took 10 ms or more."""
    values = ((value.value_iterated_to, value.count_at_value_iterated_to) for value in recorded.get_recorded_iterator())
    return sum(count for nanoseconds, count in values if nanoseconds >= 10 * MS)


def test_an_open_loop_counts_from_when_a_call_was_due() -> None:
    clock = Clock()
    taken = open_loop([(clock.call, ())], seconds=0.2, rate=500, now=clock, pause=clock.pause)
    assert len(taken) == clock.calls == 100
    assert taken[0] == 100 * MS
    assert taken[-1] == 1 * MS  # it has caught up
    # Call k is due at 2k ms and ends at 100 + k: all up to k = 90 are 10 ms late or more.
    assert late(latencies.histogram(taken)) == 91


def test_a_closed_loop_sees_a_slow_call_once() -> None:
    clock = Clock()
    taken = closed_loop([(clock.call, ())], seconds=0.2, now=clock)
    assert late(latencies.histogram(taken)) == 1


def test_an_open_loop_makes_no_call_early_and_begins_at_its_phase() -> None:
    clock = Clock(slow_ms=1)
    begun: list[int] = []
    start = clock.nanoseconds

    def call() -> None:
        begun.append(clock.nanoseconds - start)
        clock.call()

    open_loop([(call, ())], seconds=0.05, rate=100, phase=0.5, now=clock, pause=clock.pause)
    assert begun == [5 * MS, 15 * MS, 25 * MS, 35 * MS, 45 * MS]


def test_a_closed_loop_ends_with_its_calls_or_its_time() -> None:
    clock = Clock(slow_ms=1)
    assert len(closed_loop([(clock.call, ())], seconds=10.0, most=7, now=clock)) == 7
    assert len(closed_loop([(clock.call, ())], seconds=0.02, now=clock)) == 20
    assert len(asyncio.run(awaited_loop([(clock.awaited_call, ())], seconds=10.0, most=7, now=clock))) == 7
    assert len(asyncio.run(awaited_loop([(clock.awaited_call, ())], seconds=0.02, now=clock))) == 20


def test_a_loop_goes_through_its_steps_again_and_again() -> None:
    heard: list[str] = []
    closed_loop([(heard.append, ("a",)), (heard.append, ("b",))], seconds=10.0, most=5)
    assert heard == ["a", "b", "a", "b", "a"]


def test_a_histogram_keeps_three_digits_and_a_curve_tells_no_more_than_the_calls_do() -> None:
    recorded = latencies.histogram([20_000] * 90 + [2_000_000] * 10)
    assert latencies.microseconds(recorded, 50) == pytest.approx(20, rel=1e-3)
    assert latencies.microseconds(recorded, 99) == pytest.approx(2_000, rel=1e-3)
    assert latencies.curve(recorded)[-1][0] == 99.0
