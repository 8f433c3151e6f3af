"""Links: when a worker is believed to answer on a lane, when that is given up, and what then goes again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from msgspec.structs import replace

from holdall import protocol
from holdall.bodies import Identity, Roster, RosterWorker, decode, encode
from holdall.client.connection.query import Query
from holdall.client.connection.session import PROBE_SECONDS, RESEND_SECONDS, STEADY_LINK_SECONDS, Link, Pending, Session
from holdall.framing import Received
from holdall.protocol import Reply
from holdall.slots import first_hash, slot_range

LAYOUT = b"the layout's id."
WORKERS = [RosterWorker(index, *slot_range(index, 2), [f"ipc:///worker-{index}"]) for index in range(2)]


QUERY = Query(protocol.PUT, WORKERS[0].hash, "put", "Dict 'kv'")


def new_session() -> Session:
    session = Session(b"s" * 16, Random(0))
    session.meet(Roster(LAYOUT, WORKERS), lambda worker: worker.addresses[0])
    return session


def send(session: Session, worker: int, now: float = 0.0) -> Pending:
    """A request to this worker, which is on its way."""
    pending = session.ask(Query(protocol.PUT, WORKERS[worker].hash, "put", "Dict 'kv'"), now, 30.0)
    session.outgoing()
    return pending


def outgoing(session: Session) -> list[tuple[Link, list[tuple[int, bool]]]]:
    """For each worker the numbers of the requests that are to be sent, and whether each says that it is sent again."""
    found: list[tuple[Link, list[tuple[int, bool]]]] = []
    for link, messages in session.outgoing():
        heads: list[bytes] = []
        for [message] in messages:
            request = protocol.parse_request(bytes(message))
            heads += decode(list[bytes], request.value) if request.opcode == protocol.BATCH else [bytes(message)]
        requests = [protocol.parse_request(head) for head in heads]
        found.append((link, [(request.sequence, bool(request.flags & protocol.RETRY)) for request in requests]))
    return found


def identity(link: Link, layout_id: bytes = LAYOUT, index: int = 0, now: float = 0.0, number: int | None = None) -> bytes:
    """What a worker answers to the probe of this link."""
    probe = link.probe(now)
    assert probe is not None
    sequence = protocol.sequence_of(bytes(probe[0])) if number is None else number
    return bytes(protocol.pack_reply(Reply(protocol.OK, sequence, 0, encode(Identity(layout_id, index))))[0])


def direct(session: Session, now: float = 0.0) -> Link:
    """The link to the first worker, which has answered on its lane."""
    link = session.links[0]
    assert session.receive(link, Received(identity(link, now=now)), now) == []
    assert link.is_direct
    return link


def test_each_hash_has_the_link_of_its_worker() -> None:
    session = new_session()
    for worker in WORKERS:
        links = {
            session.ask(replace(QUERY, hash=first_hash(slot)), 0.0, 30.0).link
            for slot in range(worker.first_slot, worker.end_slot)
        }
        assert [link.address for link in links] == worker.addresses


def test_before_the_workers_are_known_nothing_is_probed() -> None:
    assert Session(b"s" * 16, Random(0)).ask(QUERY, 0.0, 30.0).link.probe(1.0) is None


def test_a_link_is_direct_once_its_worker_has_answered_the_probe() -> None:
    session = new_session()
    assert not session.links[0].is_direct
    assert direct(session).probe(1000.0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda link: identity(link, layout_id=b"another service."),
        lambda link: identity(link, index=1),
        lambda link: identity(link, number=7),
        lambda link: identity(link)[:-1],
        lambda link: b"",
    ],
    ids=["another layout", "another worker", "an earlier probe's number", "cut short", "nothing"],
)
def test_nothing_else_makes_it_direct(wrong: Callable[[Link], bytes]) -> None:
    session = new_session()
    link = session.links[0]
    send(session, 0)
    assert session.receive(link, Received(wrong(link)), 0.0) == []
    assert not link.is_direct
    assert not session.outbox


def test_a_worker_that_does_not_answer_is_probed_ever_less_often() -> None:
    link = new_session().links[0]
    times = [link.probe_at]
    for _ in range(20):
        assert link.probe(times[-1]) is not None
        assert link.probe(times[-1]) is None
        times.append(link.probe_at)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[0] <= PROBE_SECONDS[0] * 1.25
    assert all(PROBE_SECONDS[1] * 0.75 <= wait <= PROBE_SECONDS[1] * 1.25 for wait in waits[-5:])


@pytest.mark.parametrize("steady", [False, True])
def test_a_link_that_was_steady_is_probed_soon_after_it_was_lost(steady: bool) -> None:
    session = new_session()
    link = session.links[0]
    for _ in range(20):
        link.probe(link.probe_at)
    direct_at = link.probe_at
    direct(session, direct_at)
    now = direct_at + STEADY_LINK_SECONDS * 2 if steady else direct_at
    session.lose(link, now)
    assert not link.is_direct
    assert (link.probe_at - now < 0.1) == steady


def test_an_overdue_answer_gives_the_lane_up_and_all_that_is_pending_at_this_worker_goes_again_in_order() -> None:
    session = new_session()
    link = direct(session)
    old, _elsewhere, _young = send(session, 0), send(session, 1, RESEND_SECONDS[0]), send(session, 0, RESEND_SECONDS[0])
    assert session.overdue(RESEND_SECONDS[0] * 1.5) == ([old], [])
    assert not link.is_direct
    assert outgoing(session) == [(link, [(1, True), (3, True)])]


def test_an_overdue_answer_of_the_broker_sends_nothing_else_again() -> None:
    session = new_session()
    send(session, 0)
    send(session, 0, RESEND_SECONDS[0])
    session.overdue(RESEND_SECONDS[0] * 1.5)
    assert outgoing(session) == [(session.links[0], [(1, True)])]


def test_when_a_link_becomes_direct_what_is_pending_at_its_worker_goes_there_too_in_order_and_before_anything_newer() -> None:
    session = new_session()
    for worker in (0, 1, 0):
        send(session, worker)
    link = direct(session)
    session.ask(Query(protocol.PUT, WORKERS[0].hash, "put", "Dict 'kv'"), 0.0, 30.0)
    assert outgoing(session) == [(link, [(1, True), (3, True), (4, False)])]


def test_a_lane_that_is_lost_before_a_request_was_sent_sends_it_once() -> None:
    session = new_session()
    link = direct(session)
    session.ask(Query(protocol.PUT, WORKERS[0].hash, "put", "Dict 'kv'"), 0.0, 30.0)
    session.lose(link, 0.0)
    assert outgoing(session) == [(link, [(1, False)])]


def test_another_connection_to_the_broker_sends_nothing_again_that_went_by_a_lane() -> None:
    session = new_session()
    direct(session)
    send(session, 0)
    send(session, 1)
    session.reconnected()
    assert outgoing(session) == [(session.links[1], [(2, True)])]
