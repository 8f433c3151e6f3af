"""Operations on single entries, and on all of a Dict at once: each yields its requests, is sent the replies, returns a result.

Written once; both drivers carry them out. A handle is hydrated (its id looked up) by the first of them.
"""

from __future__ import annotations

from random import randrange
from typing import Any

from holdall import processors, protocol
from holdall.blob import BLOB_BYTES_MIN, is_reference, reference_of
from holdall.bodies import Count, PageEntry, decode, encode
from holdall.client.connection.query import Operation, Queries, Query
from holdall.errors import Error, NotFoundError, StorageError
from holdall.protocol import Buffer, Reply, join_key_object
from holdall.slots import key_hash

from . import catalog, large
from .encoding import check_size, decode_key, decode_value, encode_key, encode_value, key_data, key_object
from .exchange import DictHandle, about_key, answers_to, ask_each, place_of, settled, to_each
from .large import Pieces, Place, Progress


def get(handle: DictHandle, key: object, data: bytes, default: Any, progress: Progress | None = None) -> Operation[Any]:
    """The value of a key, whose encoding is `data`."""
    dict_id = handle.id or (yield from handle.hydration())
    query = Query(protocol.GET, key_hash(handle.crc, data), "get", handle.label, dict_id, data, shown_key=key)
    reply = yield query
    if reply.status > protocol.ANSWERS_MAX:
        reply = yield from settled(handle, query, reply)
    if reply.status == protocol.MISSING:
        return default
    if is_reference(reply.payload):
        return (yield from read_blob(handle, key, data, reply.payload, default, progress))
    return decode_value(handle, key, reply.payload)


def put(
    handle: DictHandle, key: object, value: object, skip_if_exists: bool, progress: Progress | None = None
) -> Operation[bool]:
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    reply = yield from _store(handle, protocol.PUT, "put", key, value, flags, progress)
    return bool(reply.status == protocol.OK)


def set_default(handle: DictHandle, key: object, value: object) -> Operation[Any]:
    verb = "set the default of"
    for _ in range(large.TRIES_MAX):
        reply = yield from _store(handle, protocol.SET_DEFAULT, verb, key, value, 0)
        if reply.status == protocol.OK:
            return value
        if not is_reference(reply.payload):
            return decode_value(handle, key, reply.payload)
        place = place_of(handle, verb, key, key_data(handle, key))
        found = yield from large.download(place, reference_of(reply.payload), None)
        if found is not None:
            return decode_value(handle, key, found)
    raise large.lost(place_of(handle, verb, key, b""))


def pop(handle: DictHandle, key: object, default: Any) -> Operation[Any]:
    data = key_data(handle, key)
    reply = yield from about_key(handle, protocol.POP, "pop", key, data)
    if reply.status == protocol.MISSING:
        return default
    found = yield from taken_over(place_of(handle, "pop", key, data), reply.payload)
    try:
        return decode_value(handle, key, found)
    except BaseException as error:
        shown_as = key_object(handle, key, encode_key(handle, key), puts_back=True)
        yield from _put_back(handle, key, data, shown_as, found, error)
        raise


def remove(handle: DictHandle, key: object) -> Operation[bool]:
    """Remove a key, whatever its value; returns whether it was there."""
    data = key_data(handle, key)
    reply = yield from about_key(handle, protocol.POP, "delete", key, data, flags=protocol.WITHOUT_VALUE)
    return bool(reply.status == protocol.OK)


def contains(handle: DictHandle, key: object) -> Operation[bool]:
    reply = yield from about_key(handle, protocol.CONTAINS, "look for", key, key_data(handle, key))
    return bool(reply.status == protocol.OK)


def pop_any(handle: DictHandle) -> Operation[tuple[Any, Any]]:
    """Some entry, which is removed: of the first worker that has one, each caller beginning at another."""
    dict_id = handle.id or (yield from handle.hydration())
    queries = to_each(handle.connected().roster, protocol.POP_ANY, "pop an item of", handle.label, dict_id=dict_id)
    first = randrange(len(queries))
    for query in queries[first:] + queries[:first]:
        [reply] = yield from answers_to(handle, [query])
        if reply.status == protocol.OK:
            entry = decode(PageEntry, reply.payload)
            value = yield from taken_over(place_of(handle, "pop", None, entry.key), entry.value or b"")
            try:
                key = decode_key(handle, entry.key, entry.key_object)
                return key, decode_value(handle, key, value)
            except BaseException as error:
                yield from _put_back(handle, None, entry.key, entry.key_object, value, error)
                raise
    raise KeyError("popitem(): the Dict is empty")


def info(handle: DictHandle) -> Operation[catalog.DictInfo]:
    dict_id = handle.id or (yield from handle.hydration())
    entry = yield from catalog.find(handle.connected(), dict_id, handle.label)
    if entry is None:
        raise NotFoundError(f"there is no {handle.label} any more: it was deleted")
    return catalog.DictInfo.of_entry(entry)


def set_ttl(handle: DictHandle, ttl: float | None) -> Operation[None]:
    """First in the catalog, which a worker that learns of the Dict only then is told from, then at every worker."""
    dict_id = handle.id or (yield from handle.hydration())
    lifetime = yield from catalog.change_ttl(handle.connected(), dict_id, handle.label, ttl)
    yield from ask_each(handle, protocol.SET_TTL, "set the ttl of", encode(lifetime))


def length(handle: DictHandle) -> Operation[int]:
    replies = yield from ask_each(handle, protocol.LENGTH, "count")
    return sum(decode(Count, reply.payload) for reply in replies)


def clear(handle: DictHandle) -> Operation[None]:
    yield from ask_each(handle, protocol.CLEAR, "clear")


def read_blob(
    handle: DictHandle, key: object, data: bytes, payload: Buffer, default: Any, progress: Progress | None = None
) -> Operation[Any]:
    """The value of a key that referred to this blob just now; if that is removed while it is read, the value after it."""
    for _ in range(large.TRIES_MAX):
        place = place_of(handle, "get", key, data)
        found = yield from large.download(place, reference_of(payload), progress)
        if found is not None:
            return decode_value(handle, key, found)
        reply = yield from about_key(handle, protocol.GET, "get", key, data)
        if reply.status == protocol.MISSING:
            return default
        payload = reply.payload
        if not is_reference(payload):
            return decode_value(handle, key, payload)
    raise large.lost(place_of(handle, "get", key, data))


def taken_over(place: Place, payload: Buffer) -> Operation[Buffer]:
    """The bytes of a value that was popped: of a blob, its worker is told when they have been read."""
    if not is_reference(payload):
        return payload
    reference = reference_of(payload)
    found = yield from large.download(place, reference, None)
    if found is None:
        query = place.query(protocol.POP)
        raise StorageError(f"cannot {query}: it was removed, and blob {reference.id.hex()}, its value, is lost: a power cut?")
    yield large.release(place, reference.id)
    return found


def _store(
    handle: DictHandle, opcode: int, verb: str, key: object, value: object, flags: int, progress: Progress | None = None
) -> Operation[Reply]:
    """The reply to a request that brings a value for one key."""
    encoded = encode_key(handle, key)
    shown_as = key_object(handle, key, encoded)
    field = encode_value(handle, key, value)
    check_size(handle, key, len(encoded.data) + len(shown_as or b"") + len(field))
    return (yield from _stored(handle, opcode, verb, flags, key, encoded.data, shown_as, field, progress))


def _put_back(
    handle: DictHandle, key: object, data: bytes, shown_as: bytes | None, value: Buffer, error: BaseException
) -> Operation[None]:
    """Store again what was popped and cannot be read here, unless there is another value by now: so nothing is lost."""
    yield Queries(transfers=True)  # it has the whole time of a call
    try:
        yield from _stored(handle, protocol.PUT, "put back", protocol.SKIP_IF_EXISTS, key, data, shown_as, field_of(value))
    except Error as failed:  # the disk is full, for example
        error.add_note(f"what was popped could not be put back: {failed}")


def field_of(value: Buffer) -> bytes | Pieces:
    """The bytes of a value as an operation sends them."""
    return Pieces([value]) if len(value) > BLOB_BYTES_MIN else bytes(value)


def _stored(
    handle: DictHandle,
    opcode: int,
    verb: str,
    flags: int,
    key: object,
    data: bytes,
    shown_as: bytes | None,
    field: bytes | Pieces,
    progress: Progress | None = None,
) -> Operation[Reply]:
    """The same for an encoded key, its key object if it needs one, and an encoded value."""
    if shown_as is not None:
        flags |= protocol.KEY_OBJECT
    if not isinstance(field, Pieces):
        if shown_as is not None:
            field = join_key_object(shown_as, field)
        return (yield from about_key(handle, opcode, verb, key, data, field, flags))
    if opcode == protocol.SET_DEFAULT or flags & protocol.SKIP_IF_EXISTS:
        look = protocol.GET if opcode == protocol.SET_DEFAULT else protocol.CONTAINS
        there: Reply = yield from about_key(handle, look, verb, key, data)
        if there.status == protocol.OK:  # so the value need not travel
            return Reply(protocol.EXISTS, there.sequence, there.version, there.payload)
    if handle.id is None:
        yield from handle.hydration()
    place = place_of(handle, verb, key, data)
    for _ in range(large.TRIES_MAX):
        reference = yield from large.upload(place, field, progress)
        if shown_as is not None:
            reference = join_key_object(shown_as, reference)
        reply = yield from about_key(handle, opcode, verb, key, data, reference, flags)
        processors.give_way()  # perhaps to the worker, which has just woken this thread, in the middle of others' requests
        if reply.status != protocol.UNKNOWN_BLOB:
            return reply
    raise large.lost(place)
