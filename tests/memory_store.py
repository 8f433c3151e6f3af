"""A store in memory that can crash, for tests and the simulator."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator

import msgspec

from holdall.worker.store.store import Changes, Snapshot


class _Batch(msgspec.Struct):
    """Of `MemoryStore`: what was written at once, and in which log it is."""

    log: int
    changes: Changes
    is_durable: bool = False


class MemoryStore:
    """A store in memory, for tests and the simulator: `crash` loses what was not synced, as a power cut would.

    As LevelDB it writes logs, one after the other, and a synced write syncs the one that it is in.
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._order: list[bytes] = []
        self._durable: dict[bytes, bytes] = {}
        self._batches: list[_Batch] = []
        self._log = 0

    def get(self, row: bytes) -> bytes | None:
        return self._rows.get(row)

    def write(self, changes: Changes, sync: bool) -> None:
        self._apply(changes)
        self._batches.append(_Batch(self._log, dict(changes)))
        if sync:
            self._sync(self._log)

    def sync(self) -> None:
        self._sync(0)

    def scan(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows = self._order[bisect_left(self._order, start) :]
        return iter([(row, self._rows[row]) for row in rows])

    def snapshot(self) -> Snapshot:
        copy = MemoryStore()
        copy._rows, copy._order = dict(self._rows), list(self._order)
        return Snapshot(copy.scan, copy.close)

    def compact(self, first: bytes, last: bytes) -> bool:
        return first <= last

    def damages(self) -> list[str]:
        return []

    def close(self) -> None:
        pass

    def begin_log(self) -> None:
        """What is written from now on is in another log."""
        self._log += 1

    @property
    def unsynced(self) -> list[int]:
        """How many unsynced writes there are in each log that has some, the oldest log first."""
        return list(Counter(batch.log for batch in self._batches if not batch.is_durable).values())

    def crash(self, *kept: int) -> None:
        """Lose the unsynced writes, but so many at the beginning of each log that has some: none, where nothing is said."""
        left = dict(zip(dict.fromkeys(batch.log for batch in self._batches if not batch.is_durable), kept, strict=False))
        for batch in self._batches:
            if batch.is_durable or left.get(batch.log, 0):
                _change(self._durable, batch.changes)
                left[batch.log] = left.get(batch.log, 0) - (not batch.is_durable)
        self._batches.clear()
        self._rows = dict(self._durable)
        self._order = sorted(self._rows)

    def _sync(self, first_log: int) -> None:
        for batch in self._batches:
            batch.is_durable = batch.is_durable or batch.log >= first_log
        while self._batches and self._batches[0].is_durable:
            _change(self._durable, self._batches.pop(0).changes)

    def _apply(self, changes: Changes) -> None:
        for row, value in changes.items():
            if value is None and row in self._rows:
                del self._order[bisect_left(self._order, row)]
            elif value is not None and row not in self._rows:
                insort(self._order, row)
        _change(self._rows, changes)


def _change(rows: dict[bytes, bytes], changes: Changes) -> None:
    for row, value in changes.items():
        if value is None:
            rows.pop(row, None)
        else:
            rows[row] = value
