"""The life of a blob at a worker: uploaded, sealed, owned, handed over, gone; and what is refused on the way."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from holdall import blob, protocol
from holdall.blob import Chunk, Reference
from holdall.bodies import Page, PageRequest, Update, decode, encode
from holdall.protocol import Reply, Request
from holdall.worker.large.files import Files
from holdall.worker.large.folder import Folder
from holdall.worker.state import blobs
from holdall.worker.state.blobs import ROOM_BYTES, UNFLUSHED_MAX
from tests.blob_driver import DICT, ID, OTHER, SESSION, VALUE, Driver
from tests.memory_files import MemoryFiles
from tests.processes import until


@pytest.fixture(params=["in memory", "on disk"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = MemoryFiles() if request.param == "in memory" else Folder(tmp_path / "blobs", sync=True)
    yield made
    made.close()


@pytest.fixture
def driver(files: Files) -> Driver:
    return Driver(files)


def gone(files: Files) -> None:
    """Wait until no file is left: a thread removes them."""
    until(lambda: not files.names())


def test_a_blob_is_read_as_it_was_written(driver: Driver) -> None:
    reference = driver.put()
    assert driver.ask(protocol.GET, b"sk").payload == reference
    assert driver.read() == VALUE
    assert driver.owned() == [ID]


def test_a_chunk_written_twice_changes_nothing(driver: Driver) -> None:
    driver.write()
    driver.write()
    driver.put()
    driver.write()  # late, of a blob that an entry has
    driver.wait(blobs.UPLOAD_IDLE_SECONDS)
    assert driver.read() == VALUE
    assert driver.files.names() == [ID]


def test_a_seal_is_answered_once_the_blob_is_sealed_and_every_time_it_is_asked(driver: Driver) -> None:
    driver.write()
    reference = Reference(ID, len(VALUE), crc32(VALUE)).pack()
    assert driver.send(protocol.SEAL, ID, reference) == []
    assert driver.ask(protocol.PUT, b"sk", reference).status == protocol.UNKNOWN_BLOB
    assert driver.later().status == protocol.OK
    assert driver.ask(protocol.SEAL, ID, reference).status == protocol.OK
    assert driver.ask(protocol.PUT, b"sk", reference).status == protocol.OK
    assert driver.ask(protocol.SEAL, ID, reference).status == protocol.OK


EXTREMES = (0, 1, blob.CHUNK_BYTES, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
OF_BLOBS = (
    protocol.READ_CHUNK,
    protocol.WRITE_CHUNK,
    protocol.MAKE_FILE,
    protocol.OPEN_FILE,
    protocol.SEAL,
    protocol.DROP_BLOB,
)


@pytest.mark.parametrize("opcode", [*OF_BLOBS, protocol.PUT])
def test_no_number_of_a_chunk_or_a_reference_ends_a_worker(driver: Driver, opcode: int) -> None:
    reference = driver.put()
    for blob_id in (ID, OTHER):
        for offset, size in product(EXTREMES, EXTREMES):
            about = Chunk(blob_id, offset, size).pack()
            for value in (b"", b"data", Reference(blob_id, size, offset % 2**32).pack()):
                for key in (about, blob_id, b"sother"):
                    driver.send(opcode, key, value)
    assert driver.ask(protocol.GET, b"sk").payload == reference
    assert driver.read() == VALUE


def test_two_who_seal_the_same_both_get_the_answer(driver: Driver) -> None:
    driver.write()
    reference = Reference(ID, len(VALUE), crc32(VALUE)).pack()
    driver.send(protocol.SEAL, ID, reference)
    driver.send(protocol.SEAL, ID, reference)
    assert driver.later(2) == Reply(protocol.OK, driver.sequence, 0, b"")


def test_what_is_not_what_was_meant_is_not_sealed(driver: Driver) -> None:
    driver.write()
    reference = Reference(ID, len(VALUE) - 1, crc32(VALUE)).pack()
    assert driver.ask(protocol.SEAL, ID, reference).status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.PUT, b"sk", reference).status == protocol.UNKNOWN_BLOB


def test_a_seal_with_another_checksum_than_before_is_refused(driver: Driver) -> None:
    driver.upload()
    reference = Reference(ID, len(VALUE), 1).pack()
    assert driver.ask(protocol.SEAL, ID, reference).status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.PUT, b"sk", reference).status == protocol.UNKNOWN_BLOB


def test_a_blob_belongs_to_one_entry(driver: Driver) -> None:
    reference = driver.put()
    assert driver.ask(protocol.PUT, b"sk2", reference).status == protocol.UNKNOWN_BLOB
    other = driver.upload(blob_id=OTHER)
    body = encode(Update([b"sa", b"sb"], [other, other]))
    assert driver.ask(protocol.PUT_MANY, b"", body).status == protocol.MALFORMED
    assert decode(int, driver.ask(protocol.LENGTH).payload) == 1


@pytest.mark.parametrize("how", ["replaced", "deleted", "cleared", "dropped", "popped and released", "popped and forgotten"])
def test_a_blob_that_nothing_refers_to_is_removed(driver: Driver, how: str) -> None:
    driver.put()
    if how == "replaced":
        driver.ask(protocol.PUT, b"sk", b"small")
    elif how == "deleted":
        driver.ask(protocol.POP, b"sk", flags=protocol.WITHOUT_VALUE)
    elif how == "cleared":
        driver.ask(protocol.CLEAR)
    elif how == "dropped":
        driver.ask(protocol.DROP)
    else:
        driver.ask(protocol.POP, b"sk")
        if how == "popped and released":
            driver.ask(protocol.DROP_BLOB, Chunk(ID, 0, 0).pack())
        else:
            driver.wait(blobs.HANDED_SECONDS)
    driver.wait(1)
    assert driver.owned() == []
    gone(driver.files)


def test_what_somebody_is_reading_can_be_read_on_when_it_is_replaced(driver: Driver) -> None:
    driver.put()
    driver.ask(protocol.GET, b"sk")
    driver.put(value=VALUE[::-1], blob_id=OTHER)
    driver.wait(1)
    assert driver.owned() == [OTHER]
    assert driver.read() == VALUE
    driver.wait(blobs.LENT_SECONDS)
    until(lambda: driver.files.names() == [OTHER])
    reply = driver.read()
    assert isinstance(reply, Reply)
    assert reply.status == protocol.UNKNOWN_BLOB


def test_a_retried_pop_gives_the_same_blob_even_after_a_restart(driver: Driver) -> None:
    reference = driver.put()
    sequence = driver.sequence + 1
    assert driver.ask(protocol.POP, b"sk", sequence=sequence).payload == reference
    driver = driver.reopened()
    driver.lowest = sequence
    driver.put(value=VALUE[::-1], blob_id=OTHER)
    assert driver.ask(protocol.POP, b"sk", sequence=sequence).payload == reference
    assert driver.read() == VALUE
    driver.ask(protocol.DROP_BLOB, Chunk(ID, 0, 0).pack())
    assert driver.owned() == [OTHER]


def test_nobody_releases_the_blob_of_an_entry(driver: Driver) -> None:
    driver.put()
    driver.ask(protocol.DROP_BLOB, Chunk(ID, 0, 0).pack())
    driver.wait(1)
    assert driver.read() == VALUE


@pytest.mark.parametrize("sealed", [False, True])
def test_an_upload_that_nobody_goes_on_with_is_dropped(driver: Driver, sealed: bool) -> None:
    if sealed:
        driver.upload()
    else:
        driver.write()
    driver.wait(blobs.UPLOAD_IDLE_SECONDS - 10)
    until(lambda: driver.files.names() == [ID])
    driver.wait(10)
    gone(driver.files)
    assert driver.ask(protocol.SEAL, ID, Reference(ID, len(VALUE), crc32(VALUE)).pack()).status == protocol.UNKNOWN_BLOB


@pytest.mark.parametrize("sealed", [False, True])
def test_an_upload_of_an_earlier_life_is_removed(driver: Driver, sealed: bool) -> None:
    driver.put(b"sother", blob_id=OTHER)
    if sealed:
        driver.upload()
    else:
        driver.write()
    again = driver.reopened()
    until(lambda: again.files.names() == [OTHER])
    assert again.read(OTHER) == VALUE
    reply = again.ask(protocol.WRITE_CHUNK, Chunk(ID, blob.CHUNK_BYTES, len(VALUE)).pack(), VALUE[blob.CHUNK_BYTES :])
    assert reply.status == protocol.UNKNOWN_BLOB


@pytest.mark.parametrize("after", [1, 2])
def test_an_upload_that_goes_on_behind_what_an_earlier_life_took_is_refused(driver: Driver, after: int) -> None:
    """Its first chunk may be sent again, to the worker that was started again, when the old one has answered others."""
    value = bytes(range(250)) * (3 * blob.CHUNK_BYTES // 250)
    driver.write(value)
    again = driver.reopened()
    for at in (0, after + 1):
        start = at * blob.CHUNK_BYTES
        key = Chunk(ID, start, len(value) + blob.CHUNK_BYTES).pack()
        reply = again.ask(protocol.WRITE_CHUNK, key, value[:250])
    assert reply.status == protocol.UNKNOWN_BLOB


def test_a_file_is_removed_only_when_its_removal_survives_a_power_cut() -> None:
    driver = Driver(MemoryFiles(), sync=False)
    driver.put()
    driver.worker.flush()
    driver.ask(protocol.PUT, b"sk", b"small")
    driver.wait(1)
    assert driver.files.names() == [ID]
    assert driver.worker.needs_flush(for_all=False)
    driver.store.crash()
    assert driver.reopened().read() == VALUE


def test_a_value_that_is_there_already_needs_no_blob(driver: Driver) -> None:
    driver.ask(protocol.PUT, b"sk", b"small")
    reply = driver.ask(protocol.PUT, b"sk", driver.upload(), protocol.SKIP_IF_EXISTS)
    assert reply.status == protocol.EXISTS
    body = encode(Update([b"sk"], [driver.upload(blob_id=OTHER)]))
    assert decode(int, driver.ask(protocol.PUT_MANY, b"", body, protocol.SKIP_IF_EXISTS).payload) == 0
    assert driver.ask(protocol.GET, b"sk").payload == b"small"
    gone(driver.files)


def test_a_page_holds_few_blobs_however_short_their_references(driver: Driver) -> None:
    for number in range(3):
        driver.put(b"s%d" % number, blob_id=bytes([number]) * 16)
    page = decode(Page, driver.ask(protocol.PAGE, b"", encode(PageRequest(b"", 9)), protocol.WITH_VALUES).payload)
    assert [len(page.entries), page.more] == [1, b"s0"]
    page = decode(Page, driver.ask(protocol.PAGE, b"", encode(PageRequest(b"", 9))).payload)
    assert [len(page.entries), page.more] == [3, b""]
    assert len(decode(list[Any], driver.ask(protocol.GET_MANY, b"", encode([b"s0", b"s1", b"s2"])).payload)) == 1


def test_a_missing_or_short_file_is_a_storage_error_that_names_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "blobs", sync=True)
    driver = Driver(folder)
    driver.put()
    file = tmp_path / "blobs" / ID.hex()
    file.write_bytes(VALUE[:-1])
    reply = driver.read()
    assert isinstance(reply, Reply)
    assert reply.status == protocol.STORAGE
    assert str(file) in bytes(reply.payload).decode()
    file.unlink()
    reply = driver.read()
    assert isinstance(reply, Reply)
    assert reply.status == protocol.STORAGE
    assert ID.hex() in bytes(reply.payload).decode()
    folder.close()


def test_a_file_that_vanished_is_uploaded_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "blobs", sync=True)
    driver = Driver(folder)
    driver.write()
    file = tmp_path / "blobs" / ID.hex()
    until(lambda: file.exists() and file.stat().st_size == len(VALUE))
    file.unlink()
    assert driver.ask(protocol.SEAL, ID, Reference(ID, len(VALUE), crc32(VALUE)).pack()).status == protocol.UNKNOWN_BLOB
    folder.close()


@pytest.mark.parametrize(
    ("chunk", "data", "status"),
    [
        (Chunk(ID, 0, protocol.OBJECT_BYTES_MAX), b"x", protocol.OK),
        (Chunk(ID, 0, protocol.OBJECT_BYTES_MAX + 1), b"x", protocol.TOO_LARGE),
        (Chunk(ID, 0, 3 * blob.CHUNK_BYTES), bytes(blob.CHUNK_BYTES + 1), protocol.MALFORMED),
        (Chunk(ID, 0, 10), bytes(11), protocol.MALFORMED),
        (Chunk(ID, 1 << 63, 10), b"x", protocol.MALFORMED),
    ],
)
def test_a_chunk_that_cannot_be_is_refused(chunk: Chunk, data: bytes, status: int) -> None:
    driver = Driver(MemoryFiles())
    assert driver.ask(protocol.WRITE_CHUNK, chunk.pack(), data).status == status


@pytest.mark.parametrize("opcode", [10, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("rubbish", [b"", b"\x02", bytes(29)])
def test_a_request_that_names_no_blob_is_malformed(opcode: int, rubbish: bytes) -> None:
    driver = Driver(MemoryFiles())
    assert driver.ask(opcode, rubbish, rubbish).status == protocol.MALFORMED


@pytest.mark.parametrize("rubbish", [b"\x02", b"\x02" * 28, b"\x02" * 30])
def test_a_value_that_refers_to_nothing_is_malformed(rubbish: bytes) -> None:
    driver = Driver(MemoryFiles())
    assert driver.ask(protocol.PUT, b"sk", rubbish).status == protocol.MALFORMED
    assert driver.ask(protocol.PUT_MANY, b"", encode(Update([b"sk"], [rubbish]))).status == protocol.MALFORMED
    assert driver.ask(protocol.GET, b"sk").status == protocol.MISSING


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_of_an_entry_counts_the_bytes_of_its_blob(excess: int) -> None:
    driver = Driver(MemoryFiles())
    value = bytes(protocol.OBJECT_BYTES_MAX - 2 + excess)
    reply = driver.ask(protocol.PUT, b"sk", driver.upload(value))
    assert reply.status == (protocol.TOO_LARGE if excess else protocol.OK)
    assert decode(int, driver.ask(protocol.LENGTH).payload) == 1 - excess


def test_beyond_their_bounds_uploads_are_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "SESSION_UPLOADS_MAX", 2)
    monkeypatch.setattr(blobs, "UPLOADS_MAX", 3)
    monkeypatch.setattr(blobs, "UPLOAD_BYTES_MAX", 1_000)
    driver = Driver(MemoryFiles())

    def begin(number: int, session: bytes, size: int = 10) -> int:
        return driver.ask(protocol.WRITE_CHUNK, Chunk(bytes([number]) * 16, 0, size).pack(), b"x", session=session).status

    assert [begin(number, SESSION) for number in range(3)] == [protocol.OK, protocol.OK, protocol.UNAVAILABLE]
    assert begin(3, OTHER, 990) == protocol.UNAVAILABLE
    assert begin(3, OTHER, 980) == protocol.OK
    assert begin(4, ID) == protocol.UNAVAILABLE
    driver.wait(blobs.UPLOAD_IDLE_SECONDS)
    assert begin(4, ID) == protocol.OK


def test_an_upload_without_room_is_refused_before_it_fills_the_disk() -> None:
    class Small(MemoryFiles):
        def free_bytes(self) -> int:
            return ROOM_BYTES + 1_000

    driver = Driver(Small())
    assert driver.ask(protocol.WRITE_CHUNK, Chunk(ID, 0, 600).pack(), b"x" * 600).status == protocol.OK
    assert driver.ask(protocol.WRITE_CHUNK, Chunk(OTHER, 0, 1_001).pack(), b"x").status == protocol.NO_ROOM


def test_chunks_are_not_read_in_a_batch() -> None:
    driver = Driver(MemoryFiles())
    driver.put()
    request = Request(protocol.READ_CHUNK, 0, 0, SESSION, 9, 9, DICT, Chunk(ID, 0, 9).pack(), b"")
    batch = encode([bytes(protocol.pack_request(request)[0])])
    assert driver.ask(protocol.BATCH, b"", batch).status == protocol.MALFORMED


@pytest.mark.parametrize("sync", [True, False])
def test_values_that_are_written_over_again_and_again_leave_few_files(sync: bool) -> None:
    driver = Driver(MemoryFiles(), sync=sync)
    for number in range(3 * UNFLUSHED_MAX):
        driver.put(blob_id=bytes([number]) * 16)
        driver.worker.sweep(driver.now)
        assert len(driver.files.names()) <= (2 if sync else UNFLUSHED_MAX + 2)


def test_files_that_a_backup_may_be_about_to_read_stay() -> None:
    driver = Driver(MemoryFiles())
    assert driver.ask(protocol.SNAPSHOT, b"k" * 16).status == protocol.OK
    assert driver.ask(protocol.RELEASE, b"k" * 16).status == protocol.OK
    for number in range(9):
        driver.put(blob_id=bytes([number]) * 16)
        driver.worker.sweep(driver.now)
    assert len(driver.files.names()) == 9


def test_files_that_a_client_was_told_of_stay() -> None:
    driver = Driver(MemoryFiles())
    driver.put()
    assert driver.ask(protocol.GET, b"sk").status == protocol.OK
    for number in range(9):
        driver.put(blob_id=bytes([number]) * 16)
        driver.worker.sweep(driver.now)
    assert ID in driver.files.names()
    assert len(driver.files.names()) == 2
