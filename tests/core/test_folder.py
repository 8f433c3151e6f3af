"""Blob files on disk: what is sealed is what is in the file, however its pieces came."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from holdall.blob import REUSED_BYTES_MAX, Reference
from holdall.errors import StorageError
from holdall.worker import folder
from holdall.worker.files import Sealed
from holdall.worker.folder import ROOM_BYTES, SCRATCH, SPARES_MAX, Folder
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
    assert given(files, OTHER).read_bytes() == b""


def stored(files: Folder, blob_id: bytes, value: bytes) -> None:
    given(files, blob_id).write_bytes(value)
    assert sealed(files, value, blob_id) == Sealed(blob_id)


def removed(files: Folder, *blob_ids: bytes) -> None:
    files.remove(blob_ids)
    until(lambda: files.names() == [])


def test_the_file_of_a_blob_that_is_removed_is_the_next_one_under_another_name(files: Folder, tmp_path: Path) -> None:
    stored(files, ID, VALUE)
    before = (tmp_path / "blobs" / ID.hex()).stat().st_ino
    removed(files, ID)
    path = given(files, OTHER)
    assert (path.stat().st_ino, path.read_bytes()) == (before, VALUE)
    with path.open("r+b") as file:
        file.write(b"short")
    assert sealed(files, b"short", OTHER) == Sealed(OTHER)
    assert files.read(OTHER, 0, 5) == b"short"
    assert (tmp_path / "blobs" / OTHER.hex()).stat().st_size == 5


def test_a_file_that_was_a_blob_is_no_other_one_before_somebody_writes_to_it(files: Folder) -> None:
    """A client that was told of another file, before a start of the worker, vouches for that one."""
    stored(files, ID, VALUE)
    removed(files, ID)
    assert given(files, OTHER).read_bytes() == VALUE
    assert sealed(files, VALUE, OTHER).torn


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
    assert os.listdir(tmp_path / "blobs") == ["ready"]


def test_pieces_are_checked_though_their_file_was_another_blob(files: Folder) -> None:
    stored(files, ID, VALUE)
    removed(files, ID)
    given(files, OTHER)
    files.write(OTHER, 3, b"TWO")
    assert sealed(files, b"oneTWO", OTHER) == Sealed(OTHER)
    assert files.read(OTHER, 0, 6) == b"oneTWO"


def test_a_blob_that_is_too_large_to_be_used_again_goes(files: Folder) -> None:
    stored(files, ID, bytes(REUSED_BYTES_MAX + 1))
    removed(files, ID)
    assert given(files, OTHER).read_bytes() == b""


def test_no_file_is_kept_on_a_disk_with_little_room(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(files, ID, VALUE)
    monkeypatch.setattr(files, "free_bytes", lambda: ROOM_BYTES - 1)
    removed(files, ID)
    assert given(files, OTHER).read_bytes() == b""


def test_no_more_files_are_kept_ready_than_may_be(files: Folder, tmp_path: Path) -> None:
    blob_ids = [bytes([number]) * 16 for number in range(2 * SPARES_MAX)]
    for each in blob_ids:
        stored(files, each, VALUE)
    removed(files, *blob_ids)
    assert len(list((tmp_path / "blobs" / "ready").iterdir())) == SPARES_MAX


def test_who_seals_a_blob_waits_for_few_of_those_that_are_removed(files: Folder, tmp_path: Path) -> None:
    blob_ids = [bytes([number]) * 16 for number in range(100)]
    for each in blob_ids:
        (tmp_path / "blobs" / each.hex()).write_bytes(VALUE)
    for each in (b"x" * 16, b"y" * 16):
        given(files, each).write_bytes(VALUE)
    there_when_sealed: list[int] = []
    files._wake = lambda: there_when_sealed.append(len(os.listdir(tmp_path / "blobs")))
    files.remove(blob_ids)
    for each in (b"x" * 16, b"y" * 16):
        files.seal(Reference(each, len(VALUE), crc32(VALUE)))
    until(lambda: len(there_when_sealed) == 2)
    assert there_when_sealed[1] > 90
    until(lambda: set(files.names()) == {b"x" * 16, b"y" * 16})


def test_what_is_read_of_a_file_that_became_another_blob_is_not_believed(
    files: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored(files, ID, VALUE)
    pread = os.pread

    def late(descriptor: int, size: int, offset: int) -> bytes:
        removed(files, ID)
        with given(files, OTHER).open("r+b") as file:
            file.write(bytes(len(VALUE)))
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", late)
    assert files.read(ID, 0, len(VALUE)) is None


def test_what_is_sent_in_pieces_after_all_is_sealed(files: Folder) -> None:
    with_spares(files)
    given(files, ID)
    files.write(ID, 0, VALUE)
    assert sealed(files) == Sealed(ID)
    assert files.read(ID, 0, len(VALUE)) == VALUE


def test_pieces_are_checked_whoever_else_vouches_for_the_file(files: Folder) -> None:
    given(files, ID)
    files.write(ID, 0, VALUE[::-1])
    assert sealed(files).torn


def test_files_that_were_ready_go_at_the_next_start(files: Folder, tmp_path: Path) -> None:
    with_spares(files)
    path = given(files, ID)
    assert path.exists()
    files.close()
    assert Folder(tmp_path / "blobs", sync=True).names() == []
    assert not path.exists()
