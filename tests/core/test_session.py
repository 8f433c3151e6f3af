"""A session: which answer belongs to which request, what goes again and when, and what an error says."""

from __future__ import annotations

import builtins
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdall import protocol
from holdall.bodies import decode, encode
from holdall.client.connection.query import Query
from holdall.client.connection.session import (
    BATCH_BYTES_MAX,
    BATCH_REQUESTS_MAX,
    RESEND_BYTES_PER_SECOND,
    RESEND_SECONDS,
    Pending,
    Session,
)
from holdall.errors import ConnectionError, OutcomeUnknown, TimeoutError
from holdall.framing import Received
from holdall.protocol import PAYLOAD_INLINE_BYTES_MAX, Buffer, Reply, Request

ID = b"s" * 16
DICT = b"d" * 16
URL = "tcp://localhost:4255"
DEADLINE = 30.0
MOMENT = 1e-6


def new_session(seed: int = 0) -> Session:
    return Session(ID, Random(seed))


def query(opcode: int = protocol.GET, value: Buffer = b"", verb: str = "get", key: object = "k", hash_: int = 5) -> Query:
    return Query(
        opcode, hash_, verb, "Dict 'kv'", dict_id=DICT, key=b"sk", value=value, flags=protocol.SKIP_IF_EXISTS, shown_key=key
    )


def send(session: Session, count: int = 1) -> list[Pending]:
    sent = [session.ask(query(), 0.0, DEADLINE) for _ in range(count)]
    session.outgoing()
    return sent


def outgoing(session: Session) -> list[list[Buffer]]:
    """All messages that are to be sent, which are for one worker."""
    [(_link, messages)] = session.outgoing()
    return messages


def receive(session: Session, head: bytes, payload: Any = None) -> list[tuple[Pending, Reply]]:
    """The requests that a message from the broker answers, and their replies."""
    answered = session.receive(None, Received(head, payload), 0.0)
    return [(pending, pending.reply) for pending in answered if pending.reply is not None]


def parsed(frames: list[Buffer]) -> Request:
    return protocol.parse_request(*frames)  # type: ignore[arg-type]


def received(frames: list[Any]) -> tuple[bytes, Any]:
    """A message as the drivers take it from a socket: the head, and the payload's frame or None."""
    return frames[0], frames[1] if len(frames) > 1 else None


def answer(sequence: int, status: int = protocol.OK, payload: Buffer = b"") -> tuple[bytes, Any]:
    return received(protocol.pack_reply(Reply(status, sequence, 1, payload)))


def together(*heads: bytes) -> tuple[bytes, Any]:
    return received(protocol.pack_batch_reply(encode(heads)))


def test_requests_are_numbered_from_one_and_carry_the_lowest_number_still_pending() -> None:
    session = new_session()
    first, second, third = send(session, 3)
    receive(session, *answer(2))
    [fourth] = send(session)
    receive(session, *answer(1))
    [fifth] = send(session)
    session.abandon(third)
    receive(session, *answer(4))
    receive(session, *answer(5))
    [sixth] = send(session)
    sent = [parsed(pending.frames) for pending in (first, second, third, fourth, fifth, sixth)]
    assert [(request.sequence, request.lowest) for request in sent] == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 3), (6, 6)]


@pytest.mark.parametrize("size", [0, PAYLOAD_INLINE_BYTES_MAX, PAYLOAD_INLINE_BYTES_MAX + 1])
def test_a_request_says_what_was_asked(size: int) -> None:
    session = new_session()
    sent = parsed(session.ask(query(protocol.PUT, bytes(size)), 0.0, DEADLINE).frames)
    flags = protocol.SKIP_IF_EXISTS | (protocol.PAYLOAD if size > PAYLOAD_INLINE_BYTES_MAX else 0)
    assert sent == Request(protocol.PUT, flags, 5, ID, 1, 1, DICT, b"sk", bytes(size))


def test_each_answer_goes_to_the_request_of_its_number_in_whatever_order() -> None:
    session = new_session()
    sent = send(session, 3)
    for number in (2, 3, 1):
        assert receive(session, *answer(number, payload=b"%d" % number)) == [
            (sent[number - 1], Reply(protocol.OK, number, 1, b"%d" % number))
        ]
    assert session.pending == {}


@pytest.mark.parametrize("number", [0, 2, 2**64 - 1])
def test_a_foreign_answer_is_dropped(number: int) -> None:
    session = new_session()
    [pending] = send(session)
    assert receive(session, *answer(number)) == []
    assert session.pending == {1: pending}


def test_a_second_answer_is_dropped() -> None:
    session = new_session()
    [pending] = send(session)
    assert receive(session, *answer(1, payload=b"a")) == [(pending, Reply(protocol.OK, 1, 1, b"a"))]
    assert receive(session, *answer(1, payload=b"a")) == []


def test_the_answer_to_an_abandoned_request_is_dropped_and_the_next_one_gets_its_own() -> None:
    session = new_session()
    [abandoned] = send(session)
    session.abandon(abandoned)
    session.abandon(abandoned)
    [pending] = send(session)
    assert receive(session, *answer(1, payload=b"old")) == []
    assert receive(session, *answer(2, payload=b"new")) == [(pending, Reply(protocol.OK, 2, 1, b"new"))]


def test_an_abandoned_request_that_has_not_been_sent_never_is() -> None:
    session = new_session()
    first, second = (session.ask(query(), 0.0, DEADLINE) for _ in range(2))
    session.abandon(first)
    assert outgoing(session) == [second.frames]
    session.ask(query(), 0.0, DEADLINE)
    session.abandon_all()
    assert not session.outbox


def test_a_request_that_wants_no_reply_is_sent_once_and_waits_for_none() -> None:
    session = new_session()
    unwanted = session.ask(replace(query(), wants_reply=False), 0.0, DEADLINE)
    pending = session.ask(query(), 0.0, DEADLINE)
    [message] = outgoing(session)
    assert decode(list[bytes], parsed(message).value) == [unwanted.frames[0], pending.frames[0]]
    assert session.pending == {2: pending}
    assert receive(session, *answer(1)) == []
    assert session.overdue(RESEND_SECONDS[0]) == ([pending], [])


def test_what_is_pending_at_the_broker_goes_again_in_order_when_there_is_another_connection() -> None:
    session = new_session()
    sent = send(session, 3)
    receive(session, *answer(2))
    later = session.ask(query(), 0.0, DEADLINE)
    session.reconnected()
    [message] = outgoing(session)
    requests = [protocol.parse_request(head) for head in decode(list[bytes], parsed(message).value)]
    assert [(request.sequence, bool(request.flags & protocol.RETRY)) for request in requests] == [
        (1, True),
        (3, True),
        (4, False),
    ]
    assert [*session.pending.values()] == [sent[0], sent[2], later]


def test_a_large_payload_arrives_uncopied() -> None:
    session, payload = new_session(), memoryview(bytes(PAYLOAD_INLINE_BYTES_MAX + 1))
    send(session)
    [(_pending, reply)] = receive(session, *answer(1, payload=payload))
    assert reply.payload is payload


ANSWERS = [protocol.OK, protocol.MISSING, protocol.EXISTS, protocol.UNKNOWN_DICT, protocol.WRONG_WORKER]
ERRORS = range(protocol.DICT_NOT_FOUND, protocol.FORGOTTEN + 1)


@pytest.mark.parametrize("status", [*ANSWERS, *ERRORS])
def test_every_status_but_unavailable_is_an_answer(status: int) -> None:
    session = new_session()
    [pending] = send(session)
    assert receive(session, *answer(1, status)) == [(pending, Reply(status, 1, 1, b""))]


def resent_at(session: Session, pending: Pending) -> list[float]:
    """When this request goes again, until its deadline: asked at the last moment before each, and then."""
    times = []
    while pending.resend_at < pending.deadline:
        now = pending.resend_at
        assert session.overdue(now - MOMENT) == ([], [])
        assert session.overdue(now) == ([pending], [])
        assert outgoing(session) == [pending.frames]
        times.append(now)
    return times


def test_a_request_without_answer_goes_again_marked_and_otherwise_unchanged() -> None:
    session = new_session()
    pending = session.ask(query(protocol.PUT, b"v"), 0.0, DEADLINE)
    before = parsed(outgoing(session)[0])
    assert len(resent_at(session, pending)) > 5
    assert parsed(pending.frames) == replace(before, flags=before.flags | protocol.RETRY)
    assert receive(session, *answer(1)) == [(pending, Reply(protocol.OK, 1, 1, b""))]


@given(st.integers(0, 1000))
def test_the_waits_between_resends_double_up_to_the_most_with_jitter(seed: int) -> None:
    session = new_session(seed)
    times = resent_at(session, *send(session))
    shortest, longest = RESEND_SECONDS
    assert times[0] == shortest
    for number, (earlier, later) in enumerate(pairwise(times)):
        nominal = min(shortest * 2 ** (number + 1), longest)
        assert 0.75 * nominal <= later - earlier <= 1.25 * nominal


def test_two_lines_do_not_resend_in_step() -> None:
    schedules = {tuple(resent_at(session, *send(session))[1:]) for session in map(new_session, range(10))}
    assert len(schedules) == 10


def test_a_large_value_is_given_longer() -> None:
    session, seconds = new_session(), 5
    pending = session.ask(query(protocol.PUT, bytes(seconds * RESEND_BYTES_PER_SECOND)), 0.0, 60.0)
    times = resent_at(session, pending)
    assert times[0] == RESEND_SECONDS[0] + seconds
    assert all(later - earlier >= 0.75 * times[0] for earlier, later in pairwise(times))


def test_an_answer_ends_the_resending() -> None:
    session = new_session()
    _first, second = send(session, 2)
    receive(session, *answer(1))
    assert session.overdue(1.0) == ([second], [])


def test_a_request_whose_time_is_over_waits_no_longer() -> None:
    session = new_session()
    short, long = session.ask(query(), 0.0, 1.0), session.ask(query(), 0.9, 9.0)
    assert session.overdue(1.0) == ([], [short])
    assert receive(session, *answer(1)) == []
    assert session.pending == {2: long}


def test_a_retry_past_its_horizon_is_not_sent_but_refused_as_outcome_unknown() -> None:
    session = new_session()
    receive(session, *answer(99))
    pending = session.ask(query(protocol.PUT), 0.0, 10_000.0)
    assert session.overdue(protocol.RETRY_SECONDS_MAX - 1.0) == ([pending], [])
    assert session.overdue(float(protocol.RETRY_SECONDS_MAX)) == ([], [pending])
    failure = session.failure(pending, "tcp://localhost:4255", float(protocol.RETRY_SECONDS_MAX))
    assert isinstance(failure, OutcomeUnknown)
    assert "whether it happened is unknown" in str(failure)


def test_a_service_that_was_never_heard_is_a_connection_error_that_says_what_to_do() -> None:
    session = new_session()
    pending = session.ask(query(protocol.PUT, verb="put"), 1.0, 6.0)
    error = session.failure(pending, URL, 6.04)
    assert type(error) is ConnectionError
    assert isinstance(error, builtins.ConnectionError)
    assert str(error) == (
        "cannot put 'k' in Dict 'kv': no service answered at tcp://localhost:4255 within 5.0 s, "
        "whether it happened is unknown; "
        "start one there with `holdall serve`, or correct HOLDALL_URL"
    )


@pytest.mark.parametrize("heard", [answer(99), answer(1, protocol.UNAVAILABLE), (b"gibberish", None)])
def test_a_service_that_was_heard_once_times_out(heard: tuple[bytes, Any]) -> None:
    session = new_session()
    [pending] = send(session)
    assert receive(session, *heard) == []
    error = session.failure(pending, URL, DEADLINE)
    assert type(error) is TimeoutError
    assert isinstance(error, builtins.TimeoutError)


OUTCOMES = [
    (protocol.GET, "get", "nothing was changed"),
    (protocol.CONTAINS, "look for", "nothing was changed"),
    (protocol.PAGE, "iterate over", "nothing was changed"),
    (protocol.PUT, "put", "whether it happened is unknown"),
    (protocol.POP, "pop", "whether it happened is unknown"),
    (protocol.PUT_MANY, "update", "whether it happened is unknown"),
    (protocol.CREATE, "create", "whether it happened is unknown"),
]


@pytest.mark.parametrize(("opcode", "verb", "outcome"), OUTCOMES)
def test_a_timeout_names_operation_key_dict_time_and_outcome(opcode: int, verb: str, outcome: str) -> None:
    session = new_session()
    pending = session.ask(query(opcode, verb=verb, key=("a", 1)), 100.0, 102.5)
    receive(session, *answer(99))
    text = str(session.failure(pending, URL, 102.5))
    assert text == f"cannot {verb} ('a', 1) in Dict 'kv': no answer from tcp://localhost:4255 within 2.5 s; {outcome}"


def test_a_timeout_of_what_is_about_no_key_names_the_dict() -> None:
    session = new_session()
    pending = session.ask(Query(protocol.CLEAR, 0, "clear", "Dict 'kv'", dict_id=DICT), 0.0, 1.0)
    receive(session, *answer(99))
    assert str(session.failure(pending, URL, 1.0)).startswith("cannot clear Dict 'kv': no answer")


class Unshowable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(("key", "text"), [("x" * 1000, "cannot get 'xxx"), (Unshowable(), "repr raises ZeroDivisionError")])
def test_a_key_that_shows_badly_does_not_spoil_the_error(key: object, text: str) -> None:
    session = new_session()
    message = str(session.failure(session.ask(query(key=key), 0.0, 1.0), URL, 1.0))
    assert text in message
    assert len(message) < 400


@given(st.integers(0, 1000))
def test_after_unavailable_a_request_goes_again_when_its_time_comes(seed: int) -> None:
    session, interval = new_session(seed), RESEND_SECONDS[0]
    [pending] = send(session)
    assert session.overdue(interval) == ([pending], [])
    assert outgoing(session) == [pending.frames]
    assert receive(session, *answer(1, protocol.UNAVAILABLE)) == []
    assert session.overdue(interval) == ([], [])
    assert session.overdue(interval + 2 * interval * 1.25) == ([pending], [])
    assert outgoing(session) == [pending.frames]
    assert parsed(pending.frames).flags & protocol.RETRY
    assert receive(session, *answer(1)) == [(pending, Reply(protocol.OK, 1, 1, b""))]


def test_unavailable_never_puts_a_resend_off() -> None:
    session = new_session()
    [pending] = send(session)
    receive(session, *answer(1, protocol.UNAVAILABLE))
    assert session.overdue(RESEND_SECONDS[0]) == ([pending], [])


def test_a_single_request_travels_as_itself() -> None:
    session = new_session()
    pending = session.ask(query(), 0.0, DEADLINE)
    assert outgoing(session) == [pending.frames]
    assert session.outgoing() == []


def test_requests_of_one_worker_travel_together_in_their_order() -> None:
    session = new_session()
    sent = [session.ask(query(), 0.0, DEADLINE) for _ in range(3)]
    [message] = outgoing(session)
    batch = parsed(message)
    assert (batch.opcode, batch.hash, batch.session, batch.sequence) == (protocol.BATCH, 5, ID, 0)
    assert decode(list[bytes], batch.value) == [pending.frames[0] for pending in sent]


def test_a_large_value_travels_in_a_message_of_its_own() -> None:
    session = new_session()
    sizes = [1, 1, PAYLOAD_INLINE_BYTES_MAX + 1]
    first, second, large = (session.ask(query(protocol.PUT, bytes(size)), 0.0, DEADLINE) for size in sizes)
    messages = outgoing(session)
    assert large.frames in messages
    messages.remove(large.frames)
    assert [decode(list[bytes], parsed(message).value) for message in messages] == [[first.frames[0], second.frames[0]]]


def test_requests_of_one_worker_leave_in_the_order_in_which_they_were_asked() -> None:
    session = new_session()
    small = session.ask(query(protocol.PUT, b"old"), 0.0, DEADLINE)
    large = session.ask(query(protocol.PUT, bytes(PAYLOAD_INLINE_BYTES_MAX + 1)), 0.0, DEADLINE)
    assert outgoing(session) == [small.frames, large.frames]


@pytest.mark.parametrize("excess", [0, 1])
def test_a_batch_has_at_most_so_many_requests(excess: int) -> None:
    session = new_session()
    for _ in range(BATCH_REQUESTS_MAX + excess):
        session.ask(query(), 0.0, DEADLINE)
    messages = outgoing(session)
    assert len(messages) == 1 + excess
    assert len(decode(list[bytes], parsed(messages[0]).value)) == BATCH_REQUESTS_MAX


sizes = st.sampled_from([0, 100, PAYLOAD_INLINE_BYTES_MAX, PAYLOAD_INLINE_BYTES_MAX + 1])


@given(st.lists(sizes, min_size=1, max_size=30))
@example([PAYLOAD_INLINE_BYTES_MAX] * 30)
def test_each_request_is_in_exactly_one_message_and_no_message_beyond_the_bounds(sizes: list[int]) -> None:
    session = new_session()
    sent = [session.ask(query(protocol.PUT, bytes(size)), 0.0, DEADLINE) for size in sizes]
    carried: list[bytes] = []
    for message in outgoing(session):
        request = parsed(message)
        heads = decode(list[bytes], request.value) if request.opcode == protocol.BATCH else [bytes(message[0])]
        assert sum(map(len, heads[:-1])) <= BATCH_BYTES_MAX
        carried += heads
    assert sorted(carried) == sorted(bytes(pending.frames[0]) for pending in sent)


def test_the_answers_of_a_batch_go_each_to_its_request() -> None:
    session = new_session()
    first, second, third = send(session, 3)
    session.abandon(second)
    heads = [answer(3, payload=b"c")[0], answer(2)[0], answer(99)[0], answer(1, protocol.MISSING)[0], answer(3)[0]]
    assert receive(session, *together(*heads)) == [
        (third, Reply(protocol.OK, 3, 1, b"c")),
        (first, Reply(protocol.MISSING, 1, 1, b"")),
    ]


def test_the_answers_of_a_large_batch_come_in_a_frame_of_their_own() -> None:
    session = new_session()
    sent = send(session, 3)
    head, payload = together(*(answer(number, payload=bytes(PAYLOAD_INLINE_BYTES_MAX))[0] for number in (1, 2, 3)))
    assert [pending for pending, _reply in receive(session, head, memoryview(payload))] == sent


def test_unavailable_within_a_batch_concerns_its_own_request_alone() -> None:
    session = new_session()
    refused, answered = send(session, 2)
    given_out = receive(session, *together(answer(1, protocol.UNAVAILABLE)[0], answer(2)[0]))
    assert [pending for pending, _reply in given_out] == [answered]
    assert session.pending == {1: refused}


def test_a_bad_part_of_a_batch_reply_takes_no_other_answer_with_it() -> None:
    session = new_session()
    sent = send(session, 2)
    given_out = receive(session, *together(answer(1)[0], b"garbage", answer(2)[0]))
    assert [*(pending for pending, _reply in given_out), *session.pending.values()] == sent


def test_a_service_of_another_version_is_named() -> None:
    session = new_session()
    pending = session.ask(query(), 0.0, 1.0)
    reply, _payload = answer(1)
    assert receive(session, bytes([protocol.VERSION - 1]) + reply[1:], None) == []
    error = session.failure(pending, URL, 1.0)
    assert isinstance(error, ConnectionError)
    assert f"speaks protocol version {protocol.VERSION - 1}, and this client version {protocol.VERSION}" in str(error)
    receive(session, *answer(2))  # it was started again, as one of ours
    assert type(session.failure(pending, URL, 1.0)) is TimeoutError


version = bytes([protocol.VERSION])
replies = st.builds(
    lambda status, flags, sequence, payload: protocol.REPLY.pack(protocol.VERSION, status, flags, sequence, 0) + payload,
    st.integers(0, 255),
    st.sampled_from([0, protocol.PAYLOAD, protocol.BATCHED, protocol.BATCHED | protocol.PAYLOAD, 0xFFFF]),
    st.integers(0, 5),
    st.binary(max_size=30),
)
heads = st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(version.__add__), replies)
batches = st.lists(heads, max_size=4).map(lambda parts: together(*parts))


@given(st.lists(st.tuples(heads, st.none() | st.binary(max_size=40)) | batches, max_size=6))
def test_arbitrary_frames_never_raise_and_answer_only_what_waits(messages: list[Any]) -> None:
    session = new_session()
    sent = send(session, 3)
    given_out: list[Pending] = []
    for head, payload in messages:
        for pending, reply in receive(session, head, payload):
            assert pending.sequence == reply.sequence
            given_out.append(pending)
    assert all(pending in sent and pending not in session.pending.values() for pending in given_out)
    assert len(given_out) == len(set(given_out))
    [later] = send(session)
    assert receive(session, *answer(4)) == [(later, Reply(protocol.OK, 4, 1, b""))]
