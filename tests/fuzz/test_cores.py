"""The deciding parts under hostile messages, with neither socket nor clock: an answer or a ProtocolError, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import protocol
from holdall.bodies import Hello, RosterWorker, encode
from holdall.broker.core import Broker
from holdall.errors import ProtocolError
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS
from holdall.worker.core import Worker
from holdall.worker.message import Message
from holdall.worker.state.transaction import format_store
from holdall.worker.store.rows import COUNTER_ROW, SESSION_PREFIX
from tests.fuzz.messages import DICT_IDS, Messages
from tests.memory_files import MemoryFiles
from tests.memory_store import MemoryStore
from tests.nowhere import NOWHERE
from tests.registration import registration

LAYOUT = b"the real layout!"
INSTANCE = b"this one"
NOW = 1_000_000.0
CHANGED_NOTHING = frozenset(
    (
        protocol.MALFORMED,
        protocol.INVALID,
        protocol.TOO_LARGE,
        protocol.WRONG_WORKER,
        protocol.UNKNOWN_DICT,
        protocol.DICT_NOT_FOUND,
        protocol.FORGOTTEN,
        protocol.UNAVAILABLE,
        protocol.MISSING,
    )
)

seeds = st.integers(0, 2**32)
to_clients = st.builds(lambda seed: Messages(seed).to_a_client_socket(), seeds)
to_workers = st.builds(lambda seed: Messages(seed).to_the_workers_socket(), seeds)


@given(to_clients | to_workers)
def test_hostile_frames_are_parsed_or_a_protocol_error(frames: list[bytes]) -> None:
    for parse in (protocol.parse_request, protocol.parse_reply):
        try:
            parsed: Any = parse(frames[0], frames[1] if len(frames) > 1 else None)
        except ProtocolError:
            continue
        assert frames[0][0] == protocol.VERSION
        assert isinstance(parsed, (Request, Reply))


def hello() -> list[bytes]:
    body = encode(Hello(LAYOUT, b"i" * 16, 1, RosterWorker(0, 0, SLOTS, []), 0))
    request = Request(protocol.HELLO, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", body)
    return [b"worker", b"", *map(bytes, protocol.pack_request(request))]


@given(st.lists(st.tuples(st.just("from_client"), to_clients) | st.tuples(st.just("from_worker"), to_workers), max_size=20))
def test_a_broker_relays_refuses_or_drops_hostile_messages_and_keeps_its_worker(arrived: list[tuple[str, list[bytes]]]) -> None:
    broker = Broker(INSTANCE)
    broker.from_worker(hello(), NOW)
    for method, frames in arrived:
        if method == "from_worker":
            assert [broker.from_worker([route, *frames], NOW) for route in (b"stranger", b"worker")] == [[], []]
            continue
        sends = broker.from_client([b"stranger", *frames], NOW)
        assert [send.frames[0] for send in sends] in ([b"worker"], [b"stranger"])
        if sends[0].to_worker:
            assert sends[0].frames[1:] == [b"stranger" + INSTANCE, *frames]
        else:
            protocol.parse_reply(*sends[0].frames[1:])
    get = bytes(protocol.pack_request(Request(protocol.GET, 0, 0, bytes(16), 1, 1, bytes(16), b"sk", b""))[0])
    assert broker.from_client([b"client", get], NOW)[0].frames == [b"worker", b"client" + INSTANCE, get]


def worker_of(store: MemoryStore) -> Worker:
    """A worker that owns all slots and knows the Dicts of the messages, some with entries."""
    format_store(store)
    worker = Worker(store, 0, 1, sync=True, files=MemoryFiles())
    for number, dict_id in enumerate(DICT_IDS):
        for sequence, opcode, key, value in (
            (1, protocol.REGISTER, b"", registration(dict_id)),
            (2, protocol.PUT, b"s1", b"v"),
        ):
            frames = protocol.pack_request(Request(opcode, 0, 0, b"%016d" % number, sequence, sequence, dict_id, key, value))
            worker.tick([Message(NOWHERE, b"\0route", bytes(frames[0]))], NOW)
    return worker


def lasting(store: MemoryStore) -> dict[bytes, bytes]:
    """All rows but what is remembered of sessions."""
    return {row: value for row, value in store.scan(b"") if row[:1] not in (SESSION_PREFIX, b"O") and row != COUNTER_ROW}


@settings(max_examples=60, deadline=None)
@given(st.lists(to_clients, min_size=1, max_size=10))
def test_a_worker_answers_hostile_messages_and_what_it_refuses_changes_nothing(arrived: list[list[bytes]]) -> None:
    store = MemoryStore()
    worker = worker_of(store)
    for frames in arrived:
        before = lasting(store)
        answers = worker.tick([Message(NOWHERE, b"\0route", *frames[:2])], NOW)
        replies = [protocol.parse_reply(*answer.frames) for answer in answers]  # type: ignore[arg-type]
        assert all(answer.address == b"\0route" for answer in answers)
        if frames[0][1:2] != bytes([protocol.BATCH]):
            assert len(replies) == 1
            if replies[0].status in CHANGED_NOTHING:
                assert lasting(store) == before
    while worker.sweep(NOW):
        pass
    again = Worker(store, 0, 1, sync=True, files=MemoryFiles())  # whatever was stored can be read again
    assert again.version == worker.version
