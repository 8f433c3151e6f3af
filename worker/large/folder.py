"""A worker's blob files on disk: worker-N/blobs/, with their names in hexadecimal digits; scratch files end in `.part`.

Clients on this machine write files, and read them, themselves; all others send and fetch chunks. What a worker does to a file
that waits for the disk is done by a thread, one thing after the other: so it stops no other request, and the loop's own thread
uses little time, so that the scheduler gives it the next turn when a small request comes. The thread wakes the loop.

**Files that clients write have names before anybody needs them, and keep them.** Some are always ready: a value that is
stored takes one, and one that nobody needs any more gives its file back, with what is in it. So nothing is made, renamed
or synced by a worker for a large value that replaces another one, and to write over a file costs its client half of what a new
one does, because it has its blocks and its pages. What is read is compared with the CRC: the file of a blob that somebody was
told of is given back 10 s later, and who reads it later still may find another blob's bytes in it. A file that was given to a
client who has not said that it is written goes: that client may still write. So does one above REUSED_BYTES_MAX, so that a
value which takes long to read is read to its end.

The thread does as few system calls as it can: at each it lets go of the interpreter's lock and takes it back, and whenever
it takes it the loop waits to be woken.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from io import FileIO
from pathlib import Path

from holdall.blob import REUSED_BYTES_MAX, Reference
from holdall.disk import crc32, sync, sync_file, sync_folder
from holdall.errors import StorageError
from holdall.protocol import Buffer
from holdall.worker.store.rows import FILE_NAME_BYTES

from .files import Sealed

SCRATCH = ".part"
READY = 8
READY_MAX = 16
"""How many files are made ready at once, when there are less than half as many; and at most, with those that were given back.
"""
ROOM_BYTES = 1024 * 1024 * 1024
"""On a disk that has less left, no file is kept that was given back."""
TICK_NS = 20_000_000
"""By so much a file's time may lag: before Linux 6.13 it was that of the last tick of a clock, 10 ms apart at most. Who takes
one that was written to so lately sets its time back, or it would not be seen that it is written to again.
"""
FREE_SECONDS = 0.02
"""For how long what was found of the room on the disk is believed: it is asked for twice for each value."""
SYNC_BYTES = 8 * 1024 * 1024
"""After so much of a blob has been written it begins to go to the disk: then sealing it is short, and does not hold up others'
writes, which wait for the same journal.
"""
QUEUED_BYTES_MAX = 32 * 1024 * 1024
"""Pieces that wait for the thread, in bytes; beyond, the loop's own thread writes, and takes no more meanwhile."""
BURIED_TOGETHER = 2
QUIET_SECONDS = 0.02
"""Files of removed blobs that are let go after each sealing, or after so long, so that hundreds of them, which take tens of
milliseconds, hold up nobody; and after how long without anything to do all others are.
"""
READ_BYTES = 4 * 1024 * 1024
"""How much of a file is in memory at once while it is checked."""


class _Scratch:
    """How far a scratch file was written in order, the CRC of that, and how much of it has still to go to the disk.

    Once a piece came in another order, or again, nothing is known of it (a size of -1): it is read before it is sealed.
    """

    def __init__(self) -> None:
        self.size = 0
        self.crc = 0
        self.unsynced = 0

    def take(self, offset: int, data: Buffer) -> None:
        """A piece was written there."""
        self.unsynced += len(data)
        if offset == self.size:
            self.size += len(data)
            self.crc = crc32(data, self.crc)
        else:
            self.size = -1


class Folder:
    """The files in `path`, which is made if it is missing.

    `wake` is called from a thread when `take` or `sealed` has something to tell; with `sync` what is sealed survives a power
    cut.
    """

    def __init__(self, path: Path, *, sync: bool, wake: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self.syncs = sync
        self._wake = wake
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Sealed] = queue.SimpleQueue()
        self._queued_bytes = 0
        """So far; counted by the loop's thread. The other one counts those that are written."""
        self._written_bytes = 0
        self._scratches: dict[bytes, _Scratch] = {}
        self._ready: deque[bytes] = deque()
        self._taken: dict[bytes, int] = {}
        """When each file that clients are writing had been written to before, in ns."""
        self._is_making = False
        self._cannot_make = ""
        self._free_bytes = 0
        self._free_until = 0.0
        self._dead: dict[str, None] = {}
        """Files that are to go: the thread's own."""
        self._bury_at = 0.0
        self._failed: dict[bytes, str] = {}
        self._thread: threading.Thread | None = None
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            shutil.rmtree(path / "ready", ignore_errors=True)  # of before files had names of their own
            sync_folder(path.parent)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"the folder {path} cannot be made: {error.strerror}") from None

    def write(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        if self._queued_bytes - self._written_bytes > QUEUED_BYTES_MAX:
            self._write(blob_id, offset, data)
            self._do(lambda: self._scratch(blob_id).take(-1, b""))
        else:
            self._queued_bytes += len(data)
            self._do(lambda: self._write_queued(blob_id, offset, data))
        if failed := self._failed.pop(blob_id, ""):  # the thread takes it too
            raise StorageError(failed)

    def take(self) -> bytes | None:
        if not self._ready and self._cannot_make:
            failed, self._cannot_make = self._cannot_make, ""
            raise StorageError(failed)
        if len(self._ready) < READY // 2 and not self._is_making:
            self._is_making = True
            self._do(self._make_ready)
        if not self._ready:
            return None
        name = self._ready.popleft()
        file = self.path(name)
        try:
            written_ns = os.stat(file).st_mtime_ns
            if time.time_ns() - written_ns < TICK_NS:
                written_ns = 0
                os.utime(file, ns=(written_ns, written_ns))
        except OSError as error:
            raise StorageError(f"the blob file {file} cannot be used: {error.strerror}") from None
        self._taken[name] = written_ns
        return name

    def is_written(self, name: bytes, size: int) -> bool:
        try:
            found = os.stat(self.path(name))
        except OSError:
            return False
        if found.st_size != size or found.st_mtime_ns == self._taken.get(name):
            return False
        self._taken.pop(name, None)
        return True

    def give_back(self, name: bytes, size: int) -> None:
        may_be_kept = len(name) == FILE_NAME_BYTES and size <= REUSED_BYTES_MAX and len(self._ready) < READY_MAX
        if may_be_kept and self._has_room():
            self._ready.append(name)  # behind those that were written to longer ago: see TICK_NS
        else:
            self.remove([name])

    def path(self, name: bytes) -> str:
        return f"{self._path}/{name.hex()}"

    def exists(self, name: bytes) -> bool:
        return os.path.exists(self.path(name))

    def seal(self, reference: Reference) -> None:
        self._do(lambda: self._seal(reference))

    def sealed(self) -> list[Sealed]:
        ended: list[Sealed] = []
        with contextlib.suppress(queue.Empty):
            while True:
                ended.append(self._ended.get_nowait())
        return ended

    def read(self, name: bytes, offset: int, size: int) -> bytes | None:
        file = self.path(name)
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"the blob file {file} cannot be read: {error.strerror}") from None
        try:
            data = os.pread(descriptor, size, offset)
        except OSError as error:
            raise StorageError(f"the blob file {file} cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        if len(data) != size:
            raise StorageError(f"the blob file {file} is damaged: it ends before byte {offset + size:,}")
        return data

    def remove(self, names: Iterable[bytes]) -> None:
        removed = list(names)
        for name in removed:
            self._taken.pop(name, None)
        if removed:
            self._do(lambda: self._remove(removed))

    def names(self) -> list[bytes]:
        found: dict[bytes, None] = {}
        for name in os.listdir(self._path):
            with contextlib.suppress(ValueError):  # somebody else's file
                found[bytes.fromhex(name.removesuffix(SCRATCH))] = None
        return [name for name in found if name not in self._ready]

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
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _has_room(self) -> bool:
        with contextlib.suppress(StorageError):
            return self.free_bytes() >= ROOM_BYTES
        return False

    def _make_ready(self) -> None:
        """Make some more files, whose names survive a power cut, and let the loop know."""
        self._cannot_make = ""
        made = [os.urandom(FILE_NAME_BYTES) for _ in range(READY - len(self._ready))]
        try:
            for name in made:
                os.close(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            if self.syncs:
                os.fsync(self._descriptor)
            self._ready.extend(made)
        except OSError as error:
            self._cannot_make = f"no blob file can be made in {self._path}: {error.strerror}{_if_full(error)}"
            self._dead.update(dict.fromkeys(map(self.path, made)))
        self._is_making = False
        self._wake()

    def _scratch_file(self, blob_id: bytes) -> str:
        return self.path(blob_id) + SCRATCH

    def _do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="blob files", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=QUIET_SECONDS if self._dead else None)
            except queue.Empty:
                while self._dead and self._jobs.empty():
                    self._bury(1)
                continue
            if job is None:
                return
            job()
            if self._dead and time.monotonic() >= self._bury_at:  # however long it goes on
                self._bury(BURIED_TOGETHER)

    def _write_queued(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        self._write(blob_id, offset, data)
        self._written_bytes += len(data)
        scratch = self._scratch(blob_id)
        scratch.take(offset, data)
        if self.syncs and scratch.unsynced >= SYNC_BYTES:
            scratch.unsynced = 0
            with contextlib.suppress(OSError):  # `_holds` ends it, and finds the errors
                sync_file(self._scratch_file(blob_id))

    def _scratch(self, blob_id: bytes) -> _Scratch:
        return self._scratches.setdefault(blob_id, _Scratch())

    def _write(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        """Write a piece, or note why it cannot be written: that is told with the next one, or when the blob is to be sealed."""
        file = self._scratch_file(blob_id)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                left = memoryview(data)
                while left:
                    written = os.pwrite(descriptor, left, offset)
                    left, offset = left[written:], offset + written
            finally:
                os.close(descriptor)
        except OSError as error:
            self._failed[blob_id] = f"the blob file {file} cannot be written: {error.strerror}"

    def _seal(self, reference: Reference) -> None:
        self._ended.put(self._sealed(reference))
        self._wake()
        self._bury(BURIED_TOGETHER)

    def _sealed(self, reference: Reference) -> Sealed:
        scratch, file = self._scratch_file(reference.id), self.path(reference.id)
        try:
            if failed := self._failed.pop(reference.id, ""):
                return Sealed(reference.id, error=failed)
            if not self._holds(scratch, reference):
                return Sealed(reference.id, torn=True)
            os.rename(scratch, file)
            self._dead.pop(file, None)  # an upload of before this worker was started may have come again
            if self.syncs:
                os.fsync(self._descriptor)
            return Sealed(reference.id)
        except FileNotFoundError:
            return Sealed(reference.id, torn=True)
        except OSError as error:
            why = f"{error.strerror}{_if_full(error)}"
            return Sealed(reference.id, error=f"the blob file {scratch} cannot be sealed: {why}")

    def _holds(self, scratch: str, reference: Reference) -> bool:
        """Whether this file is this blob, as is known of the pieces. If it has to, it survives a power cut then."""
        known = self._scratches.pop(reference.id, _Scratch())
        with open(scratch, "r+b", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != reference.size or _crc(file, reference.size, known) != reference.crc:
                return False
            if self.syncs:
                sync(file.fileno())
        return True

    def _remove(self, names: list[bytes]) -> None:
        for name in names:
            self._scratches.pop(name, None)
            self._failed.pop(name, None)
            if len(name) != FILE_NAME_BYTES:
                _unlink(self._scratch_file(name))
            self._dead[self.path(name)] = None

    def _bury(self, files: int) -> None:
        """Let so many of the files go that are to."""
        self._bury_at = time.monotonic() + QUIET_SECONDS
        for file in [*itertools.islice(self._dead, files)]:
            del self._dead[file]
            _unlink(file)


def _unlink(file: str) -> None:
    """Remove it, if it is there; what stays is collected at the next start."""
    with contextlib.suppress(OSError):
        os.unlink(file)


def _if_full(error: OSError) -> str:
    return " (the disk is full)" if error.errno == errno.ENOSPC else ""


def _crc(file: FileIO, size: int, known: _Scratch) -> int:
    """The CRC of as much of a file, which is read unless it was written in order."""
    if known.size == size:
        return known.crc
    crc = 0
    for offset in range(0, size, READ_BYTES):
        crc = crc32(os.pread(file.fileno(), min(READ_BYTES, size - offset), offset), crc)
    return crc
