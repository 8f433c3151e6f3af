"""The journal's file on disk, and the only place where its errors are translated."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from holdall.errors import StorageError
from holdall.worker.folder import sync_folder
from holdall.worker.journal import JOURNAL_BYTES


class DiskJournalFile:
    """The file at `path`, which is made if it is missing. Raises StorageError if there is no room for it."""

    def __init__(self, path: Path) -> None:
        self.name = f"the journal {path}"
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._translated("opened", error) from None
        try:
            missing = JOURNAL_BYTES - os.fstat(self.descriptor).st_size
            if missing > 0:
                self.write(JOURNAL_BYTES - missing, bytes(missing))
                self.sync()
                sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def read(self) -> bytes:
        try:
            return os.pread(self.descriptor, JOURNAL_BYTES, 0)
        except OSError as error:
            raise self._translated("read", error) from None

    def write(self, at: int, data: bytes) -> None:
        try:
            written = os.pwrite(self.descriptor, data, at)
        except OSError as error:
            raise self._translated("written", error) from None
        if written != len(data):
            raise StorageError(f"{self.name} cannot be written: the disk took {written:,} of {len(data):,} bytes")

    def sync(self) -> None:
        try:
            _sync(self.descriptor)
        except OSError as error:
            raise self._translated("synced", error) from None

    def close(self) -> None:
        os.close(self.descriptor)

    def _translated(self, what: str, error: OSError) -> StorageError:
        return StorageError(f"{self.name} cannot be {what}: {error.strerror}")


def _sync(file: int) -> None:
    """Make what was written survive a power cut."""
    if sys.platform == "darwin":  # where fsync leaves it in the disk's own memory
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(file)
