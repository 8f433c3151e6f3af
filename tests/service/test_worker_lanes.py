"""Clients that are connected to a worker by a lane: in turns, and what they do not take is bounded."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdall import protocol
from holdall.process.admission import Admission
from holdall.process.listen import listening_socket
from holdall.process.poller import SystemPoller
from holdall.worker import lanes
from holdall.worker.lanes import Entrance
from tests.streams import StreamClient, pack

ANSWER = bytes(1_000_000)
Connect = Callable[[], tuple[StreamClient, Any]]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Makes a client, and its lane as the worker sees it."""
    url = f"ipc://{tmp_path}/worker-0"
    child: Any = SimpleNamespace(watched=[])
    poller = SystemPoller(child, Admission(url))
    listening = listening_socket(url)
    there = Entrance(listening, poller)
    clients: list[StreamClient] = []
    known: list[Any] = []

    def connected() -> tuple[StreamClient, Any]:
        client = StreamClient(url, timeout=10)
        clients.append(client)
        client.send(b"hello")
        there.take()
        [lane] = [each for each in poller.wait(0.0, 0.0) if each is not there and each.take()[0]]
        known.append(lane)
        return client, lane

    yield connected
    for client in clients:
        client.socket.close()
    for lane in known:
        while lane.is_open:  # until it sees that its client is gone
            lane.take()
    listening.close()


def request(opcode: int) -> bytes:
    wanted = protocol.Request(opcode, 0, 0, bytes(16), 1, 1, bytes(16), b"k", b"")
    return bytes(protocol.pack_request(wanted)[0])


def test_a_client_that_asks_for_many_chunks_has_one_in_a_turn(connect: Connect) -> None:
    client, lane = connect()
    for _ in range(3):
        client.send(request(protocol.READ_CHUNK))
    assert [len(lane.take()[0]) for _ in range(4)] == [1, 1, 1, 0]


def test_small_requests_that_wait_are_taken_together(connect: Connect) -> None:
    client, lane = connect()
    for _ in range(3):
        client.send(request(protocol.GET))
    assert len(lane.take()[0]) == 3


@pytest.mark.parametrize("bound", ["PEER_BYTES_MAX", "BYTES_MAX"])
def test_answers_that_are_not_taken_are_dropped_whole_beyond_the_bound(
    connect: Connect, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, bound, 3 * len(ANSWER))
    client, lane = connect()
    answers = [[b"head %d" % number, ANSWER] for number in range(10)]
    for answer in answers:
        lane.send(b"", answer)
    assert lane._entrance.backlog_bytes <= 3 * len(ANSWER)
    heard: list[bytes] = []
    client.socket.settimeout(10)
    while lane._sender.unsent or client.poll(0):
        heard += [each.head for each in client.reader.receive()]
        lane.take()
    assert heard == [b"head %d" % number for number in range(len(heard))]
    assert 2 <= len(heard) < 10


def test_who_takes_nothing_while_all_room_is_used_gets_nothing(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BYTES_MAX", 0)
    _client, lane = connect()
    lane._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(1000):
        lane.send(b"", [b"x" * 100])
    assert lane._entrance.backlog_bytes <= len(pack([b"x" * 100])[0])


def test_a_client_that_is_gone_says_nothing_more(connect: Connect) -> None:
    client, lane = connect()
    for opcode in (protocol.READ_CHUNK, protocol.READ_CHUNK, protocol.GET):
        client.send(request(opcode))
    assert len(lane.take()[0]) == 1
    client.socket.close()
    while lane.is_open:
        lane.send(b"", [ANSWER])
    assert lane.take() == ([], 0)
