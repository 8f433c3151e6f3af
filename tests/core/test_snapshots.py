"""A worker's snapshots: what is in them, what waits while they are held, and when a hold or a snapshot ends by itself."""

from __future__ import annotations

from zlib import crc32

import pytest

from holdall import protocol
from holdall.bodies import RowsPage, RowsRequest, decode, encode
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS, dict_crc, key_hash, part_hash
from holdall.worker.core import Worker
from holdall.worker.handlers import snapshots
from holdall.worker.handlers.snapshots import HOLD_SECONDS_MAX, PAGE_BYTES_MAX, SNAPSHOT_SECONDS, SNAPSHOTS_MAX
from holdall.worker.message import Answer, Message
from holdall.worker.state.transaction import format_store
from holdall.worker.store.rows import LAST_ROW, TOUCH_PREFIX, entry_prefix
from tests.memory_files import MemoryFiles
from tests.memory_store import MemoryStore
from tests.nowhere import NOWHERE
from tests.registration import registration

DICT = b"d" * 16
SNAPSHOT_ID = b"snapshot's id..."
OTHER_ID = b"another's id...."


class Driver:
    """A worker over a store in memory; the sequence number of each request tells its answer."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        format_store(self.store)
        self.worker = Worker(self.store, 0, 1, sync=True, files=MemoryFiles())
        self.now = 1_000_000.0
        self.sequence = 0
        self.ask(protocol.REGISTER, value=registration(DICT))

    def message(self, opcode: int, key: bytes = b"", value: bytes = b"") -> Message:
        self.sequence += 1
        hash_ = part_hash(0, SLOTS) if opcode in protocol.PARTS else key_hash(dict_crc(DICT), key)
        request = Request(opcode, 0, hash_, b"s" * 16, self.sequence, self.sequence, DICT, key, value)
        return Message(NOWHERE, b"\0route", *protocol.pack_request(request))  # type: ignore[arg-type]

    def tick(self, *messages: Message) -> list[Reply]:
        return [replied(answer) for answer in self.worker.tick(messages, self.now)]

    def ask(self, opcode: int, key: bytes = b"", value: bytes = b"") -> Reply:
        [reply] = self.tick(self.message(opcode, key, value))
        return reply

    def put(self, key: bytes) -> Message:
        return self.message(protocol.PUT, key, b"v")

    def wait(self, seconds: float) -> None:
        """Let time pass, as the loop does: it looks twice a second."""
        for _ in range(int(seconds / 0.5) + 1):
            self.now += 0.5
            self.worker.sweep(self.now)

    def page(self, after: bytes = b"", crc: int = 0, of: bytes = SNAPSHOT_ID) -> RowsPage:
        reply = self.ask(protocol.ROWS, of, encode(RowsRequest(after, crc)))
        assert reply.status == protocol.OK
        return decode(RowsPage, reply.payload)

    def keys(self, of: bytes = SNAPSHOT_ID) -> list[bytes]:
        """The keys of the entries in a snapshot."""
        prefix = entry_prefix(DICT, 0)
        rows = decode(list[tuple[bytes, bytes]], self.page(of=of).rows)
        return [row[len(prefix) :] for row, _value in rows if row.startswith(prefix)]


def replied(answer: Answer) -> Reply:
    return protocol.parse_reply(*answer.frames)  # type: ignore[arg-type]


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_snapshot_has_all_of_its_tick_and_nothing_later(driver: Driver) -> None:
    driver.tick(driver.put(b"sa"), driver.message(protocol.SNAPSHOT, SNAPSHOT_ID), driver.put(b"sb"))
    assert driver.ask(protocol.RELEASE, SNAPSHOT_ID).status == protocol.OK
    driver.tick(driver.put(b"sc"), driver.message(protocol.POP, b"sa"))
    assert driver.keys() == [b"sa", b"sb"]


def test_what_is_swept_after_a_snapshot_was_asked_for_is_in_it(driver: Driver) -> None:
    driver.tick(driver.put(b"sa"))
    driver.tick(driver.message(protocol.CLEAR), driver.message(protocol.SNAPSHOT, SNAPSHOT_ID))
    driver.worker.sweep(driver.now)
    assert driver.keys() == [b"sa"]


def test_writes_wait_for_the_release_and_reads_do_not(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    first, get, second = driver.put(b"sa"), driver.message(protocol.GET, b"sa"), driver.put(b"sb")
    [reply] = driver.tick(first, get, second)
    assert (reply.status, reply.sequence) == (protocol.MISSING, protocol.sequence_of(get.head))
    assert not driver.worker.resumes
    release, third = driver.message(protocol.RELEASE, SNAPSHOT_ID), driver.put(b"sc")
    answered = [reply.sequence for reply in driver.tick(release, third)]
    assert answered == [protocol.sequence_of(each.head) for each in (release, first, second, third)]
    assert driver.keys() == []


def test_a_batch_with_a_write_in_it_waits(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    reads = encode([driver.message(protocol.GET, b"sa").head])
    mixed = encode([driver.message(protocol.GET, b"sa").head, driver.put(b"sa").head])
    assert len(driver.tick(driver.message(protocol.BATCH, b"", reads), driver.message(protocol.BATCH, b"", mixed))) == 1
    assert len(driver.tick(driver.message(protocol.RELEASE, SNAPSHOT_ID))) == 2


def test_nothing_is_swept_while_writes_wait(driver: Driver) -> None:
    driver.tick(driver.put(b"sa"), driver.message(protocol.CLEAR), driver.message(protocol.SNAPSHOT, SNAPSHOT_ID))
    before = list(driver.store.scan(b""))
    assert not driver.worker.sweep(driver.now)
    assert list(driver.store.scan(b"")) == before
    driver.ask(protocol.RELEASE, SNAPSHOT_ID)
    driver.worker.sweep(driver.now)
    assert len(list(driver.store.scan(b""))) < len(before)


def test_a_hold_that_nobody_releases_ends_and_the_release_says_so(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    assert driver.tick(driver.put(b"sa")) == []
    driver.wait(HOLD_SECONDS_MAX)
    assert driver.worker.resumes
    [reply] = driver.tick()
    assert (reply.status, driver.worker.resumes) == (protocol.OK, False)
    assert driver.ask(protocol.RELEASE, SNAPSHOT_ID).status == protocol.MISSING
    assert driver.ask(protocol.GET, b"sa").status == protocol.OK


def test_a_clock_that_jumps_back_does_not_prolong_a_hold(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    driver.tick(driver.put(b"sa"))
    driver.now -= 86_400
    driver.wait(HOLD_SECONDS_MAX + 0.5)
    assert driver.worker.resumes


@pytest.mark.parametrize("bound", ["HELD_MESSAGES_MAX", "HELD_BYTES_MAX"])
def test_a_hold_ends_when_too_much_waits(driver: Driver, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(snapshots, bound, 2)
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    puts = [driver.put(b"s%d" % number) for number in range(4)]
    assert [reply.sequence for reply in driver.tick(*puts)] == [protocol.sequence_of(each.head) for each in puts]
    assert driver.ask(protocol.RELEASE, SNAPSHOT_ID).status == protocol.MISSING


def test_a_release_that_is_sent_again_gets_the_same_answer_and_a_snapshot_does_not_hold_twice(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    for _ in range(2):
        assert driver.ask(protocol.RELEASE, SNAPSHOT_ID).status == protocol.OK
        assert driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID).status == protocol.OK
        assert driver.ask(protocol.PUT, b"sa", b"v").status == protocol.OK
    assert driver.keys() == []


def test_two_backups_at_once_each_hold_until_their_own_release(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    driver.ask(protocol.SNAPSHOT, OTHER_ID)
    assert driver.tick(driver.put(b"sa")) == []
    assert len(driver.tick(driver.message(protocol.RELEASE, SNAPSHOT_ID))) == 1
    assert len(driver.tick(driver.message(protocol.RELEASE, OTHER_ID))) == 2
    assert driver.keys() == driver.keys(OTHER_ID) == []


def test_a_backup_that_is_given_up_holds_nothing_back(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    driver.tick(driver.put(b"sa"))
    assert len(driver.tick(driver.message(protocol.DISCARD, SNAPSHOT_ID))) == 2
    assert driver.ask(protocol.ROWS, SNAPSHOT_ID, encode(RowsRequest(b"", 0))).status == protocol.MISSING


def test_a_snapshot_that_nobody_asks_for_is_given_up(driver: Driver) -> None:
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    driver.ask(protocol.RELEASE, SNAPSHOT_ID)
    driver.wait(SNAPSHOT_SECONDS - 5)
    driver.page()
    driver.wait(SNAPSHOT_SECONDS - 5)
    driver.page()
    driver.wait(SNAPSHOT_SECONDS)
    assert driver.ask(protocol.ROWS, SNAPSHOT_ID, encode(RowsRequest(b"", 0))).status == protocol.MISSING
    assert driver.ask(protocol.RELEASE, SNAPSHOT_ID).status == protocol.MISSING


def test_the_number_of_snapshots_is_bounded(driver: Driver) -> None:
    ids = [b"%016d" % number for number in range(SNAPSHOTS_MAX + 1)]
    statuses = [driver.ask(protocol.SNAPSHOT, each).status for each in ids]
    assert statuses == [protocol.OK] * SNAPSHOTS_MAX + [protocol.INVALID]
    driver.ask(protocol.DISCARD, ids[0])
    assert driver.ask(protocol.SNAPSHOT, ids[-1]).status == protocol.OK


@pytest.mark.parametrize("snapshot_id", [b"", b"x" * 15, b"x" * 17])
def test_what_is_no_id_is_malformed(driver: Driver, snapshot_id: bytes) -> None:
    assert driver.ask(protocol.SNAPSHOT, snapshot_id).status == protocol.MALFORMED


def test_pages_have_every_row_once_in_order_and_a_running_checksum(driver: Driver) -> None:
    sizes = [10, PAGE_BYTES_MAX, 10, 10, PAGE_BYTES_MAX * 3, *[100] * 2_500]
    for number, size in enumerate(sizes):
        driver.ask(protocol.PUT, b"s%04d" % number, bytes(size))
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    expected = [(row, value) for row, value in driver.store.scan(b"") if not row.startswith(b"S")]
    driver.ask(protocol.RELEASE, SNAPSHOT_ID)
    found, crc, after, more = list[tuple[bytes, bytes]](), 0, b"", True
    while more:
        page = driver.page(after, crc)
        rows = decode(list[tuple[bytes, bytes]], page.rows)
        assert len(rows) == page.count == 1 or len(page.rows) < PAGE_BYTES_MAX * 1.2
        crc = crc32(page.rows, crc)
        assert (page.crc, page.last) == (crc, rows[-1][0])
        found += rows
        after, more = page.last, page.more
    assert found == expected


def test_a_store_that_ends_too_early_is_an_error_and_no_short_backup(driver: Driver) -> None:
    driver.store.write({LAST_ROW: None}, True)
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    driver.ask(protocol.RELEASE, SNAPSHOT_ID)
    reply = driver.ask(protocol.ROWS, SNAPSHOT_ID, encode(RowsRequest(b"", 0)))
    assert (reply.status, b"ends before" in bytes(reply.payload)) == (protocol.STORAGE, True)


@pytest.mark.parametrize("touched", [False, True])
def test_no_row_of_a_snapshot_tells_a_session_or_an_outcome(driver: Driver, touched: bool) -> None:
    """Who knows a session's id can speak for it, and an outcome may be a value."""
    driver.tick(driver.put(b"sa"), driver.message(protocol.PUT, b"sb", b"v" * 5_000))
    driver.tick(driver.message(protocol.POP, b"sb"))
    if touched:
        driver.store.write({TOUCH_PREFIX + DICT + bytes(4) + b"sa": bytes(8)}, False)
    kept = dict(driver.store.scan(b""))
    assert {row[:1] for row in kept} >= {b"S", b"O"}
    driver.ask(protocol.SNAPSHOT, SNAPSHOT_ID)
    told: list[tuple[bytes, bytes]] = []
    after, crc, more = b"", 0, True
    while more:
        page = driver.page(after, crc)
        told += decode(list[tuple[bytes, bytes]], page.rows)
        after, crc, more = page.last, page.crc, page.more
    assert dict(told).keys() == {row for row in kept if row[:1] not in (b"S", b"O")}
    session = next(row for row in kept if row.startswith(b"S"))[1:]
    assert not any(session in row + value for row, value in told)
