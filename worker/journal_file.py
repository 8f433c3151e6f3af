"""The journal's file on disk, and the only place where its errors are translated."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from holdall.durable import sync, sync_folder
from holdall.errors import StorageError
from holdall.worker.journal import JOURNAL_BYTES
from holdall.worker.kernel import DURABLE, SYNC, WRITE, Order

BLOCK_BYTES = 4096
"""What is written past the page cache begins and ends at a multiple of this, in the file and in memory."""


class DiskJournalFile:
    """The file at `path`, which is made if it is missing. Raises StorageError if there is no room for it."""

    def __init__(self, path: Path) -> None:
        self.name = f"the journal {path}"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._translated("opened", error) from None
        try:
            missing = JOURNAL_BYTES - os.fstat(self._descriptor).st_size
            if missing > 0:
                self._write(JOURNAL_BYTES - missing, bytes(missing))
            self._sync()  # now too, if somebody was killed before it
            sync_folder(path.parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def read(self) -> bytes:
        try:
            return os.pread(self._descriptor, JOURNAL_BYTES, 0)
        except OSError as error:
            raise self._translated("read", error) from None

    def write(self, at: int, data: bytes) -> None:
        self._write(at, data)

    def stage(self, at: int, data: bytes) -> None:
        self._write(at, data)

    def sync(self, start: int, end: int) -> None:
        assert start < end
        self._sync()

    def order(self, start: int, end: int) -> Order | None:
        assert start < end
        return Order(SYNC, self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, at: int, data: bytes) -> None:
        try:
            written = os.pwrite(self._descriptor, data, at)
        except OSError as error:
            raise self._translated("written", error) from None
        self._refuse_unless_all(written, len(data))

    def _sync(self) -> None:
        try:
            sync(self._descriptor)
        except OSError as error:
            raise self._translated("synced", error) from None

    def _refuse_unless_all(self, written: int, size: int) -> None:
        if written != size:
            raise StorageError(f"{self.name} cannot be written: the disk took {written:,} of {size:,} bytes")

    def _translated(self, what: str, error: OSError) -> StorageError:
        return StorageError(f"{self.name} cannot be {what}: {error.strerror}")


class DirectIOJournalFile(DiskJournalFile):
    """The same, written past the page cache: what is to be synced goes to the disk in the call, or order, that syncs it.

    That takes three quarters of the time, and less of the processor's, where most writes are synced. The file is in memory as
    far as it was written since it was opened, since blocks are written whole. Raises OSError where the system, or this file
    system, does not have it.
    """

    def __init__(self, path: Path) -> None:
        if sys.platform != "linux" or not hasattr(os, "RWF_DSYNC"):
            raise OSError("only Linux writes a file this way, and only where Python was built with it")
        super().__init__(path)
        self._image = mmap.mmap(-1, JOURNAL_BYTES)  # which begins with a block of memory
        self._view = memoryview(self._image)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._image))
        with ExitStack() as stack:
            stack.callback(super().close)
            self._direct = os.open(path, os.O_RDWR | os.O_DIRECT)
            stack.callback(os.close, self._direct)
            self._view[:BLOCK_BYTES] = os.pread(self._descriptor, BLOCK_BYTES, 0)
            os.pwritev(self._direct, [self._view[:BLOCK_BYTES]], 0, os.RWF_DSYNC)  # as it is: only to see that it works
            stack.pop_all()

    def write(self, at: int, data: bytes) -> None:
        self.stage(at, data)
        self._put(at, at + len(data), 0)

    def stage(self, at: int, data: bytes) -> None:
        self._view[at : at + len(data)] = data

    def sync(self, start: int, end: int) -> None:
        self._put(start, end, os.RWF_DSYNC)

    def order(self, start: int, end: int) -> Order | None:
        first, last = _blocks(start, end)
        return Order(WRITE, self._direct, DURABLE, self._address + first, last - first, first)

    def close(self) -> None:
        os.close(self._direct)
        super().close()

    def _put(self, start: int, end: int, flags: int) -> None:
        first, last = _blocks(start, end)
        try:
            written = os.pwritev(self._direct, [self._view[first:last]], first, flags)
        except OSError as error:
            raise self._translated("written", error) from None
        self._refuse_unless_all(written, last - first)


def opened_journal(path: Path, *, mostly_synced: bool) -> DiskJournalFile:
    """The one that suits. Raises StorageError if there is no room for it."""
    if mostly_synced:
        with suppress(OSError):
            return DirectIOJournalFile(path)
    return DiskJournalFile(path)


def _blocks(start: int, end: int) -> tuple[int, int]:
    """The whole blocks that these bytes are in."""
    return start & -BLOCK_BYTES, -(-end & -BLOCK_BYTES)
