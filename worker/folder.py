"""A worker's blob files on disk: worker-N/blobs/, named by blob ids in hexadecimal digits; scratch files end in `.part`. Those
that are made before they are asked for are in worker-N/blobs/ready/ until they are sealed.

Clients on this machine write scratch files, and read blobs, themselves; all others send and fetch chunks. What a worker does to
a file before it has its name, and its end, is done by a thread, one thing after the other: what waits for the disk stops no
other request, and the loop's own thread uses little time, so that the scheduler gives it the next turn when a small request
comes. The thread wakes the loop when a blob is sealed.

It also keeps some empty scratch files ready. To make one takes 0.3 to 0.8 ms beside somebody who writes large values, for it
waits with them for the file system's journal; and all others wait for the loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from zlib import crc32

from holdall.blob import Reference
from holdall.bodies import FileToFill
from holdall.errors import StorageError
from holdall.protocol import Buffer
from holdall.worker.durable import sync_folder
from holdall.worker.files import Sealed

SCRATCH = ".part"
SPARES = 4
"""Scratch files kept ready, once there is somebody who asks for one."""
SYNC_BYTES = 8 * 1024 * 1024
"""After so much of a blob has been written it begins to go to the disk: then sealing it is short, and does not hold up others'
writes, which wait for the same journal.
"""
QUEUED_BYTES_MAX = 32 * 1024 * 1024
"""Pieces that wait for the thread, in bytes; beyond, the loop's own thread writes, and takes no more meanwhile."""
READ_BYTES = 4 * 1024 * 1024
"""How much of a file is in memory at once while it is checked."""


class _Scratch:
    """How far a scratch file was written in order, the CRC of that, and how much of it has still to go to the disk.

    Once a piece came in another order, or again, nothing is known of it (a size of -1): it is read before it is sealed, unless
    the client that writes it vouches for its checksum.
    """

    def __init__(self) -> None:
        self.is_vouched_for = False
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

    def vouch(self) -> None:
        """Its client writes it."""
        self.is_vouched_for = True


class Folder:
    """The files in `path`, which is made if it is missing.

    `wake` is called from a thread when `sealed` has something to tell; with `sync` what is sealed survives a power cut.
    """

    def __init__(self, path: Path, *, sync: bool, wake: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._sync = sync
        self._wake = wake
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Sealed] = queue.SimpleQueue()
        self._queued_bytes = 0
        """So far; counted by the loop's thread. The other one counts those that are written."""
        self._written_bytes = 0
        self._scratches: dict[bytes, _Scratch] = {}
        self._spares: deque[str] = deque()
        self._given: dict[bytes, str] = {}
        """The scratch files that clients write."""
        self._failed: dict[bytes, str] = {}
        self._thread: threading.Thread | None = None
        self._ready = path / "ready"
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            shutil.rmtree(self._ready, ignore_errors=True)  # nobody knows any more whose they were to be
            self._ready.mkdir(mode=0o700, exist_ok=True)
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError(f"the folder {path} cannot be made: {error.strerror}") from None

    def write(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        if self._queued_bytes - self._written_bytes > QUEUED_BYTES_MAX:
            self._write(blob_id, offset, data)
            self._do(lambda: self._scratch(blob_id).take(-1, b""))
        else:
            self._queued_bytes += len(data)
            self._do(lambda: self._write_queued(blob_id, offset, data))
        if blob_id in self._failed:
            raise StorageError(self._failed.pop(blob_id))

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
        self._do(lambda: self._expect(blob_id))
        return FileToFill(os.fsencode(file), self._sync)

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
        except OSError as error:
            raise StorageError(f"the blob file {file} cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        if len(data) != size:
            raise StorageError(f"the blob file {file} is damaged: it ends before byte {offset + size:,}")
        return data

    def remove(self, blob_ids: Iterable[bytes]) -> None:
        for blob_id in blob_ids:
            self._do(lambda blob_id=blob_id: self._remove(blob_id))  # type: ignore[misc]

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

    def _expect(self, blob_id: bytes) -> None:
        """Its client writes the scratch file of this blob; others may soon ask for one."""
        self._scratch(blob_id).vouch()
        with contextlib.suppress(OSError):  # whoever asks for one then hears of it
            while len(self._spares) < SPARES:
                spare = f"{self._ready}/{os.urandom(16).hex()}"
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
        while (job := self._jobs.get()) is not None:
            job()

    def _write_queued(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        self._write(blob_id, offset, data)
        self._written_bytes += len(data)
        scratch = self._scratch(blob_id)
        scratch.take(offset, data)
        if self._sync and scratch.unsynced >= SYNC_BYTES:
            scratch.unsynced = 0
            _sync(self._scratch_file(blob_id))

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
        scratch, file = self._scratch_file(reference.id), self._file(reference.id)
        known = self._scratches.pop(reference.id, _Scratch())
        try:
            failed = self._failed.pop(reference.id, "")
            if failed:
                self._ended.put(Sealed(reference.id, error=failed))
                self._wake()
                return
            torn = not _holds(scratch, reference, known, sync=self._sync)
            if not torn:
                os.rename(scratch, file)
                self._given.pop(reference.id, None)
                if self._sync:
                    sync_folder(self._path)
            self._ended.put(Sealed(reference.id, torn))
        except FileNotFoundError:
            self._ended.put(Sealed(reference.id, torn=True))
        except OSError as error:
            full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
            self._ended.put(Sealed(reference.id, error=f"the blob file {scratch} cannot be sealed: {error.strerror}{full}"))
        self._wake()

    def _remove(self, blob_id: bytes) -> None:
        self._scratches.pop(blob_id, None)
        self._failed.pop(blob_id, None)
        for file in {self._file(blob_id), self._file(blob_id, SCRATCH), self._scratch_file(blob_id)}:
            with contextlib.suppress(OSError):  # one that stays is collected at the next start
                os.unlink(file)
        self._given.pop(blob_id, None)


def _make(file: str) -> None:
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _sync(file: str) -> None:
    """Begin with what `_holds` ends; it also finds the errors."""
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        os.fsync(opened.fileno())


def _holds(file: str, reference: Reference, known: _Scratch, *, sync: bool) -> bool:
    """Whether the file is this blob: read for that, unless it was written in order. With `sync` it survives a power cut."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size != reference.size:
            return False
        crc = reference.crc if known.is_vouched_for else known.crc
        if not known.is_vouched_for and known.size != reference.size:
            crc = 0
            for offset in range(0, reference.size, READ_BYTES):
                crc = crc32(os.pread(descriptor, READ_BYTES, offset), crc)
        if crc != reference.crc:
            return False
        if sync:
            os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)
