"""The transport against a scripted server: redirections, refusals, answers cut at each byte, connections that end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest

from holdall import protocol
from holdall.client.redis.connector import RedisConnector
from holdall.client.redis.keyspace import Keyspace
from holdall.protocol import Reply, Request
from tests.processes import until

DICT_ID = b"d" * 16
SECONDS = 10.0
Answer = Callable[[list[bytes]], bytes | None]
"""What is answered to a command; None: the connection is ended."""


class Scripted:
    """A server that answers each command as it is told to, and remembers them."""

    def __init__(self, answer: Answer) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.asked: list[list[bytes]] = []
        self.connections = 0
        self._answer = answer
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                reader.feed(data)
                while (words := reader.gets()) is not False:
                    self.asked.append(words)
                    answer = self._answer(words)
                    if answer is None:
                        return
                    connection.sendall(answer)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def scripted() -> Iterator[Callable[[Answer], Scripted]]:
    made: list[Scripted] = []

    def make(answer: Answer) -> Scripted:
        made.append(Scripted(answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


def slots(*ports: int) -> bytes:
    """What a node answers to CLUSTER SLOTS: these share them."""
    share = 16_384 // len(ports)
    told = b"*%d\r\n" % len(ports)
    for number, port in enumerate(ports):
        end = 16_383 if number == len(ports) - 1 else (number + 1) * share - 1
        told += b"*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % (number * share, end, port)
    return told


def get(number: int, key: bytes = b"key") -> Request:
    return Request(protocol.GET, 0, 0, b"s" * 16, number, number, DICT_ID, key, b"")


def record(value: bytes) -> bytes:
    """What HMGET answers of an entry without a ttl."""
    import struct

    data = struct.pack("<ddI", 1.0, 2.0, 0) + value
    return b"*3\r\n$1\r\n0\r\n$-1\r\n$%d\r\n%s\r\n" % (len(data), data)


def ask(transport: Any, request: Request) -> Reply:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        transport.send(protocol.pack_request(request))
        for received in transport.receive(wait=True):
            if received.reply.sequence == request.sequence:
                reply: Reply = received.reply
                return reply
        transport.has_come_back()
    raise AssertionError(f"no answer: {transport.trouble}")


def transport_to(server: Scripted, more: str = "") -> Any:
    return RedisConnector(f"redis://127.0.0.1:{server.port}{more}").open_broker(0.05)


def alone(words: list[bytes]) -> bytes:
    return b"-ERR This instance has cluster support disabled\r\n" if words[0] == b"CLUSTER" else b"$0\r\n\r\n"


def test_a_moved_slot_is_asked_for_where_it_is_and_from_then_on(scripted: Callable[[Answer], Scripted]) -> None:
    def new(words: list[bytes]) -> bytes:
        return slots(new_server.port) if words[0] == b"CLUSTER" else record(b"new")

    new_server = scripted(new)
    slot = Keyspace("holdall", 16).of(DICT_ID, 0).slot

    def old(words: list[bytes]) -> bytes:
        if words[0] == b"CLUSTER":
            return slots(old_server.port)
        return b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, new_server.port) if words[0] == b"HMGET" else b"$0\r\n\r\n"

    old_server = scripted(old)
    transport = transport_to(old_server)
    assert bytes(ask(transport, get(1)).payload) == b"new"
    assert bytes(ask(transport, get(2)).payload) == b"new"
    assert sum(words[0] == b"HMGET" for words in old_server.asked) == 1
    transport.close()


def test_a_slot_that_is_moving_is_asked_for_elsewhere_this_once(scripted: Callable[[Answer], Scripted]) -> None:
    target = scripted(lambda words: b"+OK\r\n" if words[0] == b"ASKING" else record(b"there"))

    def source(words: list[bytes]) -> bytes:
        if words[0] == b"HMGET":
            return b"-ASK 1 127.0.0.1:%d\r\n" % target.port
        return slots(source_server.port) if words[0] == b"CLUSTER" else b"$0\r\n\r\n"

    source_server = scripted(source)
    transport = transport_to(source_server)
    for number in (1, 2):
        assert bytes(ask(transport, get(number)).payload) == b"there"
    assert [words[0] for words in target.asked] == [b"ASKING", b"HMGET"] * 2
    transport.close()


@pytest.mark.parametrize(
    "refusal", ["TRYAGAIN later", "CLUSTERDOWN", "LOADING", "READONLY no", "MASTERDOWN", "BUSY", "OOM none"]
)
def test_what_is_refused_for_a_moment_is_asked_again(scripted: Callable[[Answer], Scripted], refusal: str) -> None:
    refused: list[bytes] = []

    def answer(words: list[bytes]) -> bytes:
        if words[0] != b"HMGET":
            return alone(words)
        refused.append(words[0])
        return record(b"value") if len(refused) > 3 else f"-{refusal}\r\n".encode()

    transport = transport_to(scripted(answer))
    reply = ask(transport, get(1))
    if refusal.startswith("OOM"):
        assert (reply.status, len(refused)) == (protocol.NO_ROOM, 1)
    else:
        assert (reply.status, bytes(reply.payload)) == (protocol.OK, b"value")
    transport.close()


def test_an_answer_cut_at_each_byte_is_that_answer(scripted: Callable[[Answer], Scripted]) -> None:
    whole = record(b"the value")

    class Slow(Scripted):
        def _serve(self, connection: socket.socket) -> None:
            reader = hiredis.Reader()
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := connection.recv(65536):
                    reader.feed(data)
                    while (words := reader.gets()) is not False:
                        for byte in alone(words) if words[0] != b"HMGET" else whole:
                            connection.sendall(bytes([byte]))

    server = Slow(alone)
    transport = transport_to(server)
    for number in range(1, 20):
        assert bytes(ask(transport, get(number)).payload) == b"the value"
    transport.close()
    server.close()


def test_a_connection_that_ends_before_the_answer_is_made_again(scripted: Callable[[Answer], Scripted]) -> None:
    ends: list[bytes] = []

    def answer(words: list[bytes]) -> bytes | None:
        if words[0] != b"HMGET":
            return alone(words)
        ends.append(words[0])
        return record(b"value") if len(ends) > 3 else None

    server = scripted(answer)
    transport = transport_to(server)
    assert bytes(ask(transport, get(1)).payload) == b"value"
    assert server.connections >= 4
    transport.close()


@pytest.mark.parametrize(
    "junk", [b"HTTP/1.1 200 OK\r\n", b"*1\r\n$-5\r\nx", b":1\r\n:2\r\n:3\r\n", b"\0\0\0", b"*99999999999999\r\n"]
)
def test_what_is_no_answer_ends_the_connection_and_no_more(scripted: Callable[[Answer], Scripted], junk: bytes) -> None:
    said: list[bytes] = []

    def answer(words: list[bytes]) -> bytes:
        if words[0] != b"HMGET":
            return alone(words)
        said.append(words[0])
        return record(b"value") if len(said) > 2 else junk

    transport = transport_to(scripted(answer))
    reply = ask(transport, get(1))
    assert reply.status == protocol.STORAGE or bytes(reply.payload) == b"value"
    until(lambda: bytes(ask(transport, get(2)).payload) == b"value")
    transport.close()


def test_a_request_that_was_interrupted_gets_no_other_ones_answer(scripted: Callable[[Answer], Scripted]) -> None:
    def answer(words: list[bytes]) -> bytes:
        return record(words[-1]) if words[0] == b"HMGET" else alone(words)

    transport = transport_to(scripted(answer))
    assert bytes(ask(transport, get(1, b"one")).payload) == b"eone"
    take = transport._take

    def interrupted(*_: Any) -> None:
        take(*_)
        raise KeyboardInterrupt

    transport._take = interrupted
    with pytest.raises(KeyboardInterrupt):
        transport.send(protocol.pack_request(get(2, b"two")))
    transport._take = take
    assert bytes(ask(transport, get(3, b"three")).payload) == b"ethree"
    assert bytes(ask(transport, get(4, b"four")).payload) == b"efour"
    transport.close()


def test_a_write_is_acknowledged_when_so_many_replicas_have_it(scripted: Callable[[Answer], Scripted]) -> None:
    import struct

    replicas = [0]

    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"WAIT":
            replicas[0] += 1
            return b":%d\r\n" % (0 if replicas[0] < 3 else 1)
        if words[0] == b"EVALSHA":
            outcome = bytes([protocol.OK]) + struct.pack("<d", 7.0)
            return b"$%d\r\n%s\r\n" % (len(outcome), outcome)
        return alone(words)

    server = scripted(answer)
    transport = transport_to(server, "?wait=1")
    reply = ask(transport, Request(protocol.PUT, 0, 0, b"s" * 16, 1, 1, DICT_ID, b"key", b"value"))
    assert (reply.status, reply.version) == (protocol.OK, 7)
    assert replicas == [3]
    puts = [words for words in server.asked if words[0] == b"EVALSHA"]
    assert len(puts) == 3
    assert len({tuple(words) for words in puts}) == 1  # the same numbers each time
    transport.close()


def test_a_node_that_stands_still_is_given_up_when_its_slots_are_anothers(scripted: Callable[[Answer], Scripted]) -> None:
    stands = threading.Event()

    def new(words: list[bytes]) -> bytes:
        return slots(new_server.port) if words[0] == b"CLUSTER" else record(b"new")

    new_server = scripted(new)

    def old(words: list[bytes]) -> bytes:
        if words[0] == b"CLUSTER":
            return slots(old_server.port, new_server.port)
        if words[0] == b"HMGET":
            stands.wait(20)
        return b"$0\r\n\r\n"

    old_server = scripted(old)
    keyspace = Keyspace("holdall", 16)
    hash_ = next(part << 26 for part in range(16) if keyspace.of(DICT_ID, part << 26).slot < 8_192)
    transport = transport_to(old_server)
    request = Request(protocol.GET, 0, hash_, b"s" * 16, 1, 1, DICT_ID, b"key", b"")
    answered: list[Reply] = []

    def is_answered() -> bool:
        transport.send(protocol.pack_request(request))
        answered.extend(each.reply for each in transport.receive(wait=True))
        transport.has_come_back()
        return bool(answered)

    until(is_answered)
    assert bytes(answered[0].payload) == b"new"
    stands.set()
    transport.close()
