"""A store behind a journal: what is written is in the journal at once, and in the store a little later.

LevelDB takes 1 µs for each row of a batch, and a system call for its log, and with a sync its file system's journal besides.
Nobody need wait for that: rows that the store does not have yet are here, in a table, and a thread gives them to it when they
are many. What was written several times meanwhile, as the version counter and the sessions are with each tick, it gets once.

Large batches, and those that come when the journal is full, go to the store directly, once it has the others and keeps them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from holdall.worker.journal import NO_POSITION, Journal, unpack_position
from holdall.worker.rows import JOURNAL_ROW
from holdall.worker.store import SETTLE_ROWS, Changes, Snapshot, Store

_UNKNOWN: Any = object()


class JournaledStore:
    """This store with what the journal holds besides. Raises StorageError if the journal is damaged.

    A write that fails leaves both unknown: the store is then to be opened anew, from both.

    If its writes are `mostly_synced` the store is given nothing that the journal might still lose: then it has it again, all of
    it and in order, whatever a power cut did to the store. Otherwise that would put off most of it to the next sync; there, of
    what was not synced yet, a power cut may take the end of one log of LevelDB's and leave the beginning of the next.
    """

    def __init__(self, store: Store, journal: Journal, *, mostly_synced: bool) -> None:
        self._store = store
        self._journal = journal
        self._is_mostly_synced = mostly_synced
        self._unapplied: dict[bytes, bytes | None] = {}
        self._settling: _Settling | None = None
        """Of the rows before those."""
        self._is_store_unsynced = False
        self._recover()

    def get(self, row: bytes) -> bytes | None:
        data: bytes | None = self._unapplied.get(row, _UNKNOWN)
        if data is _UNKNOWN and (settling := self._settling) is not None:
            data = settling.changes.get(row, _UNKNOWN)
        return self._store.get(row) if data is _UNKNOWN else data

    def get_all(self, rows: list[bytes]) -> list[bytes | None]:
        settling = self._settling
        if self._unapplied.keys().isdisjoint(rows) and (settling is None or settling.changes.keys().isdisjoint(rows)):
            return self._store.get_all(rows)
        return [self.get(row) for row in rows]

    def write(self, changes: Changes, sync: bool) -> None:
        self.prepare(changes, sync)()

    def prepare(self, changes: Changes, sync: bool) -> Callable[[], None]:
        if (sync and self._is_store_unsynced) or not self._journal.add(changes, sync):
            return partial(self._pass_by, changes, sync or self._is_mostly_synced)
        self._unapplied.update(changes)
        return self._journal.syncing() if sync else _nothing

    def sync(self) -> None:
        self._pass_by({}, sync=True)

    def scan(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._apply()
        return _without_position(self._store.scan(start), start)

    def snapshot(self) -> Snapshot:
        self._apply()
        return _Snapshot(self._store.snapshot())

    def compact(self, first: bytes, last: bytes) -> bool:
        return self._store.compact(first, last)

    def settle(self, rows: int = SETTLE_ROWS) -> Callable[[], None] | None:
        if self._settling is not None and self._settling.is_over:
            self._settling = None
        if len(self._unapplied) < rows or self._settling is not None:
            return None
        if self._is_mostly_synced and not self._journal.is_durable:
            return None
        self._settling, self._unapplied = self._given(), {}
        return self._settling

    def close(self) -> None:
        if self._settling is not None:
            self._settling.leave()
        self._journal.close()
        self._store.close()

    def _recover(self) -> None:
        data = self._store.get(JOURNAL_ROW)
        position = NO_POSITION if data is None else unpack_position(data)
        missing: dict[bytes, bytes | None] = {}
        for changes in self._journal.read_from(position):
            missing.update(changes)
        self._store.sync()
        self._store.write({**missing, JOURNAL_ROW: self._journal.begin_epoch(position).pack()}, sync=True)

    def _pass_by(self, changes: Changes, sync: bool) -> None:
        """Have the store keep everything before, and only then give it this: what the journal still has is given to it again
        when it is opened, and would be newer than this.
        """
        if not self._journal.is_empty or (sync and self._is_store_unsynced):
            self._give()
            self._store.sync()
        self._store.write({**changes, JOURNAL_ROW: self._journal.pass_by(synced=sync).pack()}, sync)
        self._is_store_unsynced = not sync

    def _apply(self) -> None:
        if self._unapplied or self._settling is not None:
            self._give()

    def _give(self) -> None:
        """Give the store all that it lacks, and the position even if that is nothing: a write of no changes has a number too.
        Whoever reads meanwhile, on another thread, finds the newest of each row.
        """
        if self._settling is not None:
            self._settling()
            self._settling = None
        if self._is_mostly_synced and not self._journal.is_durable:
            self._journal.syncing()()
        self._given()()
        self._unapplied = {}

    def _given(self) -> _Settling:
        """What gives the store everything that is not on its way to it yet."""
        return _Settling(self._store, {**self._unapplied, JOURNAL_ROW: self._journal.position.pack()})


class _Settling:
    """These changes on their way to the store: whoever calls it first gives them to it, everybody else waits for that."""

    def __init__(self, store: Store, changes: dict[bytes, bytes | None]) -> None:
        self.changes = changes
        self.is_over = False
        """Whether the store has them."""
        self._store = store
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Give them. Raises StorageError."""
        with self._lock:
            if not self.is_over:
                self._store.write(self.changes, sync=False)
                self.is_over = True

    def leave(self) -> None:
        """The store is given up: it is given nothing from now on. The journal has it."""
        with self._lock:
            self.is_over = True


def _nothing() -> None:
    """It is done."""


class _Snapshot:
    """A snapshot of the store, without its position in the journal."""

    def __init__(self, of: Snapshot) -> None:
        self._of = of

    def scan(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        return _without_position(self._of.scan(start), start)

    def close(self) -> None:
        self._of.close()


def _without_position(found: Iterator[tuple[bytes, bytes]], start: bytes) -> Iterator[tuple[bytes, bytes]]:
    if start > JOURNAL_ROW:
        return found
    return (each for each in found if each[0] != JOURNAL_ROW)
