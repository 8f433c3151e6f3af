"""Blobs in files that their client writes and reads: at the worker, and at the client."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from holdall import protocol
from holdall.blob import NO_BLOB, Chunk, Reference, chunk_of, reference_of
from holdall.bodies import FileToFill, decode
from holdall.client.connection.query import Query
from holdall.client.operations.large import FILE_STEP_BYTES, Near, Pieces, Place, _opened, download, upload
from holdall.errors import StorageError
from holdall.protocol import Buffer
from holdall.worker.large.folder import READY, READY_MAX, Folder
from holdall.worker.state import blobs
from holdall.worker.store import rows
from tests.blob_driver import ID, VALUE, Driver
from tests.processes import until

KEY = b"sk"
LARGE = os.urandom(FILE_STEP_BYTES + 1)
NEW = Chunk(NO_BLOB, 0, len(VALUE)).pack()
WHICH = Chunk(ID, 0, 0).pack()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(Folder(tmp_path / "blobs", sync=True))
    yield driver
    driver.files.close()


def made(driver: Driver) -> tuple[bytes, Path]:
    """A new blob, and the file for it."""
    file = decode(FileToFill, driver.ask(protocol.MAKE_FILE, NEW).payload)
    assert file.syncs
    return file.id, Path(os.fsdecode(file.path))


def put(driver: Driver, blob_id: bytes, value: bytes = VALUE, key: bytes = KEY, flags: int = 0) -> int:
    """The status of a PUT of this blob."""
    return driver.ask(protocol.PUT, key, Reference(blob_id, len(value), crc32(value)).pack(), flags).status


def found(driver: Driver, blob_id: bytes) -> Path:
    return Path(os.fsdecode(bytes(driver.ask(protocol.FIND_FILE, Chunk(blob_id, 0, 0).pack()).payload)))


def written(driver: Driver, value: bytes = VALUE, key: bytes = KEY) -> tuple[bytes, Path]:
    """An entry whose value is in a file that its client wrote."""
    blob_id, path = made(driver)
    path.write_bytes(value)
    assert put(driver, blob_id, value, key) == protocol.OK
    return blob_id, path


def test_a_file_that_its_client_has_written_is_the_blob(driver: Driver) -> None:
    blob_id, path = made(driver)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(VALUE)
    assert put(driver, blob_id) == protocol.OK
    assert found(driver, blob_id) == path
    assert driver.read(blob_id) == VALUE
    assert driver.owned() == [blob_id]


def test_it_is_still_there_in_the_next_life(driver: Driver) -> None:
    blob_id, path = written(driver)
    again = driver.reopened()
    until(lambda: again.files.names() == [bytes.fromhex(path.name)])
    assert (found(again, blob_id), again.read(blob_id)) == (path, VALUE)
    again.files.close()


def test_what_a_client_was_given_in_an_earlier_life_is_not_believed(driver: Driver) -> None:
    blob_id, path = made(driver)
    again = driver.reopened()
    until(lambda: not path.exists())
    made(again)  # as a late copy of the same request
    assert put(again, blob_id) == protocol.UNKNOWN_BLOB
    again.files.close()


def test_a_value_of_another_size_than_was_said_is_not_there(driver: Driver) -> None:
    blob_id, path = made(driver)
    path.write_bytes(VALUE)
    assert put(driver, blob_id, VALUE[:-1]) == protocol.UNKNOWN_BLOB
    until(lambda: not path.exists())


def test_a_file_that_nobody_has_written_to_is_no_value(driver: Driver) -> None:
    """As when a client was told a path that leads it to a copy of the folder."""
    _other, path = written(driver)
    removed(driver)
    made_here = dict(made(driver) for _ in range(READY_MAX))
    assert path in made_here.values()
    for blob_id, each in made_here.items():
        assert put(driver, blob_id) == protocol.UNKNOWN_BLOB
        until(lambda file=each: not file.exists())  # type: ignore[misc]
    blob_id, path = made(driver)
    path.write_bytes(VALUE[:-1])
    assert put(driver, blob_id) == protocol.UNKNOWN_BLOB


def test_files_that_nobody_reads_are_the_next_ones_though_others_are_read(driver: Driver) -> None:
    for number in range(3 * blobs.TOGETHER):
        written(driver, key=b"s%d" % number)
        driver.ask(protocol.GET, b"s%d" % number)
    for number in range(3 * blobs.TOGETHER):
        driver.ask(protocol.POP, b"s%d" % number, flags=protocol.WITHOUT_VALUE)
    assert len({written(driver)[1] for _ in range(50)}) <= READY_MAX


@pytest.mark.parametrize("how", ["replaced", "cleared", "an hour after its pop"])
def test_a_damaged_row_of_a_blob_costs_its_entry_and_no_other(driver: Driver, how: str) -> None:
    blob_id, path = written(driver)
    _other, others = written(driver, VALUE[::-1], key=b"sother")
    driver.store.write({rows.blob_row(blob_id): b"??"}, True)
    assert driver.ask(protocol.FIND_FILE, Chunk(blob_id, 0, 0).pack()).status == protocol.STORAGE
    if how == "replaced":
        assert driver.ask(protocol.PUT, KEY, b"small").status == protocol.OK
    elif how == "cleared":
        assert driver.ask(protocol.CLEAR).status == protocol.OK
        driver.wait(1)
    else:
        assert driver.ask(protocol.POP, KEY).status == protocol.OK
        driver.wait(blobs.HANDED_SECONDS)
    assert blob_id not in driver.owned()
    again = driver.reopened()
    until(lambda: not path.exists())
    until(lambda: others.exists() == (how != "cleared"))
    again.files.close()


def test_no_file_is_removed_at_a_start_that_does_not_know_all_of_them(driver: Driver) -> None:
    blob_id, path = written(driver)
    driver.store.write({rows.blob_row(blob_id): b"??"}, True)
    again = driver.reopened()
    written(again, key=b"sother")
    again.files.close()
    assert path.read_bytes() == VALUE


def test_two_entries_are_not_one_blob(driver: Driver) -> None:
    blob_id, _path = written(driver)
    assert put(driver, blob_id, key=b"sother") == protocol.UNKNOWN_BLOB


def test_the_file_of_a_value_that_is_replaced_is_the_next_ones(driver: Driver) -> None:
    files = {written(driver, VALUE)[1] for _ in range(50)}
    assert len(files) <= READY_MAX


def test_the_file_of_a_value_that_somebody_was_told_of_is_nobody_elses_for_a_while(driver: Driver) -> None:
    blob_id, path = written(driver)
    assert found(driver, blob_id) == path
    others = {written(driver, VALUE[::-1])[1] for _ in range(50)}
    assert path not in others
    assert (driver.read(blob_id), found(driver, blob_id)) == (VALUE, path)
    driver.wait(blobs.LENT_SECONDS)
    assert path in {written(driver)[1] for _ in range(50)}
    assert driver.ask(protocol.FIND_FILE, Chunk(blob_id, 0, 0).pack()).status == protocol.UNKNOWN_BLOB


def test_a_file_is_nobody_elses_before_its_removal_survives_a_power_cut(tmp_path: Path) -> None:
    driver = Driver(Folder(tmp_path / "blobs", sync=True), sync=False)
    blob_id, path = written(driver)
    driver.worker.flush()
    others = {written(driver, VALUE[::-1])[1] for _ in range(2 * blobs.TOGETHER)}
    assert path not in others
    driver.store.crash()
    again = driver.reopened()
    assert again.read(blob_id) == VALUE
    again.files.close()


@pytest.mark.parametrize("why", ["given up", "idle", "not needed"])
def test_a_file_that_a_client_may_still_write_is_nobody_elses(driver: Driver, why: str) -> None:
    if why == "not needed":
        driver.ask(protocol.PUT, KEY, b"small")
    blob_id, path = made(driver)
    if why == "given up":
        driver.ask(protocol.DROP_BLOB, Chunk(blob_id, 0, 0).pack())
    elif why == "idle":
        driver.wait(blobs.UPLOAD_IDLE_SECONDS)
    else:
        path.write_bytes(VALUE)
        assert put(driver, blob_id, flags=protocol.SKIP_IF_EXISTS) == protocol.EXISTS
    until(lambda: not path.exists())
    assert put(driver, blob_id) == protocol.UNKNOWN_BLOB


def test_a_file_that_is_filled_slowly_stays(driver: Driver) -> None:
    blob_id, path = made(driver)
    for filled in range(1, 4):
        driver.wait(blobs.UPLOAD_IDLE_SECONDS * 0.8)
        assert driver.ask(protocol.MAKE_FILE, Chunk(blob_id, filled, len(VALUE)).pack()).status == protocol.OK
    path.write_bytes(VALUE)
    assert put(driver, blob_id) == protocol.OK


def test_who_asks_for_files_faster_than_they_are_made_gets_one_each_in_turn(driver: Driver) -> None:
    count = 3 * READY
    replies = [reply for _ in range(count) for reply in driver.send(protocol.MAKE_FILE, NEW)]
    answers: list[Any] = []

    def have_all() -> bool:
        answers.extend(driver.worker.told())
        return len(replies) + len(answers) == count

    until(have_all)
    replies += [protocol.parse_reply(*each.frames) for each in answers]
    assert {reply.status for reply in replies} == {protocol.OK}
    files = [decode(FileToFill, reply.payload) for reply in replies]
    assert len({file.id for file in files}) == len({file.path for file in files}) == count
    later = [reply.sequence for reply in replies[-len(answers) :]]
    assert answers
    assert later == sorted(later)


def test_pieces_are_not_taken_for_a_file_that_a_client_writes(driver: Driver) -> None:
    blob_id, path = made(driver)
    path.write_bytes(VALUE)
    assert driver.ask(protocol.WRITE_CHUNK, Chunk(blob_id, 0, len(VALUE)).pack(), b"x").status == protocol.MALFORMED
    reference = Reference(blob_id, len(VALUE), crc32(VALUE)).pack()
    assert driver.ask(protocol.SEAL, blob_id, reference).status == protocol.UNKNOWN_BLOB
    assert put(driver, blob_id) == protocol.OK
    assert path.read_bytes() == VALUE


def test_a_late_piece_does_not_change_the_file_that_somebody_reads(driver: Driver) -> None:
    driver.put()
    driver.ask(protocol.GET, KEY)
    driver.ask(protocol.PUT, KEY, b"small")
    assert driver.ask(protocol.WRITE_CHUNK, Chunk(ID, 0, len(VALUE)).pack(), b"late").status == protocol.UNKNOWN_BLOB
    assert driver.read() == VALUE


def test_a_client_tells_how_far_it_has_filled_a_file(driver: Driver) -> None:
    uploading = upload(place(Near(is_possible=True)), Pieces([LARGE]), None)
    told: list[int] = []
    asked: Any = next(uploading)
    while len(told) < 2:
        if asked.work is None:
            told += [chunk_of(each.data).offset for each in asked.queries if each.opcode == protocol.MAKE_FILE]
            asked = uploading.send([driver.ask(each.opcode, each.data, each.value) for each in asked.queries])
        else:
            asked = uploading.send(asked.work())
    assert told == [0, FILE_STEP_BYTES]


def test_a_client_goes_on_in_chunks_if_its_file_was_dropped(driver: Driver) -> None:
    def drop() -> None:
        driver.wait(blobs.UPLOAD_IDLE_SECONDS)

    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, drop))
    reference = carried_out(driver, upload(place(near), Pieces([LARGE]), None))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    until(lambda: driver.files.names() == [reference[1:17]])
    assert driver.read(reference[1:17], len(LARGE)) == LARGE


def test_no_file_is_made_without_room_or_from_its_middle(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert driver.ask(protocol.MAKE_FILE, Chunk(NO_BLOB, 1, 10).pack()).status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 1, 10).pack()).status == protocol.UNKNOWN_BLOB
    assert driver.ask(protocol.MAKE_FILE, Chunk(ID, 11, 10).pack()).status == protocol.MALFORMED
    assert driver.ask(protocol.MAKE_FILE, Chunk(NO_BLOB, 0, protocol.OBJECT_BYTES_MAX + 1).pack()).status == protocol.TOO_LARGE
    driver.worker.refuse_values("the disk is full")
    assert driver.ask(protocol.MAKE_FILE, NEW).status == protocol.NO_ROOM
    driver.worker.refuse_values("")
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    reply = driver.ask(protocol.MAKE_FILE, NEW)
    assert reply.status == protocol.STORAGE
    assert f"the folder {tmp_path / 'blobs'} cannot be used: No such file" in bytes(reply.payload).decode()
    monkeypatch.setattr(driver.files, "free_bytes", lambda: 1 << 40)
    for _ in range(2):
        reply = driver.ask(protocol.MAKE_FILE, NEW)
        assert reply.status == protocol.STORAGE
        assert f"no blob file can be made in {tmp_path / 'blobs'}: No such file" in bytes(reply.payload).decode()
    (tmp_path / "elsewhere").rename(tmp_path / "blobs")
    made(driver)


def test_a_file_that_is_missing_is_a_storage_error_that_names_it(driver: Driver) -> None:
    blob_id, path = written(driver)
    path.unlink()
    reply = driver.ask(protocol.FIND_FILE, Chunk(blob_id, 0, 0).pack())
    assert reply.status == protocol.STORAGE
    assert str(path) in bytes(reply.payload).decode()


# The client's side, over the same worker.


def carried_out(driver: Driver, operation: Any) -> Any:
    """What a driver does: ask what is yielded, do what is to be done."""
    answer: Any = None
    try:
        while True:
            asked = operation.send(answer)
            if isinstance(asked, Query):
                answer = driver.ask(asked.opcode, asked.data, asked.value)
            elif asked.work is not None:
                answer = asked.work()
            else:
                answer = [driver.ask(each.opcode, each.data, each.value) for each in asked.queries]
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

    def end_at(self, size: int) -> None:
        self._file.end_at(size)


def stored(driver: Driver, value: bytes) -> Reference:
    """An entry has this value, in a file."""
    reference = carried_out(driver, upload(place(Near(is_possible=True)), Pieces([value]), None))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    return reference_of(reference)


def removed(driver: Driver) -> None:
    """It has no more, and nobody was told of it lately."""
    driver.ask(protocol.POP, KEY, flags=protocol.WITHOUT_VALUE)
    driver.wait(blobs.LENT_SECONDS)


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


def test_a_client_that_sees_a_copy_of_the_folder_sends_and_fetches_chunks(driver: Driver, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")

    def opened(path: str, writes: bool) -> Any:
        if not os.path.exists(path.replace(str(tmp_path / "blobs"), copy)):
            shutil.copytree(tmp_path / "blobs", copy, dirs_exist_ok=True)
        return _opened(path.replace(str(tmp_path / "blobs"), copy), writes)

    near = Near(is_possible=True, opened=opened)
    in_file = carried_out(driver, upload(place(near), Pieces([VALUE]), None))
    assert driver.ask(protocol.PUT, KEY, in_file).status == protocol.UNKNOWN_BLOB
    reference = carried_out(driver, upload(place(near), Pieces([VALUE]), None, by_file=False))
    assert driver.ask(protocol.PUT, KEY, reference).status == protocol.OK
    for file in Path(copy).iterdir():
        file.write_bytes(bytes(len(VALUE)))
    (Path(copy) / reference_of(reference).id.hex()).write_bytes(bytes(len(VALUE)))
    assert carried_out(driver, download(place(near), reference_of(reference), None)) == VALUE


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
def test_a_damaged_file_is_a_storage_error_that_names_it(driver: Driver, damage: str) -> None:
    of = stored(driver, VALUE)
    path = found(driver, of.id)
    path.write_bytes(VALUE[:-1] if damage == "cut short" else VALUE[:-1] + b"!")
    with pytest.raises(StorageError, match=f"cannot put 'k' in Dict 'kv'.*{path} is damaged"):
        carried_out(driver, download(place(Near(is_possible=True)), of, None))


def test_a_large_file_that_is_removed_while_it_is_read_is_read_to_its_end(driver: Driver) -> None:
    of = stored(driver, LARGE)
    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, lambda: removed(driver)))
    assert carried_out(driver, download(place(near), of, None)) == LARGE


@pytest.mark.parametrize("size", [len(VALUE), 100])
def test_a_file_that_became_another_blob_while_it_was_read_is_not_believed(driver: Driver, size: int) -> None:
    of = stored(driver, VALUE)
    others: list[Reference] = []

    def reuse() -> None:
        if not others:
            removed(driver)
            others.extend(stored(driver, bytes(size)) for _ in range(READY_MAX))

    near = Near(is_possible=True, opened=lambda path, writes: Wrapped(path, writes, reuse))
    assert carried_out(driver, download(place(near), of, None)) is None
    assert carried_out(driver, download(place(Near(is_possible=True)), others[-1], None)) == bytes(size)


def test_a_file_that_was_a_larger_blobs_ends_where_the_next_one_does(driver: Driver) -> None:
    path = found(driver, stored(driver, VALUE).id)
    removed(driver)
    short = VALUE[::-1][:300_000]
    files = [found(driver, stored(driver, short).id) for _ in range(READY_MAX)]
    assert path in files
    assert [file.read_bytes() for file in files] == [short] * READY_MAX


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
