"""A store behind a journal: what is written is in the journal at once, and in the store a little later.

LevelDB takes 1 µs for each row of a batch, and a system call for its log, and with a sync its file system's journal besides.
Nobody need wait for that: rows that the store does not have yet are here, in a table, and are given to it some at a time,
when those who waited for them have their answers. What was written several times meanwhile, as the version counter and the
sessions are with each tick, it gets once.

Large batches, and those that come when the journal is full, go to the store directly, along with what it does not have yet.
"""

from __future__ import annotations

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
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._unapplied: dict[bytes, bytes | None] = {}
        self._is_store_unsynced = False
        self._recover()

    def get(self, row: bytes) -> bytes | None:
        data: bytes | None = self._unapplied.get(row, _UNKNOWN)
        return self._store.get(row) if data is _UNKNOWN else data

    def get_all(self, rows: list[bytes]) -> list[bytes | None]:
        if self._unapplied.keys().isdisjoint(rows):
            return self._store.get_all(rows)
        return [self.get(row) for row in rows]

    def write(self, changes: Changes, sync: bool) -> None:
        self.prepare(changes, sync)()

    def prepare(self, changes: Changes, sync: bool) -> Callable[[], None]:
        goes_directly = (sync and self._is_store_unsynced) or not self._journal.add(changes, sync)
        self._unapplied.update(changes)
        if goes_directly:
            return self._prepare_directly(sync or self._journal.is_full)
        if sync:
            return self._journal.syncing()
        return _nothing

    def scan(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._apply()
        return _without_position(self._store.scan(start), start)

    def snapshot(self) -> Snapshot:
        self._apply()
        return _Snapshot(self._store.snapshot())

    def compact(self, first: bytes, last: bytes) -> bool:
        return self._store.compact(first, last)

    def settle(self, rows: int = SETTLE_ROWS) -> None:
        if len(self._unapplied) >= rows:
            self._apply()

    def close(self) -> None:
        self._journal.close()
        self._store.close()

    def _recover(self) -> None:
        data = self._store.get(JOURNAL_ROW)
        position = NO_POSITION if data is None else unpack_position(data)
        missing: dict[bytes, bytes | None] = {}
        for changes in self._journal.read_from(position):
            missing.update(changes)
        self._store.write({**missing, JOURNAL_ROW: self._journal.begin_epoch(position).pack()}, sync=True)

    def _prepare_directly(self, sync: bool) -> Callable[[], None]:
        rows = {**self._unapplied, JOURNAL_ROW: self._journal.pass_by(synced=sync).pack()}
        return partial(self._write_directly, self._store.prepare(rows, sync), sync)

    def _write_directly(self, write: Callable[[], None], sync: bool) -> None:
        write()
        self._unapplied = {}
        self._is_store_unsynced = not sync

    def _apply(self) -> None:
        if self._unapplied:
            self._store.write({**self._unapplied, JOURNAL_ROW: self._journal.position.pack()}, sync=False)
            self._unapplied = {}


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
