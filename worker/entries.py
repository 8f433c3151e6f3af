"""What a worker does to the entries of a Dict, one function per opcode.

Rule: a handler checks everything before its first write, so that a refusal leaves nothing behind. What has expired is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from holdall import blob, protocol
from holdall.blob import Reference, is_reference, reference_of
from holdall.bodies import Lifetime, Page, PageEntry, PageRequest, Registration, Update, decode, encode
from holdall.protocol import Buffer, Reply, Request
from holdall.worker import expiry
from holdall.worker.dicts import OpenDict
from holdall.worker.refused import Refused
from holdall.worker.rows import (
    VERSION_OFFSET,
    DictRow,
    Record,
    pack_plain_records,
    pack_record,
    parse_record,
    plain_values,
    time_of,
    touch_row,
    values_of_plain,
)
from holdall.worker.transaction import Transaction

PAGE_ENTRIES_MAX = 1_000
PAGE_BYTES_MAX = 1024 * 1024
"""A page ends at the entry that crosses this, so that its reply stays near it."""
READ_TOGETHER = 64
"""Rows read at once: with the largest values they take 16 MiB of memory."""
EXPIRED_ROWS_MAX = 10_000
"""Rows of expired entries passed over for one request, about 50 ms; the sweeper leaves far fewer as a rule."""


_first_byte = itemgetter(slice(1))


def get_fresh(transaction: Transaction, hashes: range, head: bytes, payload: Buffer | None) -> list[Buffer] | None:
    """The frames that answer a GET without flags, if there is nothing to decide: those of the reply that `get` would give. Else
    None, and for any other request, and one whose hash is none of these.
    """
    asked = protocol.plain_get(head)
    if asked is None or payload is not None or asked[0] not in hashes:
        return None
    _hash, sequence, dict_id, key = asked
    held = transaction.dicts.get(dict_id)
    if held is None:
        return None
    row = held.prefix + key  # of a Dict that was deleted it is another one: nothing is found
    data = None if row in transaction.plain else transaction.fresh.get(row)
    return None if data is None else protocol.pack_found(sequence, data[VERSION_OFFSET:])


def get(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    row = held.prefix + request.key
    data = transaction.get(row)
    record = expiry.used(transaction, held, row, data)
    if data is None or record is None:
        return Reply(protocol.MISSING, request.sequence, 0, b"")
    if _is_plain(record.key_object, record.value) and _is_fresh(transaction, held, record.time):
        transaction.keep_fresh({row: data})
    return Reply(protocol.OK, request.sequence, record.version, _lent(transaction, record.value))


def contains(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    found = expiry.use_unread(transaction, held, held.prefix + request.key)
    return Reply(protocol.OK if found else protocol.MISSING, request.sequence, 0, b"")


def put(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    key_object, value = None, request.value
    if request.flags & protocol.KEY_OBJECT:
        key_object, value = protocol.split_key_object(value)
    references = _checked(transaction, [(request.key, key_object, value)])
    if request.flags & protocol.SKIP_IF_EXISTS and expiry.use_unread(transaction, held, held.prefix + request.key):
        for each in references:
            transaction.blobs.discard(each)
        return Reply(protocol.EXISTS, request.sequence, 0, b"")
    version = transaction.next_version()
    _store(transaction, held, (request.key, key_object, value), version)
    return Reply(protocol.OK, request.sequence, version, b"")


def put_many(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    update = decode(Update, request.value)
    count = len(update.keys)
    if count > protocol.UPDATE_ENTRIES_MAX:
        limit = protocol.UPDATE_ENTRIES_MAX
        raise Refused(protocol.TOO_LARGE, f"an update has at most {limit:,} entries, this one {count:,}")
    if len(update.values) != count or len(update.key_objects) not in (0, count):
        raise Refused(protocol.MALFORMED, f"an update of {count:,} keys has as many values, and as many key objects or none")
    if not request.flags & protocol.SKIP_IF_EXISTS and _store_plainly(transaction, held, update):
        return Reply(protocol.OK, request.sequence, 0, encode(count))
    entries = list(zip(update.keys, update.key_objects or [None] * count, update.values, strict=True))
    _checked(transaction, entries)
    version = transaction.next_version()
    stored = 0
    for entry in entries:
        if request.flags & protocol.SKIP_IF_EXISTS and expiry.use_unread(transaction, held, held.prefix + entry[0]):
            if is_reference(entry[2]):
                transaction.blobs.discard(reference_of(entry[2]))
            continue
        _store(transaction, held, entry, version)
        stored += 1
    return Reply(protocol.OK, request.sequence, 0, encode(stored))


def pop(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    row = held.prefix + request.key
    record = expiry.use(transaction, held, row)
    if record is None:
        return Reply(protocol.MISSING, request.sequence, 0, b"")
    remove(transaction, held, row, record.time)
    value = record.value
    if request.flags & protocol.WITHOUT_VALUE:
        let_go(transaction, value)
        value = b""
    return Reply(protocol.OK, request.sequence, transaction.next_version(), _handed_over(transaction, value))


def pop_any(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    for number, (row, data) in enumerate(transaction.scan(held.prefix, held.prefix)):
        if number == EXPIRED_ROWS_MAX:
            return Reply(protocol.UNAVAILABLE, request.sequence, 0, b"expired entries are still being removed")
        time = time_of(row, data)
        live = expiry.is_live(transaction, held, row, time)
        record = parse_record(row, data)
        remove(transaction, held, row, time)
        if not live:
            let_go(transaction, record.value)
            continue
        value = bytes(_handed_over(transaction, record.value))
        entry = PageEntry(row[len(held.prefix) :], record.key_object, value)
        return Reply(protocol.OK, request.sequence, transaction.next_version(), encode(entry))
    return Reply(protocol.MISSING, request.sequence, 0, b"")


def set_default(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    record = expiry.use(transaction, held, held.prefix + request.key)
    if record is None:
        return put(transaction, request)
    return Reply(protocol.EXISTS, request.sequence, record.version, _lent(transaction, record.value))


def get_many(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    prefix = held.prefix
    keys = decode(list[bytes], request.value)[: protocol.UPDATE_ENTRIES_MAX]
    values: list[Buffer | None] = []
    size = 0
    for start in range(0, len(keys), READ_TOGETHER):
        found = [prefix + key for key in keys[start : start + READ_TOGETHER]]
        together, bytes_together = _values_of(transaction, held, found, PAGE_BYTES_MAX - size)
        values += together
        size += bytes_together
        if size > PAGE_BYTES_MAX:
            break
    return Reply(protocol.OK, request.sequence, 0, encode(values))


def pop_many(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    values: list[Buffer | None] = []
    size = 0
    for key in decode(list[bytes], request.value)[: protocol.UPDATE_ENTRIES_MAX]:
        row = held.prefix + key
        record = expiry.use(transaction, held, row)
        if record is None:
            values.append(None)
            continue
        remove(transaction, held, row, record.time)
        values.append(_handed_over(transaction, record.value))
        size += _size(record.value)
        if size > PAGE_BYTES_MAX:
            break
    return Reply(protocol.OK, request.sequence, 0, encode(values))


def length(transaction: Transaction, request: Request) -> Reply:
    return Reply(protocol.OK, request.sequence, 0, encode(_held(transaction, request).row.length))


def page(transaction: Transaction, request: Request) -> Reply:
    held = _held(transaction, request)
    wanted = decode(PageRequest, request.value)
    most = min(max(wanted.entries_max, 1), PAGE_ENTRIES_MAX)
    with_values = bool(request.flags & protocol.WITH_VALUES)
    start = held.prefix + wanted.after + b"\x00" if wanted.after else held.prefix
    entries: list[PageEntry] = []
    size = expired = 0
    last = b""
    for row, data in transaction.scan(start, held.prefix):
        if len(entries) == most or size > PAGE_BYTES_MAX or expired == EXPIRED_ROWS_MAX:
            return Reply(protocol.OK, request.sequence, 0, encode(Page(entries, last[len(held.prefix) :])))
        last = row
        if not expiry.is_live(transaction, held, row, time_of(row, data)):
            expired += 1
            continue
        record = parse_record(row, data)
        value = bytes(_lent(transaction, record.value)) if with_values else None
        entries.append(PageEntry(row[len(held.prefix) :], record.key_object, value))
        size += len(row) + (0 if value is None else _size(value))
    return Reply(protocol.OK, request.sequence, 0, encode(Page(entries)))


def clear(transaction: Transaction, request: Request) -> Reply:
    _held(transaction, request)
    transaction.put(transaction.dicts.clear(request.dict_id), b"")
    return Reply(protocol.OK, request.sequence, transaction.next_version(), b"")


def register(transaction: Transaction, request: Request) -> Reply:
    known = transaction.dicts.get(request.dict_id)
    if known is None:
        of = decode(Registration, request.value)
        _check_ttl(of.ttl)
        now = transaction.now
        row = DictRow(0, 0, of.ttl, None, of.lease_seconds, of.environment, now, of.created_by, of.ttl_version)
        transaction.dicts.add(request.dict_id, row, transaction.elapsed, transaction.clock_ms)
    elif known.row.deleted_at is not None:
        raise Refused(protocol.DICT_NOT_FOUND, "it was deleted")
    return Reply(protocol.OK, request.sequence, 0, b"")


def drop(transaction: Transaction, request: Request) -> Reply:
    known = transaction.dicts.get(request.dict_id)
    if known is None:
        transaction.dicts.add(request.dict_id, DictRow(deleted_at=int(transaction.elapsed)), transaction.elapsed)
    elif known.row.deleted_at is None:
        transaction.put(transaction.dicts.delete(request.dict_id, transaction.elapsed), b"")
    return Reply(protocol.OK, request.sequence, 0, b"")


def renew(transaction: Transaction, request: Request) -> Reply:
    _held(transaction, request)
    transaction.dicts.renew(request.dict_id, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, b"")


def set_ttl(transaction: Transaction, request: Request) -> Reply:
    _held(transaction, request)
    wanted = decode(Lifetime, request.value)
    _check_ttl(wanted.ttl)
    transaction.dicts.set_ttl(request.dict_id, wanted.ttl, wanted.ttl_version, transaction.clock_ms)
    transaction.forget_fresh()
    return Reply(protocol.OK, request.sequence, 0, b"")


def remove(transaction: Transaction, held: OpenDict, row: bytes, time: int) -> None:
    """Delete an entry, last written at this time, and what belongs to it."""
    transaction.delete(row)
    if held.has_touch(transaction.clock_ms - time):
        transaction.forget_touch(touch_row(row))
    held.row.length -= 1
    transaction.dicts.changed(held.dict_id)


def _held(transaction: Transaction, request: Request) -> OpenDict:
    held = transaction.dicts.get(request.dict_id)
    if held is None:
        raise Refused(protocol.UNKNOWN_DICT, "")
    if held.row.deleted_at is not None:
        raise Refused(protocol.DICT_NOT_FOUND, "it was deleted")
    return held


def _check_ttl(seconds: float | None) -> None:
    if not protocol.is_ttl(seconds):
        most = protocol.TTL_SECONDS_MAX
        raise Refused(protocol.INVALID, f"a ttl is more than 0 and at most {most:.0f} seconds, or none, not {seconds!r}")


def _checked(transaction: Transaction, entries: Sequence[tuple[bytes, bytes | None, Buffer]]) -> list[Reference]:
    """The blobs that these entries refer to. Raises Refused if one of the entries cannot be stored."""
    references: list[Reference] = []
    for key, key_object, value in entries:
        size = len(key) + len(key_object or b"")
        if is_reference(value):
            references.append(reference_of(value))
            transaction.blobs.check(references[-1])
            size += references[-1].size
        elif len(value) > blob.BLOB_BYTES_MIN:
            raise Refused(protocol.TOO_LARGE, f"a value of more than {blob.BLOB_BYTES_MIN:,} bytes is sent as a blob")
        if size > protocol.OBJECT_BYTES_MAX:
            most = protocol.OBJECT_BYTES_MAX
            raise Refused(protocol.TOO_LARGE, f"an entry has at most {most:,} bytes, this one {size:,}")
        if not 1 <= len(key) <= protocol.KEY_BYTES_MAX:
            most = protocol.KEY_BYTES_MAX
            raise Refused(protocol.MALFORMED, f"an encoded key has 1 to {most:,} bytes, this one {len(key):,}")
        if len(key_object or b"") > protocol.KEY_OBJECT_BYTES_MAX:
            raise Refused(protocol.TOO_LARGE, f"a key has at most {protocol.KEY_OBJECT_BYTES_MAX:,} bytes as pickled")
    if len(references) > 1 and len({each.id for each in references}) < len(references):
        raise Refused(protocol.MALFORMED, "two entries cannot be the same blob")
    return references


def _values_of(transaction: Transaction, held: OpenDict, found: list[bytes], room: int) -> tuple[Sequence[Buffer | None], int]:
    """The values in these rows, up to the one with which they have more bytes than there is room for; and their bytes."""
    fresh: list[Any] = list(map(transaction.fresh.get, found))
    if None not in fresh and (not transaction.plain or transaction.plain.keys().isdisjoint(found)):
        told = values_of_plain(fresh)
        return told, sum(map(len, told))
    data = transaction.get_all(found)
    values, others = plain_values(data, expiry.fresh_throughout(transaction, held))
    size = sum([len(value) for value in values if value is not None])
    kept = {row: record for row, record in zip(found, data, strict=True) if record is not None}
    for at in others:
        kept.pop(found[at], None)
        record = expiry.used(transaction, held, found[at], data[at])
        values[at] = None if record is None else _lent(transaction, record.value)
        size += 0 if record is None else _size(record.value)
        if size > room:
            return values[: at + 1], size
    transaction.keep_fresh(kept)
    return values, size


def _size(value: Buffer) -> int:
    """The bytes of a value, here or in its file."""
    return reference_of(value).size if is_reference(value) else len(value)


def _lent(transaction: Transaction, value: Buffer) -> Buffer:
    """The value, of which somebody is told."""
    if is_reference(value):
        transaction.blobs.lend(reference_of(value).id, transaction.elapsed)
    return value


def _handed_over(transaction: Transaction, value: Buffer) -> Buffer:
    """The value, whose entry is gone and which is its client's."""
    if is_reference(value):
        transaction.blobs.hand_over(reference_of(value).id, transaction.elapsed)
    return value


def let_go(transaction: Transaction, value: Buffer) -> None:
    """Nobody needs the value any more."""
    if is_reference(value):
        transaction.blobs.let_go(reference_of(value).id)


def _store_plainly(transaction: Transaction, held: OpenDict, update: Update) -> bool:
    """Store all of these as `_checked` and `_store` do, faster, if all are plain and so is what they replace; else none."""
    keys, values = update.keys, update.values
    if update.key_objects or not keys or transaction.no_room:
        return False
    sizes = list(map(len, keys))
    if not 0 < min(sizes) <= max(sizes) <= protocol.KEY_BYTES_MAX or max(map(len, values)) > blob.BLOB_BYTES_MIN:
        return False
    if blob.MARK in map(_first_byte, values):
        return False
    prefix = held.prefix
    found = [prefix + key for key in keys]
    missing = 0
    if None in map(transaction.fresh.get, found):
        old = transaction.get_all(found)
        _values, others = plain_values(old, transaction.clock_ms - held.touchless_ms)
        if others:
            return False
        missing = old.count(None)
    packed = pack_plain_records(transaction.clock_ms, transaction.next_version(), values)
    records = dict(zip(found, packed, strict=True))
    if len(records) < len(found):  # of two for one key the last counts, and but one adds to the length
        return False
    if missing:
        held.row.length += missing
        transaction.dicts.changed(held.dict_id)
    transaction.put_records(records, fresh=_is_fresh(transaction, held, transaction.clock_ms))
    return True


def _store(transaction: Transaction, held: OpenDict, entry: tuple[bytes, bytes | None, Buffer], version: int) -> None:
    if transaction.no_room:
        raise Refused(protocol.NO_ROOM, transaction.no_room)
    key, key_object, value = entry
    row = held.prefix + key
    key_object = _replaced(transaction, held, row, key_object) if transaction.fresh.get(row) is None else None
    if is_reference(value):
        transaction.blobs.claim(reference_of(value))
    record = pack_record(Record(transaction.clock_ms, version, key_object, value))
    fresh = _is_plain(key_object, value) and _is_fresh(transaction, held, transaction.clock_ms)
    transaction.put_records({row: record}, fresh=fresh)


def _replaced(transaction: Transaction, held: OpenDict, row: bytes, key_object: bytes | None) -> bytes | None:
    """Let go of what is in this row, if something is, for an entry that brings this key object. Returns the one to store."""
    data = transaction.get(row)
    if data is None:
        held.row.length += 1
        transaction.dicts.changed(held.dict_id)
        return key_object
    old = parse_record(row, data)
    if key_object != old.key_object and expiry.is_live(transaction, held, row, old.time):
        key_object = old.key_object  # as with dict, the key that was stored first stays
    if held.has_touch(transaction.clock_ms - old.time):
        transaction.forget_touch(touch_row(row))
    if is_reference(old.value):
        let_go(transaction, old.value)
    return key_object


def _is_plain(key_object: bytes | None, value: Buffer) -> bool:
    return key_object is None and not is_reference(value)


def _is_fresh(transaction: Transaction, held: OpenDict, time: int) -> bool:
    """Whether an entry last written at this time is fresh for the rest of the present span."""
    return time >= expiry.fresh_throughout(transaction, held)
