"""The operations of a Dict: each yields its requests, is sent the replies, returns the result.

Written once; the drivers in `blocking` and `awaiting` run them. A handle is hydrated (its id looked up) by the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import randrange
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from holdall import protocol
from holdall.bodies import Page, PageEntry, PageRequest, PutManyEntry, decode, encode
from holdall.client import catalog
from holdall.client.ask import Ask, Operation
from holdall.client.info import DictInfo
from holdall.client.serialization import check_size, decode_key, decode_value, encode_key, encode_value, key_object
from holdall.errors import Error, NotFoundError, RequestSizeError
from holdall.protocol import Buffer, Reply, join_key_object
from holdall.slots import key_hash

if TYPE_CHECKING:
    from holdall.client.handle import Handle

PAGE_ENTRIES = 1_000
KEYS_PER_MESSAGE = 10_000
UPDATE_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""An update larger than this goes to a worker in several messages, each of them atomic."""


class Position(NamedTuple):
    """Where an iteration stands: the how manieth worker, and the key there after which it goes on."""

    worker: int
    after: bytes


START = Position(0, b"")


def get(handle: Handle, key: object, default: Any) -> Operation[Any]:
    reply = yield from _about_key(handle, protocol.GET, "get", key, encode_key(handle.label, key).data)
    return default if reply.status == protocol.MISSING else decode_value(handle.label, key, reply.payload)


def put(handle: Handle, key: object, value: object, skip_if_exists: bool) -> Operation[bool]:
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    reply = yield from _store(handle, protocol.PUT, "put", key, value, flags)
    return bool(reply.status == protocol.OK)


def set_default(handle: Handle, key: object, value: object) -> Operation[Any]:
    reply = yield from _store(handle, protocol.SET_DEFAULT, "set the default of", key, value, 0)
    return value if reply.status == protocol.OK else decode_value(handle.label, key, reply.payload)


def pop(handle: Handle, key: object, default: Any) -> Operation[Any]:
    reply = yield from _about_key(handle, protocol.POP, "pop", key, encode_key(handle.label, key).data)
    return default if reply.status == protocol.MISSING else decode_value(handle.label, key, reply.payload)


def remove(handle: Handle, key: object) -> Operation[bool]:
    """Remove a key, whatever its value; returns whether it was there."""
    reply = yield from _about_key(handle, protocol.POP, "delete", key, encode_key(handle.label, key).data)
    return bool(reply.status == protocol.OK)


def contains(handle: Handle, key: object) -> Operation[bool]:
    reply = yield from _about_key(handle, protocol.CONTAINS, "look for", key, encode_key(handle.label, key).data)
    return bool(reply.status == protocol.OK)


def pop_any(handle: Handle) -> Operation[tuple[Any, Any]]:
    """Some entry, which is removed: of the first worker that has one, each caller beginning at another."""
    asks = yield from _to_all(handle, protocol.POP_ANY, "pop an item of")
    first = randrange(len(asks))
    for ask in asks[first:] + asks[:first]:
        reply = (yield from _all(handle, [ask]))[0]
        if reply.status == protocol.OK:
            return _item(handle, decode(PageEntry, reply.payload))
    raise KeyError("popitem(): the Dict is empty")


def put_many(handle: Handle, items: Iterable[tuple[object, object]], skip_if_exists: bool) -> Operation[int]:
    entries: dict[bytes, PutManyEntry] = {}  # by key: of two for one key the last counts, in whatever order messages arrive
    failure: Exception | None = None
    try:
        for count, (key, value) in enumerate(items):
            if count == protocol.UPDATE_ENTRIES_MAX:
                raise RequestSizeError(
                    f"an update of {handle.label} has at most {protocol.UPDATE_ENTRIES_MAX:,} entries; nothing was stored: "
                    "divide it into several"
                )
            encoded = encode_key(handle.label, key)
            entry = (encoded.data, key_object(handle.label, key, encoded), encode_value(handle.label, key, value))
            check_size(handle.label, key, sum(map(len, filter(None, entry))))
            earlier = entries.get(encoded.data)
            if earlier is None:
                entries[encoded.data] = entry
            elif not skip_if_exists:
                entries[encoded.data] = (entry[0], earlier[1], entry[2])  # as with dict, the key that came first stays
    except Error:
        raise
    except Exception as error:  # of the caller's iterator, or a key's __hash__: as with dict, what came before it is stored
        failure = error
    dict_id = handle.id or (yield from handle.hydration())
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    asks = [
        Ask(protocol.PUT_MANY, hash_, "update", handle.label, dict_id=dict_id, value=encode(group), flags=flags)
        for hash_, group in _by_worker(handle, entries.values())
    ]
    stored = sum((yield from _counts(handle, asks)))
    if failure is not None:
        raise failure
    return stored


def get_many(handle: Handle, keys: Iterable[object]) -> Operation[dict[Any, Any]]:
    return _many(handle, protocol.GET_MANY, "get many of", keys)


def pop_many(handle: Handle, keys: Iterable[object]) -> Operation[dict[Any, Any]]:
    return _many(handle, protocol.POP_MANY, "pop many of", keys)


def _many(handle: Handle, opcode: int, verb: str, keys: Iterable[object]) -> Operation[dict[Any, Any]]:
    """The values of these keys. Each worker is asked for as many as fit a message, until none is left."""
    dict_id = handle.id or (yield from handle.hydration())
    roster = handle.connected().roster
    left: dict[int, list[tuple[object, bytes]]] = {}
    for key in keys:
        data = encode_key(handle.label, key).data
        left.setdefault(roster.worker_of(key_hash(handle.crc, data)).hash, []).append((key, data))
    found: dict[Any, Any] = {}
    while left:
        bodies = {hash_: [data for _key, data in waiting[:KEYS_PER_MESSAGE]] for hash_, waiting in left.items()}
        asks = [Ask(opcode, hash_, verb, handle.label, dict_id=dict_id, value=encode(body)) for hash_, body in bodies.items()]
        for hash_, reply in zip(bodies, (yield from _all(handle, asks)), strict=True):
            values = decode(list[Union[bytes, None]], reply.payload)
            for (key, _data), value in zip(left[hash_], values, strict=False):
                if value is not None:
                    found[key] = decode_value(handle.label, key, value)
            left[hash_] = left[hash_][len(values) :]
        left = {hash_: waiting for hash_, waiting in left.items() if waiting}
    return found


def copy(handle: Handle) -> Operation[dict[Any, Any]]:
    """All items, in a plain dict."""
    found: dict[Any, Any] = {}
    position: Position | None = START
    while position is not None:
        items, position = yield from page(handle, position, True)
        found.update(items)
    return found


def info(handle: Handle) -> Operation[DictInfo]:
    dict_id = handle.id or (yield from handle.hydration())
    entry = yield from catalog.find(handle.connected(), dict_id, handle.label)
    if entry is None:
        raise NotFoundError(f"there is no {handle.label} any more: it was deleted")
    return DictInfo.of_entry(entry)


def set_ttl(handle: Handle, ttl: float | None) -> Operation[None]:
    """First in the catalog, which a worker that learns of the Dict only then is told from, then at every worker."""
    dict_id = handle.id or (yield from handle.hydration())
    lifetime = yield from catalog.change_ttl(handle.connected(), dict_id, handle.label, ttl)
    yield from _all(handle, (yield from _to_all(handle, protocol.SET_TTL, "set the ttl of", encode(lifetime))))


def length(handle: Handle) -> Operation[int]:
    return sum((yield from _counts(handle, (yield from _to_all(handle, protocol.LENGTH, "count")))))


def clear(handle: Handle) -> Operation[None]:
    yield from _all(handle, (yield from _to_all(handle, protocol.CLEAR, "clear")))


def page(handle: Handle, position: Position, with_values: bool) -> Operation[tuple[list[Any], Position | None]]:
    """Some items (keys alone, or pairs) from this position on, and the position after them; None at the end."""
    dict_id = handle.id or (yield from handle.hydration())
    number, after = position
    workers = handle.connected().roster.workers
    flags = protocol.WITH_VALUES if with_values else 0
    body = encode(PageRequest(after, PAGE_ENTRIES))
    hash_ = workers[number].hash
    ask = Ask(protocol.PAGE, hash_, "iterate over", handle.label, dict_id=dict_id, value=body, flags=flags)
    found = decode(Page, (yield from _all(handle, [ask]))[0].payload)
    items = [_item(handle, entry) if with_values else decode_key(handle.label, *entry[:2]) for entry in found.entries]
    if found.more:
        return items, Position(number, found.more)
    return items, Position(number + 1, b"") if number + 1 < len(workers) else None


def _item(handle: Handle, entry: PageEntry) -> tuple[Any, Any]:
    key = decode_key(handle.label, entry.key, entry.key_object)
    return key, decode_value(handle.label, key, entry.value or b"")


def _store(handle: Handle, opcode: int, verb: str, key: object, value: object, flags: int) -> Operation[Reply]:
    """The reply to a request that brings a value for one key."""
    encoded = encode_key(handle.label, key)
    shown_as = key_object(handle.label, key, encoded)
    field = encode_value(handle.label, key, value)
    check_size(handle.label, key, len(encoded.data) + len(shown_as or b"") + len(field))
    if shown_as is not None:
        flags |= protocol.KEY_OBJECT
        field = join_key_object(shown_as, field)
    return (yield from _about_key(handle, opcode, verb, key, encoded.data, field, flags))


def _about_key(
    handle: Handle, opcode: int, verb: str, key: object, data: bytes, value: Buffer = b"", flags: int = 0
) -> Operation[Reply]:
    """The reply to a request about one key."""
    dict_id = handle.id or (yield from handle.hydration())
    hash_ = key_hash(handle.crc, data)
    ask = Ask(opcode, hash_, verb, handle.label, dict_id=dict_id, data=data, value=value, flags=flags, key=key)
    reply: Reply = yield ask
    while reply.status > protocol.EXISTS:
        yield from _recover(handle, ask, reply)
        reply = yield ask
    return reply


def _all(handle: Handle, asks: list[Ask]) -> Operation[list[Reply]]:
    """The replies to these requests, all of them answers."""
    replies: list[Reply] = yield asks
    for position, ask in enumerate(asks):
        while replies[position].status > protocol.EXISTS:
            yield from _recover(handle, ask, replies[position])
            replies[position] = yield ask
    return replies


def _counts(handle: Handle, asks: list[Ask]) -> Operation[list[int]]:
    return [decode(int, reply.payload) for reply in (yield from _all(handle, asks))]


def _to_all(handle: Handle, opcode: int, verb: str, value: bytes = b"") -> Operation[list[Ask]]:
    dict_id = handle.id or (yield from handle.hydration())
    hashes = [worker.hash for worker in handle.connected().roster.workers]
    return [Ask(opcode, hash_, verb, handle.label, dict_id=dict_id, value=value) for hash_ in hashes]


def _recover(handle: Handle, ask: Ask, reply: Reply) -> Operation[None]:
    """Do what lets this request be asked again, or raise the error that its reply is."""
    if reply.status != protocol.UNKNOWN_DICT:
        raise catalog.error_of(ask, reply)
    yield from handle.recover(ask)


def _by_worker(handle: Handle, entries: Iterable[PutManyEntry]) -> Iterable[tuple[int, list[PutManyEntry]]]:
    """The entries in groups of bounded size, each for one worker, with the hash of its part."""
    roster = handle.connected().roster
    groups: dict[int, list[PutManyEntry]] = {}
    sizes: dict[int, int] = {}
    for entry in entries:
        part = roster.worker_of(key_hash(handle.crc, entry[0])).hash
        size = len(entry[0]) + len(entry[1] or b"") + len(entry[2])
        if part in groups and sizes[part] + size > UPDATE_MESSAGE_BYTES_MAX:
            yield part, groups.pop(part)
        if part not in groups:
            groups[part], sizes[part] = [], 0
        groups[part].append(entry)
        sizes[part] += size
    yield from groups.items()
