"""A worker's machine: the disk, which outlives every process on it, its lock, and the wall clock."""

from __future__ import annotations

from random import Random

from holdall.errors import StorageError
from holdall.worker.store import Changes, MemoryStore
from holdall.worker.transaction import format_store


class Killed(Exception):
    """The process is killed in the middle of a write."""


class Disk(MemoryStore):
    """A store that one process at a time may open, and whose next write can be made to go wrong."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
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


def disk_error() -> StorageError:
    """What a full disk says."""
    return StorageError("no space left on device")
