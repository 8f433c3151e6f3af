"""A message as a line of the history."""

from __future__ import annotations

from typing import Any

from holdall import protocol
from holdall.bodies import decode
from holdall.errors import ProtocolError

ROUTE_BYTES = 5
ADDRESS_BYTES = ROUTE_BYTES + 8
OPCODES = {
    getattr(protocol, name): name
    for name in [
        "GET",
        "PUT",
        "POP",
        "CONTAINS",
        "PUT_MANY",
        "WRITE_CHUNK",
        "SEAL",
        "READ_CHUNK",
        "DROP_BLOB",
        "LENGTH",
        "CLEAR",
        "PAGE",
        "REGISTER",
        "DROP",
        "CREATE",
        "LOOKUP",
        "MARK_DELETED",
        "REMOVE",
        "LIST",
        "FIND",
        "BATCH",
        "ROSTER",
        "HELLO",
    ]
}
STATUSES = {
    getattr(protocol, name): name
    for name in [
        "OK",
        "MISSING",
        "EXISTS",
        "UNKNOWN_DICT",
        "WRONG_WORKER",
        "UNAVAILABLE",
        "UNKNOWN_BLOB",
        "DICT_NOT_FOUND",
        "ALREADY_EXISTS",
        "INVALID",
        "TOO_LARGE",
        "MALFORMED",
        "STORAGE",
        "NO_ROOM",
        "FORGOTTEN",
    ]
}


def shown(frames: list[Any]) -> str:
    """What a message says, and the client's route if one stands in front."""
    route = ""
    if frames and len(frames[0]) in (0, ROUTE_BYTES, ADDRESS_BYTES):
        route, frames = f"{bytes(frames[0][1:ROUTE_BYTES]).hex()} ", frames[1:]
    for parsed in (_request, _reply):
        try:
            return route + parsed(frames)
        except (ProtocolError, TypeError, KeyError):
            pass
    return f"{route}{len(frames)} frames of something else"


def is_batch_reply(head: bytes) -> bool:
    """Whether this is the head of an answer to a BATCH."""
    return len(head) >= protocol.REPLY.size and bool(head[protocol.FLAGS_OFFSET] & protocol.BATCHED)


def _request(frames: list[Any]) -> str:
    request = protocol.parse_request(*frames)
    if request.opcode == protocol.BATCH:
        return "BATCH of " + "; ".join(_request([head]) for head in decode(list[bytes], request.value))
    name = OPCODES[request.opcode] + (" again" if request.flags & protocol.RETRY else "")
    numbers = f"{request.session.hex()[:4]} {request.sequence} from {request.lowest}"
    return f"{name} {numbers}: {request.key!r} {bytes(request.value[:30])!r}"


def _reply(frames: list[Any]) -> str:
    parsed = protocol.parse_reply(*frames)
    if is_batch_reply(frames[0]):
        return "replies " + "; ".join(_reply([head]) for head in decode(list[bytes], parsed.payload))
    return f"{STATUSES[parsed.status]} to {parsed.sequence} {bytes(parsed.payload[:30])!r}"
