"""Iteration: pages of each worker's part, each asked for when it is needed. A worker keeps no state of it."""

from __future__ import annotations

from typing import Any, TypeAlias

from holdall import protocol
from holdall.blob import is_reference
from holdall.bodies import Page, PageEntry, PageRequest, decode, encode
from holdall.client.connection.query import Operation, Query
from holdall.errors import ProtocolError

from .encoding import decode_key, decode_value
from .entries import read_blob
from .exchange import DictHandle, answers_to

PAGE_ENTRIES = 1_000
_ABSENT: Any = object()

After: TypeAlias = dict[int, bytes]
"""Where an iteration stands: for each worker that has more, by its place in the roster, the key after which it goes on."""


def pages(handle: DictHandle, after: After | None, with_values: bool) -> Operation[tuple[list[Any], After]]:
    """Some items (keys alone, or pairs) of each worker that has more, and where it goes on; it begins at None."""
    items: list[Any] = []
    found = yield from asked(handle, after, protocol.WITH_VALUES if with_values else 0, PAGE_ENTRIES)
    for page in found.values():
        items += yield from _items(handle, page.entries, with_values)
    return items, left(found)


def has_any(handle: DictHandle) -> Operation[bool]:
    """Whether any entry is there; those that have expired and are not swept yet count in a length, and not here."""
    found = yield from asked(handle, None, 0, 1)
    while not any(page.entries for page in found.values()):
        if not left(found):
            return False
        found = yield from asked(handle, left(found), 0, 1)
    return True


def asked(handle: DictHandle, after: After | None, flags: int, most: int) -> Operation[dict[int, Page]]:
    """The next page of each worker that has more, by its place in the roster."""
    dict_id = handle.id or (yield from handle.hydration())
    workers = handle.connected().roster.workers
    if after is None:
        after = dict.fromkeys(range(len(workers)), b"")
    queries: list[Query] = []
    for number, key in after.items():
        body, hash_ = encode(PageRequest(key, most)), workers[number].hash
        queries.append(Query(protocol.PAGE, hash_, "iterate over", handle.label, dict_id=dict_id, value=body, flags=flags))
    replies = yield from answers_to(handle, queries)
    found = {number: decode(Page, reply.payload) for number, reply in zip(after, replies, strict=True)}
    for number, page in found.items():
        if page.more and page.more <= after[number]:
            raise ProtocolError(f"cannot iterate over {handle.label}: a page of it does not go on after the one before")
    return found


def left(found: dict[int, Page]) -> After:
    return {number: page.more for number, page in found.items() if page.more}


def _items(handle: DictHandle, entries: list[PageEntry], with_values: bool) -> Operation[list[Any]]:
    items: list[Any] = []
    for data, shown_as, value in entries:
        key = decode_key(handle, data, shown_as)
        if not with_values:
            items.append(key)
        elif not is_reference(value or b""):
            items.append((key, decode_value(handle, key, value or b"")))
        else:
            read = yield from read_blob(handle, key, data, value or b"", _ABSENT)
            if read is not _ABSENT:  # it was removed meanwhile
                items.append((key, read))
    return items


def copy(handle: DictHandle) -> Operation[dict[Any, Any]]:
    found: dict[Any, Any] = {}
    after: After | None = None
    while after is None or after:
        items, after = yield from pages(handle, after, True)
        found.update(items)
    return found
