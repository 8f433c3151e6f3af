"""The rows of a worker's store: the grammar of their keys and values.

    row      = "\\x00holdall"                          → format      the first row
             | "B" blob_id                            → size:u64 crc:u32    a blob that something owns: its file must be there
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
    record   = crc:u32 flags:u8 encoding:u8 time:u64 version:u64 [key_object_length:u32 key_object] value

"C" has the last version given out, the seconds for which the store has been in use, and what the store's own clock showed at
which time of the wall clock. Times of records and touches are milliseconds of the store's own clock.

A value that begins with 0x02 is a reference to a blob (`holdall.blob`); each row "B" is referred to by one record, or
has a row "H". A file in `worker-N/blobs/` has the blob's id as its name, in hexadecimal digits; one that no row "B" names is an
orphan, and removed at a start.

The crc of a record covers its row, and what follows the crc: a record that is found in another row is damaged too. Of the
flags, 1 says that there is a key object; 2 and 4 are reserved for a `ttl` of the entry's own (a u32 of seconds behind the
version) and for one that slides. Encoding 0 is a value that says itself what it is; others are reserved. A record with what is
reserved was written by a later version of holdall, and is refused. The first and the last row are sentinels: they must be there
when a store is opened, and a scan must end at another row: LevelDB reads a truncated table as an empty one, without an error.

Changing the format, once 0.2 is released: 1. raise `FORMAT`, which layout, rows and backups share; 2. let `open` convert the
one before, in one batch, before anything else is read; 3. keep a directory in it among the tests.
"""

from __future__ import annotations

from struct import Struct
from typing import Union

import msgspec

from holdall.blob import Reference
from holdall.disk import FORMAT, crc32
from holdall.errors import StorageError
from holdall.protocol import Buffer

FIRST_ROW = b"\x00holdall"
LAST_ROW = b"\xffholdall"
SENTINEL = bytes([FORMAT])
COUNTER_ROW = b"C"
BLOB_PREFIX, HANDED_PREFIX = b"B", b"H"
DICT_PREFIX, ENTRY_PREFIX, SWEEP_PREFIX, ID_PREFIX = b"D", b"E", b"G", b"I"
NAME_PREFIX, OUTCOME_PREFIX, SESSION_PREFIX, TOUCH_PREFIX = b"N", b"O", b"S", b"T"

_GENERATION = Struct(">I")
_SEQUENCE = Struct(">Q")
_CRC = Struct("<I")
_HEAD = Struct("<BBQQ")
_HEAD_END = _CRC.size + _HEAD.size
_TIME = Struct("<Q")
_U32 = Struct("<I")
_BLOB = Struct("<QI")
_COPIED_BYTES_MAX = 4096
"""Up to here a copy is cheaper than a view."""
_HAS_KEY_OBJECT = 1
_ENCODING = 0


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


class Record(msgspec.Struct, gc=False):
    """An entry: `time` of its last write, `used` of its last known use (not stored), in milliseconds of the store's clock."""

    time: int
    version: int
    key_object: bytes | None
    value: Buffer
    used: int


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
    return OUTCOME_PREFIX + session + _SEQUENCE.pack(sequence)


def pack_blob(reference: Reference) -> bytes:
    return _BLOB.pack(reference.size, reference.crc)


def unpack_blob(row: bytes, data: bytes) -> Reference:
    """The blob that a row says something owns. Raises StorageError, naming the row, if it says no such thing."""
    if len(data) != _BLOB.size:
        raise StorageError(f"the row {row!r} of a blob is damaged: it has {len(data)} bytes")
    return Reference(row[1:], *_BLOB.unpack(data))


def pack_record(row: bytes, record: Record) -> bytes:
    key_object = record.key_object
    if key_object is None:
        body = _HEAD.pack(0, _ENCODING, record.time, record.version) + record.value
    else:
        head = _HEAD.pack(_HAS_KEY_OBJECT, _ENCODING, record.time, record.version)
        body = b"".join((head, _U32.pack(len(key_object)), key_object, record.value))
    return _CRC.pack(crc32(body, crc32(row))) + body


def parse_record(row: bytes, data: bytes) -> Record:
    """The record in these bytes. Raises StorageError, naming the row, if they are damaged."""
    body = data[4:] if len(data) <= _COPIED_BYTES_MAX else memoryview(data)[4:]
    if len(data) < _HEAD_END or int(_CRC.unpack_from(data)[0]) != crc32(body, crc32(row)):
        raise StorageError(f"the record in row {row!r} is damaged: its checksum does not match")
    flags, encoding, time, version = _HEAD.unpack_from(data, _CRC.size)
    if not flags and not encoding:
        return Record(time, version, None, data[_HEAD_END:], time)
    if flags != _HAS_KEY_OBJECT or encoding:
        raise StorageError(f"the record in row {row!r} was written by a later version of holdall: use that one")
    start = _HEAD_END + _U32.size
    end = start + int(_U32.unpack_from(data, _HEAD_END)[0])
    return Record(time, version, data[start:end], data[end:], time)


def pack_touch(time: int) -> bytes:
    return _TIME.pack(time)


def parse_touch(row: bytes, data: bytes) -> int:
    """The time in a touch. Raises StorageError, naming the row, if it is no touch."""
    if len(data) != _TIME.size:
        raise StorageError(f"the touch in row {row!r} is damaged: it has {len(data)} bytes")
    return int(_TIME.unpack(data)[0])
