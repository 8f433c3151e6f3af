"""The blocking driver over scripted transports: what leaves by which way, and when a call ends."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from holdall import protocol
from holdall.bodies import Identity, Roster, RosterWorker, decode, encode
from holdall.client.connection import blocking, driver
from holdall.client.connection.blocking import BlockingDriver
from holdall.client.connection.query import Operation, Queries, Query
from holdall.client.connection.session import Session
from holdall.errors import TimeoutError
from holdall.framing import Received
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS

LAYOUT = b"the layout's id."
TIMEOUT = 5.0
WAIT_SECONDS = 0.1
"""How much time a transport lets pass while it waits."""


class Script:
    """A transport that notes the requests that it is given, and answers what `answer` makes of each."""

    def __init__(self, clock: Any) -> None:
        self.is_broken = False
        self.clock = clock
        self.sent: list[Request] = []
        self.answer: Any = lambda request: [Reply(protocol.OK, request.sequence, 1, b"%d" % request.sequence)]
        self.takes = True
        self.connections = 0
        self.inbox: deque[Received] = deque()
        self.when_waited_for: Callable[[], object] = lambda: None

    def send(self, message: list[Any]) -> bool:
        if not self.takes:
            return False
        request = protocol.parse_request(bytes(message[0]))
        heads = decode(list[bytes], request.value) if request.opcode == protocol.BATCH else [bytes(message[0])]
        for head in heads:
            self.sent.append(protocol.parse_request(head))
            self.inbox += [Received(bytes(protocol.pack_reply(reply)[0])) for reply in self.answer(self.sent[-1])]
        return True

    def receive(self, *, wait: bool) -> list[Received]:
        if wait:
            self.when_waited_for()
            self.clock.now += WAIT_SECONDS
        return [self.inbox.popleft()] if self.inbox else []

    def has_come_back(self) -> bool:
        come, self.connections = self.connections, 0
        return bool(come)

    is_refused = False
    trouble = ""
    due = math.inf

    def fileno(self) -> int:
        return -1

    def monitor_fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.is_broken = True

    def numbers(self) -> list[tuple[int, bool]]:
        """Of the requests that were sent, and whether each said that it is sent again."""
        return [(each.sequence, bool(each.flags & protocol.RETRY)) for each in self.sent if each.opcode != protocol.PROBE]


class Connected:
    """A connector to one worker, and a driver that uses it."""

    def __init__(self, clock: Any, *, has_lane: bool) -> None:
        self.clock = clock
        self.url = "ipc:///scripted"
        self.is_local = False
        self.layout = ""
        self.is_known = True
        self.reads_only = False
        self.broker, self.lane = Script(clock), Script(clock)
        worker = RosterWorker(0, 0, SLOTS, ["ipc:///lane"])
        self.lane.answer = lambda request: (
            [Reply(protocol.OK, request.sequence, 0, encode(Identity(LAYOUT, 0)))] if request.opcode == protocol.PROBE else []
        )
        self._has_lane = has_lane
        self.driver = BlockingDriver(self, Session(b"s" * 16, Random(1)), TIMEOUT)
        self.driver.meet(Roster(LAYOUT, [worker]))

    def open_broker(self, wait_seconds: float = 0.0) -> Script:
        return self.broker

    def lane_address(self, worker: RosterWorker) -> str | None:
        return worker.addresses[0] if self._has_lane else None

    def open_lane(self, address: str, wait_seconds: float) -> Script:
        return self.lane

    def open_awaiting_lane(self, address: str, loop: object) -> None:
        raise AssertionError("nothing awaits here")

    def revive(self) -> None:
        pass

    def looks(self) -> Iterator[float]:
        yield from ()

    def finds_service(self) -> bool:
        return False

    close = forget_closed = inherit = revive

    def run(self, operation: Operation[Any]) -> Any:
        return self.driver.run(operation, TIMEOUT, self.clock.now + TIMEOUT)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = SimpleNamespace(now=1000.0)
    for module in (blocking, driver):
        monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    return clock


def query(**more: Any) -> Query:
    return Query(protocol.GET, 0, "get", "Dict 'kv'", key=b"sk", shown_key="k", **more)


def one(**more: Any) -> Operation[Any]:
    return (yield query(**more))


def several(count: int, **more: Any) -> Operation[Any]:
    return (yield Queries([query() for _ in range(count)], **more))


def test_an_operation_is_sent_the_replies_in_the_order_of_its_requests(clock: Any) -> None:
    connected = Connected(clock, has_lane=False)
    assert connected.run(one()).payload == b"1"
    assert [reply.payload for reply in connected.run(several(3))] == [b"2", b"3", b"4"]


def test_of_many_requests_no_more_than_the_window_are_on_their_way(clock: Any) -> None:
    connected = Connected(clock, has_lane=False)
    taken: list[Any] = []
    on_their_way: list[int] = []

    def take(reply: Reply) -> None:
        on_their_way.append(len(connected.broker.sent) - len(taken))
        taken.append(reply.payload)

    assert connected.run(several(6, window=2, take=take)) == []
    assert taken == [b"%d" % number for number in range(1, 7)]
    assert max(on_their_way) == 2


def test_a_request_that_wants_no_reply_is_sent_and_not_waited_for(clock: Any) -> None:
    connected = Connected(clock, has_lane=False)
    connected.broker.answer = lambda request: []
    assert connected.run(one(wants_reply=False)) is None
    assert connected.broker.numbers() == [(1, False)]
    assert clock.now == 1000.0


def test_a_lane_is_used_once_its_worker_has_answered_the_probe_and_left_when_it_takes_nothing(clock: Any) -> None:
    connected = Connected(clock, has_lane=True)
    connected.run(one())
    assert [each.opcode for each in connected.lane.sent] == [protocol.PROBE]
    identify = connected.lane.answer
    connected.lane.answer = lambda request: identify(request) or [Reply(protocol.OK, request.sequence, 1, b"by lane")]
    assert connected.run(one()).payload == b"by lane"
    connected.lane.takes = False
    assert connected.run(one()).payload == b"3"
    assert connected.broker.numbers() == [(1, False), (3, True)]


def test_what_waits_on_a_lane_that_ends_goes_through_the_broker_in_order(clock: Any) -> None:
    connected = Connected(clock, has_lane=True)
    connected.run(one())
    connected.lane.when_waited_for = connected.lane.close
    assert [reply.payload for reply in connected.run(several(3))] == [b"2", b"3", b"4"]
    assert connected.broker.numbers() == [(1, False), (2, True), (3, True), (4, True)]


def test_what_waits_at_the_broker_goes_again_when_there_is_another_connection(clock: Any) -> None:
    connected = Connected(clock, has_lane=False)
    connected.broker.answer = lambda request: (
        [Reply(protocol.OK, request.sequence, 1, b"")] if request.flags & protocol.RETRY else []
    )
    connected.broker.connections = 1
    connected.run(several(2))
    assert connected.broker.numbers() == [(1, False), (2, False), (1, True), (2, True)]
    assert clock.now < 1000.0 + 0.5  # sooner than they would be overdue


def test_a_call_ends_in_time_although_answers_to_others_keep_coming(clock: Any) -> None:
    connected = Connected(clock, has_lane=False)
    connected.broker.answer = lambda request: [Reply(protocol.OK, 1_000_000, 1, b"")] * 1000
    with pytest.raises(TimeoutError, match="no answer"):
        connected.run(one())
    assert clock.now <= 1000.0 + TIMEOUT + 2 * WAIT_SECONDS


def test_a_call_that_is_interrupted_leaves_nothing_behind(clock: Any) -> None:
    connected = Connected(clock, has_lane=False)

    def interrupted() -> None:
        raise KeyboardInterrupt

    connected.broker.when_waited_for = interrupted
    with pytest.raises(KeyboardInterrupt):
        connected.run(several(2))
    connected.broker.when_waited_for = lambda: None
    assert connected.run(one()).payload == b"3"  # and not the answer to an earlier one
    assert connected.broker.sent[-1].lowest == 3


def test_each_part_of_a_large_value_has_the_whole_time_of_a_call(clock: Any) -> None:
    connected = Connected(clock, has_lane=False)

    def parts() -> Operation[str]:
        for _ in range(3):
            yield Queries(work=lambda: setattr(clock, "now", clock.now + TIMEOUT - 1), transfers=True)
            yield Queries([query()], transfers=True)
        yield query()
        return "done"

    assert connected.run(parts()) == "done"
    assert clock.now > 1000.0 + 2 * TIMEOUT
