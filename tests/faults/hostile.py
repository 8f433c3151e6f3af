"""Clients that say what they like, to each kind of socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zmq

from holdall import protocol
from holdall.protocol import Reply, Request
from holdall.slots import part_hash, slot_range
from tests.fuzz.strangers import connected, handshake, shake_hands
from tests.processes import keyed
from tests.streams import StreamClient

SEQUENCE = 7

KEYS: dict[str, Path] = {}
"""Connection files, by the URLs where a key is asked for."""


@contextlib.contextmanager
def dealer(url: str, routing_id: bytes | None = None) -> Iterator[Any]:
    """A ZeroMQ socket that can send anything. What is sent waits until it is connected."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as opened:
        opened.linger = 0
        opened.immediate = True
        opened.rcvtimeo = opened.sndtimeo = 5000
        if routing_id is not None:
            opened.routing_id = routing_id
        if url in KEYS:
            keyed(opened, KEYS[url])
        opened.connect(url)
        yield opened


def request(
    opcode: int, *, key: bytes = b"", value: bytes = b"", flags: int = 0, sequence: int = SEQUENCE, worker: int = 0
) -> bytes:
    """The only frame of a request that this worker of two can carry out."""
    hash_ = part_hash(*slot_range(worker, 2))
    session, dict_id = b"hostile session!", b"hostile dict id!"
    return bytes(protocol.pack_request(Request(opcode, flags, hash_, session, sequence, sequence, dict_id, key, value))[0])


def received(opened: Any) -> Reply:
    frames = opened.recv_multipart()
    return protocol.parse_reply(*frames)


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    """What can send anything to this URL of a broker or, by a lane, of a worker."""
    if url.startswith("ipc://") and "/worker-" in url:
        with StreamClient(url, timeout=5) as opened:
            yield opened
    else:
        with dealer(url) as opened:
            yield opened


def asked(opened: Any, *frames: bytes) -> Reply:
    opened.send_multipart(frames)
    return received(opened)


@contextlib.contextmanager
def shaken(url: str, identity: bytes = b"") -> Iterator[tuple[socket.socket, BinaryIO]]:
    """A bare connection to a ZeroMQ socket after the handshake, with this routing id: to write to, and to read from."""
    with connected(url) as raw, raw.makefile("rb") as heard:
        raw.settimeout(5)
        assert b"READY" in shake_hands(raw, handshake(identity))
        yield raw, heard


def most_resident_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024
