"""The store on disk: LevelDB through plyvel, and the only place where their errors are translated.

Paranoid checks and checksums on every read: LevelDB's defaults return wrong bytes for a flipped bit. `create_if_missing`
only while the directory is being made: with a lost CURRENT file it would open an empty store.
"""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Union

import plyvel

from holdall.disk import sync_file, sync_folder
from holdall.errors import StorageError

from .store import Changes, Scan, Snapshot

WRITE_BUFFER_BYTES = 8 * 1024 * 1024
"""Of rows in memory before they become a table: with less, many writes in a row wait for compactions."""
CACHE_BYTES = 32 * 1024 * 1024
BLOOM_BITS = 10
"""Bits per key of the filter that spares a put of a new key the disk read: 1 % false positives."""


if TYPE_CHECKING:
    _Readable = Union[plyvel.DB, plyvel.Snapshot]


class LevelDBStore:
    """A store in the directory `path`, which `create` makes; errors call it `name`, or else by its path."""

    def __init__(self, path: Path, *, create: bool = False, name: Path | None = None) -> None:
        self._path = path
        self._name = name or path
        self._compacting: threading.Thread | None = None
        if not create and (path / "CURRENT").exists() and not any(path.glob("*.log")):  # which LevelDB takes for an empty log
            raise StorageError(f"the store {self._name} cannot be opened: its log is missing, with what was written last")
        try:
            self._db = plyvel.DB(
                str(path),
                create_if_missing=create,
                error_if_exists=create,
                paranoid_checks=True,
                write_buffer_size=WRITE_BUFFER_BYTES,
                lru_cache_size=CACHE_BYTES,
                bloom_filter_bits=BLOOM_BITS,
            )
        except (plyvel.Error, OSError) as error:
            raise self._translated("be opened", error) from None

    def get(self, row: bytes) -> bytes | None:
        try:
            found: bytes | None = self._db.get(row, verify_checksums=True)
        except plyvel.Error as error:
            raise self._translated("be read", error) from None
        return found

    def write(self, changes: Changes, sync: bool) -> None:
        batch = self._db.write_batch(sync=sync)
        for row, value in changes.items():
            if value is None:
                batch.delete(row)
            else:
                batch.put(row, value)
        try:
            batch.write()
        except plyvel.Error as error:
            raise self._translated("be written", error) from None

    def sync(self) -> None:
        """A synced write syncs only the log that it is in. LevelDB closes a log that is full without a sync, and keeps it until
        its rows are in a table. So all logs are synced here, the older ones first.
        """
        try:
            for log in sorted(self._path.glob("*.log")):
                with contextlib.suppress(FileNotFoundError):  # its rows are in a table now
                    sync_file(log)
            sync_folder(self._path)
        except OSError as error:
            raise self._translated("be synced", error) from None

    def scan(self, start: bytes) -> Scan:
        return self._scan(self._db, start)

    def snapshot(self) -> Snapshot:
        of = self._db.snapshot()  # which costs nothing but the room of what is deleted while it is held
        return Snapshot(partial(self._scan, of), of.close)

    def compact(self, first: bytes, last: bytes) -> bool:
        if self._compacting is not None and self._compacting.is_alive():
            return False
        self._compacting = threading.Thread(target=self._compact, args=(first, last), name="compaction", daemon=True)
        self._compacting.start()
        return True

    def damages(self) -> list[str]:
        return []  # each block has a checksum, which a scan compares

    def close(self) -> None:
        if self._compacting is not None:
            self._compacting.join()
        self._db.close()

    def _scan(self, of: _Readable, start: bytes) -> Scan:
        try:
            with of.iterator(start=start, verify_checksums=True, fill_cache=False) as rows:
                yield from rows
        except plyvel.Error as error:
            raise self._translated("be scanned", error) from None

    def _compact(self, first: bytes, last: bytes) -> None:
        """Twice: LevelDB decides which levels to compact before it writes to one of them what its log holds."""
        self._db.compact_range(start=first, stop=first)
        self._db.compact_range(start=first, stop=last)

    def _translated(self, what: str, error: Exception) -> StorageError:
        reason = getattr(error, "strerror", None) or (error.args[0] if error.args else error)
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return StorageError(f"the store {self._name} cannot {what}: {text}")
