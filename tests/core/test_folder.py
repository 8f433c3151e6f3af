"""Blob files on disk: what is sealed is what is in the file, however its pieces came."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from holdall.blob import Reference
from holdall.errors import StorageError
from holdall.worker import folder
from holdall.worker.files import Sealed
from holdall.worker.folder import SCRATCH, Folder
from tests.processes import until

ID = b"1" * 16
PIECES = {0: b"one", 3: b"two", 6: b"three"}
VALUE = b"onetwothree"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Folder]:
    opened = Folder(tmp_path / "blobs", sync=True)
    yield opened
    opened.close()


def sealed(files: Folder, value: bytes = VALUE) -> Sealed:
    files.seal(Reference(ID, len(value), crc32(value)))
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


def given(files: Folder, blob_id: bytes) -> Path:
    return Path(os.fsdecode(files.make(blob_id).path))


def with_spares(files: Folder) -> None:
    """Have it make spares: one that is asked for is followed by others."""
    given(files, b"0" * 16)
    sealed(files, b"")  # and its thread does one thing after the other
    files.remove([b"0" * 16])


def test_who_asks_for_a_file_is_given_one_that_is_ready(files: Folder, tmp_path: Path) -> None:
    with_spares(files)
    until(lambda: files.names() == [])
    path = given(files, ID)
    assert path.parent == tmp_path / "blobs" / "ready"
    assert given(files, ID) == path
    assert files.names() == [ID]
    path.write_bytes(VALUE)
    assert sealed(files) == Sealed(ID)
    assert files.read(ID, 0, len(VALUE)) == VALUE
    assert files.names() == [ID]


def test_a_file_that_was_ready_and_is_not_wanted_goes(files: Folder) -> None:
    with_spares(files)
    path = given(files, ID)
    files.remove([ID])
    until(lambda: not path.exists())
    assert files.names() == []


def test_what_is_sent_in_pieces_after_all_is_sealed(files: Folder) -> None:
    with_spares(files)
    given(files, ID)
    files.write(ID, 0, VALUE)
    assert sealed(files) == Sealed(ID)
    assert files.read(ID, 0, len(VALUE)) == VALUE


def test_files_that_were_ready_go_at_the_next_start(files: Folder, tmp_path: Path) -> None:
    with_spares(files)
    path = given(files, ID)
    assert path.exists()
    files.close()
    assert Folder(tmp_path / "blobs", sync=True).names() == []
    assert not path.exists()
