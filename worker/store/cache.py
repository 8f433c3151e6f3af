"""The records used last, in front of a store: found to be whole, and parsed.

Invariant: a record here is what the store has in that row, since the worker alone writes, and tells this cache of each write.

There are two generations. What is read or written goes into the young one; when that is full it becomes the old one, and what
was old is forgotten, but for records that were used meanwhile: those are young again. So nothing is counted or moved at a hit.
"""

from __future__ import annotations

from collections.abc import Mapping

from .rows import Record, parse_record
from .store import Store

GENERATION_BYTES = 16 * 1024 * 1024
"""Of rows and records, as they are in memory; there are two generations."""
RECORD_BYTES = 250
"""What a record costs beside its row and value: its object, and its place in the table."""


class RecordCache:
    """The records of this store."""

    def __init__(self, store: Store, generation_bytes: int = GENERATION_BYTES) -> None:
        self._store = store
        self._generation_bytes = generation_bytes
        self._young: dict[bytes, Record] = {}
        self._old: dict[bytes, Record] = {}
        self._young_bytes = 0

    def get(self, row: bytes) -> Record | None:
        """The record in this row, None if there is none. Raises StorageError if it is damaged."""
        record = self._young.get(row)
        if record is None:
            record = self._old.get(row)
            if record is None:
                data = self._store.get(row)
                if data is None:
                    return None
                record = parse_record(row, data)
            self._keep(row, record)
        return record

    def update(self, records: Mapping[bytes, Record | None]) -> None:
        """The store has these now; None: no more."""
        for row, record in records.items():
            self._old.pop(row, None)
            if record is None:
                self._young.pop(row, None)
            else:
                self._keep(row, record)

    def _keep(self, row: bytes, record: Record) -> None:
        self._young[row] = record
        self._young_bytes += RECORD_BYTES + len(row) + len(record.value) + len(record.key_object or b"")
        if self._young_bytes > self._generation_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0
