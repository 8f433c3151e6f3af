"""A worker's machine: the disk, which outlives every process on it, its lock, and the wall clock."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from holdall.errors import StorageError
from holdall.worker.large.files import Sealed
from holdall.worker.state.transaction import format_store
from holdall.worker.store.store import Changes, Store
from tests.memory_files import Content, MemoryFiles
from tests.memory_store import MemoryStore

NEW_LOG_SHARE = 0.1
"""Of the writes of a store: how many begin another log."""


class Killed(Exception):
    """The process is killed in the middle of a write."""


class DiskFiles(MemoryFiles):
    """The blob files of a machine: what its thread does takes a while, and what was not synced may be lost or come back."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._removed: dict[bytes, Content] = {}

    def sealed(self) -> list[Sealed]:
        """Perhaps: the disk may need longer."""
        if not self.begun or self._random.random() < 0.5:
            return []
        return super().sealed()

    def remove(self, names: Iterable[bytes]) -> None:
        for name in names:
            if name in self.named:
                self._removed[name] = self.named[name]
            super().remove([name])

    def die(self) -> None:
        """The process is gone: what it had begun to seal is sealed, or not."""
        if self._random.random() < 0.5:
            super().sealed()
        self.close()

    def power_cut(self) -> None:
        """What was not synced is not whole; any of the files removed may be there again, unless another one of its name was
        synced since, and the folder with it.
        """
        for data in self.named.values():
            if not data.is_durable:
                del data[self._random.randrange(len(data) + 1) :]
        for name, data in self._removed.items():
            if self._random.random() < 0.5 and not (name in self.named and self.named[name].is_durable):
                self.named[name] = data
        self._removed.clear()


class Disk(MemoryStore):
    """A store and its files, that one process at a time may open, and whose next write can be made to go wrong."""

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
        self._is_mostly_synced = False
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

    def open_store(self, *, mostly_synced: bool) -> Store:
        """The store as a worker opens it: what LevelDB's logs held is in a table then."""
        self._is_mostly_synced = mostly_synced
        self.settle_down()
        return self

    def settle_down(self) -> None:
        """Make everything written so far survive a power cut."""
        super().sync()

    def take_failure(self) -> Exception | None:
        """What this write ends with."""
        failure, self.failure = self.failure, None
        return failure

    def write(self, changes: Changes, sync: bool) -> None:
        """As promised, unless a failure was ordered."""
        failure = self.take_failure()
        if self.random.random() < NEW_LOG_SHARE:
            self.begin_log()
        if failure is None:
            super().write(changes, sync)
            return
        self.interrupted_write(changes)
        raise failure

    def sync(self) -> None:
        """As promised, unless a failure was ordered."""
        failure = self.take_failure()
        if failure is not None:
            raise failure
        super().sync()

    def interrupted_write(self, changes: Changes) -> None:
        """All or nothing, and not synced."""
        if self.random.random() < 0.5:
            super().write(changes, sync=False)

    def power_cut(self) -> None:
        """Lose any number of the last unsynced writes of each log."""
        self.crash(*kept_by_a_power_cut(self.random, self.unsynced, mostly_synced=self._is_mostly_synced))
        self.files.power_cut()


def kept_by_a_power_cut(random: Random, unsynced: list[int], *, mostly_synced: bool) -> list[int]:
    """How many of the unsynced writes in each log: any number, but in the order of the logs where syncs are rare."""
    kept = [random.randint(0, count) for count in unsynced]
    if kept and not mostly_synced:
        last = random.randrange(len(kept))
        kept = [*unsynced[:last], kept[last]]
    return kept


def disk_error() -> StorageError:
    """What a full disk says."""
    return StorageError("no space left on device")
