"""A journal that cannot be synced when somebody only reads: the store is opened anew, and nothing is taken for durable."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from holdall import protocol
from holdall.errors import StorageError
from holdall.protocol import Request
from holdall.slots import SLOTS, part_hash
from holdall.worker.core import Worker
from holdall.worker.journal import Journal
from holdall.worker.journaled import JournaledStore
from holdall.worker.store import MemoryStore
from holdall.worker.transaction import CommitFailed, format_store
from tests.simulation.disk import DiskJournal

SIZE = 1024


class Unsyncable(DiskJournal):
    """A journal whose syncs can be made to fail."""

    fails = False

    def sync(self, start: int, end: int) -> None:
        if self.fails:
            raise StorageError("no sync")
        super().sync(start, end)


@pytest.mark.parametrize("reads", ["a scan", "a snapshot", "an end in order"])
def test_who_needs_the_store_and_finds_that_its_journal_cannot_be_synced_is_told_so(reads: str) -> None:
    file, below = Unsyncable(Random(1), SIZE), MemoryStore()
    store = JournaledStore(below, Journal(file, SIZE), mostly_synced=True)
    format_store(store)
    worker = Worker(store, 0, 1, sync=True)
    worker.flush()
    store.write({b"T" + b"t" * 21: b"12345678"}, False)  # as a touch, for which nobody waits
    read: dict[str, Callable[[], object]] = {
        "a scan": lambda: list(worker._transaction.scan(b"E", b"E")),
        "a snapshot": lambda: worker.sweep(1_001.0),
        "an end in order": worker.sync_store,
    }
    if reads == "a snapshot":
        request = Request(protocol.SNAPSHOT, 0, part_hash(0, SLOTS), b"s" * 16, 1, 1, b"d" * 16, b"a snapshot's id.", b"")
        worker._snapshots.handlers[protocol.SNAPSHOT](worker._transaction, request)
    file.fails = True
    with pytest.raises(CommitFailed, match="no sync"):
        read[reads]()
