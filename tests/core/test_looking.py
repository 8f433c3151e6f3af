"""Whether a blocking call looks for its answer before it sleeps, and when it stops looking."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from holdall import processors
from holdall.client import lane as lanes
from holdall.client.lane import Lane
from holdall.client.looking import LOOK_SECONDS, REST_SECONDS, REST_SECONDS_MAX, TAKEN_SECONDS, Looking
from holdall.framing import pack

BRIEF = LOOK_SECONDS / 2
MESSAGE = pack([b"an answer"])[0]


def rests_for(looking: Looking, now: float) -> float:
    """How long after this it sleeps, though answers come soon; to a tenth."""
    seconds = 0.0
    while True:
        looking.has_slept(now + seconds - BRIEF, now + seconds)
        if looking.looks:
            return seconds
        seconds += REST_SECONDS / 10


def test_who_has_slept_for_long_twice_sleeps_and_who_was_woken_soon_looks() -> None:
    looking = Looking()
    looks = [looking.looks]
    for seconds in (1.0, 1.0, 1.0, BRIEF, 1.0, BRIEF, 1.0, 1.0):
        looking.has_slept(1000.0, 1000.0 + seconds)
        looks.append(looking.looks)
    assert looks == [True, True, False, False, True, True, True, True, False]


def test_who_loses_the_processor_rests_and_longer_each_time_it_is_soon_lost_again() -> None:
    looking, now = Looking(), 1000.0
    rests: list[float] = []
    for _ in range(7):
        looking.was_taken(now)
        rests.append(rests_for(looking, now))
        now += rests[-1] + REST_SECONDS / 5
    factors = [after / before for before, after in itertools.pairwise(rests)]
    assert factors[:3] == pytest.approx([4, 4, 4], rel=0.1)
    assert rests[-1] == pytest.approx(REST_SECONDS_MAX, abs=REST_SECONDS)
    now += 2 * REST_SECONDS_MAX
    looking.was_taken(now)
    assert rests_for(looking, now) == pytest.approx(REST_SECONDS, rel=0.2)


class Given:
    """Who has the processor when it is given away: `then` says what happens, given how often it was so far."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock
        self.times = 0
        self.then: Callable[[int], object] = lambda _times: None

    def __call__(self) -> None:
        self.times += 1
        self.clock.now += TAKEN_SECONDS / 100
        self.then(self.times)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    clock = SimpleNamespace(now=1000.0)
    given = Given(clock)
    monkeypatch.setattr(processors, "can_give_way", lambda: True)
    monkeypatch.setattr(lanes, "monotonic", lambda: clock.now)
    monkeypatch.setattr(os, "sched_yield", given)
    return given


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def test_an_answer_that_comes_while_it_looks_is_found(given: Given, pair: Pair) -> None:
    near, far = pair
    given.then = lambda times: far.sendall(MESSAGE) if times == 3 else None
    [received] = Lane(near, 1.0).receive(wait=True)
    assert received.head == b"an answer"
    assert given.times == 3


def test_what_does_not_come_soon_is_waited_for_asleep_and_after_two_of_them_all_are(given: Given, pair: Pair) -> None:
    near, _far = pair
    lane, looked = Lane(near, 0.001), [0]
    for _ in range(3):
        assert lane.receive(wait=True) == []
        lane._looking.has_slept(1000.0, 1001.0)  # type: ignore[union-attr]
        looked.append(given.times)
    assert 0 < looked[1] < looked[2] == looked[3]
    assert looked[1] == pytest.approx(LOOK_SECONDS / (TAKEN_SECONDS / 100), abs=1)


def test_an_answer_that_was_found_makes_up_for_one_that_came_late(given: Given, pair: Pair) -> None:
    near, far = pair
    lane = Lane(near, 1.0)
    for _ in range(3):
        far.sendall(MESSAGE)
        looked = given.times
        assert len(lane.receive(wait=True)) == 1
        assert given.times == looked + 1
        lane._looking.has_slept(1000.0, 1001.0)  # type: ignore[union-attr]


def test_who_loses_the_processor_while_it_looks_sleeps_for_the_answer(given: Given, pair: Pair) -> None:
    near, far = pair

    def taken(_times: int) -> None:
        far.sendall(MESSAGE)
        given.clock.now += 2 * TAKEN_SECONDS

    given.then = taken
    lane = Lane(near, 1.0)
    for _ in range(2):
        assert len(lane.receive(wait=True)) == 1
        assert given.times == 1
        far.sendall(MESSAGE)


def test_where_nobody_can_be_given_way_it_only_sleeps(given: Given, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = pair
    monkeypatch.setattr(processors, "can_give_way", lambda: False)
    far.sendall(MESSAGE)
    assert len(Lane(near, 1.0).receive(wait=True)) == 1
    assert given.times == 0
