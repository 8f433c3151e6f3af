"""A worker's machine: the disk, which outlives every process on it, its lock, and the wall clock."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from holdall.errors import StorageError
from holdall.worker.files import MemoryFiles, Sealed
from holdall.worker.store import Changes, MemoryStore
from holdall.worker.transaction import format_store


class Killed(Exception):
    """The process is killed in the middle of a write."""


class DiskFiles(MemoryFiles):
    """The blob files of a machine: sealing takes a while, and what was not synced may be lost or come back."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._removed: dict[bytes, bytes] = {}

    def sealed(self) -> list[Sealed]:
        """Perhaps: the disk may need longer."""
        if not self.begun or self._random.random() < 0.5:
            return []
        return super().sealed()

    def remove(self, blob_ids: Iterable[bytes]) -> None:
        for blob_id in blob_ids:
            if blob_id in self.blobs:
                self._removed[blob_id] = self.blobs[blob_id]
            super().remove([blob_id])

    def die(self) -> None:
        """The process is gone: what it had begun to seal is sealed, or not."""
        if self._random.random() < 0.5:
            super().sealed()
        self.begun.clear()

    def power_cut(self) -> None:
        """Scratch files are not whole; any of the files removed may be there again."""
        for blob_id, scratch in list(self.scratch.items()):
            if self._random.random() < 0.5:
                del self.scratch[blob_id]
            else:
                del scratch[self._random.randrange(len(scratch) + 1) :]
        for blob_id, data in self._removed.items():
            if self._random.random() < 0.5:
                self.blobs[blob_id] = data
        self._removed.clear()


class Disk(MemoryStore):
    """A store and files that one process at a time may open, and whose next write can be made to go wrong."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.files = DiskFiles(random)
        self.failure: Exception | None = None
        """Killed or StorageError: what the next write ends with."""
        self.is_full = False
        """Whether it has no room for values."""
        self.clock_offset = 0.0
        """By how much the wall clock of this machine is wrong."""
        self._holder: object = None
        format_store(self)

    def lock(self, process: object) -> bool:
        """Give the disk to this process, if no other one that lives has it."""
        if self._holder is not None:
            return False
        self._holder = process
        return True

    def unlock(self, process: object) -> None:
        """This process has ended."""
        if self._holder is process:
            self._holder = None
            self.files.die()

    def recover(self) -> None:
        """What opening does: LevelDB writes what it finds in its log to a table, and syncs that."""
        super().write({}, sync=True)

    def write(self, changes: Changes, sync: bool) -> None:
        """As promised, unless a failure was ordered."""
        if self.failure is None:
            super().write(changes, sync)
            return
        failure, self.failure = self.failure, None
        self.interrupted_write(changes)
        raise failure

    def interrupted_write(self, changes: Changes) -> None:
        """All or nothing, and not synced."""
        if self.random.random() < 0.5:
            super().write(changes, sync=False)

    def power_cut(self) -> None:
        """Lose any number of the last unsynced writes."""
        self.crash(self.random.randint(0, len(self._unsynced)))
        self.files.power_cut()


def disk_error() -> StorageError:
    """What a full disk says."""
    return StorageError("no space left on device")
