"""The rows of a worker's store; docs/architecture.md has the arithmetic.

    row      = "\\x00holdall"                          → format      the first row
             | "\\x00journal"                          → epoch:16 number:u64 at:u64 kept:u64    a position: see `journal.py`
             | "B" blob_id                            → size:u64 crc:u32 [file:12]    a blob that something owns: its file must
                                                        be there
             | "C"                                    → version:u64 elapsed:f64 clock:f64 wall:f64
             | "D" dict_id                            → DictRow
             | "E" dict_id generation:u32be key       → record
             | "G" dict_id generation:u32be           → ""          a generation whose entries are still to be swept
             | "H" blob_id                            → ""          of the blobs with a row "B", one that was popped
             | "I" dict_id                            → catalog key of that Dict
             | "N" environment "/" name               → CatalogEntry
             | "O" session sequence:u64be             → the payload of a large outcome
             | "S" session                            → SessionRow
             | "T" dict_id generation:u32be key       → time:u64    a touch: when an entry was last used, if not written
             | "\\xffholdall"                          → format      the last row
    record   = crc:u32 format:u8 flags:u8 time:u64 version:u64 [key_object_length:u32 key_object] value

"C" has the last version given out, the seconds for which the store has been in use, and what the store's own clock showed at
which time of the wall clock. Times of records and touches are milliseconds of the store's own clock.

A value that begins with 0x02 is a reference to a blob (`holdall.blob`); each row "B" is referred to by one record, or
has a row "H". A file in `worker-N/blobs/` has the name that its row "B" says, or else the blob's id, in hexadecimal digits; one
that no row "B" names is an orphan, and removed at a start.

The crc covers what follows it. The first and the last row are sentinels: they must be there when a store is opened, and a
scan must end at another row: LevelDB reads a truncated table as an empty one, without an error.

Changing the format: 1. raise FORMAT; 2. let `open` convert the old one, in one batch, before anything else is read, the
journal included;
3. keep a directory in the old format among the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple, Union

import msgspec

from holdall.blob import MARK, Reference, is_reference, reference_of
from holdall.checksum import crc32
from holdall.errors import ProtocolError, StorageError
from holdall.protocol import Buffer

FORMAT = 4
"""3 had no names of files in rows "B", 2 no journal. 1 counted the time of a record in seconds since 1970."""
FORMATS_TO_CONVERT = frozenset((2, 3))
"""What is written in them can be read as it is."""
FILE_NAME_BYTES = 12
"""So a name is never a blob's id."""
FIRST_ROW = b"\x00holdall"
JOURNAL_ROW = b"\x00journal"
LAST_ROW = b"\xffholdall"
SENTINEL = bytes([FORMAT])
COUNTER_ROW = b"C"
BLOB_PREFIX, HANDED_PREFIX = b"B", b"H"
DICT_PREFIX, ENTRY_PREFIX, SWEEP_PREFIX, ID_PREFIX = b"D", b"E", b"G", b"I"
NAME_PREFIX, OUTCOME_PREFIX, SESSION_PREFIX, TOUCH_PREFIX = b"N", b"O", b"S", b"T"

_GENERATION = Struct(">I")
_SEQUENCE = Struct(">Q")
_CRC = Struct("<I")
_BODY = Struct("<BBQQ")
_TIME = Struct("<Q")
_TIME_OFFSET = 6
_U32 = Struct("<I")
_BLOB = Struct("<QI")
_HEAD = Struct("<IBBQQ")
_HEAD_BYTES = _HEAD.size
_COPIED_BYTES_MAX = 4096
"""Up to here a copy is cheaper than a view."""
_HAS_KEY_OBJECT = 1
VERSION_OFFSET = 14
"""Where the version stands in a record, and in one without a key object the value behind it, as in a reply."""


class DictRow(msgspec.Struct, array_like=True):
    """What a worker keeps of a Dict. Of an ephemeral one (`lease_seconds`) that is all there is: it has no name.

    `created_at` is in seconds since 1970; `deleted_at`, in seconds for which the store has been in use, makes it a tombstone.
    `ttl` is in seconds, None: never; of two the one with the higher `ttl_version` counts. Entries last used before
    `dead_before`, in milliseconds of the store's own clock, had expired when the ttl was changed. Only an entry last written
    more than `touch_after` milliseconds ago may have a touch row; None: none has.
    """

    generation: int = 0
    length: int = 0
    ttl: Union[float, None] = None
    deleted_at: Union[int, None] = None
    lease_seconds: Union[float, None] = None
    environment: str = ""
    created_at: float = 0.0
    created_by: str = ""
    ttl_version: int = 0
    dead_before: int = 0
    touch_after: Union[int, None] = None


class StoredBlob(NamedTuple):
    """A blob, and the name of its file."""

    reference: Reference
    file: bytes


class Record(msgspec.Struct, frozen=True, gc=False):
    """A stored entry. `time` is that of its last write, in milliseconds of the store's own clock."""

    time: int
    version: int
    key_object: bytes | None
    value: Buffer


def entry_prefix(dict_id: bytes, generation: int) -> bytes:
    """What the rows of one generation of a Dict start with."""
    return ENTRY_PREFIX + dict_id + _GENERATION.pack(generation)


def sweep_row(dict_id: bytes, generation: int) -> bytes:
    """The row that says: the entries of this generation are to be swept."""
    return SWEEP_PREFIX + dict_id + _GENERATION.pack(generation)


def touch_row(row: bytes) -> bytes:
    """The row that says when the entry in this row was last used."""
    return TOUCH_PREFIX + row[1:]


def outcome_row(session: bytes, sequence: int) -> bytes:
    """The row of a large outcome's payload."""
    return OUTCOME_PREFIX + session + _SEQUENCE.pack(sequence)


def blob_row(blob_id: bytes) -> bytes:
    """The row that says: something owns this blob."""
    return BLOB_PREFIX + blob_id


def handed_row(blob_id: bytes) -> bytes:
    """The row that says: this blob was popped, and its client still has to read it."""
    return HANDED_PREFIX + blob_id


def pack_blob(stored: StoredBlob) -> bytes:
    """What the row of a blob holds."""
    reference, file = stored
    return _BLOB.pack(reference.size, reference.crc) + (b"" if file == reference.id else file)


def unpack_blob(row: bytes, data: bytes) -> StoredBlob:
    """The blob that a row says something owns. Raises StorageError, naming the row, if it says no such thing."""
    if len(data) not in (_BLOB.size, _BLOB.size + FILE_NAME_BYTES):
        raise StorageError(f"the row {row!r} of a blob is damaged: it has {len(data)} bytes")
    return StoredBlob(Reference(row[1:], *_BLOB.unpack_from(data)), data[_BLOB.size :] or row[1:])


def pack_record(record: Record) -> bytes:
    """The bytes of a record."""
    key_object = record.key_object
    if key_object is None:
        body = b"".join((_BODY.pack(FORMAT, 0, record.time, record.version), record.value))
    else:
        head = _BODY.pack(FORMAT, _HAS_KEY_OBJECT, record.time, record.version)
        body = b"".join((head, _U32.pack(len(key_object)), key_object, record.value))
    return _CRC.pack(crc32(body)) + body


def pack_plain_records(time: int, version: int, values: Iterable[bytes]) -> list[bytes]:
    """Records of these values, of one write, without key objects. One loop, without a call of ours for each."""
    head = _BODY.pack(FORMAT, 0, time, version)
    crc_of_head, crc_of, pack_crc = crc32(head), crc32, _CRC.pack
    return [pack_crc(crc_of(value, crc_of_head)) + head + value for value in values]


def values_of_plain(records: list[bytes]) -> list[bytes]:
    """The values in records without key objects."""
    return [data[_HEAD_BYTES:] for data in records]


def parse_record(row: bytes, data: bytes) -> Record:
    """The record in these bytes. Raises StorageError, naming the row, if they are damaged."""
    if len(data) < _HEAD_BYTES:
        raise StorageError(f"the record in row {row!r} is damaged: its checksum does not match")
    crc, _format, flags, time, version = _HEAD.unpack_from(data)
    if crc != crc32(data[4:] if len(data) <= _COPIED_BYTES_MAX else memoryview(data)[4:]):
        raise StorageError(f"the record in row {row!r} is damaged: its checksum does not match")
    if not flags & _HAS_KEY_OBJECT:
        return Record(time, version, None, data[_HEAD_BYTES:])
    key_object = key_object_of(row, data)
    return Record(time, version, key_object, data[_HEAD_BYTES + 4 + len(key_object or b"") :])


def plain_values(found: list[bytes | None], fresh_from: float) -> tuple[list[Buffer | None], list[int]]:
    """The values in these records, None where there is none, and at the places that come with them: of those that must be
    looked at one by one, which are large, not written since `fresh_from`, damaged, with a key object, or refer to a blob. One
    loop, without a call for each.
    """
    values: list[Buffer | None] = []
    others: list[int] = []
    add, head_of, crc_of, head_bytes = values.append, _HEAD.unpack_from, crc32, _HEAD_BYTES
    for data in found:
        if data is None:
            add(None)
        elif head_bytes <= len(data) <= _COPIED_BYTES_MAX:
            crc, _format, flags, time, _version = head_of(data)
            value = data[head_bytes:]
            if time >= fresh_from and not flags & _HAS_KEY_OBJECT and value[:1] != MARK and crc == crc_of(data[4:]):
                add(value)
                continue
            others.append(len(values))
            add(None)
        else:
            others.append(len(values))
            add(None)
    return values, others


def time_of(row: bytes, data: bytes) -> int:
    """The time of a record, of which nothing else is read. Raises StorageError if it is not there."""
    try:
        return int(_TIME.unpack_from(data, _TIME_OFFSET)[0])
    except struct.error:
        raise StorageError(f"the record in row {row!r} is damaged: it has only {len(data)} bytes") from None


def pack_touch(time: int) -> bytes:
    """The bytes of a touch."""
    return _TIME.pack(time)


def parse_touch(row: bytes, data: bytes) -> int:
    """The time in a touch. Raises StorageError, naming the row, if it is no touch."""
    if len(data) != _TIME.size:
        raise StorageError(f"the touch in row {row!r} is damaged: it has {len(data)} bytes")
    return int(_TIME.unpack(data)[0])


def key_object_of(row: bytes, data: bytes) -> bytes | None:
    """The key object in a record, of which nothing else is read. Raises StorageError if it is not there."""
    try:
        if not data[5] & _HAS_KEY_OBJECT:
            return None
        end = _HEAD_BYTES + 4 + int(_U32.unpack_from(data, _HEAD_BYTES)[0])
        if end > len(data):
            raise IndexError(end)
        return data[_HEAD_BYTES + 4 : end]
    except (IndexError, struct.error):
        raise StorageError(f"the record in row {row!r} is damaged: it has only {len(data)} bytes") from None


def blob_of(row: bytes, data: bytes) -> bytes | None:
    """The id of the blob that a record refers to, if it does; nothing else of the record is read, nor its checksum."""
    try:
        key_object = key_object_of(row, data)
        value = data[_HEAD_BYTES if key_object is None else _HEAD_BYTES + 4 + len(key_object) :]
        return reference_of(value).id if is_reference(value) else None
    except (StorageError, ProtocolError):
        return None  # damaged: whoever reads it says so
