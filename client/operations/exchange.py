"""Requests and their replies, with what lets a refused one be asked again, and the error that a reply is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdall import protocol
from holdall.bodies import Roster, decode
from holdall.client.connection.query import Operation, Queries, Query
from holdall.errors import (
    AlreadyExistsError,
    ConnectionError,
    Error,
    InvalidError,
    NotFoundError,
    OutcomeUnknown,
    ProtocolError,
    RequestSizeError,
    StorageError,
    TimeoutError,
)
from holdall.protocol import Buffer, Reply
from holdall.slots import key_hash

if TYPE_CHECKING:
    from holdall.client.handle import Handle

_ERRORS: dict[int, type[Error]] = {
    protocol.DICT_NOT_FOUND: NotFoundError,
    protocol.ALREADY_EXISTS: AlreadyExistsError,
    protocol.INVALID: InvalidError,
    protocol.TOO_LARGE: RequestSizeError,
    protocol.MALFORMED: ProtocolError,
    protocol.STORAGE: StorageError,
    protocol.NO_ROOM: StorageError,
    protocol.FORGOTTEN: OutcomeUnknown,
    protocol.UNAVAILABLE: TimeoutError,
    protocol.WRONG_WORKER: ConnectionError,
}


def error_of(query: Query, reply: Reply) -> Error:
    """The error that this reply is."""
    text = bytes(reply.payload).decode("utf-8", "replace")
    if reply.status == protocol.WRONG_WORKER:
        text = "the service at this address is another one than before: make a new Client"
    return _ERRORS.get(reply.status, ProtocolError)(f"cannot {query}: {text or f'status {reply.status}'}")


def to_each(roster: Roster, opcode: int, verb: str, of: str, **more: Any) -> list[Query]:
    """A request to each worker."""
    return [Query(opcode, worker.hash, verb, of, **more) for worker in roster.workers]


def about_key(
    handle: Handle, opcode: int, verb: str, key: object, data: bytes, value: Buffer = b"", flags: int = 0
) -> Operation[Reply]:
    """The reply to a request about one key."""
    dict_id = handle.id or (yield from handle.hydration())
    hash_ = key_hash(handle.crc, data)
    query = Query(opcode, hash_, verb, handle.label, dict_id=dict_id, data=data, value=value, flags=flags, key=key)
    reply: Reply = yield query
    return reply if reply.status <= protocol.EXISTS else (yield from settled(handle, query, reply))


def settled(handle: Handle, query: Query, reply: Reply) -> Operation[Reply]:
    """The reply to a request that was refused at first: an answer, or UNKNOWN_BLOB; any other is raised as the error it is."""
    while reply.status > protocol.EXISTS and reply.status != protocol.UNKNOWN_BLOB:
        if reply.status != protocol.UNKNOWN_DICT:
            raise error_of(query, reply)
        yield from handle.register(query)
        reply = yield query
    return reply


def all_of(handle: Handle, queries: list[Query]) -> Operation[list[Reply]]:
    """The replies to these requests, all of them answers; or UNKNOWN_BLOB, to those that bring some."""
    replies: list[Reply] = yield Queries(queries)
    for position, query in enumerate(queries):
        if replies[position].status > protocol.EXISTS:
            replies[position] = yield from settled(handle, query, replies[position])
    return replies


def of_all(handle: Handle, opcode: int, verb: str, value: bytes = b"") -> Operation[list[Reply]]:
    """The replies of all workers."""
    dict_id = handle.id or (yield from handle.hydration())
    queries = to_each(handle.connected().roster, opcode, verb, handle.label, dict_id=dict_id, value=value)
    return (yield from all_of(handle, queries))


def count(handle: Handle, opcode: int, verb: str) -> Operation[int]:
    """The sum of the numbers that all workers answer."""
    return sum(decode(int, reply.payload) for reply in (yield from of_all(handle, opcode, verb)))
