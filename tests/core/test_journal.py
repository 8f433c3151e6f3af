"""The journal: whatever is killed, and whatever a power cut takes, what was synced is there, in order and once."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdall import protocol
from holdall.bodies import PageRequest, Registration, encode
from holdall.errors import StorageError
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS, dict_crc, key_hash, part_hash
from holdall.worker.core import Worker
from holdall.worker.journal import Journal, Position, unpack_position
from holdall.worker.message import Message
from holdall.worker.rows import JOURNAL_ROW
from holdall.worker.store import Syncing
from holdall.worker.transaction import CommitFailed, format_store
from tests.core.journal_machine import SIZE, Machine, rows_in
from tests.simulation.disk import DiskJournal

few_rows = st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(min_size=1, max_size=3), max_size=3)
large_rows = st.dictionaries(st.just(b"d"), st.binary(min_size=300, max_size=300), min_size=1)
writes = st.tuples(st.just("write"), few_rows | large_rows, st.booleans())
interrupted = st.tuples(st.sampled_from(["kill while it is written", "power cut while it is written"]), few_rows, st.booleans())
steps = (
    writes
    | interrupted
    | st.tuples(
        st.sampled_from(["settle", "what is put off", "scan", "another log", "kill", "kill while it is opened", "power cut"]),
        st.none(),
        st.none(),
    )
)


@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=40), st.randoms(use_true_random=False), st.booleans())
def test_what_was_synced_survives_and_what_is_there_is_what_was_written_up_to_some_moment(
    plan: Any, random: Random, mostly_synced: bool
) -> None:
    machine = Machine(random, mostly_synced=mostly_synced)
    for kind, changes, sync in plan:
        if kind == "write":
            machine.write(changes, sync)
            assert {row: machine.store.get(row) for row in changes} == changes
            assert machine.store.get_all([b"a", b"b", b"d"]) == [machine.states[-1].get(row) for row in (b"a", b"b", b"d")]
        elif kind == "kill while it is written":
            machine.begin_write(changes, sync)
            machine.kill_while_it_is_written()
        elif kind == "power cut while it is written":
            machine.begin_write(changes, sync)
            machine.power_cut()
        elif kind == "settle":
            machine.settle(rows=2, at_once=random.random() < 0.5)
        elif kind == "what is put off":
            machine.carry_out()
        elif kind == "scan":
            assert rows_in(machine.store) == machine.states[-1]
        elif kind == "another log":
            machine.below.begin_log()
        elif kind == "kill":
            machine.kill()
        elif kind == "kill while it is opened":
            machine.kill_while_it_is_opened()
            if random.random() < 0.5:
                machine.power_cut()
            else:
                machine.kill()
        else:
            machine.power_cut()
    machine.power_cut()


def test_a_record_is_not_taken_for_the_next_one_when_its_predecessor_was_torn() -> None:
    machine = Machine(Random(1))
    for value in (b"1", b"2", b"3"):
        machine.write({b"a": value}, False)
    machine.below.crash()
    first = bytes(machine.file.data)
    machine.file.data[46] ^= 1  # the last one of the first record
    machine.open()
    assert rows_in(machine.store) == {}
    machine.write({b"a": b"x"}, True)  # as long as the first one: the second one of before stands right behind it
    assert first[47:94] == machine.file.data[47:94]
    machine.below.crash()
    machine.open()
    assert rows_in(machine.store) == {b"a": b"x"}


def test_a_large_batch_goes_to_the_store_with_what_it_lacks() -> None:
    machine = Machine(Random(1))
    machine.write({b"a": b"1"}, True)
    machine.write({b"large": b"v" * SIZE}, False)
    assert dict(machine.below.scan(b"")).keys() == {b"a", b"large", JOURNAL_ROW}
    assert b"v" * 20 not in machine.file.data
    machine.below.write({b"a": b"read from the store"}, True)
    assert machine.store.get(b"a") == b"read from the store"


def test_a_full_journal_is_used_from_the_start_once_the_store_is_synced() -> None:
    machine = Machine(Random(1))
    for number in range(100):
        machine.write({b"a": b"%03d" % number}, False)
        machine.file.sync_all()
        position = machine.store._journal.position
        if position.at == 0:
            assert not machine.below.unsynced
            break
    else:
        pytest.fail("it was never full")
    assert number > 5


@pytest.fixture
def kept() -> tuple[Machine, list[tuple[int, int]]]:
    """A machine with some records that its store lacks, all synced, and where each begins and ends."""
    machine, places = Machine(Random(1)), list[tuple[int, int]]()
    for number in range(6):
        begin = machine.store._journal.position.at
        machine.write({b"a": b"%d" % number, b"row%d" % number: b"v"}, True)
        places.append((begin, machine.store._journal.position.at))
    return machine, places


def test_a_changed_byte_in_any_record_but_the_last_is_refused(kept: tuple[Machine, list[tuple[int, int]]]) -> None:
    machine, places = kept
    whole = bytes(machine.file.data)
    for position in range(places[-1][0]):
        machine.file.data[:] = whole
        machine.file.data[position] ^= 1 << position % 8
        record = 1 + sum(end <= position for _, end in places)
        begin = places[record - 1][0]
        with pytest.raises(StorageError, match=f"the journal is damaged at byte {begin}: record {record} should be there"):
            machine.open()
    machine.file.data[:] = whole
    machine.kill()


def test_a_changed_byte_in_the_last_record_is_like_a_power_cut(kept: tuple[Machine, list[tuple[int, int]]]) -> None:
    machine, places = kept
    machine.file.data[places[-1][1] - 1] ^= 1
    machine.open()
    assert rows_in(machine.store) == machine.states[-2]


def test_a_changed_byte_in_what_the_store_has_is_harmless(kept: tuple[Machine, list[tuple[int, int]]]) -> None:
    machine, _ = kept
    machine.settle(rows=1)
    machine.write({b"z": b"1"}, True)
    machine.file.data[10] ^= 1
    machine.open()
    assert rows_in(machine.store) == machine.states[-1]


def test_a_store_that_has_lost_what_once_was_durable_in_it_is_refused() -> None:
    machine = Machine(Random(1))
    machine.write({b"a": b"1"}, True)
    machine.settle(rows=1)
    before = dict(machine.below.scan(b""))
    machine.write({b"large": b"v" * SIZE}, True)
    machine.write({b"a": b"2"}, False)
    machine.write({b"a": b"3"}, False)
    machine.below.write({b"large": None, **before}, True)  # as if its log had been removed
    with pytest.raises(StorageError, match="record 2 should be there"):
        machine.open()


@pytest.mark.parametrize("reads", ["a page", "a sweep that takes a snapshot", "a tick that takes a snapshot"])
def test_what_reads_the_store_itself_and_finds_that_it_cannot_be_written_has_it_opened_anew(reads: str) -> None:
    machine, dict_id = Machine(Random(1)), b"d" * 16
    format_store(machine.store)
    worker = Worker(machine.store, 0, 1, sync=True)

    def ask(sequence: int, opcode: int, key: bytes = b"", value: bytes = b"") -> Reply:
        hash_ = part_hash(0, SLOTS) if opcode in protocol.PARTS else key_hash(dict_crc(dict_id), key)
        request = Request(opcode, 0, hash_, b"s" * 16, sequence, sequence, dict_id, key, value)
        [answer] = worker.tick([Message("socket", b"", *protocol.pack_request(request))], 1_000.0)  # type: ignore[arg-type]
        return protocol.parse_reply(*answer.frames)  # type: ignore[arg-type]

    ask(1, protocol.REGISTER, value=encode(Registration()))
    ask(2, protocol.PUT, b"sk", b"v")
    if reads != "a page":
        ask(3, protocol.SNAPSHOT, b"a snapshot's id.")
    read: dict[str, Callable[[], object]] = {
        "a page": lambda: ask(4, protocol.PAGE, value=encode(PageRequest(b"", 10))),
        "a sweep that takes a snapshot": lambda: worker.sweep(1_001.0),
        "a tick that takes a snapshot": lambda: ask(4, protocol.GET, b"sk"),
    }
    machine.below.is_next = True
    with pytest.raises(CommitFailed):
        read[reads]()
    machine.open()
    worker = Worker(machine.store, 0, 1, sync=True)
    assert ask(5, protocol.GET, b"sk").payload == b"v"


@pytest.mark.parametrize("openings", [1, 2])
def test_a_store_that_has_lost_what_was_written_since_it_was_opened_is_refused(openings: int) -> None:
    machine = Machine(Random(1))
    for number in range(openings):
        before = dict(machine.below.scan(b"")) if number else {JOURNAL_ROW: None}
        machine.write({b"a": b"%d" % number}, True)
        machine.kill()
    machine.write({b"a": b"last"}, True)
    machine.below.write(before, True)
    with pytest.raises(StorageError, match="the journal goes with a store that has lost what was written since it was opened"):
        machine.open()


@pytest.mark.parametrize("data", [b"", b"?", b"?" * 31, b"?" * 33])
def test_a_position_that_is_none_is_refused(data: bytes) -> None:
    machine = Machine(Random(1))
    machine.below.write({JOURNAL_ROW: data}, True)
    with pytest.raises(StorageError, match=f"position in its journal is damaged: it has {len(data)} bytes"):
        machine.open()


@given(st.builds(Position, st.binary(min_size=16, max_size=16), *[st.integers(0, 2**64 - 1)] * 3))
def test_a_position_survives_packing_and_one_beyond_the_file_finds_nothing(position: Position) -> None:
    assert unpack_position(position.pack()) == position
    assert Journal(DiskJournal(Random(1), SIZE), SIZE).read_from(position) == []


def test_a_store_of_the_version_before_is_given_what_comes_after_its_position(
    kept: tuple[Machine, list[tuple[int, int]]],
) -> None:
    machine, places = kept
    machine.below.write({b"a": b"2", b"row2": None}, True)  # which the record before its position could give it again
    epoch, *_ = machine.store._journal.position
    machine.below.write({JOURNAL_ROW: epoch + (3).to_bytes(8, "little") + places[2][1].to_bytes(8, "little")}, True)
    machine.open()
    assert rows_in(machine.store) == {b"a": b"5", b"row3": b"v", b"row4": b"v", b"row5": b"v"}


@pytest.mark.parametrize("is_used_again", [False, True])
def test_what_a_log_has_lost_is_given_again_though_a_later_log_was_kept(is_used_again: bool) -> None:
    machine = Machine(Random(1))
    while is_used_again and (not machine.store._journal.position.number or not machine.store._journal.is_empty):
        machine.write({b"z": b"0"}, True)
    machine.write({b"a": b"1"}, True)
    machine.settle(rows=1)
    machine.below.begin_log()
    machine.write({b"b": b"2"}, True)
    machine.settle(rows=1)
    machine.below.crash(0, 1)
    assert rows_in(machine.below).keys() - {b"z"} == {b"b", JOURNAL_ROW}
    machine.file.power_cut()
    machine.open()
    assert rows_in(machine.store) == machine.states[-1]


def test_what_is_to_be_synced_is_written_with_that_sync_and_only_once() -> None:
    machine = Machine(Random(1))
    end = 0
    for value in (b"first", b"second"):
        syncing = machine.store.prepare({b"a": value}, True)
        assert value not in machine.file.data
        assert isinstance(syncing, Syncing)
        assert syncing.start == end
        syncing()
        assert value in machine.file.data
        end = syncing.end


def test_a_write_of_no_changes_is_not_missed_when_what_went_past_it_is_lost() -> None:
    machine = Machine(Random(1), mostly_synced=False)
    machine.write({}, True)
    machine.write({b"large": b"v" * SIZE}, False)
    machine.write({b"a": b"1"}, False)
    machine.file.sync_all()
    machine.below.crash()
    machine.open()
    assert rows_in(machine.store) in machine.states


@pytest.mark.parametrize("sync", [False, True])
def test_nothing_goes_past_a_journal_before_the_store_keeps_what_is_in_it(sync: bool) -> None:
    machine = Machine(Random(1), mostly_synced=False)
    machine.write({b"a": b"1"}, True)
    machine.settle(rows=1)
    machine.below.begin_log()
    machine.write({b"large": b"v" * SIZE}, sync)
    machine.below.crash()
    machine.file.power_cut()
    machine.open()
    assert rows_in(machine.store).get(b"a") == b"1"
    assert (b"large" in rows_in(machine.store)) == sync


def test_a_record_whose_changes_are_none_is_refused() -> None:
    machine = Machine(Random(1))
    position = unpack_position(machine.below.get(JOURNAL_ROW) or b"")
    assert machine.store._journal.add({b"a": 1}, False)  # type: ignore[dict-item]
    with pytest.raises(StorageError, match="the journal is damaged: record 1 at byte 0: "):
        Journal(machine.file, SIZE).read_from(position)
