"""The broker's core: it relays by hash, holds what must wait within bounds, and believes nobody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import protocol
from holdall.bodies import Hello, Roster, RosterWorker, decode, encode
from holdall.broker.core import (
    HELD_SECONDS,
    PARKED_BYTES_MAX,
    PARKED_REQUESTS_MAX,
    PARKED_SECONDS,
    REFUSALS_MAX,
    RIVALS_MAX,
    ROUTE_BYTES_MAX,
    SILENT_SECONDS,
    Broker,
    Send,
)
from holdall.process.config import STUCK_SECONDS
from holdall.protocol import HEAD_BYTES_MAX, Reply, Request
from holdall.slots import SLOTS, part_hash, slot_of, slot_range
from holdall.sockets import FRAMES_MAX

LAYOUT = b"L" * 16
INSTANCE = b"instance"
ADDRESS = b"client" + INSTANCE
WORKERS = 2
FIRST, SECOND = 0, part_hash(SLOTS - 1, SLOTS)
"""A slot of each of the two workers."""


def request(slot: int = FIRST, sequence: int = 7, value: bytes = b"v", opcode: int = protocol.GET) -> list[Any]:
    head = Request(opcode, 0, slot, b"s" * 16, sequence, sequence, b"d" * 16, b"sk", value)
    return [b"client", *protocol.pack_request(head)]


def message(body: object, route: bytes = b"route 0") -> list[Any]:
    head = Request(protocol.HELLO, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", encode(body))
    return [route, b"", *protocol.pack_request(head)]


def worker(index: int) -> RosterWorker:
    return RosterWorker(index, *slot_range(index, WORKERS), [f"ipc:///worker-{index}"])


def hello(
    index: int = 0, route: bytes | None = None, layout: bytes = LAYOUT, handled: int = 0, instance: bytes = b"i" * 16
) -> list[Any]:
    body = Hello(layout, instance, WORKERS, worker(index), handled)
    return message(body, route or b"route %d" % index)


def registered(*indices: int) -> Broker:
    """A broker that knows these workers since the time 0."""
    broker = Broker(INSTANCE)
    for index in indices:
        broker.from_worker(hello(index), 0.0)
    return broker


def to_worker(frames: list[Any], route: bytes = b"route 0") -> Send:
    client, *rest = frames
    return Send(True, [route, client + INSTANCE, *rest])


def replies(sends: list[Send]) -> list[Reply]:
    """What the broker itself answers b"client"."""
    assert all(not send.to_worker and send.frames[0] == b"client" for send in sends)
    return [protocol.parse_reply(*send.frames[1:]) for send in sends]


def statuses(sends: list[Send]) -> list[tuple[int, int]]:
    return [(reply.status, reply.sequence) for reply in replies(sends)]


@given(st.integers(0, 2**32 - 1), st.sampled_from([b"", b"v", b"v" * (protocol.PAYLOAD_INLINE_BYTES_MAX + 1)]))
def test_a_request_goes_untouched_to_the_worker_of_its_hash(hash_: int, value: bytes) -> None:
    frames = request(hash_, value=value)
    route = b"route 0" if slot_of(hash_) < SLOTS // 2 else b"route 1"
    assert registered(0, 1).from_client(frames, 1.0) == [to_worker(frames, route)]


@pytest.mark.parametrize("payload", [[], [memoryview(b"payload")]])
def test_a_reply_goes_untouched_to_its_client(payload: list[Any]) -> None:
    rest = [b"anything", *payload]
    assert registered(0).from_worker([b"route 0", ADDRESS, *rest], 1.0) == [Send(False, [b"client", *rest])]


@pytest.mark.parametrize("address", [b"client", b"client" + b"another!", b"instanc", b"c"])
def test_a_reply_to_a_request_that_another_broker_relayed_is_dropped(address: bytes) -> None:
    broker = registered(0)
    assert broker.from_worker([b"route 0", address, b"anything"], 1.0) == []
    assert broker.counts["replies to another broker's clients dropped"] == 1


def test_a_request_for_a_worker_not_known_yet_waits_for_its_hello() -> None:
    broker, frames = registered(1), request()
    assert broker.from_client(frames, 1.0) == []
    assert broker.from_worker(hello(1), 1.5) == []
    assert broker.from_worker(hello(0), 2.0) == [to_worker(frames)]
    assert broker.from_worker(hello(0), 2.5) == []


def test_what_waited_is_sent_in_its_order_and_before_what_comes_later() -> None:
    broker = Broker(INSTANCE)
    both = [request(FIRST if sequence % 2 else SECOND, sequence) for sequence in range(10)]
    for frames in both:
        assert broker.from_client(frames, 1.0) == []
    assert broker.from_worker(hello(0), 2.0) == [to_worker(frames) for frames in both[1::2]]
    assert broker.from_client(request(FIRST, 11), 2.0) == [to_worker(request(FIRST, 11))]
    assert broker.from_worker(hello(1), 3.0) == [to_worker(frames, b"route 1") for frames in both[::2]]


def test_a_silent_worker_is_dropped_and_its_requests_wait_until_it_speaks_again() -> None:
    broker, frames = registered(0, 1), request()
    broker.check_workers(1.0)
    broker.from_worker(hello(1), SILENT_SECONDS)
    assert broker.check_workers(SILENT_SECONDS + 0.1) == [Send(True, [b"route 1", b"", b""])]
    assert broker.from_client(frames, 3.2) == []
    assert broker.from_client(request(SECOND), 3.2) == [to_worker(request(SECOND), b"route 1")]
    assert broker.from_worker(hello(0), 3.3) == [to_worker(frames)]
    assert broker.from_client(frames, 3.4) == [to_worker(frames)]


@pytest.mark.parametrize("sign_of_life", [hello(0), [b"route 0", b"client", b"reply"]])
def test_a_worker_that_says_anything_is_not_silent(sign_of_life: list[Any]) -> None:
    broker = registered(0)
    broker.from_worker(sign_of_life, SILENT_SECONDS)
    for seconds in range(1, int(2 * SILENT_SECONDS) + 1):
        broker.check_workers(seconds)
    assert broker.from_client(request(), 2 * SILENT_SECONDS) == [to_worker(request())]
    broker.check_workers(2 * SILENT_SECONDS + 0.1)
    assert broker.from_client(request(), 2 * SILENT_SECONDS + 0.1) == []


def test_a_broker_that_was_stopped_itself_takes_nobody_for_silent() -> None:
    broker = registered(0)
    broker.check_workers(1.0)
    broker.check_workers(1.0 + 2 * STUCK_SECONDS)
    assert not broker.stuck
    assert broker.from_client(request(), 2 * STUCK_SECONDS) == [to_worker(request())]


def test_a_head_that_no_worker_takes_is_malformed() -> None:
    frames = [b"client", request()[1] + bytes(HEAD_BYTES_MAX)]
    assert statuses(registered(0).from_client(frames, 1.0)) == [(protocol.MALFORMED, 7)]


def test_a_worker_that_cannot_be_reached_is_dropped_and_the_request_waits_for_it() -> None:
    broker = registered(0)
    [send] = broker.from_client(request(sequence=1), 1.0)
    assert broker.unreachable(send.frames, 1.0) == []
    assert broker.from_client(request(sequence=2), 1.1) == []
    assert broker.from_worker(hello(0), 1.5) == [to_worker(request(sequence=1)), to_worker(request(sequence=2))]


def test_a_restarted_worker_takes_over_with_its_new_route() -> None:
    broker = registered(0, 1)
    [send] = broker.from_client(request(sequence=1), 1.0)
    broker.unreachable(send.frames, 1.0)
    assert broker.from_worker(hello(0, b"new route"), 2.0) == [to_worker(request(sequence=1), b"new route")]
    assert broker.from_client(request(), 2.1) == [to_worker(request(), b"new route")]
    assert broker.from_client(request(SECOND), 2.1) == [to_worker(request(SECOND), b"route 1")]


def test_a_reply_of_a_worker_that_was_replaced_is_dropped_and_counted() -> None:
    broker = registered(0)
    broker.from_worker(hello(0, b"new route"), 1.0)
    assert broker.from_worker([b"route 0", b"client", b"reply"], 1.1) == []
    assert broker.counts == {"replies of strangers dropped": 1}


def test_a_strangers_reply_is_dropped_and_counted() -> None:
    broker = registered(0)
    assert broker.from_worker([b"stranger", b"client", b"reply"], 1.0) == []
    assert broker.counts == {"replies of strangers dropped": 1}


def test_a_worker_of_another_layout_is_refused_and_counted() -> None:
    broker = registered(0)
    assert broker.from_worker(hello(0, b"other", b"M" * 16), 1.0) == []
    assert broker.from_worker(hello(1, b"other", b"M" * 16), 1.0) == []
    assert broker.counts == {"workers of another layout refused": 2}
    assert broker.from_client(request(FIRST), 1.0) == [to_worker(request(FIRST))]
    assert broker.from_client(request(SECOND), 1.0) == []


IMPOSSIBLE = {
    "no slot": Hello(LAYOUT, b"", WORKERS, RosterWorker(0, 5, 5, []), 0),
    "slots backwards": Hello(LAYOUT, b"", WORKERS, RosterWorker(0, 512, 0, []), 0),
    "a slot below 0": Hello(LAYOUT, b"", WORKERS, RosterWorker(0, -1, 512, []), 0),
    "a slot too many": Hello(LAYOUT, b"", WORKERS, RosterWorker(0, 0, SLOTS + 1, []), 0),
    "no workers": Hello(LAYOUT, b"", 0, worker(0), 0),
    "too many workers": Hello(LAYOUT, b"", SLOTS + 1, worker(0), 0),
    "no HELLO": [LAYOUT, 1],
    "nothing": None,
}


@pytest.mark.parametrize("body", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_hello_is_refused_and_counted(body: object) -> None:
    broker = Broker(INSTANCE)
    assert broker.from_client(request(), 1.0) == []
    assert broker.from_worker(message(body), 1.0) == []
    assert broker.counts == {"malformed": 1}
    assert broker.from_worker(hello(0), 2.0) == [to_worker(request())]


def test_a_flood_of_impossible_hellos_leaves_one_line_a_minute_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broker = registered()
    for step in range(1000):
        broker.from_worker([b"stranger", b"", b"garbage"], 1.0 + step * 0.1)
    assert len([record for record in caplog.records if "was refused" in record.message]) == 2
    assert broker.counts["malformed"] == 1000


@pytest.mark.parametrize("claim", [RosterWorker(0, 0, SLOTS, []), RosterWorker(2, 0, 512, []), RosterWorker(-1, 0, 512, [])])
def test_a_worker_with_an_index_or_slots_that_are_not_in_the_layout_is_refused(claim: RosterWorker) -> None:
    broker = registered(1)
    broker.from_worker(message(Hello(LAYOUT, b"", WORKERS, claim, 0), b"intruder"), 1.0)
    assert broker.from_client(request(SECOND), 1.0) == [to_worker(request(SECOND), b"route 1")]
    assert broker.from_client(request(opcode=protocol.ROSTER), 1.0) == []


@pytest.mark.parametrize("head", [b"", b"\1", request()[1][: protocol.REQUEST.size - 1]])
def test_a_request_that_is_too_short_is_answered_as_malformed(head: bytes) -> None:
    broker = registered(0)
    assert statuses(broker.from_client([b"client", head], 1.0)) == [(protocol.MALFORMED, 0)]
    assert broker.counts == {"refused": 1}


@pytest.mark.parametrize("extra", range(2, FRAMES_MAX))
def test_a_request_of_too_many_frames_is_answered_as_malformed(extra: int) -> None:
    frames = [*request(sequence=5)[:2], *[memoryview(b"x")] * extra]
    assert statuses(registered(0).from_client(frames, 1.0)) == [(protocol.MALFORMED, 5)]


def test_a_message_without_a_request_is_answered_as_malformed() -> None:
    assert statuses(registered(0).from_client([b"client"], 1.0)) == [(protocol.MALFORMED, 0)]


@pytest.mark.parametrize("count", [1, 2, 5, FRAMES_MAX])
@pytest.mark.parametrize("second", [b"", b"client"])
def test_a_workers_message_of_a_wrong_number_of_frames_is_dropped_and_counted(second: bytes, count: int) -> None:
    broker = registered(0)
    assert broker.from_worker([b"route 0", second, *[b"x"] * count][:count], 1.0) == []
    assert broker.counts == {"malformed": 1}


def test_beyond_so_many_waiting_requests_one_more_is_refused_until_they_have_left() -> None:
    broker = Broker(INSTANCE)
    for _ in range(PARKED_REQUESTS_MAX):
        assert broker.from_client(request(), 1.0) == []
    assert statuses(broker.from_client(request(sequence=9), 1.0)) == [(protocol.UNAVAILABLE, 9)]
    assert len(broker.from_worker(hello(0), 2.0)) == PARKED_REQUESTS_MAX
    assert broker.from_client(request(SECOND), 2.0) == []


@pytest.mark.parametrize("leave", ["sent", "refused"])
def test_beyond_so_many_waiting_bytes_one_more_is_refused_until_they_have_left(leave: str) -> None:
    broker, half = Broker(INSTANCE), bytes(PARKED_BYTES_MAX // 2)
    assert broker.from_client(request(value=half[:-1000]), 1.0) == []
    assert broker.from_client(request(value=half), 1.0) == []
    assert statuses(broker.from_client(request(sequence=9, value=half), 1.0)) == [(protocol.UNAVAILABLE, 9)]
    assert broker.from_client(request(sequence=10), 1.0) == []
    if leave == "sent":
        assert len(broker.from_worker(hello(0), 2.0)) == 3
    else:
        assert len(broker.check_workers(2.0 + PARKED_SECONDS)) == 3
    assert broker.from_client(request(SECOND, value=half), 3.0) == []


def test_what_still_waits_when_others_leave_still_counts() -> None:
    broker, half = Broker(INSTANCE), bytes(PARKED_BYTES_MAX // 2 - 1000)
    for slot in (FIRST, SECOND):
        assert broker.from_client(request(slot, value=half), 1.0) == []
    assert len(broker.from_worker(hello(0), 2.0)) == 1
    assert broker.from_client(request(SECOND, value=half), 2.0) == []
    assert statuses(broker.from_client(request(SECOND, value=half), 2.0)) == [(protocol.UNAVAILABLE, 7)]


def test_what_has_waited_too_long_is_refused_and_never_sent() -> None:
    broker = Broker(INSTANCE)
    for sequence in range(3):
        broker.from_client(request(sequence=sequence), float(sequence))
    assert broker.check_workers(PARKED_SECONDS) == []
    expired = broker.check_workers(PARKED_SECONDS + 1.5)
    assert statuses(expired) == [(protocol.UNAVAILABLE, 0), (protocol.UNAVAILABLE, 1)]
    assert b"did not come back" in bytes(replies(expired)[0].payload)
    assert broker.from_worker(hello(0), PARKED_SECONDS + 1.5) == [to_worker(request(sequence=2))]


def test_the_roster_waits_until_all_workers_are_known() -> None:
    broker, ask = Broker(INSTANCE), request(opcode=protocol.ROSTER)
    assert broker.from_client(ask, 1.0) == []
    assert broker.from_worker(hello(1), 1.1) == []
    assert broker.from_client(ask, 1.2) == []
    answers = replies(broker.from_worker(hello(0), 1.3))
    assert [decode(Roster, answer.payload) for answer in answers] == [Roster(LAYOUT, [worker(0), worker(1)])] * 2
    assert [(answer.status, answer.sequence) for answer in answers] == [(protocol.OK, 7)] * 2


def test_the_roster_names_a_worker_that_is_away() -> None:
    broker = registered(0, 1)
    broker.check_workers(SILENT_SECONDS + 1)
    [answer] = replies(broker.from_client(request(opcode=protocol.ROSTER), 5.0))
    assert decode(Roster, answer.payload).workers == [worker(0), worker(1)]


def test_a_roster_asked_for_in_vain_is_refused_in_the_end() -> None:
    broker = registered(0)
    broker.from_client(request(opcode=protocol.ROSTER), 1.0)
    _ping, *refused = broker.check_workers(PARKED_SECONDS + 2)
    assert statuses(refused) == [(protocol.UNAVAILABLE, 7)]


def test_a_worker_whose_connection_has_ended_is_found_within_half_a_second() -> None:
    broker = registered(0, 1)
    pings = broker.check_workers(0.5)
    assert pings == [Send(True, [b"route 0", b"", b""]), Send(True, [b"route 1", b"", b""])]
    assert broker.unreachable(pings[0].frames, 0.5) == []
    assert broker.from_client(request(FIRST, 1), 0.6) == []
    assert broker.from_client(request(SECOND, 2), 0.6) == [to_worker(request(SECOND, 2), b"route 1")]
    assert broker.from_worker(hello(0, b"new route"), 0.7) == [to_worker(request(FIRST, 1), b"new route")]


def test_a_peer_whose_name_is_longer_than_zeromq_allows_is_not_listened_to() -> None:
    broker, name = registered(0), b"n" * (ROUTE_BYTES_MAX + 1)
    assert broker.from_client([name, *request()[1:]], 1.0) == []
    assert broker.from_worker(hello(1, name), 1.0) == []
    assert broker.from_client(request(opcode=protocol.ROSTER), 1.0) == []
    assert broker.counts["malformed"] == 2


def test_only_requests_count_as_use() -> None:
    broker = registered(0)
    broker.from_client(request(), 1.0)
    broker.from_worker([b"route 0", ADDRESS, b"reply"], 2.0)
    broker.from_worker(hello(0), 3.0)
    broker.from_worker(hello(0, b"new route"), 4.0)
    broker.check_workers(5.0)
    assert broker.used_at == 1.0
    broker.from_client(request(opcode=protocol.ROSTER), 6.0)
    assert broker.used_at == 6.0


def test_requests_that_reach_a_worker_directly_count_as_use() -> None:
    broker = registered(0)
    broker.from_worker(hello(0, handled=1), 2.0)
    broker.from_worker(hello(0, handled=1), 3.0)
    assert broker.used_at == 2.0


class Service:
    """A broker and workers that may be gone without its knowing; what each of them was sent, and what was refused."""

    def __init__(self) -> None:
        self.broker = registered(0, 1)
        self.now = 0.0
        self.routes = [b"route 0", b"route 1"]
        self.gone: set[int] = set()
        self.sent: list[list[int]] = [[], []]
        self.refused: list[int] = []

    def carry_out(self, sends: list[Send]) -> None:
        for send in sends:
            if not send.to_worker:
                self.refused += [reply.sequence for reply in replies([send])]
                continue
            if not send.frames[1]:  # the broker looks who is there
                index = self.routes.index(send.frames[0]) if send.frames[0] in self.routes else None
                if index is None or index in self.gone:
                    self.carry_out(self.broker.unreachable(send.frames, self.now))
                continue
            index = int(slot_of(protocol.routing_hash(send.frames[2])) >= SLOTS // 2)
            if index in self.gone or send.frames[0] != self.routes[index]:
                self.carry_out(self.broker.unreachable(send.frames, self.now))
            else:
                self.sent[index].append(protocol.sequence_of(send.frames[2]))

    def request(self, index: int, number: int) -> None:
        self.carry_out(self.broker.from_client(request((FIRST, SECOND)[index], number), self.now))

    def leave(self, index: int, number: int) -> None:
        self.gone.add(index)

    def hello(self, index: int, number: int) -> None:
        self.gone.discard(index)
        self.carry_out(self.broker.from_worker(hello(index, self.routes[index]), self.now))

    def restart(self, index: int, number: int) -> None:
        self.routes[index] = b"start %d" % number
        self.hello(index, number)

    def silence(self, index: int, number: int) -> None:
        self.now += SILENT_SECONDS * 1.1
        self.carry_out(self.broker.check_workers(self.now))


events = st.tuples(st.sampled_from(["request", "request", "leave", "hello", "restart", "silence"]), st.integers(0, 1))


@given(st.lists(events, max_size=40))
def test_a_request_reaches_its_worker_once_and_in_order_or_is_refused_however_workers_come_and_go(
    happened: list[tuple[str, int]],
) -> None:
    service = Service()
    for number, (event, index) in enumerate(happened):
        getattr(service, event)(index, number)
    for index in (0, 1):
        service.hello(index, len(happened))
        asked = [number for number, each in enumerate(happened) if each == ("request", index)]
        assert service.sent[index] == [number for number in asked if number not in service.refused]


numbers = st.integers(-1, SLOTS + 1)
hellos = st.builds(
    lambda *fields: message(Hello(*fields), b"some route")[2],
    st.sampled_from([LAYOUT, b"", b"M" * 16]),
    st.just(b""),
    numbers,
    st.builds(RosterWorker, numbers, numbers, numbers, st.just([])),
    st.integers(0, 3),
)
heads = st.one_of(
    st.binary(max_size=80),
    st.binary(min_size=protocol.REQUEST.size, max_size=80),
    st.sampled_from([request()[1], request(opcode=protocol.ROSTER)[1], b""]),
    hellos,
)
routes = st.sampled_from([b"client", b"route 0", b"route 1", b"other"])
messages = st.builds(lambda route, rest: [route, *rest], routes, st.lists(heads | st.just(b""), max_size=4))


@given(st.lists(st.tuples(st.sampled_from(["from_client", "from_worker", "check_workers"]), messages), max_size=10))
def test_arbitrary_messages_never_raise_and_the_broker_goes_on(arrived: list[tuple[str, list[bytes]]]) -> None:
    broker, now = registered(0), 0.0
    for method, frames in arrived:
        now += 1.0
        sends = broker.check_workers(now) if method == "check_workers" else getattr(broker, method)(frames, now)
        assert all(send.frames[0] for send in sends if send.to_worker)
    for index in (0, 1):
        broker.from_worker(hello(index, b"fresh %d" % index), now)
    assert broker.from_client(request(SECOND), now) == [to_worker(request(SECOND), b"fresh 1")]
    assert broker.from_client(request(FIRST), now) == [to_worker(request(FIRST), b"fresh 0")]


def test_what_a_worker_has_no_room_for_is_held_in_order_and_tried_again() -> None:
    broker = registered(0, 1)
    sends = [broker.from_client(request(FIRST, sequence), 0.0)[0] for sequence in (1, 2, 3)]
    assert not broker.is_holding
    for send in sends:
        broker.hold(send.frames, 0.0)
    assert (broker.holds(b"route 0"), broker.holds(b"route 1"), broker.is_holding) == (True, False, True)
    assert broker.due <= HELD_SECONDS
    assert broker.try_held(0.0) == sends
    assert not broker.is_holding


def test_what_is_held_for_a_worker_that_is_gone_is_parked_and_goes_to_its_successor() -> None:
    broker = registered(0, 1)
    [send] = broker.from_client(request(FIRST), 0.0)
    broker.hold(send.frames, 0.0)
    for now in (0.0, SILENT_SECONDS - 1, SILENT_SECONDS + 0.1):
        broker.check_workers(now)
    assert broker.try_held(SILENT_SECONDS + 0.1) == []
    assert broker.from_worker(hello(0, b"successor"), SILENT_SECONDS + 2) == [to_worker(request(FIRST), b"successor")]


def test_a_broker_that_nobody_uses_is_idle_after_its_time() -> None:
    broker = Broker(INSTANCE, idle_seconds=5.0, now=10.0)
    assert (broker.is_idle(14.9), broker.is_idle(15.1)) == (False, True)
    broker.from_client(request(), 15.0)
    assert not broker.is_idle(19.9)
    assert not registered(0).is_idle(1e9)


LOOK = Send(True, [b"route 0", b"", b""])
"""Is worker 0 still connected?"""


def rival(number: int = 0, index: int = 0) -> list[Any]:
    return hello(index, b"rival %d" % number, instance=b"rival of instance %d" % number)


def refused(sends: list[Send]) -> list[bytes]:
    """The routes of those that are told to leave the part to its worker, and nothing else is sent."""
    routes: list[bytes] = []
    for to_worker_, (route, address, head) in sends:
        reply = protocol.parse_reply(head)
        assert (to_worker_, address, reply.status) == (True, b"", protocol.INVALID)
        assert b"a second process says that it is worker 0" in bytes(reply.payload)
        routes.append(route)
    return routes


def test_a_second_process_that_says_hello_for_a_part_is_refused_loudly_and_answers_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = registered(0, 1)
    assert broker.from_worker(rival(), 1.0) == [LOOK]
    for number in range(REFUSALS_MAX):
        broker.from_worker(hello(0), 1.0 + number)
        assert refused(broker.from_worker(rival(), 1.5 + number)) == [b"rival 0"]
        assert broker.from_client(request(), 1.5 + number) == [to_worker(request())]
        assert broker.from_worker([b"rival 0", ADDRESS, b"forged"], 1.5 + number) == []
    assert broker.from_worker(rival(), 9.0) == []
    assert [each.levelname for each in caplog.records if "second process" in each.message] == ["ERROR"]


def test_a_worker_that_was_killed_and_started_again_has_its_part_at_its_first_hello() -> None:
    broker = registered(0, 1)
    assert broker.from_worker(rival(), 1.0) == [LOOK]
    assert broker.unreachable(LOOK.frames, 1.0) == []
    assert broker.from_client(request(), 1.0) == [to_worker(request(), b"rival 0")]
    assert broker.from_worker([b"route 0", ADDRESS, b"late"], 1.0) == []
    assert broker.from_worker(hello(0), 1.1) == [Send(True, [b"rival 0", b"", b""])]
    assert refused(broker.from_worker(hello(0), 1.6)) == [b"route 0"]


def test_what_is_parked_for_a_worker_that_was_killed_goes_to_its_successor_in_order() -> None:
    broker = registered(0, 1)
    broker.from_worker(rival(), 1.0)
    sent = to_worker(request(sequence=1))
    assert broker.unreachable(sent.frames, 1.0) == [to_worker(request(sequence=1), b"rival 0")]


@pytest.mark.parametrize("silence", ["it is silent", "it cannot be reached"])
def test_a_part_whose_worker_is_away_is_anybodys(silence: str) -> None:
    broker = registered(0, 1)
    if silence == "it is silent":
        for tenth in range(1, int(SILENT_SECONDS * 10) + 2):
            broker.check_workers(tenth / 10)
    else:
        broker.unreachable(LOOK.frames, 4.0)
    broker.from_worker(hello(1), 4.0)
    assert broker.from_worker(rival(), 4.0) == []
    assert broker.from_client(request(), 4.0) == [to_worker(request(), b"rival 0")]


def test_a_worker_that_connects_again_is_no_second_process() -> None:
    broker = registered(0, 1)
    assert broker.from_worker(hello(0, b"new route"), 1.0) == []
    assert broker.from_client(request(), 1.0) == [to_worker(request(), b"new route")]


def test_a_flood_of_second_processes_is_neither_answered_nor_logged_without_end(caplog: pytest.LogCaptureFixture) -> None:
    broker = registered(0, 1)
    sends: list[Send] = []
    for turn in range(REFUSALS_MAX + 10):
        for number in range(1_000):
            sends += broker.from_worker(rival(number), 1.0 + turn / 100)
    assert len(sends) == RIVALS_MAX * (1 + REFUSALS_MAX)
    assert len(caplog.records) == RIVALS_MAX
    assert broker.from_client(request(), 2.0) == [to_worker(request())]
