"""The file of a backup: what was written is read, and a file with any byte changed, or any end missing, is refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdall import StorageError, backup
from holdall.backup import End, Head, Tally
from holdall.blob import Reference
from holdall.bodies import encode
from holdall.disk import FORMAT
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.directory.restore import restore

WORKERS = 2
HEAD = Head(FORMAT, b"i" * 16, WORKERS, 1e9)

Written = list[tuple[int, list[tuple[bytes, bytes]]]]
pages = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)))))


def written(pages: Written, end: End | None = None, head: Head = HEAD) -> bytes:
    file, tallies = BytesIO(), [Tally()] * WORKERS
    backup.write_head(file, head)
    for worker, page in pages:
        data = encode(page)
        backup.write_rows(file, worker, data)
        tallies[worker] = Tally(tallies[worker].rows + len(page), crc32(data, tallies[worker].crc))
    backup.write_end(file, end or End(tallies))
    return file.getvalue()


def read(data: bytes) -> tuple[Head, Written]:
    file = BytesIO(data)
    head = backup.read_head(file, "kv.backup")
    parts = backup.read_parts(file, head, "kv.backup")
    return head, [(part.worker, part.rows) for part in parts if isinstance(part, backup.Rows)]


SOME: Written = [(0, [(b"a", b"1"), (b"b", b"2")]), (1, []), (1, [(b"a", b"1")]), (0, [(b"c", b"")])]


@given(pages)
def test_what_was_written_is_read(pages: Written) -> None:
    assert read(written(pages)) == (HEAD, pages)


def test_a_backup_with_any_bit_changed_is_refused() -> None:
    data = written(SOME)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(StorageError, match=r"kv\.backup"):
            read(changed)


def test_a_backup_without_any_end_of_it_is_refused() -> None:
    data = written(SOME)
    for size in range(len(data)):
        with pytest.raises(StorageError, match=r"kv\.backup is (incomplete|no backup)"):
            read(data[:size])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (written(SOME) + b"\x00", "something follows its end"),
        (written(SOME, End([Tally(3, 0), Tally(1, 0)])), "or others than"),
        (written(SOME, End([])), "or others than"),
        (
            written(SOME, head=Head(FORMAT + 1, b"", 2, 0.0)),
            "has format 6, this version.* use a later version",
        ),
        (written(SOME, head=Head(FORMAT, b"", 1, 0.0)), "rows of a worker 1"),
        (written(SOME, head=Head(FORMAT, b"", 0, 0.0)), "does not begin with its head"),
        (b"holdall", "is no backup"),
        (b"", "is no backup"),
    ],
)
def test_a_backup_that_contradicts_itself_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(StorageError, match=what):
        read(data)


def test_a_part_of_a_kind_to_come_is_refused() -> None:
    file = BytesIO()
    backup.write_head(file, HEAD)
    backup._write_part(file, b"X", b"something")
    with pytest.raises(StorageError, match=r"a part at byte .* that this version of holdall does not know"):
        read(file.getvalue())


def test_a_damaged_backup_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "kv.backup").write_bytes(written(SOME)[:-1])
    data = tmp_path / "data"
    with pytest.raises(StorageError, match="incomplete"):
        restore(tmp_path / "kv.backup", DataDirectory(data), lambda _done: None)
    assert [each.name for each in data.iterdir()] == ["lock"]


def test_a_file_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        restore(tmp_path / "kv.backup", DataDirectory(tmp_path / "data"), lambda _done: None)


def test_a_blob_comes_back_and_a_damaged_one_is_refused() -> None:
    data = bytearray(b"some bytes")
    reference = Reference(b"i" * 16, len(data), crc32(data))
    for damage, counted in ((0, 1), (1, 1), (0, 0)):
        file = BytesIO()
        backup.write_head(file, HEAD)
        backup.write_blob(file, 1, replace(reference, crc=reference.crc ^ damage), data)
        backup.write_end(file, End([Tally(), Tally(0, 0, counted)]))
        file.seek(0)
        head = backup.read_head(file, "kv.backup")
        if damage or not counted:
            with pytest.raises(StorageError, match="is damaged"):
                list(backup.read_parts(file, head, "kv.backup"))
        else:
            (part,) = backup.read_parts(file, head, "kv.backup")
            assert isinstance(part, backup.Blob)
            assert (part.worker, part.reference, bytes(part.data)) == (1, reference, bytes(data))


@pytest.mark.parametrize(("other", "advice"), [(1, "begin anew in another directory"), (FORMAT + 1, "use a later version")])
def test_a_backup_of_another_format_is_refused_and_nothing_is_made_of_it(tmp_path: Path, other: int, advice: str) -> None:
    with open(tmp_path / "kv.backup", "wb") as file:
        backup.write_head(file, replace(HEAD, format=other))
    with pytest.raises(StorageError, match=f"has format {other}.*{advice}"):
        restore(tmp_path / "kv.backup", DataDirectory(tmp_path / "data"), lambda _done: None)
    assert not (tmp_path / "data" / "layout.json").exists()
