"""Storing many entries: in messages of bounded size, each of them atomic at its worker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Union

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
"""Encoded key, key object if need be, value."""


class Entries(NamedTuple):
    """Some of an update, as messages have them: what `bodies.Update` has, but blobs, which are still to go there, in pieces."""

    keys: list[bytes]
    values: list[Union[bytes, Pieces]]
    key_objects: list[Union[bytes, None]]

    @classmethod
    def of(cls, entries: Collection[Entry]) -> Entries:
        """These entries."""
        keys, shown_as, values = map(list, zip(*entries, strict=True)) if entries else ([], [], [])
        return cls(keys, values, shown_as if any(shown_as) else [])

    @property
    def bytes(self) -> int:
        """Theirs, with all of each blob."""
        return sum(map(len, self.keys)) + sum(map(len, self.values)) + sum(map(len, filter(None, self.key_objects)))

    def one_by_one(self) -> Iterator[Entry]:
        """Each of them."""
        return zip(self.keys, self.key_objects or repeat(None), self.values, strict=False)


def put_many(handle: Handle, items: Iterable[tuple[object, object]], skip_if_exists: bool) -> Operation[int]:
    """Store these items, those that came before the iterator raised too. Returns how many were stored."""
    large: dict[bytes, object] = {}
    failure: Exception | None = None
    entries = _plain(items) if isinstance(items, Together) else None
    if entries is None:
        encoded: dict[bytes, Entry] = {}
        failure = _encode_each(handle.label, items, skip_if_exists, encoded, large)
        entries = Entries.of(encoded.values())
    dict_id = handle.id or (yield from handle.hydration())
    flags = protocol.SKIP_IF_EXISTS if skip_if_exists else 0
    stored = 0
    for groups in _rounds(_by_worker(handle, entries)):
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


def _plain(pairs: Together) -> Entries | None:
    """The entries, if the keys of these pairs, which are a dict's, are short strings, and the values small and of one type."""
    if not 0 < len(pairs.keys) <= protocol.UPDATE_ENTRIES_MAX:
        return None
    keys = data_of_strings(pairs.keys)
    values: list[Any] = small_values(pairs.values) if keys else []
    return Entries(keys, values, []) if values else None


def _encoded(of: str, key: object, value: object) -> Entry:
    if type(key) is str and len(key) <= SHORT and (small := small_value(value)) is not None:
        return key_data(of, key), None, small
    encoded = encode_key(of, key)
    entry = encoded.data, None if encoded.exact else key_object(of, key, encoded), encode_value(of, key, value)
    check_size(of, key, _size(entry))
    return entry


def _put_groups(
    handle: Handle, dict_id: bytes, groups: list[Entries], flags: int, large: dict[bytes, object]
) -> Operation[int]:
    """Store groups of entries, each of them in one message; those again whose blobs a worker has lost."""
    stored = 0
    for tries in range(transfer.TRIES_MAX):
        asks: list[Ask] = []
        for group in groups:
            body = group
            if large:
                values: list[Any] = []
                for data, field in zip(group.keys, group.values, strict=True):
                    if isinstance(field, Pieces):
                        place = place_of(handle, "update", large[data], data)
                        field = yield from transfer.upload(place, field, None, by_file=not tries)
                    values.append(field)
                body = group._replace(values=values)
            part = handle.connected().roster.part_of_slot()[slot_of(key_hash(handle.crc, group.keys[0]))]
            asks.append(Ask(protocol.PUT_MANY, part, "update", handle.label, dict_id=dict_id, value=encode(body), flags=flags))
        left: list[Entries] = []
        for group, reply in zip(groups, (yield from all_of(handle, asks)), strict=True):
            if reply.status == protocol.UNKNOWN_BLOB:
                left.append(group)
            else:
                stored += decode(int, reply.payload)
        if not left:
            return stored
        groups = left
    raise transfer.lost(place_of(handle, "update", None, b""))


def _by_worker(handle: Handle, entries: Entries) -> list[Entries]:
    """The entries in groups, one for each worker that has some."""
    roster = handle.connected().roster
    if len(roster.workers) == 1:
        return [entries] if entries.keys else []
    groups: dict[int, list[Entry]] = {}
    of = owners(handle.crc, entries.keys, roster.part_of_slot())
    for part, entry in zip(of, entries.one_by_one(), strict=True):
        groups.setdefault(part, []).append(entry)
    return list(map(Entries.of, groups.values()))


def _cut(group: Entries) -> Iterator[Entries]:
    """As many of these together as a message may carry."""
    together: list[Entry] = []
    size = 0
    for entry in group.one_by_one():
        if together and size + _size(entry) > protocol.UPDATE_BYTES_MAX:
            yield Entries.of(together)
            together, size = [], 0
        together.append(entry)
        size += _size(entry)
    if together:
        yield Entries.of(together)


def _rounds(groups: list[Entries]) -> Iterator[list[Entries]]:
    """Groups of bounded size, as many together as may be on their way at once."""
    if not groups:
        return
    if sum([group.bytes for group in groups]) <= protocol.UPDATE_BYTES_MAX:
        yield groups
        return
    together: list[Entries] = []
    size = 0
    for group in chain.from_iterable(map(_cut, groups)):
        together.append(group)
        size += group.bytes
        if size >= UPDATE_ROUND_BYTES:
            yield together
            together, size = [], 0
    if together:
        yield together


def _size(entry: Entry) -> int:
    """Its bytes, with all of a blob."""
    data, shown_as, field = entry
    return len(data) + len(field) + (0 if shown_as is None else len(shown_as))
