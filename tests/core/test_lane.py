"""Messages on a lane: whole, in order, however the bytes are cut, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.client.connection.lane import BlockingLane
from holdall.errors import ProtocolError
from holdall.framing import ROOM_BYTES_MIN, Reader, Received, Sender
from holdall.protocol import FRAME_BYTES_MAX, HEAD_BYTES_MAX
from tests.streams import pack


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def received(reader: Reader) -> list[Received]:
    """All that is there."""
    messages: list[Received] = []
    while True:
        try:
            messages += reader.receive()
        except BlockingIOError:
            return messages


def plain(messages: list[Received]) -> list[list[bytes]]:
    return [[each.head] if each.payload is None else [each.head, bytes(each.payload)] for each in messages]


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=2), max_size=20),
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
)
def test_messages_come_whole_and_in_order_however_the_bytes_are_cut(messages: list[list[bytes]], cuts: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        reader, heard = Reader(ours), []
        data = b"".join(bytes(each) for message in messages for each in pack(list(message)))
        at = 0
        while at < len(data):
            cut = cuts[at % len(cuts)]
            theirs.sendall(data[at : at + cut])
            at += cut
            heard += plain(received(reader))
        assert heard == messages


def test_a_large_payload_comes_in_pieces_and_is_not_copied_again(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    payload = Random(1).randbytes(1_000_000)
    data = b"".join(bytes(each) for each in pack([b"head", payload]))
    reader, heard = Reader(ours), []
    for at in range(0, len(data), 50_000):
        theirs.sendall(data[at : at + 50_000])
        heard += received(reader)
    assert plain(heard) == [[b"head", payload]]
    assert isinstance(heard[0].payload, memoryview)


@pytest.mark.parametrize("came", [0, 1, 1_000, 60_000, 200_000])
def test_room_for_a_payload_grows_with_what_has_come(pair: tuple[socket.socket, socket.socket], came: int) -> None:
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
    reader = Reader(ours)
    theirs.sendall((4).to_bytes(4, "little") + FRAME_BYTES_MAX.to_bytes(4, "little") + b"head" + bytes(came))
    assert received(reader) == []
    assert len(reader._payload) <= 2 * came + ROOM_BYTES_MIN


@pytest.mark.parametrize("lengths", [(HEAD_BYTES_MAX + 1, 0), (0, FRAME_BYTES_MAX + 1), (2**32 - 1, 2**32 - 1)])
def test_more_than_may_be_is_refused_when_it_is_declared(
    pair: tuple[socket.socket, socket.socket], lengths: tuple[int, int]
) -> None:
    ours, theirs = pair
    theirs.sendall(b"".join(length.to_bytes(4, "little") for length in lengths))
    with pytest.raises(ProtocolError):
        Reader(ours).receive()


@pytest.mark.parametrize("said", [b"", b"\x05\x00", bytes(pack([b"head", b"payload"])[0]) + b"pay"])
def test_the_end_of_a_stream_is_an_end_wherever_it_comes(pair: tuple[socket.socket, socket.socket], said: bytes) -> None:
    ours, theirs = pair
    theirs.sendall(said)
    theirs.close()
    reader = Reader(ours)
    if said:
        assert reader.receive() == []
    with pytest.raises(EOFError):
        reader.receive()


@pytest.mark.parametrize("step", ["_give", "_sent"])
def test_a_lane_that_is_interrupted_in_the_middle_of_a_message_is_given_up(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: Sender, *_arguments: object) -> int:
        raise KeyboardInterrupt

    near, far = socket.socketpair()
    with near, far:
        lane = BlockingLane(near)
        monkeypatch.setattr(Sender, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            lane.send([b"head", bytes(10_000_000)])
        assert lane.is_broken
