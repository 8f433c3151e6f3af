"""What a store behind a journal is given later, by a thread: what is read meanwhile, and what is given when."""

from __future__ import annotations

from random import Random
from threading import Event, Thread

from holdall.worker.journal import Journal, unpack_position
from holdall.worker.journaled import JournaledStore
from holdall.worker.rows import JOURNAL_ROW
from holdall.worker.store import Changes, MemoryStore
from tests.core.journal_machine import SIZE, Machine, rows_in
from tests.simulation.disk import DiskJournal


def test_nothing_is_settled_before_so_many_rows_are_there_and_then_each_row_once() -> None:
    machine = Machine(Random(1))
    for number in range(4):
        machine.write({b"counter": b"%d" % number, b"row%d" % number: b"v"}, True)
    machine.settle(rows=6)
    assert [row for row, _ in machine.below.scan(b"")] == [JOURNAL_ROW]
    machine.settle(rows=5)
    assert machine.below.get(b"counter") == b"3"
    assert unpack_position(machine.below.get(JOURNAL_ROW) or b"").number == 4


def test_of_a_row_the_newest_is_read_while_an_older_one_is_on_its_way_to_the_store() -> None:
    machine = Machine(Random(1))
    machine.write({b"a": b"1", b"b": b"1", b"c": None}, True)
    machine.settle(rows=1, at_once=False)
    assert machine.store.settle(rows=1) is None
    machine.write({b"a": b"2"}, True)
    for _ in range(2):
        assert machine.store.get_all([b"b", b"d"]) == [b"1", None]
        assert [machine.store.get(row) for row in (b"a", b"b", b"c")] == [b"2", b"1", None]
        machine.carry_out()
    assert machine.below.get_all([b"a", b"b"]) == [b"1", b"1"]
    assert rows_in(machine.store) == machine.states[-1]


def test_a_scan_finds_what_is_on_its_way_to_the_store_and_a_thread_that_comes_later_changes_nothing() -> None:
    machine = Machine(Random(1))
    machine.write({b"a": b"1"}, True)
    machine.settle(rows=1, at_once=False)
    assert rows_in(machine.store) == {b"a": b"1"}
    machine.write({b"a": b"2"}, True)
    assert rows_in(machine.store) == {b"a": b"2"}
    machine.carry_out()
    assert rows_in(machine.below)[b"a"] == b"2"


def test_a_store_that_is_given_up_is_given_nothing_afterwards() -> None:
    machine = Machine(Random(1))
    machine.write({b"a": b"1"}, True)
    machine.settle(rows=1, at_once=False)
    machine.store.close()
    machine.carry_out()
    assert rows_in(machine.below).keys() == {JOURNAL_ROW}
    machine.kill()


def test_a_store_is_not_given_up_in_the_middle_of_a_write_of_a_thread() -> None:
    class Slow(MemoryStore):
        def write(self, changes: Changes, sync: bool) -> None:
            if b"a" in changes:
                entered.set()
                assert goes_on.wait(10)
                happened.append("written")

        def close(self) -> None:
            happened.append("closed")

    entered, goes_on, happened = Event(), Event(), list[str]()
    store = JournaledStore(Slow(), Journal(DiskJournal(Random(1), SIZE), SIZE), mostly_synced=False)
    store.write({b"a": b"1"}, False)
    put_off = store.settle(rows=1)
    assert put_off is not None
    threads = [Thread(target=put_off), Thread(target=store.close)]
    for thread in threads:
        thread.start()
        assert entered.wait(10)
    threads[1].join(0.05)
    goes_on.set()
    for thread in threads:
        thread.join(10)
    assert happened == ["written", "closed"]


def test_what_was_not_synced_is_not_given_to_a_store_whose_writes_mostly_are() -> None:
    machine = Machine(Random(1))
    machine.write({b"a": b"1"}, False)
    machine.settle(rows=1)
    assert rows_in(machine.below).keys() == {JOURNAL_ROW}
    machine.write({b"b": b"2"}, True)
    machine.settle(rows=1)
    assert rows_in(machine.below).keys() == {b"a", b"b", JOURNAL_ROW}
    machine.write({b"c": b"3"}, False)
    machine.store.snapshot().close()  # for which the store must have it
    assert machine.store._journal.is_durable
