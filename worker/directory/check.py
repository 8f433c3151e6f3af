"""Reads everything in a data directory and says what is wrong with it. Nothing is repaired.

An engine moves what it finds in its log into its tables when a store is opened, as every start of a worker does; nothing else
is written. A finding names the file or the row; what is not damaged is still checked.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdall.blob import Reference, is_reference, reference_of
from holdall.bodies import CatalogEntry
from holdall.disk import FORMAT, crc32
from holdall.errors import StorageError
from holdall.protocol import KEY_BYTES_MAX
from holdall.slots import dict_crc, key_hash, slot_of, slot_range
from holdall.worker.state.sessions import SessionRow
from holdall.worker.state.transaction import COUNTERS
from holdall.worker.store import rows
from holdall.worker.store.rows import DictRow, parse_record
from holdall.worker.store.store import Store

from .opening import DataDirectory

FINDINGS_MAX = 1_000
"""Findings told of one worker: a store that is damaged everywhere need not be listed in full."""
PROGRESS_ROWS = 1_000
"""Rows between two signs of progress."""
ROWS_UNUSED = 3
"""Rows of a store that no client has used, which none can before all workers have a store: the sentinels and the counters."""
PIECE_BYTES = 4 * 1024 * 1024
"""How much of a blob is in memory at once."""

_DAMAGED = (StorageError, msgspec.MsgspecError, UnicodeDecodeError, struct.error, IndexError)


class Finding(NamedTuple):
    """Something wrong: in which file or row, and what."""

    place: str
    what: str


@dataclass
class Part:
    """What was found in the part of one worker."""

    index: int
    rows: int = 0
    bytes: int = 0
    dicts: int = 0
    entries: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    is_whole: bool = False
    """Whether all of it could be read."""

    def find(self, place: object, what: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(f"{place!r}" if isinstance(place, bytes) else str(place), what))


def check_directory(directory: DataDirectory) -> Iterator[Part]:
    """Check each worker's part; yields the part that is being read, again and again, and each one at last when it is done.

    The caller holds the directory's lock. Raises StorageError if there is no layout, or no sound one.
    """
    layout = directory.layout()
    parts = [Part(index) for index in range(layout.workers)]
    named: dict[bytes, str] = {}
    held: list[tuple[Part, bytes]] = []
    missing: list[Part] = []
    for part in parts:
        reader = _Reader(part, *slot_range(part.index, layout.workers))
        try:
            if (directory.part(part.index) / "complete").exists():
                for _ in _read(directory, layout.engine, part, reader):
                    yield part
                part.is_whole = True
            else:
                missing.append(part)
        except _DAMAGED as error:
            part.find(directory.part(part.index), f"cannot be read to its end: {error}")
        named.update(reader.named)
        held += [(part, dict_id) for dict_id, row in reader.dicts.items() if row.deleted_at is row.lease_seconds is None]
        yield part
    in_use = any(part.rows > ROWS_UNUSED or part.findings for part in parts)
    for part in missing:
        folder = directory.part(part.index)
        if (folder / "version").exists():
            part.find(folder / "complete", "is missing: if the data is whole, make that file, empty")
        elif in_use:
            part.find(folder, "has no store, and other workers have data: all that this one held is missing")
        else:
            part.is_whole = True  # the first start of the service was interrupted
        yield part
    if not all(part.is_whole for part in parts):
        return  # what is not named may be named in what cannot be read
    for part, dict_id in held:
        if dict_id not in named:
            part.find(rows.DICT_PREFIX + dict_id, "no name in the catalog leads to this Dict")
            yield part


def _read(directory: DataDirectory, engine: str, part: Part, reader: _Reader) -> Iterator[None]:
    folder = directory.part(part.index)
    with ExitStack() as stack:
        stack.callback(directory.lock_worker(part.index).release)
        closed_at = directory.version_at_close(part.index)
        store = stack.enter_context(closing(directory.open_store(part.index, engine)))
        for damage in store.damages():
            part.find(folder / "store", damage)
        yield from reader.read(store)
        yield from reader.read_blobs(folder / "blobs")
    if reader.version < closed_at:
        part.find(folder / "store", f"has lost writes: closed with version {closed_at:,}, it has {reader.version:,}")


class _Reader:
    """Reads one worker's store, which owns the slots from `first_slot` up to, but not including, `end_slot`."""

    def __init__(self, part: Part, first_slot: int, end_slot: int) -> None:
        self.version, self._elapsed = 0, 0.0
        self.named: dict[bytes, str] = {}
        self.dicts: dict[bytes, DictRow] = {}
        self._part = part
        self._first_slot, self._end_slot = first_slot, end_slot
        self._last = b""
        self._lengths: Counter[tuple[bytes, int]] = Counter()
        self._left: set[tuple[bytes, int]] = set()
        self._ids: dict[bytes, bytes] = {}
        self._keys: dict[bytes, bytes] = {}
        self._payloads: set[bytes] = set()
        self._outcomes: set[bytes] = set()
        self._blobs: dict[bytes, Reference] = {}
        self._owners: Counter[bytes] = Counter()
        self._referred: dict[bytes, Reference] = {}
        self._kinds: dict[bytes, Callable[[bytes, bytes], None]] = {
            rows.BLOB_PREFIX: lambda row, data: self._blobs.update({row[1:]: rows.unpack_blob(row, data)}),
            rows.HANDED_PREFIX: lambda row, _data: self._owners.update([row[1:]]),
            rows.COUNTER_ROW: self._counter,
            rows.DICT_PREFIX: self._dict,
            rows.ENTRY_PREFIX: self._entry,
            rows.SWEEP_PREFIX: lambda row, _data: self._left.add(_generation(row)),
            rows.ID_PREFIX: lambda row, data: self._ids.update({_id(row): data}),
            rows.NAME_PREFIX: self._name,
            rows.OUTCOME_PREFIX: lambda row, _data: self._payloads.add(row),
            rows.SESSION_PREFIX: self._session,
            rows.TOUCH_PREFIX: self._touch,
        }

    def read(self, store: Store) -> Iterator[None]:
        """Read every row, and then compare what they say of each other."""
        part, self._store = self._part, store
        for sentinel in (rows.FIRST_ROW, rows.LAST_ROW):
            if store.get(sentinel) != rows.SENTINEL:
                part.find(sentinel, f"the store lacks this row in format {FORMAT}")
        for row, data in store.scan(b""):
            part.rows += 1
            part.bytes += len(row) + len(data)
            self._last = row
            self._check(row, data)
            if part.rows % PROGRESS_ROWS == 0:
                yield
        if self._last != rows.LAST_ROW:
            part.find(self._last, "the store ends after this row, and not at its last one: a table of it is damaged")
        self._compare()

    def read_blobs(self, folder: Path) -> Iterator[None]:
        """Read every blob, and compare it with its row. A file that nothing owns is no damage: the next start removes it."""
        for reference in self._blobs.values():
            file = folder / reference.id.hex()
            try:
                with open(file, "rb") as data:
                    crc = size = 0
                    while piece := data.read(PIECE_BYTES):
                        crc, size = crc32(piece, crc), size + len(piece)
                        yield
                self._part.bytes += size
                if (size, crc) != (reference.size, reference.crc):
                    self._part.find(file, f"is damaged: {size:,} bytes instead of {reference.size:,}, or another checksum")
            except OSError as error:
                self._part.find(file, f"cannot be read: {error.strerror}")

    def _check(self, row: bytes, data: bytes) -> None:
        kind = self._kinds.get(row[:1])
        if kind is None:
            if row not in (rows.FIRST_ROW, rows.LAST_ROW):
                self._part.find(row, "there are no rows of this kind")
            return
        try:
            kind(row, data)
        except _DAMAGED as error:
            self._part.find(row, f"is damaged: {error}")

    def _counter(self, _row: bytes, data: bytes) -> None:
        self.version, self._elapsed, _clock, _wall = COUNTERS.unpack(data)

    def _dict(self, row: bytes, data: bytes) -> None:
        self.dicts[_id(row)] = found = msgspec.msgpack.decode(data, type=DictRow)
        self._part.dicts += found.deleted_at is None
        if found.deleted_at is not None and not 0 <= found.deleted_at <= self._elapsed:
            self._part.find(row, f"was deleted after {found.deleted_at} s of use, of {self._elapsed:.0f} s in all")

    def _entry(self, row: bytes, data: bytes) -> None:
        self._lengths[_generation(row)] += 1
        if not 1 <= len(row) - 21 <= KEY_BYTES_MAX:
            self._part.find(row, f"a key has 1 to {KEY_BYTES_MAX:,} bytes, this one {len(row) - 21:,}")
        record = parse_record(row, data)
        self._check_version(row, record.version)
        if is_reference(record.value):
            reference = reference_of(record.value)
            self._owners[reference.id] += 1
            self._referred[reference.id] = reference
        self._check_slot(row, key_hash(dict_crc(row[1:17]), row[21:]))

    def _check_version(self, row: bytes, version: int) -> None:
        if version > self.version:
            self._part.find(row, f"has version {version:,}, the last one given out is {self.version:,}: writes are lost")

    def _check_slot(self, row: bytes, hash_: int) -> None:
        slot = slot_of(hash_)
        if not self._first_slot <= slot < self._end_slot:
            ours = f"{self._first_slot} to {self._end_slot - 1}"
            self._part.find(row, f"its slot {slot} belongs to another worker: the slots of this one are {ours}")

    def _name(self, row: bytes, data: bytes) -> None:
        entry = msgspec.msgpack.decode(data, type=CatalogEntry)
        self.named[entry.dict_id] = key = f"{entry.environment}/{entry.name}"
        self._keys[entry.dict_id] = row[1:]
        if key.encode() != row[1:]:
            self._part.find(row, f"this row of the catalog names {key!r}")
        self._check_slot(row, key_hash(0, row[1:]))

    def _session(self, row: bytes, data: bytes) -> None:
        outcomes = msgspec.msgpack.decode(data, type=SessionRow).outcomes
        self._check_version(row, max((each.version for each in outcomes.values()), default=0))
        self._outcomes.update(rows.outcome_row(row[1:], number) for number, each in outcomes.items() if each.payload is None)

    def _touch(self, row: bytes, data: bytes) -> None:
        rows.parse_touch(row, data)
        if _generation(row) not in self._left and self._store.get(rows.ENTRY_PREFIX + row[1:]) is None:
            self._part.find(row, "the entry whose use this notes is missing")

    def _compare(self) -> None:
        part = self._part
        for (dict_id, generation), count in self._lengths.items():
            of = self.dicts.get(dict_id)
            if (dict_id, generation) in self._left:
                continue  # they are about to be swept
            part.entries += count
            if of is None or of.generation != generation:
                part.find(rows.entry_prefix(dict_id, generation), f"{count:,} entries of a Dict that is not held here")
        for dict_id, of in self.dicts.items():
            count = self._lengths[dict_id, of.generation]
            if count != of.length:
                part.find(rows.DICT_PREFIX + dict_id, f"says {of.length:,} entries, there are {count:,}")
        for name in sorted(self._outcomes - self._payloads):
            part.find(name, "this payload of a remembered outcome is missing")
        for name in sorted(self._payloads - self._outcomes):
            part.find(name, "this payload belongs to no remembered outcome")
        for blob_id in self._owners.keys() | self._blobs.keys():
            stored = self._blobs.get(blob_id)
            if self._owners[blob_id] != 1 or self._referred.get(blob_id, stored) != stored:
                part.find(rows.BLOB_PREFIX + blob_id, f"{self._owners[blob_id]} own this blob, or say otherwise of it")
        for dict_id in self._keys.keys() | self._ids.keys():
            if self._keys.get(dict_id) != self._ids.get(dict_id):
                part.find(rows.ID_PREFIX + dict_id, "in the catalog this id and its name do not lead to each other")


def _id(row: bytes) -> bytes:
    if len(row) != 17:
        raise StorageError(f"its name should have 17 bytes, and has {len(row)}")
    return row[1:]


def _generation(row: bytes) -> tuple[bytes, int]:
    if len(row) < 21:
        raise StorageError(f"its name should have at least 21 bytes, and has {len(row)}")
    return row[1:17], int.from_bytes(row[17:21], "big")
