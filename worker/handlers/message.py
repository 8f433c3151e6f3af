"""What comes to a worker and what goes out, and the heads of the requests in it: one, or those of a batch."""

from __future__ import annotations

from typing import Any

import msgspec

from holdall import protocol
from holdall.bodies import decode
from holdall.errors import ProtocolError
from holdall.protocol import Buffer

BATCH_REQUESTS_MAX = 1_000
"""Requests in one BATCH message."""
BATCH = bytes([protocol.BATCH])


class Message(msgspec.Struct, frozen=True, gc=False):
    """What came in: from where, by which way back, and the frames of a request."""

    origin: Any
    route: bytes
    head: bytes
    payload: Buffer | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What goes out: where to, by which way, the frames of a reply, and an open file that goes along."""

    origin: Any
    route: bytes
    frames: list[Buffer]
    file: Any = None


def heads_of(message: Message) -> list[bytes]:
    """The heads of the requests in a message; none if it is a batch that is malformed."""
    if message.head[1:2] != BATCH:
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
    if any(each[1:2] == protocol.CHUNK_READ for each in heads):
        raise ProtocolError("chunks are not read in a batch: their answers would be in memory all at once")
    return heads
