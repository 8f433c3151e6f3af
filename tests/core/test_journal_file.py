"""The journal's file on disk: through the page cache, and past it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdall.errors import StorageError
from holdall.worker import journal_file, rows
from holdall.worker.directory import DataDirectory
from holdall.worker.journal import JOURNAL_BYTES, PASS_BY_BYTES
from holdall.worker.journal_file import BLOCK_BYTES, DirectIOJournalFile, DiskJournalFile, opened_journal
from holdall.worker.leveldb import LevelDBStore
from holdall.worker.opened import opened_store
from holdall.worker.rows import JOURNAL_ROW
from holdall.worker.store import Store
from holdall.worker.transaction import Transaction, format_store

either_way = pytest.mark.parametrize("mostly_synced", [False, True])


def rows_in(store: Store) -> dict[bytes, bytes]:
    return dict(store.scan(b""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A worker's folder with a new store."""
    directory = DataDirectory(tmp_path / "data")
    directory.path.mkdir()
    directory.prepare(1)
    directory.open_store(0).close()
    return directory.part(0)


@contextmanager
def as_killed(folder: Path, copy: Path, changes: list[Any], *, mostly_synced: bool) -> Iterator[Path]:
    """A copy of the folder as it is while these changes, and no others, are in the journal alone."""
    with closing(opened_store(folder, mostly_synced=mostly_synced)) as store:
        for each in changes:
            store.write(each, sync=True)
        shutil.copytree(folder, copy)
    yield copy


@either_way
def test_what_only_the_journal_has_is_there_after_a_kill(folder: Path, tmp_path: Path, mostly_synced: bool) -> None:
    changes: list[Any] = [{b"a": b"1"}, {b"a": None, b"b": b"2"}, {b"c": b"v" * (JOURNAL_BYTES // 4)}, {b"d": b"4"}]
    with as_killed(folder, tmp_path / "copy", changes, mostly_synced=mostly_synced) as copy:
        with closing(LevelDBStore(copy / "store")) as store:
            assert (store.get(b"b"), store.get(b"d")) == (b"2", None)
        for _ in range(2):
            with closing(opened_store(copy)) as store:
                assert rows_in(store).keys() - {rows.FIRST_ROW, rows.LAST_ROW} == {b"b", b"c", b"d"}


@either_way
def test_the_file_has_its_size_from_the_start_and_keeps_it(folder: Path, mostly_synced: bool) -> None:
    file = folder / "journal"
    assert (file.stat().st_size, file.stat().st_mode & 0o777) == (JOURNAL_BYTES, 0o600)
    assert file.stat().st_blocks * 512 >= JOURNAL_BYTES, (
        "a block that was never written costs a sync of the file system's journal"
    )
    with closing(opened_store(folder, mostly_synced=mostly_synced)) as store:
        for number in range(300):
            store.write({b"%d" % number: b"v" * 40_000}, sync=number % 3 == 0)
    assert file.stat().st_size == JOURNAL_BYTES
    with closing(opened_store(folder)) as store:
        assert len(rows_in(store)) == 300 + 2


def test_a_large_batch_is_not_written_twice_unless_the_store_had_to_be_synced_for_it(folder: Path) -> None:
    file = folder / "journal"
    with closing(opened_store(folder)) as store:
        for is_in_journal in (False, True):
            value = b"%d" % is_in_journal * PASS_BY_BYTES
            store.write({b"large": value}, False)
            assert (value in file.read_bytes()) == is_in_journal
            assert store.get(b"large") == value
            store.write({b"small": b"v"}, False)


def test_a_journal_that_is_missing_is_refused(folder: Path) -> None:
    (folder / "journal").unlink()
    for _ in range(2):
        with pytest.raises(StorageError, match=f"{folder / 'journal'} is missing, with what was written last: restore"):
            opened_store(folder)


def test_a_journal_that_is_cut_short_is_refused(folder: Path) -> None:
    file = folder / "journal"
    file.write_bytes(file.read_bytes()[:1000])
    for _ in range(2):
        with pytest.raises(StorageError, match=f"{file} has 1,000 of its 4,194,304 bytes, and lacks what was written last"):
            opened_store(folder)


def test_a_journal_whose_making_was_interrupted_is_completed(folder: Path) -> None:
    file = folder / "journal"
    file.write_bytes(bytes(1000))
    with closing(LevelDBStore(folder / "store")) as store:
        store.write({JOURNAL_ROW: None}, True)
    opened_store(folder).close()
    assert file.stat().st_size == JOURNAL_BYTES


def test_a_journal_whose_maker_was_killed_before_it_was_synced_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal").write_bytes(bytes(JOURNAL_BYTES))
    synced: list[object] = []
    monkeypatch.setattr(journal_file, "sync", synced.append)
    monkeypatch.setattr(journal_file, "sync_folder", synced.append)
    with closing(DiskJournalFile(tmp_path / "journal")) as file:
        assert synced == [file._descriptor, tmp_path]


def test_a_journal_that_cannot_be_used_is_a_storage_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape(f"the journal {tmp_path} cannot be opened: Is a directory")):
        DiskJournalFile(tmp_path)
    with (
        closing(DiskJournalFile(tmp_path / "journal")) as file,
        pytest.raises(StorageError, match="cannot be written: Invalid"),
    ):
        file.write(-1, b"v")


@pytest.mark.parametrize("number", [2, 3])
def test_a_directory_of_a_format_before_is_converted_when_it_is_opened(folder: Path, number: int) -> None:
    before: dict[bytes, bytes | None] = dict.fromkeys((rows.FIRST_ROW, rows.LAST_ROW), bytes([number]))
    with closing(LevelDBStore(folder / "store")) as store:
        if number == 2:
            (folder / "journal").unlink()
            before[JOURNAL_ROW] = None
        store.write({**before, b"Na": b"1"}, True)
    for _ in range(2):
        with closing(opened_store(folder)) as store:
            Transaction(store, sync=True)
            assert store.get(b"Na") == b"1"


def test_a_store_of_a_later_format_is_refused_and_left_as_it_is(folder: Path) -> None:
    later = bytes([rows.FORMAT + 1])
    with closing(LevelDBStore(folder / "store")) as store:
        format_store(store)
        store.write({rows.FIRST_ROW: later, rows.LAST_ROW: later}, True)
        before = dict(store.scan(b""))
    with pytest.raises(StorageError, match=f"has format {rows.FORMAT + 1}, this one reads {rows.FORMAT}: use a later holdall"):
        opened_store(folder)
    with closing(LevelDBStore(folder / "store")) as store:
        assert dict(store.scan(b"")) == before


# Past the page cache


def test_what_is_written_and_staged_is_there_once_it_is_synced_and_nothing_else_is_changed(
    direct: DirectIOJournalFile,
) -> None:
    expected = bytearray(JOURNAL_BYTES)

    def place(at: int, data: bytes) -> int:
        expected[at : at + len(data)] = data
        return at + len(data)

    start = at = 0
    for number, size in enumerate([1, 4094, 1, 1, 4096, 9_000, 60_000, 3] * 3):
        data = bytes([number + 1]) * size
        at, before = place(at, data), at
        if number % 3:
            direct.stage(before, data)
            direct.sync(start, at)
            start = at
        else:
            direct.write(before, data)
        assert direct.read() == expected
    direct.stage(0, b"once more from the start")
    direct.sync(0, place(0, b"once more from the start"))
    assert direct.read() == expected


@pytest.mark.usefixtures("direct")
def test_what_was_before_is_kept_in_the_first_block_until_something_else_is_there(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    file.write_bytes(b"a record of before" + bytes(JOURNAL_BYTES))
    with closing(DirectIOJournalFile(file)) as direct:
        assert direct.read()[:18] == b"a record of before"
        direct.stage(0, b"A")
        assert direct.read()[:18] == b"a record of before"
        direct.sync(0, 1)
        assert direct.read()[:18] == b"A record of before"
        direct.stage(BLOCK_BYTES, b"B")
        direct.sync(BLOCK_BYTES, BLOCK_BYTES + 1)
        assert direct.read()[: BLOCK_BYTES + 1] == b"A record of before" + bytes(BLOCK_BYTES - 18) + b"B"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have nothing to fall back from")
@pytest.mark.parametrize("lacks", ["the file system", "Python"])
def test_where_a_file_cannot_be_written_so_it_is_written_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    if lacks == "Python":
        monkeypatch.delattr(os, "RWF_DSYNC", raising=False)
    else:
        monkeypatch.setattr(os, "O_DIRECT", os.O_DIRECTORY)  # which no file is opened with
    before = os.listdir("/proc/self/fd")
    with closing(opened_journal(tmp_path / "journal", mostly_synced=True)) as file:
        assert type(file) is DiskJournalFile
        file.stage(0, b"v")
        file.sync(0, 1)
        assert file.read()[:1] == b"v"
    assert os.listdir("/proc/self/fd") == before


def test_a_disk_that_cannot_be_written_is_a_storage_error(direct: DirectIOJournalFile) -> None:
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, direct._direct)
    os.close(full)
    with pytest.raises(StorageError, match=r"the journal .* cannot be written: No space left on device"):
        direct.write(0, b"v")
    with pytest.raises(StorageError, match=r"the journal .* cannot be written: Operation not supported"):
        direct.sync(0, 1)
