"""Routes: when a worker is believed to answer straight, when that is given up, and what then goes again."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from holdall import protocol
from holdall.bodies import Identity, Roster, RosterWorker, encode
from holdall.client.ask import Ask
from holdall.client.channel import RESEND_SECONDS, Channel, Waiting
from holdall.client.route import PROBE_SECONDS, STEADY_SECONDS, Route
from holdall.protocol import Reply
from holdall.slots import SLOT_SHIFT, slot_range

LAYOUT = b"the layout's id."
WORKERS = [RosterWorker(index, *slot_range(index, 2), [f"ipc:///worker-{index}"]) for index in range(2)]


def channel() -> Channel:
    line = Channel(b"s" * 16, Random(0))
    line.meet(Roster(LAYOUT, WORKERS), lambda worker: worker.addresses[0])
    return line


def send(line: Channel, worker: int, now: float = 0.0) -> Waiting:
    ask = Ask(protocol.PUT, WORKERS[worker].hash, "put", "Dict 'kv'")
    return line.send(ask, line.route_of_slot[ask.hash >> SLOT_SHIFT], now, 30.0)


def identity(route: Route, layout_id: bytes = LAYOUT, index: int = 0, now: float = 0.0, number: int | None = None) -> bytes:
    """What a worker answers to the probe of this route."""
    [probe] = route.probe(now)
    sequence = protocol.sequence_of(bytes(probe)) if number is None else number
    return bytes(protocol.pack_reply(Reply(protocol.OK, sequence, 0, encode(Identity(layout_id, index))))[0])


def direct(route: Route, now: float = 0.0, index: int = 0) -> Route:
    assert route.is_proved_by(identity(route, index=index, now=now), now)
    return route


def test_the_slots_of_each_worker_have_its_route() -> None:
    line = channel()
    for worker in WORKERS:
        routes = {line.route_of_slot[slot] for slot in range(worker.first_slot, worker.end_slot)}
        assert [route.address for route in routes] == worker.addresses


def test_before_the_workers_are_known_nothing_is_probed() -> None:
    assert Channel(b"s" * 16, Random(0)).route_of_slot[0].address is None


def test_a_route_is_direct_once_its_worker_has_answered_the_probe() -> None:
    route = channel().route_of_slot[0]
    assert not route.is_direct
    assert direct(route).is_direct


@pytest.mark.parametrize(
    "wrong",
    [
        lambda route: identity(route, layout_id=b"another service."),
        lambda route: identity(route, index=1),
        lambda route: identity(route, number=7),
        lambda route: identity(route)[:-1],
        lambda route: b"",
    ],
    ids=["another layout", "another worker", "an earlier probe's number", "cut short", "nothing"],
)
def test_nothing_else_makes_it_direct(wrong: object) -> None:
    route = channel().route_of_slot[0]
    assert callable(wrong)
    assert not route.is_proved_by(wrong(route), 0.0)
    assert not route.is_direct


def test_a_worker_that_does_not_answer_is_probed_ever_less_often() -> None:
    route = channel().route_of_slot[0]
    times = [route.probe_at]
    for _ in range(20):
        route.probe(times[-1])
        times.append(route.probe_at)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[0] <= PROBE_SECONDS[0] * 1.25
    assert all(PROBE_SECONDS[1] * 0.75 <= wait <= PROBE_SECONDS[1] * 1.25 for wait in waits[-5:])


@pytest.mark.parametrize("steady", [False, True])
def test_a_route_that_was_steady_is_probed_soon_after_it_was_lost(steady: bool) -> None:
    route = channel().route_of_slot[0]
    for _ in range(20):
        route.probe(0.0)
    direct(route)
    now = STEADY_SECONDS * 2 if steady else 0.0
    route.lose(now)
    assert not route.is_direct
    assert (route.probe_at - now < 0.1) == steady


def test_an_overdue_answer_gives_the_way_up_and_all_that_waits_for_this_worker_goes_again_in_order() -> None:
    line = channel()
    route = direct(line.route_of_slot[0])
    old, elsewhere, young = send(line, 0), send(line, 1, RESEND_SECONDS[0]), send(line, 0, RESEND_SECONDS[0])
    again, failed = line.overdue(RESEND_SECONDS[0] * 1.5)
    assert (again, failed) == ([old, young], [])
    assert not route.is_direct
    assert elsewhere.route is not route
    assert all(protocol.parse_request(bytes(waiting.frames[0])).flags & protocol.RETRY for waiting in again)


def test_an_overdue_answer_of_the_broker_sends_nothing_else_again() -> None:
    line = channel()
    old, _young = send(line, 0), send(line, 0, RESEND_SECONDS[0])
    assert line.overdue(RESEND_SECONDS[0] * 1.5) == ([old], [])


def test_when_a_route_becomes_direct_what_waits_for_its_worker_goes_there_too_in_order() -> None:
    line = channel()
    first, _elsewhere, second = send(line, 0), send(line, 1), send(line, 0)
    assert line.moved(direct(line.route_of_slot[0])) == [first, second]
    assert [protocol.parse_request(bytes(waiting.frames[0])).sequence for waiting in (first, second)] == [1, 3]
