"""What a worker needs of a store: any engine that keeps this promise can be one.

A store maps bytes to bytes, in order. The worker is its only user: one thread, and another one that carries out one `write`
while the first one reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

Scan = Iterator[tuple[bytes, bytes]]
"""Rows and their values, in order."""
Changes = Mapping[bytes, "bytes | None"]
"""Rows to write; None deletes one."""


class Store(Protocol):
    """An ordered map of bytes to bytes with atomic batches, in logs that follow one another."""

    def get(self, row: bytes) -> bytes | None:
        """The value of a row, or None."""

    def write(self, changes: Changes, sync: bool) -> None:
        """Make all of these changes, or none; with `sync` they survive a power cut then, and so does what was written to the
        same log before. Rows that are read meanwhile may be as they were, or as they will be. Raises StorageError: the store
        is then to be opened anew.
        """

    def sync(self) -> None:
        """Have everything written so far survive a power cut, whatever log it is in. Raises StorageError."""

    def scan(self, start: bytes) -> Scan:
        """Rows in order from `start` on, as they were when the scan began."""
        ...

    def snapshot(self) -> Snapshot:
        """The rows as they are now, whatever is written later."""
        ...

    def compact(self, first: bytes, last: bytes) -> bool:
        """Begin to give back the space of what was deleted from `first` to `last`. False: the one before is not over yet."""
        ...

    def damages(self) -> list[str]:
        """What the engine finds wrong when it looks at all of its files, and a scan would not. Raises StorageError."""
        ...

    def close(self) -> None:
        """Give the store up, after its snapshots. Nothing may be called afterwards."""


class Snapshot(NamedTuple):
    """The rows of a store as they were at one moment: `scan` gives those from a row on; `close` lets the store forget it."""

    scan: Callable[[bytes], Scan]
    close: Callable[[], None]
