"""A worker's blob files on disk: worker-N/blobs/, with the ids of their blobs, in hexadecimal digits, as names.

What a worker does to a file that waits for the disk is done by a thread, one thing after the other: so it stops no other
request. The thread wakes the loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from holdall.disk import DiskFile, sync_folder
from holdall.errors import StorageError
from holdall.protocol import Buffer

from .files import Sealed

FREE_SECONDS = 0.02
"""For how long what was found of the room on the disk is believed."""
SYNC_BYTES = 8 * 1024 * 1024
"""After so many bytes a file begins to go to the disk: so sealing is short, and holds up no others' writes to that disk."""
THREAD_BYTES_MAX = 32 * 1024 * 1024
"""Chunks that wait for the thread, in bytes; beyond, the loop's own thread writes, and takes no more meanwhile."""


class Folder:
    """The files in `path`, which is made if it is missing; errors call it `name`, or else by its path.

    `wake` is called from a thread when `sealed` has something to tell; with `sync` what is sealed survives a power cut.
    """

    def __init__(self, path: Path, *, sync: bool, wake: Callable[[], None] = lambda: None, name: Path | None = None) -> None:
        self._path = path
        self._name = name or path
        self.syncs = sync
        self._wake = wake
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Sealed] = queue.SimpleQueue()
        self._given_bytes = 0
        """Of chunks, so far; counted by the loop's thread. The other one counts those that are written."""
        self._written_bytes = 0
        self._unsynced: dict[bytes, int] = {}
        """Bytes of each file that have still to go to the disk: the thread's own."""
        self._failed: dict[bytes, str] = {}
        self._free_bytes = 0
        self._free_until = 0.0
        self._thread: threading.Thread | None = None
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError(f"the folder {self._name} cannot be made: {error.strerror}") from None

    def make(self, name: bytes) -> DiskFile:
        try:
            return DiskFile(self.path(name), os.O_WRONLY | os.O_CREAT)
        except OSError as error:
            raise StorageError(self._why_not(name, "made", error)) from None

    def open(self, name: bytes) -> DiskFile | None:
        try:
            return DiskFile(self.path(name), os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(self._why_not(name, "read", error)) from None

    def write(self, name: bytes, offset: int, data: Buffer) -> None:
        if self._given_bytes - self._written_bytes > THREAD_BYTES_MAX:
            self._write(name, offset, data)
        else:
            self._given_bytes += len(data)
            self._do(lambda: self._write_given(name, offset, data))
        if failed := self._failed.pop(name, ""):  # the thread takes it too
            raise StorageError(failed)

    def seal(self, name: bytes, size: int) -> None:
        self._do(lambda: self._seal(name, size))

    def sealed(self) -> list[Sealed]:
        ended: list[Sealed] = []
        with contextlib.suppress(queue.Empty):
            while True:
                ended.append(self._ended.get_nowait())
        return ended

    def read(self, name: bytes, offset: int, size: int) -> bytes | None:
        file = self.open(name)
        if file is None:
            return None
        try:
            data = os.pread(file.descriptor, size, offset)
        except OSError as error:
            raise StorageError(self._why_not(name, "read", error)) from None
        if len(data) != size:
            raise StorageError(f"the blob file {self._name}/{name.hex()} is damaged: it ends before byte {offset + size:,}")
        return data

    def remove(self, names: Iterable[bytes]) -> None:
        removed = list(names)
        if removed:
            self._do(lambda: self._remove(removed))

    def names(self) -> list[bytes]:
        found: list[bytes] = []
        for name in os.listdir(self._path):
            with contextlib.suppress(ValueError):  # somebody else's file
                found.append(bytes.fromhex(name))
        return found

    def path(self, name: bytes) -> str:
        return f"{self._path}/{name.hex()}"

    def free_bytes(self) -> int:
        now = time.monotonic()
        if now >= self._free_until:
            try:
                found = os.statvfs(self._path)
            except OSError as error:
                raise StorageError(f"the folder {self._path} cannot be used: {error.strerror}") from None
            self._free_bytes = found.f_bavail * found.f_frsize
            self._free_until = now + FREE_SECONDS
        return self._free_bytes

    def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="blob files", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _write_given(self, name: bytes, offset: int, data: Buffer) -> None:
        self._write(name, offset, data)
        self._written_bytes += len(data)

    def _write(self, name: bytes, offset: int, data: Buffer) -> None:
        """Write a chunk, or note why it cannot be written: that is told with the next one, or when the blob is to be sealed."""
        try:
            file = DiskFile(self.path(name), os.O_WRONLY | os.O_CREAT)
            left = memoryview(data)
            while left:
                written = os.pwrite(file.descriptor, left, offset)
                left, offset = left[written:], offset + written
            unsynced = self._unsynced.pop(name, 0) + len(data)
            if self.syncs and unsynced >= SYNC_BYTES:
                file.sync()
            else:
                self._unsynced[name] = unsynced
        except OSError as error:
            self._failed[name] = self._why_not(name, "written", error)

    def _seal(self, name: bytes, size: int) -> None:
        self._ended.put(self._sealed(name, size))
        self._wake()

    def _sealed(self, name: bytes, size: int) -> Sealed:
        self._unsynced.pop(name, None)
        if failed := self._failed.pop(name, ""):
            return Sealed(name, error=failed)
        try:
            file = DiskFile(self.path(name), os.O_RDONLY)
            if os.fstat(file.descriptor).st_size != size:
                return Sealed(name, torn=True)
            if self.syncs:
                file.sync()
                sync_folder(self._path)
            return Sealed(name)
        except FileNotFoundError:
            return Sealed(name, torn=True)
        except OSError as error:
            return Sealed(name, error=self._why_not(name, "sealed", error))

    def _remove(self, names: list[bytes]) -> None:
        for name in names:
            self._unsynced.pop(name, None)
            self._failed.pop(name, None)
            with contextlib.suppress(OSError):  # it is gone; or it stays, and is collected at the next start
                os.unlink(self.path(name))

    def _why_not(self, name: bytes, done: str, error: OSError) -> str:
        why = f"{error.strerror} (the disk is full)" if error.errno == errno.ENOSPC else error.strerror
        return f"the blob file {self._name}/{name.hex()} cannot be {done}: {why}"
