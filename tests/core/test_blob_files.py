"""Blobs in files that their client writes and reads: at the worker, and at the client."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from holdall import blob, protocol
from holdall.blob import Chunk, Reference, reference_of
from holdall.bodies import encode
from holdall.client.connection.query import Query
from holdall.client.operations.large import FILE_STEP_BYTES, Pieces, Place, download, upload
from holdall.errors import StorageError
from holdall.protocol import Buffer, Request
from holdall.worker.large.folder import Folder
from holdall.worker.state import blobs
from holdall.worker.store import rows
from tests.blob_driver import DICT, ID, OTHER, SESSION, VALUE, Driver
from tests.processes import until

KEY = b"sk"
LARGE = os.urandom(FILE_STEP_BYTES + 1)
WHOLE = Chunk(ID, 0, len(VALUE)).pack()
WHICH = Chunk(ID, 0, 0).pack()
REFERENCE = Reference(ID, len(VALUE), crc32(VALUE)).pack()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def driver(folder: Path) -> Iterator[Driver]:
    driver = Driver(Folder(folder, sync=True))
    yield driver
    driver.files.close()


def filled(driver: Driver, blob_id: bytes = ID, value: bytes = VALUE) -> bytes:
    """A blob whose client has written its file, and sealed it. Returns the reference."""
    reply = driver.ask(protocol.MAKE_FILE, Chunk(blob_id, 0, len(value)).pack())
    assert (reply.status, reply.payload) == (protocol.OK, b"\x01")
    reply.file.write(value)
    reference = Reference(blob_id, len(value), crc32(value)).pack()
    assert driver.ask(protocol.SEAL, blob_id, reference).status == protocol.OK
    return reference


def read(driver: Driver, blob_id: bytes = ID, size: int = len(VALUE) + 1) -> bytes:
    """What is in the file that is passed to a reader."""
    file = driver.ask(protocol.OPEN_FILE, Chunk(blob_id, 0, 0).pack()).file
    return os.pread(file.descriptor, size, 0)


def test_a_file_that_its_client_has_written_and_sealed_is_the_blob(driver: Driver, folder: Path) -> None:
    reference = filled(driver)
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    assert (folder / ID.hex()).stat().st_mode & 0o777 == 0o600
    assert read(driver) == driver.read() == VALUE
    assert driver.owned() == [ID]
    again = driver.reopened()
    until(lambda: again.files.names() == [ID])
    assert read(again) == VALUE
    again.files.close()


def test_a_file_for_readers_cannot_be_written_to(driver: Driver) -> None:
    driver.ask(protocol.PUT, KEY, filled(driver))
    with pytest.raises(OSError, match="Bad file descriptor"):
        driver.ask(protocol.OPEN_FILE, WHICH).file.write(b"x")


def test_what_is_not_sealed_is_no_value(driver: Driver) -> None:
    driver.ask(protocol.MAKE_FILE, WHOLE).file.write(VALUE)
    assert driver.ask(protocol.PUT, KEY, REFERENCE).status == protocol.UNKNOWN_BLOB


@pytest.mark.parametrize("written", [b"", VALUE[:-1], VALUE + b"x"])
def test_a_file_of_another_size_than_was_said_is_not_sealed_and_goes(driver: Driver, written: bytes) -> None:
    driver.ask(protocol.MAKE_FILE, WHOLE).file.write(written)
    assert driver.ask(protocol.SEAL, ID, REFERENCE).status == protocol.UNKNOWN_BLOB
    until(lambda: not driver.files.names())


def test_what_a_client_was_given_in_an_earlier_life_is_not_believed(driver: Driver) -> None:
    driver.ask(protocol.MAKE_FILE, WHOLE).file.write(VALUE)
    again = driver.reopened()
    until(lambda: not again.files.names())
    assert again.ask(protocol.SEAL, ID, REFERENCE).status == protocol.UNKNOWN_BLOB
    assert again.ask(protocol.PUT, KEY, REFERENCE).status == protocol.UNKNOWN_BLOB
    again.files.close()


def test_asked_again_for_a_file_it_is_the_same_one(driver: Driver) -> None:
    first, second = (driver.ask(protocol.MAKE_FILE, WHOLE).file for _ in range(2))
    first.write(VALUE)
    assert os.fstat(second.descriptor).st_size == len(VALUE)
    assert driver.ask(protocol.SEAL, ID, REFERENCE).status == protocol.OK
    assert driver.ask(protocol.MAKE_FILE, WHOLE).status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.PUT, KEY, REFERENCE).status == protocol.OK
    assert driver.ask(protocol.MAKE_FILE, WHOLE).status == protocol.UNKNOWN_BLOB


def test_a_file_may_be_begun_by_its_client_and_ended_in_chunks(driver: Driver) -> None:
    driver.ask(protocol.MAKE_FILE, WHOLE).file.write(b"some of it")
    assert driver.put() == REFERENCE
    assert driver.read() == VALUE


def test_no_file_comes_where_none_can_be_passed_and_none_in_a_batch(driver: Driver) -> None:
    driver.ask(protocol.PUT, KEY, filled(driver, OTHER))
    about_other = Chunk(OTHER, 0, 0).pack()
    heads = [
        bytes(protocol.pack_request(Request(opcode, 0, 0, SESSION, number, 1, DICT, key, b""))[0])
        for number, (opcode, key) in enumerate([(protocol.MAKE_FILE, WHOLE), (protocol.OPEN_FILE, about_other)], 1_000)
    ]
    batch = driver.ask(protocol.BATCH, b"", encode(heads))
    assert [protocol.parse_reply(each).status for each in protocol_batch(batch)] == [protocol.MISSING] * 2
    driver.source.passes_files = False
    for opcode, key in ((protocol.MAKE_FILE, WHOLE), (protocol.OPEN_FILE, about_other)):
        reply = driver.ask(opcode, key)
        assert (reply.status, reply.file) == (protocol.MISSING, None)


def protocol_batch(reply: protocol.Reply) -> list[bytes]:
    from holdall.bodies import decode

    return decode(list[bytes], reply.payload)


@pytest.mark.parametrize("how", ["replaced", "cleared", "an hour after its pop"])
def test_a_damaged_row_of_a_blob_costs_its_entry_and_no_other(driver: Driver, folder: Path, how: str) -> None:
    driver.ask(protocol.PUT, KEY, filled(driver))
    driver.ask(protocol.PUT, b"sother", filled(driver, OTHER, VALUE[::-1]))
    driver.store.write({rows.BLOB_PREFIX + ID: b"??"}, True)
    assert driver.ask(protocol.OPEN_FILE, WHICH).status == protocol.STORAGE
    if how == "replaced":
        assert driver.ask(protocol.PUT, KEY, b"small").status == protocol.OK
    elif how == "cleared":
        assert driver.ask(protocol.CLEAR).status == protocol.OK
        driver.wait(1)
    else:
        assert driver.ask(protocol.POP, KEY).status == protocol.OK
        driver.wait(blobs.HANDED_SECONDS)
    assert ID not in driver.owned()
    again = driver.reopened()
    until(lambda: not (folder / ID.hex()).exists())
    until(lambda: (folder / OTHER.hex()).exists() == (how != "cleared"))
    again.files.close()


def test_a_late_piece_does_not_change_the_file_that_somebody_reads(driver: Driver) -> None:
    driver.put()
    driver.ask(protocol.GET, KEY)
    driver.ask(protocol.PUT, KEY, b"small")
    assert driver.ask(protocol.WRITE_CHUNK, WHOLE, b"late").status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.MAKE_FILE, WHOLE).status == protocol.UNKNOWN_BLOB
    assert driver.read() == VALUE


def test_a_client_that_fills_a_large_file_slowly_has_time_for_it(driver: Driver) -> None:
    size = 60 * blobs.UPLOAD_BYTES_PER_SECOND_MIN
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 0, size).pack()).file is not None
    driver.wait(blobs.UPLOAD_IDLE_SECONDS + 50)
    until(lambda: driver.files.names() == [ID])
    driver.wait(20)
    until(lambda: not driver.files.names())


def test_no_file_is_made_without_room_or_from_its_middle(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 1, 10).pack()).status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 0, protocol.OBJECT_BYTES_MAX + 1).pack()).status == protocol.TOO_LARGE
    driver.worker.refuse_values("the disk is full")
    assert driver.ask(protocol.MAKE_FILE, WHOLE).status == protocol.NO_ROOM
    driver.worker.refuse_values("")
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    reply = driver.ask(protocol.MAKE_FILE, WHOLE)
    assert reply.status == protocol.STORAGE
    assert f"the folder {tmp_path / 'blobs'} cannot be used: No such file" in bytes(reply.payload).decode()
    monkeypatch.setattr(driver.files, "free_bytes", lambda: 1 << 40)
    for _ in range(2):
        reply = driver.ask(protocol.MAKE_FILE, WHOLE)
        assert reply.status == protocol.STORAGE
        assert f"{tmp_path / 'blobs' / ID.hex()} cannot be made: No such file" in bytes(reply.payload).decode()
    (tmp_path / "elsewhere").rename(tmp_path / "blobs")
    filled(driver, OTHER)


def test_a_file_that_is_missing_is_a_storage_error_that_names_it(driver: Driver, folder: Path) -> None:
    driver.ask(protocol.PUT, KEY, filled(driver))
    (folder / ID.hex()).unlink()
    reply = driver.ask(protocol.OPEN_FILE, WHICH)
    assert reply.status == protocol.STORAGE
    assert str(folder / ID.hex()) in bytes(reply.payload).decode()


# The client's side, over the same worker.


class Seen:
    """An open file, whose uses are seen, or fail."""

    def __init__(self, file: Any, on_use: Callable[[], object]) -> None:
        self._file = file
        self._on_use = on_use

    @property
    def size(self) -> int:
        return int(self._file.size)

    def write(self, data: Buffer) -> int:
        self._on_use()
        return int(self._file.write(data))

    def read(self, into: memoryview) -> int:
        self._on_use()
        return int(self._file.read(into))

    def sync(self) -> None:
        self._file.sync()


def carried_out(driver: Driver, operation: Any, on_use: Callable[[], object] = lambda: None) -> tuple[Any, list[int]]:
    """What a driver does: ask what is yielded, do what is to be done. Returns the result, and the opcodes that were asked."""
    answer: Any = None
    opcodes: list[int] = []

    def ask(query: Query) -> protocol.Reply:
        opcodes.append(query.opcode)
        reply = driver.ask(query.opcode, query.key, query.value)
        return protocol.Reply(reply.status, 0, 0, reply.payload, reply.file and Seen(reply.file, on_use))

    try:
        while True:
            asked = operation.send(answer)
            if isinstance(asked, Query):
                answer = ask(asked)
            else:
                answer = asked.work() if asked.work is not None else [ask(each) for each in asked.queries]
    except StopIteration as stop:
        return stop.value, opcodes


def place(passes_files: bool = True) -> Place:
    return Place(0, b"d" * 16, "put", "Dict 'kv'", "k", passes_files)


def stored(driver: Driver, value: bytes) -> Reference:
    """An entry has this value, in a file."""
    reference, _opcodes = carried_out(driver, upload(place(), Pieces([value]), None))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    return reference_of(reference)


@pytest.mark.parametrize("value", [b"x" * 300_000, LARGE, bytearray(LARGE)])
def test_a_value_is_written_and_read_without_a_chunk(driver: Driver, value: Any) -> None:
    reference, opcodes = carried_out(driver, upload(place(), Pieces([b"head", value]), None))
    assert opcodes == [protocol.MAKE_FILE, protocol.SEAL]
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    of = reference_of(reference)
    assert (of.size, of.crc) == (len(value) + 4, crc32(b"head" + value))
    found, opcodes = carried_out(driver, download(place(), of, None))
    assert bytes(found) == b"head" + value
    assert opcodes == [protocol.OPEN_FILE]


@pytest.mark.parametrize("is_client_told", [True, False])
def test_where_no_file_is_passed_chunks_are_sent_and_fetched(driver: Driver, is_client_told: bool) -> None:
    driver.source.passes_files = False
    asks = not is_client_told
    reference, opcodes = carried_out(driver, upload(place(asks), Pieces([VALUE]), None))
    assert opcodes == [protocol.MAKE_FILE, protocol.DROP_BLOB] * asks + [protocol.WRITE_CHUNK] * 2 + [protocol.SEAL]
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    found, opcodes = carried_out(driver, download(place(asks), reference_of(reference), None))
    assert found == VALUE
    assert opcodes == [protocol.OPEN_FILE] * asks + [protocol.READ_CHUNK] * 2


def test_what_its_worker_forgot_meanwhile_goes_again(driver: Driver) -> None:
    forgets = iter([True])

    def forget() -> None:
        if next(forgets, False):
            driver.wait(2 * blobs.UPLOAD_IDLE_SECONDS)

    reference, opcodes = carried_out(driver, upload(place(), Pieces([VALUE]), None), forget)
    once = [protocol.MAKE_FILE, protocol.SEAL]
    assert opcodes == once * 2
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    until(lambda: driver.files.names() == [reference_of(reference).id])


@pytest.mark.parametrize("failing", ["write", "read"])
def test_what_no_disk_takes_or_gives_is_left_to_the_worker(driver: Driver, failing: str) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    reference, opcodes = carried_out(
        driver, upload(place(), Pieces([VALUE]), None), full if failing == "write" else lambda: None
    )
    assert (protocol.WRITE_CHUNK in opcodes) == (failing == "write")
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    found, _opcodes = carried_out(driver, download(place(), reference_of(reference), None), full)
    assert found == VALUE


@pytest.mark.parametrize("seen_as", [bytearray, lambda memory: memoryview(memory).toreadonly()])
def test_what_its_caller_changes_while_it_is_written_is_stored_as_it_was_written(driver: Driver, seen_as: Any) -> None:
    value = bytearray(3 * blob.CHUNK_BYTES)
    shown = value if seen_as is bytearray else seen_as(value)

    def change() -> None:
        for at in range(0, len(value), 1_000):
            value[at] ^= 0xFF

    reference, _opcodes = carried_out(driver, upload(place(), Pieces([shown]), None), change)
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    found, _opcodes = carried_out(driver, download(place(), reference_of(reference), None))
    assert len(found) == len(value)


@pytest.mark.parametrize("damage", ["flipped", "cut short", "longer"])
def test_a_damaged_file_is_a_storage_error_that_names_it(driver: Driver, folder: Path, damage: str) -> None:
    of = stored(driver, VALUE)
    damaged = {"flipped": VALUE[:-1] + b"!", "cut short": VALUE[:-1], "longer": VALUE + b"x"}[damage]
    (folder / of.id.hex()).write_bytes(damaged)
    if damage == "longer":  # what is behind the value is none of it
        assert carried_out(driver, download(place(), of, None))[0] == VALUE
        return
    with pytest.raises(StorageError, match=f"cannot put 'k' in Dict 'kv'.*{of.id.hex()}.* is damaged"):
        carried_out(driver, download(place(), of, None))


def test_a_file_that_is_removed_while_it_is_read_is_read_to_its_end(driver: Driver) -> None:
    of = stored(driver, LARGE)

    def remove() -> None:
        driver.ask(protocol.POP, KEY, flags=protocol.WITHOUT_VALUE)
        driver.wait(2 * blobs.LENT_SECONDS)
        until(lambda: not driver.files.names())

    assert carried_out(driver, download(place(), of, None), remove)[0] == LARGE


def test_a_file_is_open_as_long_as_something_refers_to_it(driver: Driver, folder: Path) -> None:
    def open_ones() -> list[str]:
        found = (os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd"))
        return [each for each in found if each == str(folder / ID.hex())]

    reply = driver.ask(protocol.MAKE_FILE, WHOLE)
    write = reply.file.write
    del reply
    assert len(open_ones()) == 1
    write(b"x")
    del write
    assert open_ones() == []
