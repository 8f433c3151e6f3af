"""A worker's journal: the writes that its store may not have yet, in a file that never grows.

A write is as durable as promised once it is here, so who waits for it waits for one write to a file, and with `sync` for one
sync. A sync of a file that grows has the file system write its own journal besides (170 µs on the machine of bench/README.md);
of a file all of whose blocks were written before, it does not (110 µs). So this file is filled with zeros when it is made, and
used from the start again whenever the store has everything that is in it, durably.

    file     = records, one behind the other, and then whatever was there before
    record   = crc:u32 length:u32 epoch:16 number:u64 durable:u64 changes      little-endian; the crc covers all that follows
    changes  = a msgpack map of rows to values, nil for a row to delete
    position = epoch:16 number:u64 at:u64 kept:u64                             in a row of the store, with what it has applied

Writes are numbered, those too that go past the journal straight to the store. The store's position says up to which number it
was given them, and where in the file the next one is; and up to which number it keeps them whatever happens: the one after that
is at the start. A power cut may take from the store what it was given earlier and leave what came later, since LevelDB closes a
log that is full without a sync. So at an opening it is given everything again that it need not keep, while each record has the
next number: what is there then is what was decided up to some moment. Where the journal has lost more of its unsynced end than
the store, as without syncs it may, only what follows in it is given. Then a new epoch begins, in which nothing counts that was
written before: one more than the last, big-endian, and eight bytes drawn by lot.

`durable` is the number up to which everything was synced when the record was written. A record that is missing although a later
one says that it was durable is damage, and refused. So is a journal of a later epoch than the store's, which has lost the log
that it should have been in: LevelDB takes a log that is missing for an empty one. Only the very last record may be torn in
silence: a power cut while it was written leaves the same.
"""

from __future__ import annotations

import secrets
from struct import Struct
from typing import NamedTuple, Protocol, Union

import msgspec

from holdall.checksum import crc32
from holdall.errors import StorageError
from holdall.worker.store import Changes, SyncedFile, Syncing

JOURNAL_BYTES = 4 * 1024 * 1024
"""Of small writes about 12,000; then the store is synced, which takes milliseconds. A record has at most a quarter of it."""
PASS_BY_BYTES = 64 * 1024
"""What is larger goes straight to the store, unless that would have to be synced first: to write it twice takes longer."""

_CRC = Struct("<I")
_HEAD = Struct("<I16sQQ")
_HEAD_BYTES = _CRC.size + _HEAD.size
_EPOCH_OFFSET = 8
_POSITION = Struct("<16sQQQ")
_POSITION_BEFORE = Struct("<16sQQ")
"""That of a store which an earlier version has written: it was given nothing twice."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[bytes, Union[bytes, None]]).decode


class JournalFile(SyncedFile, Protocol):
    """A file of a fixed size."""

    def read(self) -> bytes:
        """All of it. Raises StorageError."""
        ...

    def write(self, at: int, data: bytes) -> None:
        """Write this there: it survives a kill. Raises StorageError."""

    def stage(self, at: int, data: bytes) -> None:
        """This is to be written there, by the next `sync` of these bytes at the latest. Raises StorageError."""

    def close(self) -> None:
        """Give the file up."""


class Position(NamedTuple):
    """Up to which write a store was given everything, where the next one is in the journal, and up to which it keeps all."""

    epoch: bytes
    number: int
    at: int
    kept: int

    def pack(self) -> bytes:
        """The bytes of this position."""
        return _POSITION.pack(*self)


def unpack_position(data: bytes) -> Position:
    """The position in these bytes. Raises StorageError if they are none."""
    if len(data) == _POSITION_BEFORE.size:
        epoch, number, at = _POSITION_BEFORE.unpack(data)
        return Position(epoch, number, at, number)
    if len(data) != _POSITION.size:
        raise StorageError(f"the store's position in its journal is damaged: it has {len(data)} bytes")
    return Position(*_POSITION.unpack(data))


NO_POSITION = Position(bytes(16), 0, 0, 0)
"""That of a store which has had no journal yet."""


class _Found(NamedTuple):
    """A whole record in the file."""

    epoch: bytes
    number: int
    durable: int
    changes: bytes


class Journal:
    """The journal in this file, of `size` bytes. One thread writes it; another one may sync it."""

    def __init__(self, file: JournalFile, size: int = JOURNAL_BYTES) -> None:
        self._file = file
        self._size = size
        self._epoch = b""
        self._number = self._durable = self._kept = self._at = self._durable_at = 0

    def read_from(self, position: Position) -> list[Changes]:
        """The writes that a store with this position may lack, in order. Raises StorageError if the journal is damaged."""
        data = self._file.read()
        first = _record_in(data, 0)
        if first is not None and _age(first.epoch) > _age(position.epoch):
            raise StorageError(
                f"{self._file.name} goes with a store that has lost what was written since it was opened last: "
                "restore the data directory from a backup"
            )
        if position == NO_POSITION:
            return []  # and its epoch, zeros, would be found all over a new file
        found, at, number = self._records(data, 0, position.epoch, position.kept + 1)
        if number <= position.number or position.kept == position.number:
            found, at, number = self._records(data, position.at, position.epoch, position.number + 1)
        self._refuse_if_lost(data, at, position.epoch, number)
        return found

    def begin_epoch(self, before: Position) -> Position:
        """Forget everything before: a store with this position has it now. Returns the position that it is to have."""
        self._epoch = (_age(before.epoch) + 1).to_bytes(8, "big") + secrets.token_bytes(8)
        self._number = self._durable = self._kept = self._at = self._durable_at = 0
        return self.position

    @property
    def position(self) -> Position:
        """That of a store that has everything decided so far."""
        return Position(self._epoch, self._number, self._at, self._kept)

    def add(self, changes: Changes, sync: bool) -> bool:
        """Write these; with `sync`, by what `syncing` returns then. False if they are to go straight to the store. Raises
        StorageError.
        """
        body = _encode(changes)
        size, at = _HEAD_BYTES + len(body), self._at
        if at + size > self._size or (size > PASS_BY_BYTES and not at) or size > self._size // 4:
            return False
        self._number += 1
        self._at = at + size
        head = _HEAD.pack(len(body), self._epoch, self._number, self._durable)
        record = b"".join((_CRC.pack(crc32(body, crc32(head))), head, body))
        if sync:
            self._file.stage(at, record)
        else:
            self._file.write(at, record)
        return True

    def syncing(self) -> Syncing:
        """What makes everything added so far durable. Nothing is to be added meanwhile."""
        return Syncing(self._file, self._durable_at, self._at, self._note_synced)

    def pass_by(self, *, synced: bool) -> Position:
        """The next write goes straight to the store, with this position. The store keeps everything before."""
        self._number += 1
        if synced:
            self._durable = self._number
        self._kept, self._at, self._durable_at = self._number, 0, 0
        return self.position

    @property
    def is_empty(self) -> bool:
        """Whether the store keeps everything that is here."""
        return not self._at

    @property
    def is_durable(self) -> bool:
        """Whether everything that was added survives a power cut."""
        return self._durable == self._number

    def close(self) -> None:
        """Give the file up."""
        self._file.close()

    def _records(self, data: bytes, at: int, epoch: bytes, number: int) -> tuple[list[Changes], int, int]:
        """What is written there, from this number on; where the next one would be, and its number."""
        found: list[Changes] = []
        while (record := _record_in(data, at)) is not None and record[:2] == (epoch, number):
            try:
                found.append(_decode(record.changes))
            except msgspec.MsgspecError as error:
                raise StorageError(f"{self._file.name} is damaged: record {number:,} at byte {at:,}: {error}") from None
            at, number = at + _HEAD_BYTES + len(record.changes), number + 1
        return found, at, number

    def _note_synced(self) -> None:
        self._durable, self._durable_at = self._number, self._at

    def _refuse_if_lost(self, data: bytes, end: int, epoch: bytes, number: int) -> None:
        """Raise StorageError if record `number`, which is not at `end`, was once durable: a later one says so."""
        found = data.find(epoch, end + _EPOCH_OFFSET)
        while found >= 0:
            later = _record_in(data, found - _EPOCH_OFFSET)
            if later is not None and later.number > number and later.durable >= number:
                raise StorageError(
                    f"{self._file.name} is damaged at byte {end:,}: record {number:,} should be there; restore the data "
                    "directory from a backup"
                )
            found = data.find(epoch, found + 1)


def _age(epoch: bytes) -> int:
    """How many epochs there were up to this one."""
    return int.from_bytes(epoch[:8], "big")


def _record_in(data: bytes, at: int) -> _Found | None:
    """The record there, if there is a whole one."""
    if len(data) - at < _HEAD_BYTES:
        return None
    (crc,) = _CRC.unpack_from(data, at)
    length, epoch, number, durable = _HEAD.unpack_from(data, at + _CRC.size)
    end = at + _HEAD_BYTES + length
    if end > len(data) or crc != crc32(memoryview(data)[at + _CRC.size : end]):
        return None
    return _Found(epoch, number, durable, data[at + _HEAD_BYTES : end])
