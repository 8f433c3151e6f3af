"""Entries as they are stored, read and written without looking into them: nothing is unpickled, no library is needed."""

from __future__ import annotations

from typing import Union

from holdall import protocol
from holdall.blob import is_reference, reference_of
from holdall.bodies import PageEntry, decode, encode
from holdall.client.connection.query import Operation, Query
from holdall.protocol import Buffer
from holdall.slots import owners

from . import large, many
from .entries import field_of
from .exchange import DictHandle, answers_to, place_of
from .large import Pieces
from .pages import PAGE_ENTRIES, After, asked, left

Value = Union[bytes, None]


def read(handle: DictHandle, after: After | None) -> Operation[tuple[list[PageEntry], After]]:
    """Some entries with their values, of large ones the references, and where it goes on; it begins at None."""
    found = yield from asked(handle, after, protocol.WITH_VALUES, PAGE_ENTRIES)
    return [entry for page in found.values() for entry in page.entries], left(found)


def fetch(handle: DictHandle, entry: PageEntry) -> Operation[Buffer | None]:
    """The value of an entry; None if a large one was removed meanwhile."""
    value = entry.value or b""
    if not is_reference(value):
        return value
    return (yield from large.download(place_of(handle, "copy", None, entry.key), reference_of(value), None))


def store(handle: DictHandle, entries: list[tuple[bytes, Union[bytes, None], Buffer]]) -> Operation[None]:
    """Store these: key, key object, value."""
    dict_id = handle.id or (yield from handle.hydration())
    fields = [(key, key_object, field_of(value)) for key, key_object, value in entries]
    large_keys: dict[bytes, object] = {key: None for key, _, field in fields if isinstance(field, Pieces)}
    yield from many.put_entries(handle, dict_id, many.Entries.of(fields), 0, large_keys)


def values_of(handle: DictHandle, keys: list[bytes]) -> Operation[dict[bytes, Value]]:
    """The values of these keys, of large ones the references; None where there is none."""
    dict_id = handle.id or (yield from handle.hydration())
    parts: dict[int, list[bytes]] = {}
    for part, key in zip(owners(handle.crc, keys, handle.connected().roster.part_of_slot()), keys, strict=True):
        parts.setdefault(part, []).append(key)
    found: dict[bytes, Value] = {}
    while parts:
        queries = [
            Query(protocol.GET_MANY, part, "check", handle.label, dict_id=dict_id, value=encode(some))
            for part, some in parts.items()
        ]
        replies = yield from answers_to(handle, queries)
        for (part, some), reply in zip([*parts.items()], replies, strict=True):
            values = decode(list[Value], reply.payload)
            found.update(zip(some, values, strict=False))
            parts[part] = some[len(values) :]
        parts = {part: some for part, some in parts.items() if some}
    return found
