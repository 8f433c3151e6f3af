"""Storing many entries: in messages of bounded size, each of them atomic at its worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Union

from holdall import protocol
from holdall.bodies import decode, encode
from holdall.client import transfer
from holdall.client.ask import Ask, Operation
from holdall.client.exchange import all_of, place_of
from holdall.client.pairs import Together
from holdall.client.pieces import Pieces
from holdall.client.serialization import check_size, encode_key, encode_value, key_data, key_object, small_value, small_values
from holdall.errors import Error, RequestSizeError
from holdall.keys import SHORT, data_of_strings
from holdall.slots import key_hash, owners, slot_of

if TYPE_CHECKING:
    from holdall.client.handle import Handle

UPDATE_ROUND_BYTES = 4 * protocol.UPDATE_BYTES_MAX
"""The messages of an update that are on their way at once."""


Entry = tuple[bytes, Union[bytes, None], Union[bytes, Pieces]]
"""Of an update: encoded key, key object if need be, value."""


def put_many(handle: Handle, items: Iterable[tuple[object, object]], skip_if_exists: bool) -> Operation[int]:
    """Store these items, those that came before the iterator raised too. Returns how many were stored."""
    large: dict[bytes, object] = {}
    failure: Exception | None = None
    entries = _plain(items) if isinstance(items, Together) else {}
    if not entries:
        failure = _encode_each(handle.label, items, skip_if_exists, entries, large)
    dict_id = handle.id or (yield from handle.hydration())
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    stored = 0
    for groups in _rounds(_by_worker(handle, list(entries.values()))):
        stored += yield from _put_groups(handle, dict_id, groups, flags, large)
    if failure is not None:
        raise failure
    return stored


def _encode_each(
    of: str,
    items: Iterable[tuple[object, object]],
    skip_if_exists: bool,
    entries: dict[bytes, Entry],
    large: dict[bytes, object],
) -> Exception | None:
    """Put these items into `entries`, by key: of two for one key the last counts, in whatever order messages arrive; and the
    keys of those that are blobs into `large`.

    Returns what the iterator, or a key's __hash__, has raised: as with dict, what came before it is stored.
    """
    try:
        for count, (key, value) in enumerate(items):
            if count == protocol.UPDATE_ENTRIES_MAX:
                raise RequestSizeError(
                    f"an update of {of} has at most {protocol.UPDATE_ENTRIES_MAX:,} entries; nothing was stored: "
                    "divide it into several"
                )
            entry = _encoded(of, key, value)
            data = entry[0]
            if type(entry[2]) is Pieces:
                large[data] = key
            if data not in entries:
                entries[data] = entry
            elif not skip_if_exists:
                entries[data] = data, entries[data][1], entry[2]  # as with dict, the key that came first stays
    except Error:
        raise
    except Exception as error:
        return error
    return None


def _plain(pairs: Together) -> dict[bytes, Entry]:
    """The entries, by key, if the keys of these pairs are short strings, and the values small and of one type; else none."""
    if not 0 < len(pairs) <= protocol.UPDATE_ENTRIES_MAX:
        return {}
    some, stored = zip(*pairs, strict=True)
    data, fields = data_of_strings(some), small_values(stored)
    return dict(zip(data, zip(data, repeat(None), fields), strict=True)) if data and fields else {}


def _encoded(of: str, key: object, value: object) -> Entry:
    if type(key) is str and len(key) <= SHORT and (small := small_value(value)) is not None:
        return key_data(of, key), None, small
    encoded = encode_key(of, key)
    entry = encoded.data, None if encoded.exact else key_object(of, key, encoded), encode_value(of, key, value)
    check_size(of, key, _size(entry))
    return entry


def _put_groups(
    handle: Handle, dict_id: bytes, groups: list[list[Entry]], flags: int, large: dict[bytes, object]
) -> Operation[int]:
    """Store groups of entries, each of them in one message; those again whose blobs a worker has lost."""
    stored = 0
    for _ in range(transfer.TRIES_MAX):
        asks: list[Ask] = []
        for group in groups:
            body: list[Any] = group
            if large:
                body = []
                for data, shown_as, field in group:
                    if isinstance(field, Pieces):
                        field = yield from transfer.upload(place_of(handle, "update", large[data], data), field, None)
                    body.append((data, shown_as, field))
            part = handle.connected().roster.part_of_slot()[slot_of(key_hash(handle.crc, group[0][0]))]
            asks.append(Ask(protocol.PUT_MANY, part, "update", handle.label, dict_id=dict_id, value=encode(body), flags=flags))
        left: list[list[Entry]] = []
        for group, reply in zip(groups, (yield from all_of(handle, asks)), strict=True):
            if reply.status == protocol.UNKNOWN_BLOB:
                left.append(group)
            else:
                stored += decode(int, reply.payload)
        if not left:
            return stored
        groups = left
    raise transfer.lost(place_of(handle, "update", None, b""))


def _by_worker(handle: Handle, entries: list[Entry]) -> list[list[Entry]]:
    """The entries in groups, one for each worker that has some."""
    roster = handle.connected().roster
    if len(roster.workers) == 1:
        return [entries] if entries else []
    groups: dict[int, list[Entry]] = {}
    of = owners(handle.crc, [entry[0] for entry in entries], roster.part_of_slot())
    for part, entry in zip(of, entries, strict=True):
        groups.setdefault(part, []).append(entry)
    return list(groups.values())


def _cut(group: list[Entry]) -> Iterator[list[Entry]]:
    """As many of these together as a message may carry."""
    together: list[Entry] = []
    size = 0
    for entry in group:
        if together and size + _size(entry) > protocol.UPDATE_BYTES_MAX:
            yield together
            together, size = [], 0
        together.append(entry)
        size += _size(entry)
    if together:
        yield together


def _rounds(groups: list[list[Entry]]) -> Iterator[list[list[Entry]]]:
    """Groups of bounded size, as many together as may be on their way at once."""
    if not groups:
        return
    if sum(map(_bytes_of, groups)) <= protocol.UPDATE_BYTES_MAX:  # which is quickly said of most
        yield groups
        return
    together: list[list[Entry]] = []
    size = 0
    for group in chain.from_iterable(map(_cut, groups)):
        together.append(group)
        size += sum(map(_size, group))
        if size >= UPDATE_ROUND_BYTES:
            yield together
            together, size = [], 0
    if together:
        yield together


def _bytes_of(group: list[Entry]) -> int:
    data, shown_as, fields = zip(*group, strict=True)
    return sum(map(len, data)) + sum(map(len, fields)) + sum([len(each) for each in shown_as if each is not None])


def _size(entry: Entry) -> int:
    """Its bytes, with all of a blob."""
    data, shown_as, field = entry
    return len(data) + len(field) + (0 if shown_as is None else len(shown_as))
