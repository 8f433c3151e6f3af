"""What comes to a worker and what goes out, and the heads of the requests in it: one, or those of a batch."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from holdall import protocol
from holdall.blob import CHUNK_BYTES
from holdall.bodies import decode
from holdall.errors import ProtocolError
from holdall.protocol import Buffer

BATCH_REQUESTS_MAX = 1_000
"""Requests in one BATCH message."""
BATCH_WEIGHT = 20
"""By how much the answers of a batch may be larger than it is, as a rule: of a thousand gets it is taken alone."""
BATCH_OPCODE = bytes([protocol.BATCH])


class Source(Protocol):
    """Where messages come from, and their answers go: a lane, or the uplink to the broker."""

    @property
    def passes_files(self) -> bool: ...

    def send(self, address: bytes, frames: list[Buffer], file: Any = None, /) -> bool:
        """Send a message, with this open file if it `passes_files`. Returns False if it is dropped."""
        ...


Connection = tuple[Source, bytes]
"""A source, and the address of one client there."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What came in: a request's frames, where from, its client's address there. The two make a connection. The address begins
    with the client's role, and is empty on a lane: there comes nobody but the service's own user.
    """

    source: Source
    address: bytes
    head: bytes
    payload: Buffer | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What goes out: the frames of a reply, where to, and an open file that goes along."""

    source: Source
    address: bytes
    frames: list[Buffer]
    file: Any = None


def heads_of(message: Message) -> list[bytes]:
    """The heads of the requests in a message; none if it is a batch that is malformed."""
    if message.head[1:2] != BATCH_OPCODE:
        return [message.head]
    try:
        return batched_heads(message)
    except ProtocolError:
        return []


def batched_heads(message: Message) -> list[bytes]:
    """The heads of the requests in a batch. Raises ProtocolError if it is malformed."""
    heads = decode(list[bytes], protocol.parse_request(message.head, message.payload).value)
    if len(heads) > BATCH_REQUESTS_MAX:
        raise ProtocolError(f"a batch has at most {BATCH_REQUESTS_MAX} requests, this one {len(heads)}")
    if any(len(each) > 1 and each[1] in protocol.LARGE_ANSWERS for each in heads):
        raise ProtocolError("a batch has no requests with large answers: they would be in memory all at once")
    return heads


def work_bytes(head: bytes, payload: Buffer | None) -> int:
    """How much work a request brings: its bytes, and about those of its answer."""
    size = len(head) + (0 if payload is None else len(payload))
    opcode = head[1] if len(head) > 1 else 0
    if opcode == protocol.BATCH:
        return size * BATCH_WEIGHT
    return size + (CHUNK_BYTES if opcode in protocol.LARGE_ANSWERS else 0)
