"""One tick's writes over the store: everything decided in a tick sees what was decided before it, and all of it becomes
durable in one batch.

The tables that every tick needs (Dicts, sessions, the version counter) are kept in memory and written along with the
entries they describe, in the same batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import Struct

import msgspec

from holdall.errors import StorageError
from holdall.worker import rows
from holdall.worker.dicts import Dicts
from holdall.worker.sessions import Sessions
from holdall.worker.store import Changes, Store

COUNTERS = Struct("<Qd")

STEP_SECONDS_MAX = 2.0
"""The most that the clock is believed to have gone on between two looks: a worker looks twice a second."""


class CommitFailed(Exception):
    """A batch could not be written. Memory and store may differ now: only a new Transaction may go on."""


def format_store(store: Store) -> None:
    """Write the rows that every store has."""
    store.write({rows.FIRST_ROW: rows.SENTINEL, rows.LAST_ROW: rows.SENTINEL}, sync=True)


class Transaction:
    """What has been decided and is not in the store yet, over what is. `now` is the tick's time in seconds since 1970."""

    def __init__(self, store: Store, *, sync: bool) -> None:
        self._store = store
        self._sync = sync
        self._changes: dict[bytes, bytes | None] = {}
        self._counter = 0
        self.no_room = ""
        """Why nothing may be stored at the moment; empty if it may."""
        self.now = 0.0
        self.elapsed = 0.0
        """Seconds for which this store has been in use, whatever the clock did: what horizons and leases are counted in."""
        self.dicts = Dicts()
        self.sessions = Sessions(store)
        self._load()

    def advance(self, now: float) -> None:
        """The clock reads `now`."""
        self.elapsed += min(max(now - self.now, 0.0), STEP_SECONDS_MAX) if self.now else 0.0
        self.now = now

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

    @property
    def version(self) -> int:
        """The last version given out."""
        return self._counter

    def scan(self, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on, in order, while they have this prefix. Raises StorageError if the store ends too early."""
        if self._changes or self.dicts:
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
        changes.update(self.dicts.changes())
        if changes:
            changes[rows.COUNTER_ROW] = COUNTERS.pack(self._counter, self.elapsed)
            self._write(changes, self._sync)
        self._changes = {}

    def flush(self) -> None:
        """Make everything written so far survive a power cut. Raises CommitFailed."""
        self._write({rows.COUNTER_ROW: COUNTERS.pack(self._counter, self.elapsed)}, True)

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
        try:
            counter = self._store.get(rows.COUNTER_ROW)
            self._counter, self.elapsed = COUNTERS.unpack(counter) if counter else (0, 0.0)
            self.dicts.load(self._table(rows.DICT_PREFIX), self.elapsed)
            self.sessions.load(self._table(rows.SESSION_PREFIX))
        except (msgspec.MsgspecError, UnicodeDecodeError, struct.error) as error:
            raise StorageError(f"a row that every start reads is damaged: {error}") from None

    def _table(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((row[1:], data) for row, data in self.scan(prefix, prefix))
