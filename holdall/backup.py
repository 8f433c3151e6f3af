"""A backup: one file with the rows of every worker's store.

    backup = "holdall backup\\n" part*
    part   = kind:1 length:u64 crc:u32 body     all integers little-endian; the crc covers kind, length and body
    kinds  "H"  Head, in msgpack                the first part
           "R"  worker:u32 rows                 rows: a msgpack array of [row, value], in the order of the worker's store
           "B"  worker:u32 reference data       a blob (holdall/blob.py) that one of the rows before it owns
           "E"  End, in msgpack                 the last part: without it the backup is incomplete

The rows are those of worker/store/rows.py as they stand in the store, but those of sessions and outcomes, so each record has
its own checksum besides. End says how many rows each worker has, the CRC of all its `rows`, one after another, as the worker
itself counted them, and how many blobs.

A backup of another format is refused, and so is an unknown kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, NamedTuple, TypeVar

import msgspec

from holdall.blob import REFERENCE_BYTES, Reference, reference_of
from holdall.bodies import decode, encode
from holdall.disk import FORMAT, crc32, refusal
from holdall.errors import ProtocolError, StorageError

T = TypeVar("T")

MAGIC = b"holdall backup\n"
HEAD_PART, ROWS_PART, BLOB_PART, END_PART = b"H", b"R", b"B", b"E"
PART_BYTES_MAX = 1024**3
"""More than any part has: a length that is damaged must not have so much memory taken."""

_PREFIX = Struct("<cQ")
_U32 = Struct("<I")


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What a backup is of: the layout, its number of workers, and when it was made, in seconds since 1970."""

    format: int
    layout_id: bytes
    workers: int
    made_at: float


class Tally(NamedTuple):
    """What has been seen of one worker: how many rows, the CRC of all of them, and how many blobs."""

    rows: int = 0
    crc: int = 0
    blobs: int = 0


class End(msgspec.Struct, array_like=True, frozen=True):
    """What a whole backup has of each worker."""

    tallies: list[Tally]


class Rows(NamedTuple):
    """Some rows of a worker's store, as one part holds them, and the part's bytes in the file."""

    worker: int
    rows: list[tuple[bytes, bytes]]
    bytes: int


class Blob(NamedTuple):
    """A blob of a worker, and the bytes of its part in the file."""

    worker: int
    reference: Reference
    data: memoryview
    bytes: int


def write_head(file: BinaryIO, head: Head) -> None:
    file.write(MAGIC)
    _write_part(file, HEAD_PART, encode(head))


def write_rows(file: BinaryIO, worker: int, rows: bytes) -> None:
    _write_part(file, ROWS_PART, _U32.pack(worker) + rows)


def write_blob(file: BinaryIO, worker: int, reference: Reference, data: bytearray) -> None:
    _write_part(file, BLOB_PART, b"".join((_U32.pack(worker), reference.pack(), data)))


def write_end(file: BinaryIO, end: End) -> None:
    _write_part(file, END_PART, encode(end))


def read_head(file: BinaryIO, name: str) -> Head:
    """The head of the backup in this file, which stands at its beginning. Raises StorageError if it is none."""
    if file.read(len(MAGIC)) != MAGIC:
        raise StorageError(f"{name} is no backup of holdall")
    kind, body = _read_part(file, name)
    head = _body(Head, body, name) if kind == HEAD_PART else None
    if head is None or not 1 <= head.workers <= 1024:
        raise StorageError(f"the backup {name} is damaged: it does not begin with its head")
    if head.format != FORMAT:
        raise StorageError(refusal(f"the backup {name}", head.format))
    return head


def read_parts(file: BinaryIO, head: Head, name: str) -> Iterator[Rows | Blob]:
    """All rows and blobs. Raises StorageError, at the latest at the end, if the backup is damaged or incomplete."""
    tallies = [Tally()] * head.workers
    while True:
        at = file.tell()
        kind, body = _read_part(file, name)
        if kind == END_PART:
            break
        if kind not in (ROWS_PART, BLOB_PART) or len(body) < _U32.size:
            raise StorageError(f"the backup {name} has a part at byte {at:,} that this version of holdall does not know")
        worker = int(_U32.unpack_from(body)[0])
        if worker >= head.workers:
            raise StorageError(f"the backup {name} is damaged: at byte {at:,} it has rows of a worker {worker}")
        data = memoryview(body)[_U32.size :]
        tally = tallies[worker]
        if kind == BLOB_PART:
            reference = _reference(data, name)
            tallies[worker] = tally._replace(blobs=tally.blobs + 1)
            yield Blob(worker, reference, data[REFERENCE_BYTES:], file.tell() - at)
            continue
        rows = _body(list[tuple[bytes, bytes]], data, name)
        tallies[worker] = Tally(tally.rows + len(rows), crc32(data, tally.crc), tally.blobs)
        yield Rows(worker, rows, file.tell() - at)
    if file.read(1):
        raise StorageError(f"the backup {name} is damaged: something follows its end")
    end = _body(End, body, name)
    if end.tallies != tallies:
        has, should = sum(each.rows for each in tallies), sum(each.rows for each in end.tallies)
        raise StorageError(f"the backup {name} is damaged: it has {has:,} rows, or others than the {should:,} it should have")


def _write_part(file: BinaryIO, kind: bytes, body: bytes) -> None:
    prefix = _PREFIX.pack(kind, len(body))
    file.write(prefix + _U32.pack(crc32(body, crc32(prefix))))
    file.write(body)


def _read_part(file: BinaryIO, name: str) -> tuple[bytes, bytes]:
    at = file.tell()
    start = file.read(_PREFIX.size + _U32.size)
    if len(start) < _PREFIX.size + _U32.size:
        raise StorageError(f"the backup {name} is incomplete: it ends at byte {at + len(start):,}, without its end mark")
    prefix = start[: _PREFIX.size]
    kind, length = _PREFIX.unpack(prefix)
    if length > PART_BYTES_MAX:
        raise StorageError(f"the backup {name} is damaged: the part at byte {at:,} has an impossible length")
    body = file.read(length)
    if len(body) < length:
        raise StorageError(f"the backup {name} is incomplete: it ends in the middle of the part at byte {at:,}")
    if _U32.pack(crc32(body, crc32(prefix))) != start[_PREFIX.size :]:
        raise StorageError(f"the backup {name} is damaged: the checksum of the part at byte {at:,} does not match")
    return kind, body


def _reference(data: memoryview, name: str) -> Reference:
    try:
        reference = reference_of(bytes(data[:REFERENCE_BYTES]))
    except ProtocolError as error:
        raise StorageError(f"the backup {name} is damaged: {error}") from None
    if (reference.size, reference.crc) != (len(data) - REFERENCE_BYTES, crc32(data[REFERENCE_BYTES:])):
        raise StorageError(f"the backup {name} is damaged: blob {reference.id.hex()} is not what it should be")
    return reference


def _body(kind: type[T], body: bytes | memoryview, name: str) -> T:
    try:
        return decode(kind, body)
    except ProtocolError as error:
        raise StorageError(f"the backup {name} is damaged: {error}") from None
