"""Blobs in files that their client writes and reads: at the worker, and at the client."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from holdall import protocol
from holdall.blob import Chunk, Reference, chunk_of, reference_of
from holdall.bodies import FileToFill, decode
from holdall.client.near import Near, _opened
from holdall.client.pieces import Pieces
from holdall.client.transfer import STEP_BYTES, Place, download, upload
from holdall.errors import StorageError
from holdall.protocol import Buffer, Reply
from holdall.worker import blobs
from holdall.worker.folder import SCRATCH, Folder
from tests.blob_driver import ID, OTHER, VALUE, Driver
from tests.processes import until

KEY = b"sk"
LARGE = os.urandom(STEP_BYTES + 1)
ALL = Chunk(ID, 0, len(VALUE)).pack()
WHICH = Chunk(ID, 0, 0).pack()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(Folder(tmp_path / "blobs", sync=True))
    yield driver
    driver.files.close()


def made(driver: Driver) -> Path:
    file = decode(FileToFill, driver.ask(protocol.MAKE_FILE, ALL).payload)
    assert file.syncs
    return Path(os.fsdecode(file.path))


def sealed(driver: Driver, value: bytes = VALUE) -> Reply:
    return driver.ask(protocol.SEAL, ID, Reference(ID, len(value), crc32(value)).pack())


def test_a_file_that_its_client_has_written_becomes_the_blob(driver: Driver) -> None:
    path = made(driver)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(VALUE)
    assert made(driver).read_bytes() == VALUE  # asked again, it is what it was
    assert sealed(driver).status == protocol.OK
    assert driver.ask(protocol.PUT, KEY, Reference(ID, len(VALUE), crc32(VALUE)).pack()).status == protocol.OK
    assert Path(os.fsdecode(bytes(driver.ask(protocol.FIND_FILE, WHICH).payload))).read_bytes() == VALUE
    assert not path.exists()
    assert driver.read() == VALUE


def test_what_a_file_has_beyond_its_blob_is_cut_off(driver: Driver) -> None:
    made(driver).write_bytes(VALUE + b"x")
    assert sealed(driver).status == protocol.OK
    assert driver.ask(protocol.PUT, KEY, Reference(ID, len(VALUE), crc32(VALUE)).pack()).status == protocol.OK
    assert Path(os.fsdecode(bytes(driver.ask(protocol.FIND_FILE, WHICH).payload))).read_bytes() == VALUE


@pytest.mark.parametrize("written", [VALUE[1:], b""])
def test_a_file_that_is_too_short_is_not_sealed(driver: Driver, written: bytes) -> None:
    made(driver).write_bytes(written)
    assert sealed(driver).status == protocol.UNKNOWN_BLOB
    until(lambda: not driver.files.names())


def test_nothing_is_made_for_a_blob_that_an_entry_has(driver: Driver) -> None:
    driver.put()
    assert decode(FileToFill, driver.ask(protocol.MAKE_FILE, ALL).payload).path == b""
    assert driver.files.names() == [ID]


def test_a_file_that_is_given_up_goes_and_only_its_own_client_gives_it_up(driver: Driver) -> None:
    path = made(driver)
    driver.ask(protocol.DROP_BLOB, WHICH, session=OTHER)
    path.write_bytes(VALUE)
    driver.ask(protocol.DROP_BLOB, WHICH)
    until(lambda: not path.exists())
    assert sealed(driver).status == protocol.UNKNOWN_BLOB


def test_a_file_that_nobody_goes_on_with_goes(driver: Driver) -> None:
    path = made(driver)
    driver.wait(blobs.UPLOAD_IDLE_SECONDS)
    until(lambda: not path.exists())
    assert sealed(driver).status == protocol.UNKNOWN_BLOB


def test_a_file_that_is_filled_slowly_stays(driver: Driver) -> None:
    path = made(driver)
    for filled in range(1, 4):
        driver.wait(blobs.UPLOAD_IDLE_SECONDS * 0.8)
        assert driver.ask(protocol.MAKE_FILE, Chunk(ID, filled, len(VALUE)).pack()).status == protocol.OK
    path.write_bytes(VALUE)
    assert sealed(driver).status == protocol.OK


def test_a_client_tells_how_far_it_has_filled_a_file(driver: Driver) -> None:
    uploading = upload(place(Near(is_possible=True)), Pieces([LARGE]), None)
    told: list[int] = []
    asked: Any = next(uploading)
    while len(told) < 2:
        if isinstance(asked, list):
            told += [chunk_of(ask.data).offset for ask in asked if ask.opcode == protocol.MAKE_FILE]
            asked = uploading.send([driver.ask(ask.opcode, ask.data, ask.value) for ask in asked])
        else:
            asked = uploading.send(asked.do())
    assert told == [0, STEP_BYTES]


def test_a_client_goes_on_in_chunks_if_its_file_was_dropped(driver: Driver) -> None:
    def drop() -> None:
        driver.wait(blobs.UPLOAD_IDLE_SECONDS)

    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, drop))
    reference = carried_out(driver, upload(place(near), Pieces([LARGE]), None))
    until(lambda: driver.files.names() == [reference[1:17]])
    assert driver.read(reference[1:17], len(LARGE)) == LARGE


def test_no_file_is_made_without_room_or_from_its_middle(driver: Driver, tmp_path: Path) -> None:
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 1, 10).pack()).status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 11, 10).pack()).status == protocol.MALFORMED
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 0, protocol.OBJECT_BYTES_MAX + 1).pack()).status == protocol.TOO_LARGE
    driver.worker.refuse_values("the disk is full")
    assert driver.ask(protocol.MAKE_FILE, ALL).status == protocol.NO_ROOM
    driver.worker.refuse_values("")
    (tmp_path / "blobs" / (ID.hex() + SCRATCH)).mkdir()
    assert driver.ask(protocol.MAKE_FILE, ALL).status == protocol.STORAGE


def test_a_file_that_was_told_of_stays_for_a_while(driver: Driver) -> None:
    driver.put()
    path = Path(os.fsdecode(bytes(driver.ask(protocol.FIND_FILE, WHICH).payload)))
    driver.ask(protocol.POP, KEY, flags=protocol.WITHOUT_VALUE)
    driver.wait(blobs.LENT_SECONDS / 2)
    assert path.exists()
    driver.wait(blobs.LENT_SECONDS)
    until(lambda: not path.exists())
    assert driver.ask(protocol.FIND_FILE, WHICH).status == protocol.UNKNOWN_BLOB


def test_a_file_that_is_missing_is_a_storage_error(driver: Driver, tmp_path: Path) -> None:
    driver.put()
    (tmp_path / "blobs" / ID.hex()).unlink()
    reply = driver.ask(protocol.FIND_FILE, WHICH)
    assert reply.status == protocol.STORAGE
    assert ID.hex() in bytes(reply.payload).decode()


# The client's side, over the same worker.


def carried_out(driver: Driver, operation: Any) -> Any:
    """What a driver does: ask what is yielded, do what is to be done."""
    answer: Any = None
    try:
        while True:
            asked = operation.send(answer)
            if hasattr(asked, "do"):
                answer = asked.do()
            elif isinstance(asked, list):
                answer = [driver.ask(ask.opcode, ask.data, ask.value) for ask in asked]
            else:
                answer = driver.ask(asked.ask.opcode, asked.ask.data, asked.ask.value)
    except StopIteration as stop:
        return stop.value


def place(near: Near) -> Place:
    return Place(0, b"d" * 16, "put", "Dict 'kv'", "k", near)


class Refusing:
    """Files of which nothing can be opened."""

    def __init__(self) -> None:
        self.tries = 0

    def __call__(self, path: str, writes: bool) -> Any:
        self.tries += 1
        raise FileNotFoundError(errno.ENOENT, "no such file")


class Wrapped:
    """A real file, whose next write, or read, fails or is seen."""

    def __init__(self, path: str, writes: bool, on_use: Callable[[], object]) -> None:
        self._file = _opened(path, writes)
        self._on_use = on_use

    def write(self, data: Buffer) -> int:
        self._on_use()
        return self._file.write(data)

    def read(self, into: memoryview) -> int:
        self._on_use()
        return self._file.read(into)

    def sync(self) -> None:
        self._file.sync()

    def keeps_name(self) -> bool:
        return self._file.keeps_name()


def stored(driver: Driver, value: bytes) -> Reference:
    """An entry has this value, in a file."""
    reference = carried_out(driver, upload(place(Near(is_possible=True)), Pieces([value]), None))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    return reference_of(reference)


def removed(driver: Driver) -> None:
    """It has no more, and nobody was told of it lately."""
    driver.ask(protocol.POP, KEY, flags=protocol.WITHOUT_VALUE)
    driver.wait(blobs.LENT_SECONDS)
    until(lambda: not driver.files.names())


@pytest.mark.parametrize("value", [b"x" * 300_000, LARGE, bytearray(LARGE)])
def test_a_value_is_written_and_read_without_a_chunk(driver: Driver, value: Any) -> None:
    near = Near(is_possible=True)
    reference = carried_out(driver, upload(place(near), Pieces([b"head", value]), None))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    size, crc = len(value) + 4, crc32(b"head" + value)
    assert reference[17:] == Reference(b"", size, crc).pack()[17:]
    found = carried_out(driver, download(place(near), Reference(reference[1:17], size, crc), None))
    assert bytes(found) == b"head" + value


def test_a_client_that_does_not_reach_the_files_sends_and_fetches_chunks_and_does_not_try_again(driver: Driver) -> None:
    files = Refusing()
    near = Near(is_possible=True, opened=files)
    reference = carried_out(driver, upload(place(near), Pieces([VALUE]), None))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    of = Reference(reference[1:17], len(VALUE), crc32(VALUE))
    assert carried_out(driver, download(place(near), of, None)) == VALUE
    assert files.tries == 1
    until(lambda: driver.files.names() == [of.id])


def test_a_file_that_is_missing_once_says_nothing_about_the_next() -> None:
    near = Near(is_possible=True)
    assert near.open(__file__, writes=False) is not None
    assert near.open("/nowhere", writes=False) is None
    assert near.is_possible


def test_what_no_disk_takes_is_left_to_the_worker_and_its_file_goes(driver: Driver) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, full))
    reference = carried_out(driver, upload(place(near), Pieces([VALUE]), None))
    assert reference[1:17] in driver.files.names()
    until(lambda: driver.files.names() == [reference[1:17]])


@pytest.mark.parametrize("seen_as", [bytearray, lambda memory: memoryview(memory).toreadonly()])
def test_what_its_caller_changes_while_it_is_written_is_stored_as_it_was_written(driver: Driver, seen_as: Any) -> None:
    value = bytearray(3_000_000)
    shown = value if seen_as is bytearray else seen_as(value)

    def change() -> None:
        for at in range(0, len(value), 1_000):
            value[at] ^= 0xFF

    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, change))
    reference = carried_out(driver, upload(place(near), Pieces([shown]), None))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    of = Reference(reference[1:17], len(value), int.from_bytes(reference[25:], "little"))
    assert len(carried_out(driver, download(place(near), of, None))) == len(value)


@pytest.mark.parametrize("damage", ["flipped", "cut short"])
def test_a_damaged_file_is_a_storage_error(driver: Driver, tmp_path: Path, damage: str) -> None:
    driver.put()
    file = tmp_path / "blobs" / ID.hex()
    file.write_bytes(VALUE[:-1] if damage == "cut short" else VALUE[:-1] + b"!")
    with pytest.raises(StorageError, match=f"cannot put 'k' in Dict 'kv': the file of blob {ID.hex()} is damaged"):
        carried_out(driver, download(place(Near(is_possible=True)), Reference(ID, len(VALUE), crc32(VALUE)), None))


def test_a_large_file_that_is_removed_while_it_is_read_is_read_to_its_end(driver: Driver) -> None:
    of = stored(driver, LARGE)
    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, lambda: removed(driver)))
    assert carried_out(driver, download(place(near), of, None)) == LARGE


def test_a_file_that_became_another_blob_while_it_was_read_is_not_believed(driver: Driver) -> None:
    of = stored(driver, VALUE)
    others: list[Path] = []

    def reuse() -> None:
        if not others:
            removed(driver)
            others.append(Path(os.fsdecode(driver.files.make(OTHER).path)))
            assert others[0].read_bytes() == VALUE
            with others[0].open("r+b") as file:
                file.write(bytes(len(VALUE)))

    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, reuse))
    assert carried_out(driver, download(place(near), of, None)) is None
    assert others


def test_a_file_is_open_as_long_as_somebody_writes_to_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def open_ones() -> list[str]:
        found = (os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd"))
        return [each for each in found if each == str(tmp_path / "file")]

    file = Near(is_possible=True).open(str(tmp_path / "file"), writes=True)
    assert file is not None
    write = file.write
    del file
    assert len(open_ones()) == 1
    write(b"x")
    del write
    assert open_ones() == []
