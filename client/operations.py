"""The operations of a Dict: each yields its requests, is sent the replies, returns the result.

Written once; the drivers in `blocking` and `awaiting` run them. A handle is hydrated (its id looked up) by the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Union
from zlib import crc32

from holdall import protocol
from holdall.bodies import Page, PageRequest, decode, encode
from holdall.client import catalog
from holdall.client.ask import Ask, Operation
from holdall.client.serialization import check_size, decode_key, decode_value, encode_key, encode_value, key_object
from holdall.errors import RequestSizeError
from holdall.protocol import Buffer, Reply, join_key_object

if TYPE_CHECKING:
    from holdall.client.dict import Dict

Entry = tuple[bytes, Union[bytes, None], bytes]
"""Key, key object if the key alone does not give it back, value: as encoded."""
PAGE_ENTRIES = 1_000
UPDATE_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""An update larger than this goes to a worker in several messages, each of them atomic."""


class Position(NamedTuple):
    """Where an iteration stands: the how manieth worker, and the key there after which it goes on."""

    worker: int
    after: bytes


START = Position(0, b"")


def get(handle: Dict[Any, Any], key: object, default: Any) -> Operation[Any]:
    reply = yield from _about_key(handle, protocol.GET, "get", key, encode_key(handle.label, key).data)
    return default if reply.status == protocol.MISSING else decode_value(handle.label, key, reply.payload)


def put(handle: Dict[Any, Any], key: object, value: object, skip_if_exists: bool) -> Operation[bool]:
    encoded = encode_key(handle.label, key)
    shown_as = key_object(handle.label, key, encoded)
    field = encode_value(handle.label, key, value)
    check_size(handle.label, key, len(encoded.data) + len(shown_as or b"") + len(field))
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    if shown_as is not None:
        flags |= protocol.KEY_OBJECT
        field = join_key_object(shown_as, field)
    reply = yield from _about_key(handle, protocol.PUT, "put", key, encoded.data, field, flags)
    return bool(reply.status == protocol.OK)


def pop(handle: Dict[Any, Any], key: object, default: Any) -> Operation[Any]:
    reply = yield from _about_key(handle, protocol.POP, "pop", key, encode_key(handle.label, key).data)
    return default if reply.status == protocol.MISSING else decode_value(handle.label, key, reply.payload)


def remove(handle: Dict[Any, Any], key: object) -> Operation[bool]:
    """Remove a key, whatever its value; returns whether it was there."""
    reply = yield from _about_key(handle, protocol.POP, "delete", key, encode_key(handle.label, key).data)
    return bool(reply.status == protocol.OK)


def contains(handle: Dict[Any, Any], key: object) -> Operation[bool]:
    reply = yield from _about_key(handle, protocol.CONTAINS, "look for", key, encode_key(handle.label, key).data)
    return bool(reply.status == protocol.OK)


def put_many(handle: Dict[Any, Any], items: Iterable[tuple[object, object]], skip_if_exists: bool) -> Operation[int]:
    entries: list[Entry] = []
    for key, value in items:
        if len(entries) == protocol.UPDATE_ENTRIES_MAX:
            raise RequestSizeError(
                f"an update of {handle.label} has at most {protocol.UPDATE_ENTRIES_MAX:,} entries; nothing was stored: "
                "divide it into several"
            )
        encoded = encode_key(handle.label, key)
        entry = (encoded.data, key_object(handle.label, key, encoded), encode_value(handle.label, key, value))
        check_size(handle.label, key, len(entry[0]) + len(entry[1] or b"") + len(entry[2]))
        entries.append(entry)
    dict_id = handle.id or (yield from handle.hydration())
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    asks = [
        Ask(protocol.PUT_MANY, hash_, "update", handle.label, dict_id=dict_id, value=encode(group), flags=flags)
        for hash_, group in _by_worker(handle, entries)
    ]
    return sum((yield from _counts(handle, asks)))


def length(handle: Dict[Any, Any]) -> Operation[int]:
    return sum((yield from _counts(handle, (yield from _to_all(handle, protocol.LENGTH, "count")))))


def clear(handle: Dict[Any, Any]) -> Operation[None]:
    yield from _all(handle, (yield from _to_all(handle, protocol.CLEAR, "clear")))


def page(handle: Dict[Any, Any], position: Position, with_values: bool) -> Operation[tuple[list[Any], Position | None]]:
    """Some items (keys alone, or pairs) from this position on, and the position after them; None at the end."""
    dict_id = handle.id or (yield from handle.hydration())
    number, after = position
    workers = handle.connected().roster.workers
    flags = protocol.WITH_VALUES if with_values else 0
    body = encode(PageRequest(after, PAGE_ENTRIES))
    slot = workers[number].first_slot
    ask = Ask(protocol.PAGE, slot, "iterate over", handle.label, dict_id=dict_id, value=body, flags=flags)
    found = decode(Page, (yield from _all(handle, [ask]))[0].payload)
    items = [_item(handle, entry) if with_values else decode_key(handle.label, *entry[:2]) for entry in found.entries]
    if found.more:
        return items, Position(number, found.entries[-1][0])
    return items, Position(number + 1, b"") if number + 1 < len(workers) else None


def _item(handle: Dict[Any, Any], entry: tuple[bytes, bytes | None, bytes | None]) -> tuple[Any, Any]:
    key = decode_key(handle.label, entry[0], entry[1])
    return key, decode_value(handle.label, key, entry[2] or b"")


def _about_key(
    handle: Dict[Any, Any], opcode: int, verb: str, key: object, data: bytes, value: Buffer = b"", flags: int = 0
) -> Operation[Reply]:
    """The reply to a request about one key."""
    dict_id = handle.id or (yield from handle.hydration())
    hash_ = crc32(data, handle.crc)
    ask = Ask(opcode, hash_, verb, handle.label, dict_id=dict_id, data=data, value=value, flags=flags, key=key)
    reply: Reply = yield ask
    while reply.status > protocol.EXISTS:
        yield from _recover(handle, ask, reply)
        reply = yield ask
    return reply


def _all(handle: Dict[Any, Any], asks: list[Ask]) -> Operation[list[Reply]]:
    """The replies to these requests, all of them answers."""
    replies: list[Reply] = yield asks
    for position, ask in enumerate(asks):
        while replies[position].status > protocol.EXISTS:
            yield from _recover(handle, ask, replies[position])
            replies[position] = yield ask
    return replies


def _counts(handle: Dict[Any, Any], asks: list[Ask]) -> Operation[list[int]]:
    return [decode(int, reply.payload) for reply in (yield from _all(handle, asks))]


def _to_all(handle: Dict[Any, Any], opcode: int, verb: str) -> Operation[list[Ask]]:
    dict_id = handle.id or (yield from handle.hydration())
    slots = [worker.first_slot for worker in handle.connected().roster.workers]
    return [Ask(opcode, slot, verb, handle.label, dict_id=dict_id) for slot in slots]


def _recover(handle: Dict[Any, Any], ask: Ask, reply: Reply) -> Operation[None]:
    """Do what lets this request be asked again, or raise the error that its reply is."""
    if reply.status != protocol.UNKNOWN_DICT or handle.id is None:
        raise catalog.error_of(ask, reply)
    yield from catalog.register(handle.connected(), handle.environment, handle.name, handle.id, ask)


def _by_worker(handle: Dict[Any, Any], entries: list[Entry]) -> Iterable[tuple[int, list[Entry]]]:
    """The entries in groups of bounded size, each for one worker, with a hash that leads there."""
    roster = handle.connected().roster
    groups: dict[int, tuple[int, list[Entry]]] = {}
    sizes: dict[int, int] = {}
    for entry in entries:
        hash_ = crc32(entry[0], handle.crc)
        index = roster.worker_of(hash_).index
        size = len(entry[0]) + len(entry[1] or b"") + len(entry[2])
        if index in groups and sizes[index] + size > UPDATE_MESSAGE_BYTES_MAX:
            yield groups.pop(index)
        if index not in groups:
            groups[index], sizes[index] = (hash_, []), 0
        groups[index][1].append(entry)
        sizes[index] += size
    yield from groups.values()
