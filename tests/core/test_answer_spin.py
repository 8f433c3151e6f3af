"""Whether a blocking call looks for its answer before it sleeps, and when it stops looking."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from holdall import processors, spin
from holdall.client.connection.lane import BlockingLane
from holdall.framing import pack
from holdall.spin import ANSWER_SPIN_SECONDS

MESSAGE = pack([b"an answer"])[0]
STEP_SECONDS = ANSWER_SPIN_SECONDS / 10


class Given:
    """Who has the processor when it is given away: `then` says what happens, given how often it was so far."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock
        self.times = 0
        self.began = clock.now
        self.told: Callable[[], object] = lambda: None
        self.then: Callable[[int], object] = lambda _times: None

    def monotonic(self) -> float:
        self.told()
        return float(self.clock.now)

    def __call__(self) -> None:
        self.times += 1
        self.clock.now += STEP_SECONDS
        self.then(self.times)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    clock = SimpleNamespace(now=1000.0)
    given = Given(clock)
    monkeypatch.setattr(processors, "can_give_way", lambda: True)
    monkeypatch.setattr(spin, "monotonic", given.monotonic)
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
    [received] = BlockingLane(near, 1.0).receive(wait=True)
    assert received.head == b"an answer"
    assert given.times == 3


def late(given: Given, far: socket.socket) -> None:
    """What comes is there only when the time for looking is over."""

    def told() -> None:
        if given.clock.now >= given.began + ANSWER_SPIN_SECONDS:
            given.told = lambda: None
            far.sendall(MESSAGE)

    given.told = told


def waited(given: Given, lane: BlockingLane) -> int:
    """How often the processor was given away during one wait for an answer."""
    before, given.began = given.times, given.clock.now
    assert len(lane.receive(wait=True)) == 1
    return given.times - before


def test_an_answer_that_does_not_come_soon_is_waited_for_asleep_and_after_two_of_them_all_are(given: Given, pair: Pair) -> None:
    near, far = pair
    lane = BlockingLane(near, 1.0)
    for _ in range(2):
        late(given, far)
        assert waited(given, lane) == pytest.approx(10, abs=1)
    far.sendall(MESSAGE)
    assert waited(given, lane) == 0


def test_an_answer_that_was_found_makes_up_for_one_that_came_late(given: Given, pair: Pair) -> None:
    near, far = pair
    lane = BlockingLane(near, 1.0)
    for _ in range(3):
        late(given, far)
        assert waited(given, lane) == pytest.approx(10, abs=1)
        far.sendall(MESSAGE)
        assert waited(given, lane) == 1


def test_one_that_sleeps_looks_again_once_an_answer_came_soon(given: Given, pair: Pair) -> None:
    near, far = pair
    lane = BlockingLane(near, 1.0)
    for _ in range(2):
        late(given, far)
        waited(given, lane)
    far.sendall(MESSAGE)
    assert waited(given, lane) == 0
    far.sendall(MESSAGE)
    assert waited(given, lane) == 1


def test_where_nobody_can_be_given_way_it_only_sleeps(given: Given, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = pair
    monkeypatch.setattr(processors, "can_give_way", lambda: False)
    far.sendall(MESSAGE)
    assert len(BlockingLane(near, 1.0).receive(wait=True)) == 1
    assert given.times == 0
