"""Many entries at once: read, removed or stored in messages of bounded size, each of them atomic at its worker.

While workers read one part of many keys, the client encodes the next one, and decodes what has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, repeat
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple, Union, cast

import msgspec

from holdall import protocol
from holdall.blob import is_reference
from holdall.bodies import Count, decode, encode
from holdall.client.connection.query import Operation, Queries, Query
from holdall.errors import Error, RequestSizeError
from holdall.keys import SHORT
from holdall.slots import key_hash, owners, slot_of

from . import large
from .encoding import (
    check_size,
    decode_value,
    decode_values,
    encode_key,
    encode_value,
    key_data,
    key_object,
    keys_data,
    small_value,
)
from .entries import field_of, read_blob, taken_over
from .exchange import DictHandle, answers_to, place_of, settled
from .large import Pieces

if TYPE_CHECKING:
    from holdall.protocol import Buffer, Reply

KEYS_PER_MESSAGE = 250
"""About as many: a message costs as much as the reading of some 20 keys, and the first and the last are waited for."""
MESSAGES_WINDOW = 8
"""So many of these messages are on their way at once."""
UPDATE_ROUND_BYTES = 4 * protocol.UPDATE_BYTES_MAX
"""The messages of an update that are on their way at once."""
_ABSENT: Any = object()


class _KeyGroup(msgspec.Struct, frozen=True):
    """Keys of one worker's part, and their encodings."""

    part: int
    keys: list[object]
    data: list[bytes]


class _Blob(msgspec.Struct, frozen=True):
    """A key whose value is a blob, its encoding, and the reference to it."""

    key: object
    data: bytes
    reference: bytes


def get_many(handle: DictHandle, keys: Iterable[object]) -> Operation[dict[Any, Any]]:
    asked = list(keys)
    many = _Many(handle, protocol.GET_MANY, "get many of", handle.id or (yield from handle.hydration()))
    yield from many.ask(_grouped(handle, asked))
    for each in many.blobs:
        value = yield from read_blob(handle, each.key, each.data, each.reference, _ABSENT)
        if value is not _ABSENT:
            many.found[each.key] = value
    return many.in_order_of(asked)


def pop_many(handle: DictHandle, keys: Iterable[object]) -> Operation[dict[Any, Any]]:
    asked = list(keys)
    many = _Many(handle, protocol.POP_MANY, "pop many of", handle.id or (yield from handle.hydration()))
    yield from many.ask(list(_grouped(handle, asked)))  # nothing is removed before all keys are known to be good
    taken: dict[bytes, Buffer] = {}
    try:
        for key, data, value in many.popped:
            taken[data] = yield from taken_over(place_of(handle, many.verb, key, data), value)
        for key, data, _value in many.popped:
            many.found[key] = decode_value(handle, key, taken[data])
        return many.in_order_of(asked)
    except GeneratorExit:
        raise
    except BaseException as error:
        yield from _put_back(handle, many, taken, error)
        raise


def _put_back(handle: DictHandle, many: _Many, taken: dict[bytes, Buffer], error: BaseException) -> Operation[None]:
    """Store again all that was popped, since some of it cannot be read here; not where there is another value by now."""
    entries: list[Entry] = []
    large_keys: dict[bytes, object] = {}
    yield Queries(transfers=True)  # it has the whole time of a call
    try:
        for key, data, value in many.popped:
            if data not in taken and is_reference(value):
                try:
                    taken[data] = yield from taken_over(place_of(handle, many.verb, key, data), value)
                except Error as lost:
                    error.add_note(str(lost))
                    continue
            encoded, whole = encode_key(handle, key), field_of(taken.get(data, value))
            entries.append((data, key_object(handle, key, encoded, puts_back=True), whole))
            if type(whole) is Pieces:
                large_keys[data] = key
        yield from put_entries(handle, handle.id or b"", Entries.of(entries), protocol.SKIP_IF_EXISTS, large_keys)
    except Error as failed:
        error.add_note(f"what was popped could not be put back: {failed}")


class _Many:
    """What has been asked, and what has come: values that were found, and references to those that are still to be read."""

    def __init__(self, handle: DictHandle, opcode: int, verb: str, dict_id: bytes) -> None:
        self.verb = verb
        self.found: dict[Any, Any] = {}
        self.blobs: list[_Blob] = []
        self.popped: list[tuple[object, bytes, bytes]] = []
        """What was removed: keys, their encodings, values. It is read when all has come; what cannot be read is put back."""
        self._handle = handle
        self._opcode = opcode
        self._dict_id = dict_id
        self._sent: deque[tuple[_KeyGroup, Query]] = deque()
        self._left: list[_KeyGroup] = []
        self._refused: list[tuple[_KeyGroup, Query, Reply]] = []

    def ask(self, groups: Iterable[_KeyGroup]) -> Operation[None]:
        """Ask for these keys, until there is an answer for each."""
        while groups:
            self._left, self._refused = [], []
            yield Queries(self._queries(groups), MESSAGES_WINDOW, self._take)
            for group, query, reply in self._refused:
                self._keep(group, (yield from settled(self._handle, query, reply)))
            groups = self._left

    def in_order_of(self, keys: list[object]) -> dict[Any, Any]:
        """What was found, in this order, whichever worker answered first."""
        found = self.found
        if len(found) == len(keys) and all(map(is_, found, keys)):
            return found
        return {key: found[key] for key in keys if key in found}

    def _queries(self, groups: Iterable[_KeyGroup]) -> Iterator[Query]:
        for group in groups:
            body = encode(group.data)
            query = Query(self._opcode, group.part, self.verb, self._handle.label, dict_id=self._dict_id, value=body)
            self._sent.append((group, query))
            yield query

    def _take(self, reply: Reply) -> None:
        group, query = self._sent.popleft()
        if reply.status > protocol.ANSWERS_MAX:
            self._refused.append((group, query, reply))
        else:
            self._keep(group, reply)

    def _keep(self, group: _KeyGroup, reply: Reply) -> None:
        values = decode(list[Union[bytes, None]], reply.payload)
        if self._opcode == protocol.POP_MANY:
            found = zip(group.keys, group.data, values, strict=False)
            self.popped += [(key, data, value) for key, data, value in found if value is not None]
        else:
            for at in decode_values(self._handle, group.keys, values, self.found):
                self.blobs.append(_Blob(group.keys[at], group.data[at], values[at] or b""))
        if len(values) < len(group.keys):
            self._left.append(_KeyGroup(group.part, group.keys[len(values) :], group.data[len(values) :]))


def _grouped(handle: DictHandle, keys: list[object]) -> Iterator[_KeyGroup]:
    """The keys in groups, each for one worker, as they are needed."""
    roster, crc = handle.connected().roster, handle.crc
    parts, count = roster.part_of_slot(), len(roster.workers)
    for start in range(0, len(keys), KEYS_PER_MESSAGE * count):
        some = keys[start : start + KEYS_PER_MESSAGE * count]
        data = keys_data(handle, some)
        if count == 1:
            yield _KeyGroup(parts[0], some, data)
            continue
        of = owners(crc, data, parts)
        for part in sorted(set(of)):
            mine = [at for at, owner in enumerate(of) if owner == part]
            yield _KeyGroup(part, [some[at] for at in mine], [data[at] for at in mine])


Entry = tuple[bytes, Union[bytes, None], Union[bytes, Pieces]]
"""Encoded key, key object if need be, value."""


class Entries(NamedTuple):
    """Some of an update, as messages have them: what `bodies.Update` has, but blobs, which are still to go there, in pieces."""

    keys: list[bytes]
    values: list[Union[bytes, Pieces]]
    key_objects: list[Union[bytes, None]]

    @classmethod
    def of(cls, entries: Collection[Entry]) -> Entries:
        keys, shown_as, values = map(list, zip(*entries, strict=True)) if entries else ([], [], [])
        return cls(keys, values, shown_as if any(shown_as) else [])

    @property
    def bytes(self) -> int:
        return sum(map(len, self.keys)) + sum(map(len, self.values)) + sum(map(len, filter(None, self.key_objects)))

    def one_by_one(self) -> Iterator[Entry]:
        return zip(self.keys, self.key_objects or repeat(None), self.values, strict=False)


def put_many(handle: DictHandle, items: Iterable[tuple[object, object]], skip_if_exists: bool) -> Operation[int]:
    """Store these items, those that came before the iterator raised too. Returns how many were stored."""
    large_keys: dict[bytes, object] = {}
    encoded: dict[bytes, Entry] = {}
    failure = _encode_each(handle, items, skip_if_exists, encoded, large_keys)
    entries = Entries.of(encoded.values())
    dict_id = handle.id or (yield from handle.hydration())
    stored = yield from put_entries(handle, dict_id, entries, protocol.SKIP_IF_EXISTS * skip_if_exists, large_keys)
    if failure is not None:
        raise failure
    return stored


def put_entries(
    handle: DictHandle, dict_id: bytes, entries: Entries, flags: int, large_keys: dict[bytes, object]
) -> Operation[int]:
    """Store these, in messages of bounded size. Returns how many were stored."""
    stored = 0
    for groups in _rounds(_by_worker(handle, entries)):
        stored += yield from _put_groups(handle, dict_id, groups, flags, large_keys)
    return stored


def _encode_each(
    handle: DictHandle,
    items: Iterable[tuple[object, object]],
    skip_if_exists: bool,
    entries: dict[bytes, Entry],
    large_keys: dict[bytes, object],
) -> Exception | None:
    """Add these items to `entries`, by key: of two for one key the last counts, in whatever order messages arrive; and the
    keys of those that are blobs into `large_keys`.

    Returns what the iterator, or a key's __hash__, has raised: as with dict, what came before it is stored.
    """
    try:
        for count, (key, value) in enumerate(items):
            if count == protocol.UPDATE_ENTRIES_MAX:
                raise RequestSizeError(
                    f"an update of {handle.label} has at most {protocol.UPDATE_ENTRIES_MAX:,} entries; nothing was stored: "
                    "divide it into several"
                )
            entry = _encoded(handle, key, value)
            data = entry[0]
            if type(entry[2]) is Pieces:
                large_keys[data] = key
            if data not in entries:
                entries[data] = entry
            elif not skip_if_exists:
                entries[data] = data, entries[data][1], entry[2]  # as with dict, the key that came first stays
    except Error:
        raise
    except Exception as error:
        return error
    return None


def _encoded(handle: DictHandle, key: object, value: object) -> Entry:
    if type(key) is str and len(key) <= SHORT and (small := small_value(handle, value)) is not None:
        return key_data(handle, key), None, small
    encoded = encode_key(handle, key)
    entry = encoded.data, key_object(handle, key, encoded), encode_value(handle, key, value)
    check_size(handle, key, _size(entry))
    return entry


def _put_groups(
    handle: DictHandle, dict_id: bytes, groups: list[Entries], flags: int, large_keys: dict[bytes, object]
) -> Operation[int]:
    """Store groups of entries, each of them in one message; those again whose blobs a worker has lost."""
    stored = 0
    for _ in range(large.TRIES_MAX):
        bodies = (yield from _uploaded(handle, groups, large_keys)) if large_keys else groups
        queries: list[Query] = []
        for body in bodies:
            part = handle.connected().roster.part_of_slot()[slot_of(key_hash(handle.crc, body.keys[0]))]
            value = encode(body)
            queries.append(Query(protocol.PUT_MANY, part, "update", handle.label, dict_id, value=value, flags=flags))
        left: list[Entries] = []
        for group, reply in zip(groups, (yield from answers_to(handle, queries)), strict=True):
            if reply.status == protocol.UNKNOWN_BLOB:
                left.append(group)
            else:
                stored += decode(Count, reply.payload)
        if not left:
            return stored
        groups = left
    raise large.lost(place_of(handle, "update", None, b""))


def _uploaded(handle: DictHandle, groups: list[Entries], large_keys: dict[bytes, object]) -> Operation[list[Entries]]:
    """The same groups, with references to the blobs that are their workers' now."""
    brought = [
        (place_of(handle, "update", large_keys[data], data), field)
        for group in groups
        for data, field in zip(group.keys, group.values, strict=True)
        if isinstance(field, Pieces)
    ]
    references = iter((yield from large.upload_all(brought)))
    return [
        group._replace(values=[next(references) if isinstance(field, Pieces) else field for field in group.values])
        for group in groups
    ]


def _by_worker(handle: DictHandle, entries: Entries) -> list[Entries]:
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
    data, shown_as, field = entry
    return len(data) + len(field) + (0 if shown_as is None else len(shown_as))


def pairs_of(other: Any, more: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    """The pairs of a mapping, an object with `keys()`, or an iterable of pairs; then those of `more`."""
    if type(other) is dict and not more:
        pairs: list[tuple[Any, Any]] = list(cast(Any, other).items())  # at once, whatever other threads do with it
        return pairs
    return _one_by_one(other, more)


def _one_by_one(other: Any, more: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    if isinstance(other, Mapping):
        yield from other.items()
    elif hasattr(other, "keys"):
        for key in other.keys():  # noqa: SIM118 - as dict.update does it: `other` need not be iterable
            yield key, other[key]
    else:
        for position, pair in enumerate(other):
            is_pair = type(pair) is tuple and len(pair) == 2  # pyright: ignore[reportUnknownArgumentType]
            yield pair if is_pair else _pair(position, pair)
    yield from more.items()


def _pair(position: int, pair: Any) -> tuple[Any, Any]:
    try:
        members = tuple(pair)
    except TypeError:
        raise TypeError(f"cannot convert dictionary update sequence element #{position} to a sequence") from None
    if len(members) != 2:
        raise ValueError(f"dictionary update sequence element #{position} has length {len(members)}; 2 is required")
    return members
