"""Requests about a Dict and their replies, with what lets a refused one be asked again."""

from __future__ import annotations

from typing import Any, Protocol

from holdall import protocol
from holdall.bodies import Page, Roster, decode, encode
from holdall.client.connection.query import Operation, Queries, Query
from holdall.protocol import Buffer, Reply
from holdall.settings import Serializer
from holdall.slots import key_hash

from .large import Place
from .refusals import error_of


class ServiceClient(Protocol):
    """What operations need of a client."""

    @property
    def address(self) -> str: ...

    @property
    def roster(self) -> Roster: ...

    passes_files: bool
    """Whether they may pass open files to this client."""

    @property
    def reads_only(self) -> bool:
        """Whether its key is a reader's."""
        ...


class DictHandle(Protocol):
    """What operations need of a handle."""

    label: str
    id: bytes | None
    crc: int
    serializer: Serializer

    def connected(self) -> ServiceClient: ...

    def hydration(self) -> Operation[bytes]: ...

    def register(self, refused: Query) -> Operation[None]: ...


def place_of(handle: DictHandle, verb: str, key: object, data: bytes) -> Place:
    """What a transfer of the value of this key needs to know."""
    return Place(key_hash(handle.crc, data), handle.id or b"", verb, handle.label, key, handle.connected().passes_files)


def to_each(roster: Roster, opcode: int, verb: str, of: str, **more: Any) -> list[Query]:
    return [Query(opcode, worker.hash, verb, of, **more) for worker in roster.workers]


def about_key(
    handle: DictHandle, opcode: int, verb: str, key: object, data: bytes, value: Buffer = b"", flags: int = 0
) -> Operation[Reply]:
    dict_id = handle.id or (yield from handle.hydration())
    hash_ = key_hash(handle.crc, data)
    query = Query(opcode, hash_, verb, handle.label, dict_id=dict_id, key=data, value=value, flags=flags, shown_key=key)
    reply: Reply = yield query
    return reply if reply.status <= protocol.ANSWERS_MAX else (yield from settled(handle, query, reply))


def settled(handle: DictHandle, query: Query, reply: Reply) -> Operation[Reply]:
    """The reply to a request that was refused at first: an answer, or UNKNOWN_BLOB; any other is raised as the error it is."""
    while reply.status > protocol.ANSWERS_MAX and reply.status != protocol.UNKNOWN_BLOB:
        if reply.status != protocol.UNKNOWN_DICT:
            raise error_of(query, reply)
        yield from handle.register(query)
        if handle.connected().reads_only:
            return _nothing(query)
        reply = yield query
    return reply


def _nothing(query: Query) -> Reply:
    """What a worker would answer of a Dict that it has not met, and so has nothing of; a reader registers none with it."""
    if query.opcode in (protocol.GET, protocol.CONTAINS):
        return Reply(protocol.MISSING, 0, 0, b"")
    if query.opcode == protocol.GET_MANY:
        return Reply(protocol.OK, 0, 0, encode([None] * len(decode(list[bytes], query.value))))
    return Reply(protocol.OK, 0, 0, encode(0 if query.opcode == protocol.LENGTH else Page([])))


def answers_to(handle: DictHandle, queries: list[Query]) -> Operation[list[Reply]]:
    """The replies to these requests, all of them answers; or UNKNOWN_BLOB, to those that bring some."""
    replies: list[Reply] = yield Queries(queries)
    for position, query in enumerate(queries):
        if replies[position].status > protocol.ANSWERS_MAX:
            replies[position] = yield from settled(handle, query, replies[position])
    return replies


def ask_each(handle: DictHandle, opcode: int, verb: str, value: bytes = b"") -> Operation[list[Reply]]:
    dict_id = handle.id or (yield from handle.hydration())
    queries = to_each(handle.connected().roster, opcode, verb, handle.label, dict_id=dict_id, value=value)
    return (yield from answers_to(handle, queries))
