"""Requests about a Dict and their replies, with what lets a refused one be asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall import protocol
from holdall.bodies import decode
from holdall.client import catalog
from holdall.client.ask import Ask, Operation
from holdall.client.transfer import Place
from holdall.protocol import Buffer, Reply
from holdall.slots import key_hash

if TYPE_CHECKING:
    from holdall.client.handle import Handle


def place_of(handle: Handle, verb: str, key: object, data: bytes) -> Place:
    """What a transfer of the value of this key needs to know."""
    return Place(key_hash(handle.crc, data), handle.id or b"", verb, handle.label, key, handle.connected().near)


def about_key(
    handle: Handle, opcode: int, verb: str, key: object, data: bytes, value: Buffer = b"", flags: int = 0
) -> Operation[Reply]:
    """The reply to a request about one key."""
    dict_id = handle.id or (yield from handle.hydration())
    hash_ = key_hash(handle.crc, data)
    ask = Ask(opcode, hash_, verb, handle.label, dict_id=dict_id, data=data, value=value, flags=flags, key=key)
    reply: Reply = yield ask
    return reply if reply.status <= protocol.EXISTS else (yield from settled(handle, ask, reply))


def settled(handle: Handle, ask: Ask, reply: Reply) -> Operation[Reply]:
    """The reply to a request that was refused at first: an answer, or UNKNOWN_BLOB, or else the error that it is is raised."""
    while reply.status > protocol.EXISTS and reply.status != protocol.UNKNOWN_BLOB:
        yield from _recover(handle, ask, reply)
        reply = yield ask
    return reply


def all_of(handle: Handle, asks: list[Ask]) -> Operation[list[Reply]]:
    """The replies to these requests, all of them answers; or UNKNOWN_BLOB, to those that bring some."""
    replies: list[Reply] = yield asks
    for position, ask in enumerate(asks):
        if replies[position].status > protocol.EXISTS:
            replies[position] = yield from settled(handle, ask, replies[position])
    return replies


def counts(handle: Handle, asks: list[Ask]) -> Operation[list[int]]:
    """The numbers that answer these requests."""
    return [decode(int, reply.payload) for reply in (yield from all_of(handle, asks))]


def to_all(handle: Handle, opcode: int, verb: str, value: bytes = b"") -> Operation[list[Ask]]:
    """A request to each worker."""
    dict_id = handle.id or (yield from handle.hydration())
    hashes = [worker.hash for worker in handle.connected().roster.workers]
    return [Ask(opcode, hash_, verb, handle.label, dict_id=dict_id, value=value) for hash_ in hashes]


def _recover(handle: Handle, ask: Ask, reply: Reply) -> Operation[None]:
    """Do what lets this request be asked again, or raise the error that its reply is."""
    if reply.status != protocol.UNKNOWN_DICT:
        raise catalog.error_of(ask, reply)
    yield from handle.recover(ask)
