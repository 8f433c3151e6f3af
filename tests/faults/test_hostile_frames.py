"""Whatever arrives at a socket of the service, it goes on serving others, and answers with a typed error where it can."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zmq

import holdall
from holdall import Dict, protocol
from holdall.bodies import Hello, Registration, Roster, RosterWorker, decode, encode
from holdall.protocol import Reply, Request
from holdall.service.settings import ServiceSettings
from holdall.settings import service_url
from holdall.slots import SLOTS, part_hash, slot_range
from tests.fuzz.strangers import connected
from tests.processes import process_ids, service_process
from tests.streams import OVERSIZED, StreamClient, with_route

SEQUENCE = 7
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"


@contextlib.contextmanager
def dealer(url: str, routing_id: bytes | None = None) -> Iterator[Any]:
    """A ZeroMQ socket that can send anything."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as opened:
        opened.linger = 0
        opened.rcvtimeo = 5000
        if routing_id is not None:
            opened.routing_id = routing_id
        opened.connect(url)
        yield opened


def request(opcode: int, *, key: bytes = b"", value: bytes = b"", flags: int = 0, sequence: int = SEQUENCE) -> bytes:
    """The only frame of a request that worker 0 can carry out."""
    wanted = Request(
        opcode, flags, part_hash(*slot_range(0, 2)), b"hostile session!", sequence, sequence, b"hostile dict id!", key, value
    )
    return bytes(protocol.pack_request(wanted)[0])


def received(opened: Any) -> Reply:
    frames = opened.recv_multipart()
    return protocol.parse_reply(*frames)


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    """What can send anything to this URL."""
    if url.startswith("ipc://"):
        with StreamClient(url, timeout=5) as opened:
            yield opened
    else:
        with dealer(url) as opened:
            yield opened


def asked(opened: Any, *frames: bytes) -> Reply:
    opened.send_multipart(frames)
    return received(opened)


def roster(url: str) -> Roster:
    with client(url) as opened:
        return decode(Roster, asked(opened, request(protocol.ROSTER)).payload)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def urls(data: Path) -> Iterator[dict[str, str]]:
    """Where clients may knock: at the broker, near and from afar, and at worker 0; and where they have no business: where
    workers register.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        far = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with service_process(ServiceSettings(str(data), listen=far, workers=2, sync="off")):
        near = service_url(data)
        with client(near) as opened:  # worker 0 knows the Dict of `request`, so that its bodies are looked at
            assert asked(opened, request(protocol.REGISTER, value=encode(Registration()), sequence=1)).status == protocol.OK
        worker = roster(near).workers[0].addresses[0]
        yield {"broker": near, "far broker": far, "worker": worker, "workers": near.rpartition("/")[0] + "/workers"}


@pytest.fixture(scope="module")
def old(urls: dict[str, str]) -> Iterator[Dict[Any, Any]]:
    with holdall.Client(urls["broker"]) as client:
        yield Dict.from_name("served", create_if_missing=True, client=client).hydrate()


@pytest.fixture(autouse=True)
def _others_are_served(urls: dict[str, str], data: Path, old: Dict[Any, Any]) -> Iterator[None]:
    """Before and after each test, an old client and a new one; and no process of the service has died meanwhile."""
    before = process_ids(data)
    old.update({number: number for number in range(4)})
    yield
    assert [old.pop(number) for number in range(4)] == list(range(4))
    with holdall.Client(urls["far broker"], timeout=5) as client:
        new: Dict[Any, Any] = Dict.from_name("served", client=client)
        assert [new.put(number, number, skip_if_exists=True) for number in range(4)] == [True] * 4
    assert process_ids(data) == before


GOOD = request(protocol.GET, key=b"sk")
HEADS = {
    "nothing": b"",
    "one byte": b"\x01",
    "one byte too few": GOOD[: protocol.REQUEST.size - 1],
    "another version": bytes([protocol.VERSION + 1]) + GOOD[1:],
    "a key of 2 GiB": GOOD[:56] + struct.pack("<I", 2**31) + GOOD[60:],
    "an unknown opcode": request(200),
    "a worker's opcode": request(protocol.HELLO),
    "no payload where one is declared": request(protocol.PUT, key=b"sk", flags=protocol.PAYLOAD),
    "no key": request(protocol.PUT, value=b"value"),
    "a key object of 4 GiB": request(protocol.PUT, key=b"sk", value=b"\xff" * 8, flags=protocol.KEY_OBJECT),
    "an array of 4 Gi entries": request(protocol.PUT_MANY, value=b"\xdd\xff\xff\xff\xff"),
    "an array of 4 Gi keys": request(protocol.POP_MANY, value=b"\xdd\xff\xff\xff\xff"),
    "deep nesting": request(protocol.PUT_MANY, value=b"\x91" * 60_000),
    "bytes that are no msgpack": request(protocol.PAGE, value=b"\xc1"),
    "a body of another kind": request(protocol.CREATE, key=b"main/a", value=encode([1, 2, 3])),
    "a batch of no requests but a number": request(protocol.BATCH, value=encode(1)),
    "a batch in which too many are": request(protocol.BATCH, value=encode([b""] * 1001)),
}


@pytest.mark.parametrize("at", ["broker", "far broker", "worker"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_request_that_breaks_the_protocol_is_answered_with_malformed(urls: dict[str, str], at: str, head: bytes) -> None:
    with client(urls[at]) as opened:
        reply = asked(opened, head)
        assert reply.status == protocol.MALFORMED
        assert reply.sequence == (SEQUENCE if len(head) >= protocol.REQUEST.size else 0)
        assert bytes(reply.payload).decode()
        assert asked(opened, request(protocol.LENGTH, sequence=SEQUENCE + 1)).sequence == SEQUENCE + 1


@pytest.mark.parametrize("at", ["broker", "far broker", "worker"])
@pytest.mark.parametrize("head", [GOOD, request(protocol.PUT, key=b"sk", value=b"and a value", flags=protocol.PAYLOAD)])
def test_a_payload_frame_that_the_head_does_not_allow_is_malformed(urls: dict[str, str], at: str, head: bytes) -> None:
    with client(urls[at]) as opened:
        reply = asked(opened, head, b"payload")
        assert (reply.status, reply.sequence) == (protocol.MALFORMED, SEQUENCE)


@pytest.mark.parametrize("count", [3, 8, 5000])
def test_too_many_frames_are_malformed(urls: dict[str, str], count: int) -> None:
    with dealer(urls["far broker"]) as opened:
        reply = asked(opened, GOOD, *[b"more"] * (count - 1))
        assert (reply.status, reply.sequence) == (protocol.MALFORMED, SEQUENCE)


@pytest.mark.parametrize(("at", "frames_max"), [("broker", 2), ("far broker", 4), ("worker", 2)])
def test_random_messages_are_answered_one_by_one(urls: dict[str, str], at: str, frames_max: int) -> None:
    random = Random(at)
    messages: list[list[bytes]] = []
    for _ in range(1000):
        frames = [random.randbytes(random.randrange(200)) for _ in range(random.randint(1, frames_max))]
        if random.random() < 0.7:  # one whose head can be read
            opcode, flags = random.choice([random.randrange(256), *protocol.WRITES]), random.randrange(16)
            frames[0] = bytes([protocol.VERSION, opcode, flags, 0]) + random.randbytes(52) + bytes(4) + frames[0]
        messages.append(frames)
    with client(urls[at]) as opened:
        statuses = {asked(opened, *message).status for message in messages}
    assert {protocol.MALFORMED, protocol.UNKNOWN_DICT} <= statuses


@pytest.mark.parametrize("at", ["broker", "far broker", "worker", "workers"])
@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2,
        b"\x01\x00" + bytes([len(request(protocol.LENGTH)) + 1, 0]) + request(protocol.LENGTH),
        Random(1).randbytes(1000),
    ],
    ids=["HTTP", "ZMTP/1.0", "random"],
)
def test_who_does_not_shake_hands_gets_no_answer_and_is_cut_off(urls: dict[str, str], at: str, said: bytes) -> None:
    heard = b""
    with connected(urls[at]) as raw:
        raw.settimeout(5)
        with contextlib.suppress(ConnectionError):  # cut off with bytes on their way
            raw.sendall(said)
            while more := raw.recv(1000):
                heard += more
    assert len(heard) <= len(SIGNATURE)


def test_a_frame_declared_larger_than_any_may_be_is_not_waited_for(urls: dict[str, str]) -> None:
    with connected(urls["far broker"]) as raw:
        raw.settimeout(5)
        with raw.makefile("rb") as heard:
            raw.sendall(GREETING)
            assert heard.read(len(GREETING)).startswith(SIGNATURE[:1])
            raw.sendall(bytes([4, len(READY)]) + READY)
            _command, length = heard.read(2)
            assert b"ROUTER" in heard.read(length)
            raw.sendall(b"\x02" + struct.pack(">Q", protocol.FRAME_BYTES_MAX + 1))
            assert heard.read() == b""


@pytest.mark.parametrize("at", ["broker", "worker", "workers"])
@pytest.mark.parametrize("declared", [OVERSIZED + bytes(4), bytes(4) + OVERSIZED, b"\xff" * 8])
def test_who_declares_more_than_may_be_is_cut_off(urls: dict[str, str], at: str, declared: bytes) -> None:
    with StreamClient(urls[at], timeout=5) as opened:
        opened.socket.sendall(declared)
        assert opened.socket.recv(1) == b""


def test_a_second_client_with_the_same_routing_id_gets_none_of_the_firsts_answers(urls: dict[str, str]) -> None:
    with dealer(urls["far broker"], b"twin") as first:
        assert asked(first, request(protocol.LENGTH)).sequence == SEQUENCE
        with dealer(urls["far broker"], b"twin") as second:
            for sequence in range(100, 150):
                second.send(request(protocol.LENGTH, sequence=sequence + 1000))
                assert asked(first, request(protocol.LENGTH, sequence=sequence)).sequence == sequence
            assert not second.poll(0)


def hello(layout_id: bytes, *, index: int = 0, first: int = 0, end: int = SLOTS // 2, workers: int = 2) -> bytes:
    """What worker 0 of 2 says, but for what is given here."""
    worker = RosterWorker(index, first, end, ["ipc:///nowhere"])
    return request(protocol.HELLO, value=encode(Hello(layout_id, b"i" * 16, workers, worker, 0)))


def impostors(layout_id: bytes) -> dict[str, list[bytes]]:
    """What a client may say where workers register; each must come to nothing."""
    return {
        "another layout": [b"", hello(b"another layout!!")],
        "a negative slot": [b"", hello(layout_id, first=-1)],
        "too many slots": [b"", hello(layout_id, end=SLOTS + 1)],
        "no slots": [b"", hello(layout_id, end=0)],
        "no workers": [b"", hello(layout_id, workers=0)],
        "all slots": [b"", hello(layout_id, end=SLOTS)],
        "the only worker": [b"", hello(layout_id, end=SLOTS, workers=1)],
        "a worker too many": [b"", hello(layout_id, index=2, first=682, end=SLOTS, workers=3)],
        "no hello": [b"", GOOD],
        "garbage": [b"", b"garbage"],
        "nothing": [b"", b""],
        "an answer to a client": [b"victim", *map(bytes, protocol.pack_reply(Reply(protocol.OK, 101, 0, b"forged")))],
        "an answer to nobody": [b"nobody", b"x"],
    }


@pytest.mark.parametrize("impostor", impostors(b""))
def test_a_client_that_poses_as_a_worker_is_ignored(urls: dict[str, str], impostor: str) -> None:
    answers = roster(urls["broker"])
    with dealer(urls["far broker"], b"victim") as victim, StreamClient(urls["workers"]) as posing:
        asked(victim, request(protocol.ROSTER))
        route, *frames = impostors(answers.layout_id)[impostor]
        posing.send_multipart(with_route(route, [*frames]))
        for sequence in range(100, 150):
            reply = asked(victim, request((protocol.LENGTH, protocol.ROSTER)[sequence % 2], sequence=sequence))
            assert (reply.status, reply.sequence) == (protocol.OK, sequence)
            assert sequence % 2 == 0 or decode(Roster, reply.payload) == answers


@pytest.mark.parametrize("said", [b"", b"abcd\x05"], ids=["nothing", "half a route"])
def test_who_says_no_route_where_workers_register_is_cut_off(urls: dict[str, str], said: bytes) -> None:
    with StreamClient(urls["workers"], timeout=5) as opened:
        opened.send(said)
        assert opened.socket.recv(1) == b""
