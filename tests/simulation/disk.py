"""A worker's machine: the disk, which outlives every process on it, its lock, and the wall clock."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from holdall.errors import StorageError
from holdall.worker.files import Content, MemoryFiles, Sealed
from holdall.worker.journal import Journal
from holdall.worker.journaled import JournaledStore
from holdall.worker.store import Changes, MemoryStore, Store
from holdall.worker.transaction import format_store

JOURNAL_BYTES = 2048
"""Of the journals here: they are full after every few writes."""
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

    def take(self) -> bytes | None:
        """Perhaps: it may have to be made first."""
        return None if self._random.random() < 0.3 else super().take()

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
        """What was not synced is not whole; any of the files removed may be there again."""
        for name, scratch in list(self.scratch.items()):
            if self._random.random() < 0.5:
                del self.scratch[name]
            else:
                del scratch[self._random.randrange(len(scratch) + 1) :]
        for data in self.named.values():
            if not data.is_durable:
                del data[self._random.randrange(len(data) + 1) :]
        for name, data in self._removed.items():
            if self._random.random() < 0.5:
                self.named[name] = data
        self._removed.clear()


class DiskJournal:
    """The file of a journal. What was not synced may be there after a power cut, or not, or in part: each write for itself; and
    what was only staged after a kill. A sync is one of the bytes that it is asked for, and of no others.
    """

    def __init__(self, random: Random, size: int = JOURNAL_BYTES) -> None:
        self.name = "the journal"
        self.data = bytearray(size)
        self._random = random
        self._durable = bytearray(size)
        self._unsynced: list[tuple[int, bytes]] = []
        self._staged: list[tuple[int, bytes]] = []

    def read(self) -> bytes:
        """Who staged something before is dead."""
        staged, self._staged = self._staged, []
        for at, data in staged:
            self.write(at, data[: self._random.choice([0, self._random.randrange(len(data)), len(data)])])
        return bytes(self.data)

    def write(self, at: int, data: bytes) -> None:
        self._unsynced.append((at, data))
        self._put(at, data)

    def stage(self, at: int, data: bytes) -> None:
        self._staged.append((at, data))

    def sync(self, start: int, end: int) -> None:
        staged, self._staged = self._staged, []
        for at, data in staged:
            self.write(at, data)
        self._durable[start:end] = self.data[start:end]
        around = [
            piece
            for at, data in self._unsynced
            for piece in ((at, data[: max(0, start - at)]), (max(at, end), data[max(0, end - at) :]))
        ]
        self._unsynced = [(at, data) for at, data in around if data]

    def order(self, start: int, end: int) -> None:
        return None

    def sync_all(self) -> None:
        """As an opening does."""
        self.sync(0, len(self.read()))

    def close(self) -> None:
        pass

    def power_cut(self) -> None:
        """Lose what a power cut may take."""
        self.data[:] = self._durable
        unsynced, self._unsynced, self._staged = self._unsynced + self._staged, [], []
        for at, data in unsynced:
            if self._random.random() < 0.5:
                self._put(at, data)
            elif self._random.random() < 0.5:
                self._put(at, data[: self._random.randrange(len(data) + 1)])
        self.sync_all()

    def _put(self, at: int, data: bytes) -> None:
        assert at + len(data) <= len(self.data)
        self.data[at : at + len(data)] = data


class _FailingJournal(DiskJournal):
    """It is on a disk whose next write can be made to go wrong."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.random)
        self._disk = disk

    def write(self, at: int, data: bytes) -> None:
        failure = self._disk.take_failure()
        if failure is None:
            super().write(at, data)
            return
        super().write(at, data[: self._random.randrange(len(data) + 1)])
        raise failure


class Disk(MemoryStore):
    """A store, its journal and files, that one process at a time may open, and whose next write can be made to go wrong."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.files = DiskFiles(random)
        self.journal = _FailingJournal(self)
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
        """The store behind its journal, as a worker opens it; nothing goes wrong meanwhile."""
        self._is_mostly_synced = mostly_synced
        failure = self.take_failure()
        self.settle_down()
        store = JournaledStore(self, Journal(self.journal, JOURNAL_BYTES), mostly_synced=mostly_synced)
        self.failure = failure
        return store

    def settle_down(self) -> None:
        """Make everything written so far survive a power cut."""
        super().sync()
        self.journal.sync_all()

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
        self.journal.power_cut()


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
