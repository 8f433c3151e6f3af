"""A disk with a store and its journal, whose writes can be interrupted, for the tests of both."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import event

from holdall.errors import StorageError
from holdall.worker.journal import Journal
from holdall.worker.journaled import JournaledStore
from holdall.worker.store import Changes, MemoryStore, Store
from tests.simulation.disk import DiskJournal, kept_by_a_power_cut

Rows = dict[bytes, bytes]
SIZE = 1024
"""Of a small journal, whose records have at most a quarter of it."""


def rows_in(store: Store) -> Rows:
    return dict(store.scan(b""))


def changed(before: Rows, changes: Any) -> Rows:
    return {row: value for row, value in {**before, **changes}.items() if value is not None}


class Interrupted(MemoryStore):
    """A store whose next write can be interrupted: all of it is there, or nothing, and it is not synced."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.is_next = False
        self._random = random

    def write(self, changes: Changes, sync: bool) -> None:
        if not self.is_next:
            super().write(changes, sync)
            return
        self.is_next = False
        if self._random.random() < 0.5:
            super().write(changes, False)
        raise StorageError("killed")


class Machine:
    """A disk with a store and its journal, and what a client knows: the states after each write, and which was synced."""

    def __init__(self, random: Random, *, mostly_synced: bool = True) -> None:
        self.random = random
        self.mostly_synced = mostly_synced
        self.below, self.file = Interrupted(random), DiskJournal(random, SIZE)
        self.states: list[Rows] = [{}]
        self.synced = 0
        self.opens = 0
        self.put_off: Callable[[], None] | None = None
        self.open()

    def open(self) -> None:
        self.opens += 1
        self.put_off = None
        self.store = JournaledStore(self.below, Journal(self.file, SIZE), mostly_synced=self.mostly_synced)

    def write(self, changes: Any, sync: bool) -> None:
        self.store.write(changes, sync)
        self.states.append(changed(self.states[-1], changes))
        if sync:
            self.synced = len(self.states) - 1

    def begin_write(self, changes: Any, sync: bool) -> None:
        self.store.prepare(changes, sync)
        self.states.append(changed(self.states[-1], changes))

    def settle(self, *, rows: int, at_once: bool = True) -> None:
        self.put_off = self.store.settle(rows) or self.put_off
        if at_once:
            self.carry_out()

    def carry_out(self) -> None:
        put_off, self.put_off = self.put_off, None
        if put_off is not None:
            put_off()

    def kill(self) -> None:
        self.open()
        assert rows_in(self.store) == self.states[-1]

    def kill_while_it_is_written(self) -> None:
        """The last write, which was only begun, may be there or not."""
        self.open()
        found = rows_in(self.store)
        assert found in self.states[-2:]
        self.states.append(found)

    def kill_while_it_is_opened(self) -> None:
        self.below.is_next = True
        with pytest.raises(StorageError, match="killed"):
            self.open()

    def power_cut(self) -> None:
        """The store keeps any number of the first unsynced batches in each log, the journal any part of any unsynced write."""
        self.below.crash(*kept_by_a_power_cut(self.random, self.below.unsynced, mostly_synced=self.mostly_synced))
        self.file.power_cut()
        self.open()
        found = rows_in(self.store)
        assert found in self.states[self.synced :], "it is no state since the last sync"
        event(f"lost {len(self.states) - 1 - self.states.index(found, self.synced)} writes"[:12])
        self.states, self.synced = [found], 0
