"""A worker's blob files on disk: worker-N/blobs/, named by blob ids in hexadecimal digits; scratch files end in `.part`. Those
that clients write are in worker-N/blobs/ready/ until they are sealed.

Clients on this machine write scratch files, and read blobs, themselves; all others send and fetch chunks. What a worker does to
a file before it has its name, and its end, is done by a thread, one thing after the other: what waits for the disk stops no
other request, and the loop's own thread uses little time, so that the scheduler gives it the next turn when a small request
comes. The thread wakes the loop when a blob is sealed.

It also keeps some scratch files ready. To make one takes 0.3 to 0.8 ms beside somebody who writes large values, for it waits
with them for the file system's journal; and all others wait for the loop.

**The file of a blob that is removed becomes one of them**, with what is in it: to write over a file, and to sync it, costs half
of what a new one does, because it has its blocks and its pages. Who still has it open may then read another blob's bytes. So it
is given to nobody before it has another name, names are never given twice, and what was read counts only if the name it was
read by is still there afterwards. A file that was given to a client and not sealed goes: that client may still write. So does
one above REUSED_BYTES_MAX, so that a value which takes long to read is read to its end.

The thread does as few system calls as it can: at each it lets go of the interpreter's lock and takes it back, and whenever
it takes it the loop waits to be woken.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import queue
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from io import FileIO
from pathlib import Path
from zlib import crc32

from holdall.blob import REUSED_BYTES_MAX, Reference
from holdall.bodies import FileToFill
from holdall.durable import keeps_name, sync, sync_file, sync_folder
from holdall.errors import StorageError
from holdall.protocol import Buffer
from holdall.worker.files import Sealed

SCRATCH = ".part"
SPARES = 4
SPARES_MAX = 16
"""How many scratch files are kept ready, once somebody has asked for one; and at most, with those that were blobs."""
ROOM_BYTES = 1024 * 1024 * 1024
"""On a disk that has less left, no file that was a blob is kept."""
SYNC_BYTES = 8 * 1024 * 1024
"""After so much of a blob has been written it begins to go to the disk: then sealing it is short, and does not hold up others'
writes, which wait for the same journal.
"""
QUEUED_BYTES_MAX = 32 * 1024 * 1024
"""Pieces that wait for the thread, in bytes; beyond, the loop's own thread writes, and takes no more meanwhile."""
UNWRITTEN_NS = 0
"""The time of the last change of a file that was a blob, until somebody writes to it. A client may be told of one file, and
after a start of this worker a copy of its request, which was late, may be answered with another: that one nobody writes.
"""
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

    `wake` is called from a thread when `sealed` has something to tell; with `sync` what is sealed survives a power cut.
    """

    def __init__(self, path: Path, *, sync: bool, wake: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._syncs = sync
        self._wake = wake
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Sealed] = queue.SimpleQueue()
        self._queued_bytes = 0
        """So far; counted by the loop's thread. The other one counts those that are written."""
        self._written_bytes = 0
        self._scratches: dict[bytes, _Scratch] = {}
        self._spares: deque[str] = deque()
        prefix = f"{path}/ready/{secrets.token_hex(16)}"
        self._spare_names = (f"{prefix}-{number}" for number in itertools.count())
        self._given: dict[bytes, str] = {}
        """The scratch files that clients write, and vouch for."""
        self._dead: dict[str, None] = {}
        """Of blobs that were removed: the thread's own."""
        self._bury_at = 0.0
        self._failed: dict[bytes, str] = {}
        self._thread: threading.Thread | None = None
        self._ready = path / "ready"
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            shutil.rmtree(self._ready, ignore_errors=True)  # nobody knows any more whose they were to be
            self._ready.mkdir(mode=0o700, exist_ok=True)
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

    def make(self, blob_id: bytes) -> FileToFill:
        file = self._given.get(blob_id)
        if file is None and self._spares:
            file = self._spares.popleft()
        elif file is None:
            file = self._file(blob_id, SCRATCH)
            try:
                _make(file)
            except OSError as error:
                raise StorageError(f"the blob file {file} cannot be made: {error.strerror}") from None
        self._given[blob_id] = file
        return FileToFill(os.fsencode(file), self._syncs)

    def path(self, blob_id: bytes) -> str | None:
        file = self._file(blob_id)
        return file if os.path.exists(file) else None

    def seal(self, reference: Reference) -> None:
        self._do(lambda: self._seal(reference))

    def sealed(self) -> list[Sealed]:
        ended: list[Sealed] = []
        with contextlib.suppress(queue.Empty):
            while True:
                ended.append(self._ended.get_nowait())
        return ended

    def read(self, blob_id: bytes, offset: int, size: int) -> bytes | None:
        file = self._file(blob_id)
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"the blob file {file} cannot be read: {error.strerror}") from None
        try:
            data = os.pread(descriptor, size, offset)
            if not keeps_name(descriptor, file):
                return None
        except OSError as error:
            raise StorageError(f"the blob file {file} cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        if len(data) != size:
            raise StorageError(f"the blob file {file} is damaged: it ends before byte {offset + size:,}")
        return data

    def remove(self, blob_ids: Iterable[bytes]) -> None:
        removed = list(blob_ids)
        if removed:
            self._do(lambda: self._remove(removed))

    def names(self) -> list[bytes]:
        found = dict.fromkeys(self._given)
        for name in os.listdir(self._path):
            with contextlib.suppress(ValueError):  # somebody else's file
                found[bytes.fromhex(name.removesuffix(SCRATCH))] = None
        return list(found)

    def free_bytes(self) -> int:
        found = os.statvfs(self._path)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        os.close(self._descriptor)

    def _make_spares(self) -> None:
        with contextlib.suppress(OSError):  # whoever asks for one then hears of it
            while len(self._spares) < SPARES:
                spare = next(self._spare_names)
                _make(spare)
                self._spares.append(spare)

    def _scratch_file(self, blob_id: bytes) -> str:
        return self._given.get(blob_id) or self._file(blob_id, SCRATCH)

    def _file(self, blob_id: bytes, suffix: str = "") -> str:
        return f"{self._path}/{blob_id.hex()}{suffix}"

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
        if self._syncs and scratch.unsynced >= SYNC_BYTES:
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
        self._make_spares()

    def _sealed(self, reference: Reference) -> Sealed:
        scratch = self._scratch_file(reference.id)
        try:
            if failed := self._failed.pop(reference.id, ""):
                return Sealed(reference.id, error=failed)
            if not self._holds(scratch, reference):
                return Sealed(reference.id, torn=True)
            os.rename(scratch, self._file(reference.id))
            self._dead.pop(self._file(reference.id), None)  # an upload of before this worker was started may have come again
            self._given.pop(reference.id, None)
            if self._syncs:
                os.fsync(self._descriptor)
            return Sealed(reference.id)
        except FileNotFoundError:
            return Sealed(reference.id, torn=True)
        except OSError as error:
            full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
            return Sealed(reference.id, error=f"the blob file {scratch} cannot be sealed: {error.strerror}{full}")

    def _holds(self, scratch: str, reference: Reference) -> bool:
        """Whether this file is this blob, as its client vouches for, or as is known of the pieces. If it has to, it survives a
        power cut then.
        """
        known = self._scratches.pop(reference.id, None)
        found = os.stat(scratch)
        size = found.st_size
        if size < reference.size or found.st_mtime_ns == UNWRITTEN_NS:
            return False
        is_vouched_for = known is None and reference.id in self._given
        if is_vouched_for and size == reference.size:  # and its client has synced it
            return True
        with open(scratch, "r+b", buffering=0) as file:
            file.truncate(reference.size)  # it may have been a larger blob's
            if not is_vouched_for and _crc(file, reference.size, known or _Scratch()) != reference.crc:
                return False
            if self._syncs:
                sync(file.fileno())
        return True

    def _remove(self, blob_ids: list[bytes]) -> None:
        for blob_id in blob_ids:
            self._scratches.pop(blob_id, None)
            self._failed.pop(blob_id, None)
            given = self._given.pop(blob_id, None)
            _unlink(given or self._file(blob_id, SCRATCH))
            self._dead[self._file(blob_id)] = None

    def _bury(self, files: int) -> None:
        """Let go of so many of the blobs that were removed."""
        self._bury_at = time.monotonic() + QUIET_SECONDS
        for file in [*itertools.islice(self._dead, files)]:
            del self._dead[file]
            if not self._keep_ready(file):
                _unlink(file)

    def _keep_ready(self, file: str) -> bool:
        """Have the file of a blob as a scratch file, unless there are enough, or it is too large, or there is little room."""
        try:
            if len(self._spares) >= SPARES_MAX or os.stat(file).st_size > REUSED_BYTES_MAX:
                return False
            if self.free_bytes() < ROOM_BYTES:
                return False
            spare = next(self._spare_names)
            os.utime(file, ns=(UNWRITTEN_NS, UNWRITTEN_NS))
            os.rename(file, spare)
        except OSError:
            return False
        self._spares.appendleft(spare)  # the next one: its pages may still be in the processor's cache
        return True


def _make(file: str) -> None:
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _unlink(file: str) -> bool:
    """Returns whether it was there; what stays is collected at the next start."""
    try:
        os.unlink(file)
    except OSError:
        return False
    return True


def _crc(file: FileIO, size: int, known: _Scratch) -> int:
    """The CRC of as much of a file, which is read unless it was written in order."""
    if known.size == size:
        return known.crc
    crc = 0
    for offset in range(0, size, READ_BYTES):
        crc = crc32(os.pread(file.fileno(), min(READ_BYTES, size - offset), offset), crc)
    return crc
