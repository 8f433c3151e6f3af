"""Whatever arrives at a socket of the service, it goes on serving others, and answers with a typed error where it can."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import holdall
from holdall import Dict, protocol
from holdall.bodies import Hello, Roster, RosterWorker, decode, encode
from holdall.process import child
from holdall.process.child import READY
from holdall.process.config import BrokerSettings, ServiceSettings
from holdall.protocol import Reply
from holdall.settings import service_url, socket_url
from holdall.slots import SLOTS, slot_range
from holdall.worker.directory.opening import DataDirectory
from tests.faults.hostile import KEYS, SEQUENCE, asked, client, dealer, most_resident_bytes, received, request, shaken
from tests.fuzz.strangers import SIGNATURE, connected
from tests.processes import WAIT_SECONDS, free_port, new_key, process_ids, service_process
from tests.registration import registration
from tests.streams import OVERSIZED, OVERSIZED_HEAD, StreamClient

LONG_ID_BYTES = 1024 * 1024
LONG_ID_REQUESTS = 500
GROWTH_BYTES_MAX = 64 * 1024 * 1024


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
    far = f"tcp://127.0.0.1:{free_port()}"
    with service_process(ServiceSettings(str(data), listen=[far], workers=2, sync="off")):
        KEYS[far] = new_key(data)
        near = service_url(data)
        secret = bytes.fromhex(DataDirectory(data).layout().secret)
        body = registration(b"hostile dict id!", secret=secret)
        with client(near) as opened:  # worker 0 knows the Dict of `request`, so that its bodies are looked at
            assert asked(opened, request(protocol.REGISTER, value=body, sequence=1)).status == protocol.OK
        worker = roster(near).workers[0].addresses[0]
        yield {"broker": near, "far broker": far, "worker": worker, "workers": socket_url(data, "workers")}


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
    with holdall.Client(connection=KEYS[urls["far broker"]], timeout=5) as client:
        new: Dict[Any, Any] = Dict.from_name("served", client=client)
        assert [new.put(number, number, skip_if_exists=True) for number in range(4)] == [True] * 4
    assert process_ids(data) == before


GOOD = request(protocol.GET, key=b"sk")
REPLY = b"".join(map(bytes, protocol.pack_reply(Reply(protocol.OK, 0, 0, bytes(4) + struct.pack("<Q", SEQUENCE) + bytes(40)))))
HEADS = {
    "nothing": b"",
    "one byte": b"\x01",
    "one byte too few": GOOD[: protocol.REQUEST.size - 1],
    "another version": bytes([protocol.VERSION + 1]) + GOOD[1:],
    "a key of 2 GiB": GOOD[:56] + struct.pack("<I", 2**31) + GOOD[60:],
    "an unknown opcode": request(200),
    "a worker's opcode": request(protocol.HELLO),
    "a reply": REPLY[: protocol.REPLY.size],
    "a reply with a payload": REPLY,
    "a flag that nobody knows": request(protocol.GET, key=b"sk", flags=protocol.FLAGS_MAX + 1),
    "all flags": request(protocol.GET, key=b"sk", flags=0xFFFF),
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


@pytest.mark.parametrize("at", ["broker", "far broker"])
@pytest.mark.parametrize("count", [3, 8, 5000])
def test_too_many_frames_are_malformed(urls: dict[str, str], at: str, count: int) -> None:
    with dealer(urls[at]) as opened:
        reply = asked(opened, GOOD, *[b"more"] * (count - 1))
        assert (reply.status, reply.sequence) == (protocol.MALFORMED, SEQUENCE)
        assert asked(opened, request(protocol.LENGTH, sequence=SEQUENCE + 1)).sequence == SEQUENCE + 1


@pytest.mark.parametrize("at", ["broker", "far broker"])
@pytest.mark.parametrize("first", [b"", b"a client's route", b"a worker's address of a client" + bytes(8)])
def test_a_request_with_a_frame_before_its_head_is_malformed(urls: dict[str, str], at: str, first: bytes) -> None:
    with dealer(urls[at]) as opened:
        for frames in ([first, GOOD], [first, b"", GOOD]):
            assert asked(opened, *frames).status == protocol.MALFORMED
        assert asked(opened, request(protocol.LENGTH)).sequence == SEQUENCE


@pytest.mark.parametrize("at", ["broker", "far broker"])
def test_a_reply_in_two_frames_is_malformed(urls: dict[str, str], at: str) -> None:
    head, payload = map(bytes, protocol.pack_reply(Reply(protocol.OK, SEQUENCE, 0, bytes(200_000))))
    with dealer(urls[at]) as opened:
        assert asked(opened, head, payload).status == protocol.MALFORMED
        assert asked(opened, request(protocol.LENGTH)).sequence == SEQUENCE


@pytest.mark.parametrize("at", ["broker", "far broker"])
def test_a_head_larger_than_any_may_be_is_malformed(urls: dict[str, str], at: str) -> None:
    with dealer(urls[at]) as opened:
        reply = asked(opened, GOOD + bytes(protocol.HEAD_BYTES_MAX + 1 - len(GOOD)))
        assert (reply.status, reply.sequence) == (protocol.MALFORMED, SEQUENCE)


@pytest.mark.parametrize(("at", "frames_max"), [("broker", 4), ("far broker", 4), ("worker", 2)])
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


@pytest.mark.parametrize("at", ["broker", "workers"])
def test_a_frame_declared_larger_than_any_may_be_is_not_waited_for(urls: dict[str, str], at: str) -> None:
    with shaken(urls[at]) as (raw, heard):
        raw.sendall(b"\x02" + struct.pack(">Q", protocol.FRAME_BYTES_MAX + 1))
        assert heard.read() == b""


@pytest.mark.parametrize(
    "declared", [OVERSIZED_HEAD + bytes(4), OVERSIZED + bytes(4), bytes(4) + OVERSIZED, b"\xff" * 8, b"\xff" * 1000]
)
def test_who_declares_more_on_a_lane_than_may_be_is_cut_off(urls: dict[str, str], declared: bytes) -> None:
    with StreamClient(urls["worker"], timeout=5) as opened:
        opened.socket.sendall(declared)
        with contextlib.suppress(ConnectionResetError):  # cut off before it had all been read
            assert opened.socket.recv(1) == b""


@pytest.mark.parametrize("at", ["broker"])  # elsewhere names of one's own are refused
def test_a_second_client_with_the_same_routing_id_gets_none_of_the_firsts_answers(urls: dict[str, str], at: str) -> None:
    with dealer(urls[at], b"twin") as first:
        assert asked(first, request(protocol.LENGTH)).sequence == SEQUENCE
        with dealer(urls[at], b"twin") as second:
            for sequence in range(100, 150):
                second.send(request(protocol.LENGTH, sequence=sequence + 1000))
                assert asked(first, request(protocol.LENGTH, sequence=sequence)).sequence == sequence
            assert not second.poll(0)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["broker"])
def test_a_routing_id_longer_than_any_may_be_costs_nobody_much(urls: dict[str, str], data: Path, at: str) -> None:
    """ZMTP allows 255 bytes, and ZeroMQ takes more; each request and each answer would take them along."""
    before = {pid: most_resident_bytes(int(pid)) for pid in process_ids(data)}
    wanted = request(protocol.LENGTH)
    with shaken(urls[at], bytes(LONG_ID_BYTES)) as (raw, _heard), dealer(urls[at]) as other:
        for sequence in range(LONG_ID_REQUESTS):  # one of either, in turns
            raw.sendall(bytes([0, len(wanted)]) + wanted)
            assert asked(other, request(protocol.LENGTH, sequence=sequence)).sequence == sequence
        for _ in range(LONG_ID_REQUESTS):
            raw.sendall(bytes([0, len(wanted)]) + wanted)
        for sequence in range(LONG_ID_REQUESTS):
            assert asked(other, request(protocol.LENGTH, sequence=sequence)).sequence == sequence
    for pid, bytes_before in before.items():
        assert most_resident_bytes(int(pid)) < bytes_before + GROWTH_BYTES_MAX


def hello(layout_id: bytes, *, index: int = 0, first: int = 0, end: int = SLOTS // 2, workers: int = 2) -> bytes:
    """What worker 0 of 2 says, but for what is given here."""
    worker = RosterWorker(index, first, end, ["ipc:///nowhere"])
    return request(protocol.HELLO, value=encode(Hello(layout_id, b"i" * 16, workers, worker, 0)))


def impostors(layout_id: bytes) -> dict[str, list[bytes]]:
    """What a client may say where workers register; each must come to nothing."""
    forged = [*map(bytes, protocol.pack_reply(Reply(protocol.OK, 101, 0, b"forged")))]
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
        "one empty frame": [b""],
        "a hello without an address": [hello(layout_id)],
        "a hello to a client": [b"victim", hello(layout_id)],
        "a hello with a payload": [b"", hello(layout_id), b"payload"],
        "frames without end": [b""] * 5000,
        "an address alone": [b"victim"],
        "an answer to a client": [b"victim", *forged],
        "an answer to a client of some broker": [b"victim" + bytes(8), *forged],
        "an answer to nobody": [b"nobody", b"x"],
    }


@pytest.mark.parametrize("impostor", impostors(b""))
def test_a_client_that_poses_as_a_worker_is_ignored(urls: dict[str, str], impostor: str) -> None:
    answers = roster(urls["broker"])
    with dealer(urls["broker"], b"victim") as victim, dealer(urls["workers"]) as posing:
        asked(victim, request(protocol.ROSTER))
        for sequence in range(100, 150):
            posing.send_multipart(impostors(answers.layout_id)[impostor])
            reply = asked(victim, request((protocol.LENGTH, protocol.ROSTER)[sequence % 2], sequence=sequence))
            assert (reply.status, reply.sequence) == (protocol.OK, sequence)
            assert sequence % 2 == 0 or decode(Roster, reply.payload) == answers
        assert not posing.poll(0)


@pytest.mark.parametrize("index", [0, 1])
def test_a_stranger_that_says_it_is_a_worker_is_told_to_leave_and_gets_nothing_else(urls: dict[str, str], index: int) -> None:
    answers = roster(urls["broker"])
    part = slot_range(index, 2)
    forged = bytes(protocol.pack_reply(Reply(protocol.OK, 101, 0, b"forged"))[0])
    with dealer(urls["broker"], b"victim") as victim, dealer(urls["workers"]) as posing:
        for sequence in range(100, 150):
            posing.send_multipart([b"", hello(answers.layout_id, index=index, first=part[0], end=part[1])])
            posing.send_multipart([b"victim" + bytes(8), forged])
            reply = asked(victim, request(protocol.LENGTH, sequence=sequence, worker=index))
            assert (reply.status in (protocol.OK, protocol.UNKNOWN_DICT), reply.sequence) == (True, sequence)
            assert decode(Roster, asked(victim, request(protocol.ROSTER)).payload) == answers
        assert posing.poll(5000)
        while posing.poll(0):
            address, refusal = posing.recv_multipart()
            assert address == b""
            assert b"second process" in bytes(protocol.parse_reply(refusal).payload)


class Alone(NamedTuple):
    """A broker whose only worker, and whose clients, are a test."""

    front: str
    worker: Any

    def relayed(self) -> tuple[bytes, bytes]:
        """Address and head of the next request that the broker has for its worker."""
        while True:
            address, head = self.worker.recv_multipart()
            if address:  # an empty one: the broker looks whether the worker is connected
                return address, head

    def answer(self, address: bytes, *frames: bytes) -> None:
        """What a worker would send."""
        self.worker.send_multipart([address, *frames])


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    folder = tmp_path_factory.mktemp("alone")
    front, back = f"ipc://{folder}/front", f"ipc://{folder}/back"
    argv, pipe = child.command("holdall.broker", BrokerSettings([front], back)), subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=child.environment()) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline().decode().strip() == READY
        with dealer(back, b"worker") as worker:
            worker.send_multipart([b"", hello(b"the only layout!", end=SLOTS, workers=1)])
            with dealer(front) as client:
                assert asked(client, request(protocol.ROSTER)).status == protocol.OK  # once the worker has registered
            yield Alone(front, worker)
        assert running.poll() is None
        running.stdin.close()
        assert running.wait(WAIT_SECONDS) == 0


def answer_to(head: bytes) -> bytes:
    return bytes(protocol.pack_reply(Reply(protocol.OK, protocol.sequence_of(head), 0, b"genuine"))[0])


def false_answers(address: bytes, sequence: int) -> dict[str, list[bytes]]:
    """What a worker may send in place of the answer to a request from this address; its client gets none of it."""
    forged = bytes(protocol.pack_reply(Reply(protocol.OK, sequence, 0, b"forged"))[0])
    route, instance = address[:-8], address[-8:]
    return {
        "of no broker": [route, forged],
        "of another broker": [route + bytes(each ^ 1 for each in instance), forged],
        "of half a broker": [address[:-4], forged],
        "of a broker alone": [instance, forged],
        "of a broker twice": [address + instance, forged],
        "the wrong way round": [instance + route, forged],
        "a byte too many": [address + b"\0", forged],
        "of nobody": [b"nobody" + instance, forged],
        "no head": [address],
        "too many frames": [address, forged, b"payload", b"and more"],
        "frames without end": [address, forged, *[b"more"] * 5000],
    }


@pytest.mark.parametrize("false", false_answers(bytes(8), 0))
def test_an_answer_with_another_address_than_its_requests_reaches_nobody(alone: Alone, false: str) -> None:
    with dealer(alone.front, b"victim") as victim, dealer(alone.front) as other:
        for sequence in range(100, 110):
            for asking, route in ((victim, b"\0victim"), (other, None)):
                asking.send(request(protocol.LENGTH, sequence=sequence))
                address, head = alone.relayed()
                assert len(address) > 8
                assert route is None or address[:-8] == route
                alone.answer(*false_answers(address, sequence)[false])
                alone.answer(address, answer_to(head))
                assert received(asking) == Reply(protocol.OK, sequence, 0, b"genuine")
        assert not victim.poll(0)
        assert not other.poll(0)


def test_a_second_worker_with_the_same_routing_id_takes_nothing_from_the_first(alone: Alone) -> None:
    back = alone.worker.last_endpoint.decode()
    with dealer(back, b"worker") as second, dealer(alone.front, b"victim") as victim:
        for sequence in range(100, 150):
            victim.send(request(protocol.LENGTH, sequence=sequence))
            address, head = alone.relayed()
            assert protocol.sequence_of(head) == sequence
            second.send_multipart([address, *map(bytes, protocol.pack_reply(Reply(protocol.OK, sequence, 0, b"forged")))])
            alone.answer(address, answer_to(head))
            assert received(victim) == Reply(protocol.OK, sequence, 0, b"genuine")
        assert not second.poll(0)
        assert not victim.poll(0)
