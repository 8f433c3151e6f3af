"""Blob files on disk: what is sealed is what is in the file, however it came."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdall.errors import StorageError
from holdall.worker.large import folder
from holdall.worker.large.files import Sealed
from holdall.worker.large.folder import Folder
from tests.processes import until

ID, OTHER = b"1" * 16, b"2" * 16
CHUNKS = {0: b"one", 3: b"two", 6: b"three"}
VALUE = b"onetwothree"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Folder]:
    opened = Folder(tmp_path / "blobs", sync=True)
    yield opened
    opened.close()


def sealed(files: Folder, size: int = len(VALUE), name: bytes = ID) -> Sealed:
    files.seal(name, size)
    ended: list[Sealed] = []

    def has_ended() -> bool:
        ended.extend(files.sealed())
        return bool(ended)

    until(has_ended)
    return ended[0]


@pytest.mark.parametrize("order", list(itertools.permutations(CHUNKS)))
@pytest.mark.parametrize("waiting", [-1, 1 << 30])
def test_chunks_in_any_order_make_the_file(
    files: Folder, order: tuple[int, ...], waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "WAITING_BYTES_MAX", waiting)
    for offset in order:
        files.write(ID, offset, CHUNKS[offset])
    assert sealed(files) == Sealed(ID)
    assert files.read(ID, 0, len(VALUE)) == VALUE


@pytest.mark.parametrize("size", [0, len(VALUE) - 1, len(VALUE) + 1])
def test_a_file_of_another_size_is_torn(files: Folder, size: int) -> None:
    files.write(ID, 0, VALUE)
    assert sealed(files, size).torn
    assert sealed(files, 0, OTHER).torn  # there is none


def test_what_is_sealed_survives_a_power_cut_and_its_name_does(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    for name in ("fdatasync", "fsync"):
        real = getattr(os, name)

        def noting(descriptor: int, real: object = real) -> None:
            synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
            real(descriptor)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noting)
    files.make(ID).write(VALUE)
    assert sealed(files) == Sealed(ID)
    assert synced == [ID.hex(), "blobs"]


def test_of_much_that_is_written_most_is_on_the_disk_before_it_is_sealed(
    files: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SYNC_BYTES", 100)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    for offset in range(0, 400, 40):
        files.write(ID, offset, bytes(40))
    assert sealed(files, 400) == Sealed(ID)
    assert synced == [120, 240, 360, 400]


def test_a_chunk_that_cannot_be_written_is_told_before_anything_is_sealed(files: Folder) -> None:
    Path(files.path(ID)).mkdir()
    files.write(ID, 0, VALUE)
    assert "cannot be written" in sealed(files).error


def test_a_chunk_that_cannot_be_written_ends_the_upload(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(files.path(ID)).mkdir()
    monkeypatch.setattr(folder, "WAITING_BYTES_MAX", -1)
    with pytest.raises(StorageError, match="cannot be written"):
        files.write(ID, 0, VALUE)


def test_a_file_that_cannot_be_made_or_opened_is_a_storage_error_that_names_it(files: Folder) -> None:
    Path(files.path(ID)).mkdir()
    with pytest.raises(StorageError, match=f"{files.path(ID)} cannot be made: Is a directory"):
        files.make(ID)
    assert files.open(OTHER) is None
    assert files.read(OTHER, 0, 1) is None


def test_a_file_that_ends_too_early_is_a_storage_error_that_names_it(files: Folder) -> None:
    files.make(ID).write(VALUE)
    with pytest.raises(StorageError, match=f"{files.path(ID)} is damaged: it ends before byte 12"):
        files.read(ID, 1, len(VALUE))


def test_what_is_removed_goes_and_what_a_client_has_open_of_it_can_be_read_on(files: Folder) -> None:
    files.make(ID).write(VALUE)
    files.make(OTHER).write(VALUE)
    opened = files.open(ID)
    files.remove([ID, b"3" * 16])
    until(lambda: files.names() == [OTHER])
    into = bytearray(len(VALUE))
    assert opened is not None
    assert opened.read(memoryview(into)) == len(VALUE)
    assert into == VALUE


def test_an_upload_that_comes_again_stays_though_its_file_was_to_go(files: Folder) -> None:
    files.make(ID).write(b"of an earlier life of this worker")
    files.remove([ID])
    files.write(ID, 0, VALUE)
    assert sealed(files) == Sealed(ID)
    assert files.read(ID, 0, len(VALUE)) == VALUE


def test_files_of_others_in_the_folder_are_left_alone(files: Folder, tmp_path: Path) -> None:
    (tmp_path / "blobs" / "somebody else's").touch()
    assert files.names() == []
