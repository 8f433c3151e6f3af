"""What a worker does to the entries of a Dict, one function per opcode.

Rule: a handler checks everything before its first write, so that a refusal leaves nothing behind. What has expired is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdall import blob, protocol
from holdall.blob import Reference, is_reference, reference_of
from holdall.bodies import Lifetime, Page, PageEntry, PageRequest, Registration, Update, decode, encode
from holdall.protocol import Buffer, Reply, Request
from holdall.worker.state import expiry
from holdall.worker.state.dicts import TOMBSTONES_FULL_MAX, OpenDict
from holdall.worker.state.refused import Refused
from holdall.worker.state.transaction import Transaction
from holdall.worker.store.rows import DictRow, Record, parse_record, touch_row

PAGE_ENTRIES_MAX = 1_000
PAGE_BYTES_MAX = 1024 * 1024
"""A page ends at the entry that crosses this, so that its reply stays near it."""
REMEMBERED_BYTES_MAX = 16 * 1024 * 1024
"""Of outcomes, while the disk is full: then what changes nothing is refused too, if it is remembered."""
EXPIRED_ROWS_MAX = 10_000
"""Rows of expired entries passed over for one request; the sweeper leaves far fewer as a rule."""


def get(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    record = expiry.use(transaction, opened, opened.prefix + request.key)
    if record is None:
        return Reply(protocol.MISSING, request.sequence, 0, b"")
    if is_reference(record.value):
        transaction.blobs.lend(reference_of(record.value).id, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, record.version, record.value)


def contains(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    record = expiry.use(transaction, opened, opened.prefix + request.key)
    return Reply(protocol.MISSING if record is None else protocol.OK, request.sequence, 0, b"")


def put(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    key_object, value = None, request.value
    if request.flags & protocol.KEY_OBJECT:
        key_object, value = protocol.split_key_object(value)
    references = _checked(transaction, [(request.key, key_object, value)])
    if request.flags & protocol.SKIP_IF_EXISTS and expiry.use(transaction, opened, opened.prefix + request.key):
        for each in references:
            transaction.blobs.discard(each.id)
        return Reply(protocol.EXISTS, request.sequence, 0, b"")
    version = transaction.next_version()
    _store(transaction, opened, (request.key, key_object, value), version)
    return Reply(protocol.OK, request.sequence, version, b"")


def put_many(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    update = decode(Update, request.value)
    count = len(update.keys)
    if count > protocol.UPDATE_ENTRIES_MAX:
        limit = protocol.UPDATE_ENTRIES_MAX
        raise Refused(protocol.TOO_LARGE, f"an update has at most {limit:,} entries, this one {count:,}")
    if len(update.values) != count or len(update.key_objects) not in (0, count):
        raise Refused(protocol.MALFORMED, f"an update of {count:,} keys has as many values, and as many key objects or none")
    entries = list(zip(update.keys, update.key_objects or [None] * count, update.values, strict=True))
    _checked(transaction, entries)
    version = transaction.next_version()
    stored = 0
    for entry in entries:
        if request.flags & protocol.SKIP_IF_EXISTS and expiry.use(transaction, opened, opened.prefix + entry[0]):
            if is_reference(entry[2]):
                transaction.blobs.discard(reference_of(entry[2]).id)
            continue
        _store(transaction, opened, entry, version)
        stored += 1
    return Reply(protocol.OK, request.sequence, 0, encode(stored))


def pop(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    row = opened.prefix + request.key
    record = expiry.use(transaction, opened, row)
    if record is None:
        return Reply(protocol.MISSING, request.sequence, 0, b"")
    transaction.remove_entry(opened, row, record)
    value = record.value
    if request.flags & protocol.WITHOUT_VALUE:
        transaction.let_go(value)
        value = b""
    return Reply(protocol.OK, request.sequence, transaction.next_version(), _handed_over(transaction, value))


def pop_any(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    for number, (row, data) in enumerate(transaction.scan(opened.prefix, opened.prefix)):
        if number == EXPIRED_ROWS_MAX:
            return Reply(protocol.UNAVAILABLE, request.sequence, 0, b"expired entries are still being removed")
        record = parse_record(row, data)
        live = expiry.is_live(transaction, opened, row, record)
        transaction.remove_entry(opened, row, record)
        if not live:
            transaction.let_go(record.value)
            continue
        value = bytes(_handed_over(transaction, record.value))
        entry = PageEntry(row[len(opened.prefix) :], record.key_object, value)
        return Reply(protocol.OK, request.sequence, transaction.next_version(), encode(entry))
    return Reply(protocol.MISSING, request.sequence, 0, b"")


def set_default(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    record = expiry.use(transaction, opened, opened.prefix + request.key)
    if record is None:
        return put(transaction, request)
    if transaction.no_room and transaction.sessions.weight > REMEMBERED_BYTES_MAX:
        raise full(transaction)  # for the outcome, which has the value
    return Reply(protocol.EXISTS, request.sequence, record.version, _lent(transaction, record.value))


def get_many(transaction: Transaction, request: Request) -> Reply:
    return _many(transaction, request, lambda _opened, _row, record: _lent(transaction, record.value))


def pop_many(transaction: Transaction, request: Request) -> Reply:
    def popped(opened: OpenDict, row: bytes, record: Record) -> Buffer:
        transaction.remove_entry(opened, row, record)
        return _handed_over(transaction, record.value)

    return _many(transaction, request, popped)


def _many(transaction: Transaction, request: Request, value_of: Callable[[OpenDict, bytes, Record], Buffer]) -> Reply:
    """The values of as many of these keys as the reply has room for, each as `value_of` gives it; None where one is missing."""
    opened = _opened(transaction, request)
    values: list[Buffer | None] = []
    size = 0
    for key in decode(list[bytes], request.value)[: protocol.UPDATE_ENTRIES_MAX]:
        row = opened.prefix + key
        record = expiry.use(transaction, opened, row)
        if record is None:
            values.append(None)
            continue
        values.append(value_of(opened, row, record))
        size += _size(record.value)
        if size > PAGE_BYTES_MAX:
            break
    return Reply(protocol.OK, request.sequence, 0, encode(values))


def length(transaction: Transaction, request: Request) -> Reply:
    return Reply(protocol.OK, request.sequence, 0, encode(_opened(transaction, request).row.length))


def page(transaction: Transaction, request: Request) -> Reply:
    opened = _opened(transaction, request)
    wanted = decode(PageRequest, request.value)
    most = min(max(wanted.entries_max, 1), PAGE_ENTRIES_MAX)
    with_values = bool(request.flags & protocol.WITH_VALUES)
    is_there = expiry.use_read if with_values else expiry.is_live
    start = opened.prefix + wanted.after + b"\x00" if wanted.after else opened.prefix
    entries: list[PageEntry] = []
    size = expired = 0
    last = b""
    for row, data in transaction.scan(start, opened.prefix):
        if len(entries) == most or size > PAGE_BYTES_MAX or expired == EXPIRED_ROWS_MAX:
            return Reply(protocol.OK, request.sequence, 0, encode(Page(entries, last[len(opened.prefix) :])))
        last = row
        record = parse_record(row, data)
        if not is_there(transaction, opened, row, record):
            expired += 1
            continue
        value = bytes(_lent(transaction, record.value)) if with_values else None
        entries.append(PageEntry(row[len(opened.prefix) :], record.key_object, value))
        size += len(row) + (0 if value is None else _size(value))
    return Reply(protocol.OK, request.sequence, 0, encode(Page(entries)))


def clear(transaction: Transaction, request: Request) -> Reply:
    if _opened(transaction, request).row.length:
        transaction.dicts.require_turn()
        transaction.write(transaction.dicts.clear(request.dict_id), b"")
    return Reply(protocol.OK, request.sequence, transaction.next_version(), b"")


def register(transaction: Transaction, request: Request) -> Reply:
    known = transaction.dicts.get(request.dict_id)
    if known is None:
        of = decode(Registration, request.value)
        check_ttl(of.ttl)
        transaction.dicts.require_right(request.dict_id, of)
        if transaction.no_room and of.lease_seconds is not None:
            raise full(transaction)
        now = transaction.wall
        row = DictRow(0, 0, of.ttl, None, of.lease_seconds, of.environment, now, of.created_by, of.ttl_version)
        transaction.dicts.add(request.dict_id, row, transaction.elapsed, transaction.clock_ms)
    elif known.row.deleted_at is not None:
        raise Refused(protocol.DICT_NOT_FOUND, "it was deleted")
    return Reply(protocol.OK, request.sequence, 0, b"")


def drop(transaction: Transaction, request: Request) -> Reply:
    known = transaction.dicts.get(request.dict_id)
    if known is None:
        transaction.dicts.require_room()
        if transaction.no_room and transaction.dicts.tombstones >= TOMBSTONES_FULL_MAX:
            raise full(transaction)
        transaction.dicts.add(request.dict_id, DictRow(deleted_at=int(transaction.elapsed)), transaction.elapsed)
    elif known.row.deleted_at is None:
        transaction.dicts.require_turn()
        transaction.write(transaction.dicts.delete(request.dict_id, transaction.elapsed), b"")
    return Reply(protocol.OK, request.sequence, 0, b"")


def renew(transaction: Transaction, request: Request) -> Reply:
    _opened(transaction, request)
    transaction.dicts.renew(request.dict_id, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, b"")


def set_ttl(transaction: Transaction, request: Request) -> Reply:
    _opened(transaction, request)
    wanted = decode(Lifetime, request.value)
    check_ttl(wanted.ttl)
    transaction.dicts.set_ttl(request.dict_id, wanted, transaction.clock_ms)
    return Reply(protocol.OK, request.sequence, 0, b"")


def _opened(transaction: Transaction, request: Request) -> OpenDict:
    opened = transaction.dicts.get(request.dict_id)
    if opened is None:
        raise Refused(protocol.UNKNOWN_DICT, "")
    if opened.row.deleted_at is not None:
        raise Refused(protocol.DICT_NOT_FOUND, "it was deleted")
    return opened


def check_ttl(seconds: float | None) -> None:
    if not protocol.is_ttl(seconds):
        most = protocol.TTL_SECONDS_MAX
        raise Refused(protocol.INVALID, f"a ttl is more than 0 and at most {most:.0f} seconds, or none, not {seconds!r}")


def full(transaction: Transaction) -> Refused:
    """The refusal of what takes room on the disk."""
    return Refused(protocol.NO_ROOM, transaction.no_room)


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


def _size(value: Buffer) -> int:
    return reference_of(value).size if is_reference(value) else len(value)


def _lent(transaction: Transaction, value: Buffer) -> Buffer:
    """The value, which a client gets: of a blob, the file stays for a while."""
    if is_reference(value):
        transaction.blobs.lend(reference_of(value).id, transaction.elapsed)
    return value


def _handed_over(transaction: Transaction, value: Buffer) -> Buffer:
    """The value, whose entry is gone and which is its client's."""
    if is_reference(value):
        transaction.blobs.hand_over(reference_of(value).id, transaction.elapsed)
    return value


def _store(transaction: Transaction, opened: OpenDict, entry: tuple[bytes, bytes | None, Buffer], version: int) -> None:
    if transaction.no_room:
        raise full(transaction)
    key, key_object, value = entry
    row = opened.prefix + key
    key_object = _replaced(transaction, opened, row, key_object)
    if is_reference(value):
        transaction.blobs.claim(reference_of(value))
    now = transaction.clock_ms
    transaction.write_record(row, Record(now, version, key_object, value, now))


def _replaced(transaction: Transaction, opened: OpenDict, row: bytes, key_object: bytes | None) -> bytes | None:
    """Let go of what is in this row, if something is, for an entry that brings this key object. Returns the one to store."""
    old = transaction.record(row)
    if old is None:
        opened.row.length += 1
        transaction.dicts.changed_ids.add(opened.dict_id)
        return key_object
    if key_object != old.key_object and expiry.is_live(transaction, opened, row, old):
        key_object = old.key_object  # as with dict, the key that was stored first stays
    if opened.has_touch(transaction.clock_ms - old.time):
        transaction.forget_touch(touch_row(row))
    if is_reference(old.value):
        transaction.let_go(old.value)
    return key_object
