"""Blob files on disk: what is sealed is what is in the file, however its pieces came."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from holdall.blob import REUSED_BYTES_MAX, Reference
from holdall.errors import StorageError
from holdall.worker.large import folder
from holdall.worker.large.files import Sealed
from holdall.worker.large.folder import READY, READY_MAX, ROOM_BYTES, SCRATCH, Folder
from tests.processes import until

ID, OTHER = b"1" * 16, b"2" * 16
PIECES = {0: b"one", 3: b"two", 6: b"three"}
VALUE = b"onetwothree"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Folder]:
    opened = Folder(tmp_path / "blobs", sync=True)
    yield opened
    opened.close()


def sealed(files: Folder, value: bytes = VALUE, blob_id: bytes = ID) -> Sealed:
    files.seal(Reference(blob_id, len(value), crc32(value)))
    ended: list[Sealed] = []

    def has_ended() -> bool:
        ended.extend(files.sealed())
        return bool(ended)

    until(has_ended)
    return ended[0]


@pytest.mark.parametrize("order", list(itertools.permutations(PIECES)))
@pytest.mark.parametrize("queued", [-1, 1 << 30])
def test_pieces_in_any_order_make_the_blob(
    files: Folder, order: tuple[int, ...], queued: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "QUEUED_BYTES_MAX", queued)
    for offset in order:
        files.write(ID, offset, PIECES[offset])
    assert sealed(files) == Sealed(ID)
    assert files.read(ID, 0, len(VALUE)) == VALUE


def test_a_piece_that_is_written_over_with_another_is_not_what_was_meant(files: Folder) -> None:
    for offset, piece in PIECES.items():
        files.write(ID, offset, piece)
    files.write(ID, 3, b"TWO")
    assert sealed(files).torn


def test_pieces_that_overtake_others_are_checked_in_the_file(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for offset, piece in PIECES.items():
        files.write(ID, offset, piece)
    monkeypatch.setattr(folder, "QUEUED_BYTES_MAX", -1)
    files.write(ID, 3, b"TWO")
    assert sealed(files).torn or files.read(ID, 0, len(VALUE)) == VALUE


def test_a_piece_that_cannot_be_written_is_told_before_anything_is_sealed(files: Folder, tmp_path: Path) -> None:
    (tmp_path / "blobs" / (ID.hex() + SCRATCH)).mkdir()
    files.write(ID, 0, VALUE)
    assert "cannot be written" in sealed(files).error


def test_a_piece_that_cannot_be_written_ends_the_upload(files: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blobs" / (ID.hex() + SCRATCH)).mkdir()
    monkeypatch.setattr(folder, "QUEUED_BYTES_MAX", -1)
    with pytest.raises(StorageError, match="cannot be written"):
        files.write(ID, 0, VALUE)


def taken(files: Folder) -> Path:
    """A file for a client to write."""
    names: list[bytes] = []

    def is_ready() -> bool:
        name = files.take()
        if name is not None:
            names.append(name)
        return name is not None

    until(is_ready)
    return Path(files.path(names[0]))


def name_of(path: Path) -> bytes:
    return bytes.fromhex(path.name)


def test_who_takes_a_file_has_it_alone(files: Folder, tmp_path: Path) -> None:
    paths = [taken(files) for _ in range(3 * READY)]
    assert len(set(paths)) == len(paths)
    assert {path.parent for path in paths} == {tmp_path / "blobs"}
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    until(lambda: set(map(name_of, paths)) == set(files.names()))


def test_a_file_is_taken_when_its_name_survives_a_power_cut(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(len(os.listdir(descriptor)))

    monkeypatch.setattr(os, "fsync", note)
    assert files.take() is None
    taken(files)
    assert synced[0] == READY


def test_a_file_that_is_given_back_is_the_next_one_with_what_is_in_it(files: Folder) -> None:
    path = taken(files)
    path.write_bytes(VALUE)
    files.give_back(name_of(path), len(VALUE))
    assert files.names() == []
    assert path in [taken(files) for _ in range(READY)]
    assert path.read_bytes() == VALUE


@pytest.mark.parametrize("age", [0, 3600])
def test_a_file_that_is_written_to_in_the_same_tick_as_before_is_written(files: Folder, age: int) -> None:
    """Of a file system whose times are coarse."""
    path = taken(files)
    path.write_bytes(VALUE)
    now = time.time_ns() - age * 1_000_000_000
    os.utime(path, ns=(now, now))
    files.give_back(name_of(path), len(VALUE))
    while taken(files) != path:
        pass
    assert not files.is_written(name_of(path), len(VALUE))
    with path.open("r+b") as file:
        file.write(VALUE)
    if not age:
        os.utime(path, ns=(now, now))
    assert files.is_written(name_of(path), len(VALUE))


def test_what_came_in_pieces_is_nobody_elses(files: Folder, tmp_path: Path) -> None:
    files.write(ID, 0, VALUE)
    assert sealed(files) == Sealed(ID)
    files.give_back(ID, len(VALUE))
    until(lambda: not (tmp_path / "blobs" / ID.hex()).exists())


def test_a_file_that_is_too_large_to_be_used_again_goes(files: Folder) -> None:
    path = taken(files)
    files.give_back(name_of(path), REUSED_BYTES_MAX + 1)
    until(lambda: not path.exists())
    assert name_of(path) not in files.names()


def test_no_file_is_kept_on_a_disk_with_little_room(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = taken(files)
    monkeypatch.setattr(files, "free_bytes", lambda: ROOM_BYTES - 1)
    files.give_back(name_of(path), len(VALUE))
    until(lambda: not path.exists())
    assert name_of(path) not in files.names()


def test_no_more_files_are_kept_than_may_be(files: Folder, tmp_path: Path) -> None:
    paths = [taken(files) for _ in range(3 * READY_MAX)]
    until(lambda: not files._is_making)
    for path in paths:
        files.give_back(name_of(path), len(VALUE))
    until(lambda: len(os.listdir(tmp_path / "blobs")) == READY_MAX)
    assert files.names() == []


def test_files_that_were_ready_are_no_longer_at_the_next_start_which_finds_that_nothing_owns_them(
    files: Folder, tmp_path: Path
) -> None:
    path = taken(files)
    files.give_back(name_of(path), len(VALUE))
    files.close()
    again = Folder(tmp_path / "blobs", sync=True)
    assert name_of(path) in again.names()
    again.close()


def test_a_folder_of_before_files_had_names_of_their_own_has_no_ready_ones_left(tmp_path: Path) -> None:
    (tmp_path / "blobs" / "ready").mkdir(parents=True)
    (tmp_path / "blobs" / "ready" / "some").write_bytes(VALUE)
    Folder(tmp_path / "blobs", sync=True).close()
    assert os.listdir(tmp_path / "blobs") == []


def test_an_upload_that_comes_again_stays_though_its_file_was_to_go(files: Folder, tmp_path: Path) -> None:
    file = tmp_path / "blobs" / ID.hex()
    file.write_bytes(VALUE)
    others = [bytes([number]) * 16 for number in range(100, 120)]
    for each in others:
        (tmp_path / "blobs" / each.hex()).write_bytes(VALUE)
    files.remove([*others, ID])
    files.write(ID, 0, VALUE)
    assert sealed(files) == Sealed(ID)
    until(lambda: files.names() == [ID])
    assert files.read(ID, 0, len(VALUE)) == VALUE


def test_what_is_removed_goes_though_others_go_on(files: Folder, tmp_path: Path) -> None:
    file = tmp_path / "blobs" / ID.hex()
    file.write_bytes(VALUE)
    files.remove([ID])

    def is_gone() -> bool:
        files.write(OTHER, 0, b"x")
        return not file.exists()

    until(is_gone)
    assert files.names() == [OTHER]


def test_a_blob_goes_with_what_was_to_become_it(files: Folder, tmp_path: Path) -> None:
    for name in (ID.hex(), ID.hex() + SCRATCH):
        (tmp_path / "blobs" / name).write_bytes(VALUE)
    files.remove(files.names())
    until(lambda: not files.names())
    assert os.listdir(tmp_path / "blobs") == []


def test_who_seals_a_blob_waits_for_few_of_those_that_are_removed(files: Folder, tmp_path: Path) -> None:
    blob_ids = [bytes([number]) * 16 for number in range(100)]
    for each in blob_ids:
        (tmp_path / "blobs" / each.hex()).write_bytes(VALUE)
    for each in (b"x" * 16, b"y" * 16):
        files.write(each, 0, VALUE)
    there_when_sealed: list[int] = []
    files._wake = lambda: there_when_sealed.append(len(os.listdir(tmp_path / "blobs")))
    files.remove(blob_ids)
    for each in (b"x" * 16, b"y" * 16):
        files.seal(Reference(each, len(VALUE), crc32(VALUE)))
    until(lambda: len(there_when_sealed) == 2)
    assert there_when_sealed[1] > 90
    until(lambda: set(files.names()) == {b"x" * 16, b"y" * 16})
