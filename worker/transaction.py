"""One tick's writes over the store: everything decided in a tick sees what was decided before it, and all of it becomes
durable in one batch.

The tables that every tick needs (Dicts, sessions, the version counter) are kept in memory and written along with the
entries they describe, in the same batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

import msgspec

from holdall.errors import StorageError
from holdall.worker import rows
from holdall.worker.rows import DictRow
from holdall.worker.sessions import Sessions
from holdall.worker.store import Changes, Store

_COUNTER = Struct("<Q")
_encode = msgspec.msgpack.Encoder().encode
_decode_dict = msgspec.msgpack.Decoder(DictRow).decode


class CommitFailed(Exception):
    """A batch could not be written. Memory and store may differ now: only a new Transaction may go on."""


def format_store(store: Store) -> None:
    """Write the rows that every store has."""
    store.write({rows.FIRST_ROW: rows.SENTINEL, rows.LAST_ROW: rows.SENTINEL}, sync=True)


class OpenDict:
    """A Dict this worker holds entries of."""

    __slots__ = ("_dict_id", "prefix", "row")

    def __init__(self, dict_id: bytes, row: DictRow) -> None:
        self._dict_id = dict_id
        self.row = row
        self.prefix = rows.entry_prefix(dict_id, row.generation)

    def next_generation(self) -> bytes:
        """Leave all entries behind. Returns the row that has them swept."""
        left = rows.sweep_row(self._dict_id, self.row.generation)
        self.row.generation += 1
        self.row.length = 0
        self.prefix = rows.entry_prefix(self._dict_id, self.row.generation)
        return left


class Transaction:
    """What has been decided and is not in the store yet, over what is. `now` is the tick's time in seconds since 1970."""

    def __init__(self, store: Store, *, sync: bool) -> None:
        self._store = store
        self._sync = sync
        self._changes: dict[bytes, bytes | None] = {}
        self._dicts: dict[bytes, OpenDict] = {}
        self._changed_dicts: set[bytes] = set()
        self._counter = 0
        self.now = 0.0
        self.sessions = Sessions(store)
        self._load()

    def get(self, row: bytes) -> bytes | None:
        """The value of a row as it will be after this tick."""
        if row in self._changes:
            return self._changes[row]
        return self._store.get(row)

    def put(self, row: bytes, value: bytes) -> None:
        """Write a row."""
        self._changes[row] = value

    def delete(self, row: bytes) -> None:
        """Delete a row."""
        self._changes[row] = None

    def next_version(self) -> int:
        """The next version: it orders this worker's writes."""
        self._counter += 1
        return self._counter

    def dict(self, dict_id: bytes) -> OpenDict | None:
        """The Dict of this id, if this worker holds it; a deleted one too."""
        return self._dicts.get(dict_id)

    def add_dict(self, dict_id: bytes, row: DictRow) -> None:
        """Hold another Dict."""
        self._dicts[dict_id] = OpenDict(dict_id, row)
        self._changed_dicts.add(dict_id)

    def change_dict(self, dict_id: bytes) -> None:
        """Have the row of this Dict written, because it changed."""
        self._changed_dicts.add(dict_id)

    def scan(self, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on, in order, while they have this prefix. Raises StorageError if the store ends too early."""
        if self._changes or self._changed_dicts:
            self.commit()
        for row, value in self._store.scan(start):
            if not row.startswith(prefix):
                return
            yield row, value
        raise StorageError(f"the store ends before its last row, in a scan from {start!r}: a table of it is damaged")

    def commit(self) -> None:
        """Make everything decided so far durable, as the sync mode demands. Raises CommitFailed."""
        changes = self._changes
        changes.update(self.sessions.changes())
        for dict_id in self._changed_dicts:
            changes[rows.DICT_PREFIX + dict_id] = _encode(self._dicts[dict_id].row)
        if changes:
            changes[rows.COUNTER_ROW] = _COUNTER.pack(self._counter)
            self._write(changes, self._sync)
        self._changes = {}
        self._changed_dicts.clear()

    def flush(self) -> None:
        """Make everything written so far survive a power cut. Raises CommitFailed."""
        self._write({rows.COUNTER_ROW: _COUNTER.pack(self._counter)}, True)

    def _write(self, changes: Changes, sync: bool) -> None:
        try:
            self._store.write(changes, sync)
        except StorageError as error:
            raise CommitFailed(str(error)) from error

    def _load(self) -> None:
        for sentinel in (rows.FIRST_ROW, rows.LAST_ROW):
            found = self._store.get(sentinel)
            if found != rows.SENTINEL:
                raise StorageError(
                    f"the store lacks its row {sentinel!r} in format {rows.FORMAT}: it is damaged, or of another version"
                )
        counter = self._store.get(rows.COUNTER_ROW)
        self._counter = _COUNTER.unpack(counter)[0] if counter else 0
        for row, data in self.scan(rows.DICT_PREFIX, rows.DICT_PREFIX):
            self._dicts[row[1:]] = OpenDict(row[1:], _decode_dict(data))
        stored = self.scan(rows.SESSION_PREFIX, rows.SESSION_PREFIX)
        self.sessions.load((row[1:], data) for row, data in stored)
