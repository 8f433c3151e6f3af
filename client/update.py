"""Storing many entries: in messages of bounded size, each of them atomic at its worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Union

import msgspec

from holdall import protocol
from holdall.bodies import decode, encode
from holdall.client import transfer
from holdall.client.ask import Ask, Operation
from holdall.client.exchange import all_of, place_of
from holdall.client.pieces import Pieces
from holdall.client.serialization import check_size, encode_key, encode_value, key_object
from holdall.errors import Error, RequestSizeError
from holdall.protocol import Buffer
from holdall.slots import key_hash, slot_of

if TYPE_CHECKING:
    from holdall.client.handle import Handle

UPDATE_ROUND_BYTES = 4 * protocol.UPDATE_BYTES_MAX
"""The messages of an update that are on their way at once."""


class _Entry(msgspec.Struct):
    """An entry of an update: encoded key, key object if need be, value, the key for messages; its size with all of a blob."""

    data: bytes
    key_object: Union[bytes, None]
    field: Union[bytes, Pieces]
    key: object
    size: int


def put_many(handle: Handle, items: Iterable[tuple[object, object]], skip_if_exists: bool) -> Operation[int]:
    """Store these items, those that came before the iterator raised too. Returns how many were stored."""
    entries: dict[bytes, _Entry] = {}  # by key: of two for one key the last counts, in whatever order messages arrive
    failure: Exception | None = None
    try:
        for count, (key, value) in enumerate(items):
            if count == protocol.UPDATE_ENTRIES_MAX:
                raise RequestSizeError(
                    f"an update of {handle.label} has at most {protocol.UPDATE_ENTRIES_MAX:,} entries; nothing was stored: "
                    "divide it into several"
                )
            encoded = encode_key(handle.label, key)
            shown_as = None if encoded.exact else key_object(handle.label, key, encoded)
            field = encode_value(handle.label, key, value)
            size = len(encoded.data) + len(field) + (0 if shown_as is None else len(shown_as))
            check_size(handle.label, key, size)
            entry = _Entry(encoded.data, shown_as, field, key, size)
            earlier = entries.get(encoded.data)
            if earlier is None:
                entries[encoded.data] = entry
            elif not skip_if_exists:
                entry.key_object = earlier.key_object  # as with dict, the key that came first stays
                entries[encoded.data] = entry
    except Error:
        raise
    except Exception as error:  # of the caller's iterator, or a key's __hash__: as with dict, what came before it is stored
        failure = error
    dict_id = handle.id or (yield from handle.hydration())
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    stored = 0
    for groups in _rounds(_by_worker(handle, entries.values())):
        stored += yield from _put_groups(handle, dict_id, groups, flags)
    if failure is not None:
        raise failure
    return stored


def _put_groups(handle: Handle, dict_id: bytes, groups: list[list[_Entry]], flags: int) -> Operation[int]:
    """Store groups of entries, each of them in one message; those again whose blobs a worker has lost."""
    stored = 0
    for _ in range(transfer.TRIES_MAX):
        asks: list[Ask] = []
        for group in groups:
            body: list[tuple[bytes, bytes | None, Buffer]] = []
            for entry in group:
                field = entry.field
                if isinstance(field, Pieces):
                    field = yield from transfer.upload(place_of(handle, "update", entry.key, entry.data), field, None)
                body.append((entry.data, entry.key_object, field))
            part = handle.connected().roster.part_of_slot()[slot_of(key_hash(handle.crc, group[0].data))]
            asks.append(Ask(protocol.PUT_MANY, part, "update", handle.label, dict_id=dict_id, value=encode(body), flags=flags))
        left: list[list[_Entry]] = []
        for group, reply in zip(groups, (yield from all_of(handle, asks)), strict=True):
            if reply.status == protocol.UNKNOWN_BLOB:
                left.append(group)
            else:
                stored += decode(int, reply.payload)
        if not left:
            return stored
        groups = left
    raise transfer.lost(place_of(handle, "update", None, b""))


def _by_worker(handle: Handle, entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """The entries in groups of bounded size, each for one worker."""
    parts, crc = handle.connected().roster.part_of_slot(), handle.crc
    groups: dict[int, list[_Entry]] = {}
    sizes: dict[int, int] = {}
    for entry in entries:
        part = parts[slot_of(key_hash(crc, entry.data))]
        if part in groups and sizes[part] + entry.size > protocol.UPDATE_BYTES_MAX:
            yield groups.pop(part)
        if part not in groups:
            groups[part], sizes[part] = [], 0
        groups[part].append(entry)
        sizes[part] += entry.size
    yield from groups.values()


def _rounds(groups: Iterable[list[_Entry]]) -> Iterator[list[list[_Entry]]]:
    """As many groups together as may be on their way at once."""
    together: list[list[_Entry]] = []
    size = 0
    for group in groups:
        together.append(group)
        size += sum(entry.size for entry in group)
        if size >= UPDATE_ROUND_BYTES:
            yield together
            together, size = [], 0
    if together:
        yield together
