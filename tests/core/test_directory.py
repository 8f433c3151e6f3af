"""A data directory: laid out once, used by one service at a time, and refused rather than guessed at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdall import __version__
from holdall.disk import FORMAT, crc32
from holdall.errors import InvalidError, StorageError
from holdall.process import child
from holdall.protocol import VERSION
from holdall.worker.directory.layout import WORKERS_MAX
from holdall.worker.directory.locks import LOCK_RETRY_SECONDS, Holder, read_holder
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.state.transaction import Transaction
from holdall.worker.store.engines import store_of
from holdall.worker.store.store import Store
from tests.engines import USABLE
from tests.memory_files import MemoryFiles


@pytest.fixture(params=USABLE)
def directory(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataDirectory]:
    """A data directory for two workers, locked as a service would."""
    monkeypatch.setenv("HOLDALL_ENGINE", request.param)
    made = DataDirectory(tmp_path / "data")
    lock = made.lock()
    made.prepare(2)
    yield made
    lock.release()


def layout_file(directory: DataDirectory, **changes: Any) -> None:
    """Write a layout as another program would."""
    fields = {"id": "0" * 32, "history_id": "1" * 32, "secret": "2" * 64, "engine": "leveldb", "workers": 2}
    layout = {"format": FORMAT, **fields, **changes}
    (directory.path / "layout.json").write_bytes(msgspec.json.encode(layout))


def test_a_layout_is_written_once(directory: DataDirectory) -> None:
    layout = directory.layout()
    assert (layout.format, layout.workers, len(bytes.fromhex(layout.id))) == (FORMAT, 2, 16)
    for workers in (2, None):
        assert directory.prepare(workers) == layout
    assert DataDirectory(directory.path).layout() == layout
    assert sorted(each.name for each in directory.path.iterdir()) == ["layout.json", "lock", "worker-0", "worker-1"]


def test_two_directories_have_two_ids(directory: DataDirectory, tmp_path: Path) -> None:
    other = DataDirectory(tmp_path / "other")
    other.lock().release()
    assert other.prepare(2).id != directory.layout().id


def test_a_directory_is_private(directory: DataDirectory) -> None:
    assert directory.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("cpus", "workers"), [(1, 2), (2, 2), (3, 2), (4, 2), (6, 3), (8, 4), (64, 4)])
def test_a_new_directory_has_a_worker_for_every_other_cpu_but_two_to_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cpus)), raising=False)
    assert DataDirectory(tmp_path).prepare(None).workers == workers


@pytest.mark.parametrize("workers", [0, 1, 3, WORKERS_MAX + 1])
def test_another_number_of_workers_is_refused(directory: DataDirectory, workers: int) -> None:
    with pytest.raises(InvalidError, match=f"made for 2 workers and cannot be opened with {workers}"):
        directory.prepare(workers)
    assert directory.prepare(None).workers == 2


@pytest.mark.parametrize("workers", [-1, 0, WORKERS_MAX + 1])
def test_a_directory_is_not_made_for_an_impossible_number_of_workers(tmp_path: Path, workers: int) -> None:
    with pytest.raises(InvalidError, match=f"1 to {WORKERS_MAX} workers, not {workers}"):
        DataDirectory(tmp_path).prepare(workers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"null", b'{"format": 5, "id": 5, "workers": 2}', b"\x00" * 70])
def test_a_damaged_layout_is_refused_and_left_as_it_is(directory: DataDirectory, data: bytes) -> None:
    file = directory.path / "layout.json"
    file.write_bytes(data)
    for read in (directory.layout, lambda: directory.prepare(2), lambda: directory.prepare(None)):
        with pytest.raises(StorageError, match=r"layout\.json is damaged"):
            read()
    assert file.read_bytes() == data


def test_a_layout_that_is_not_utf8_is_refused(directory: DataDirectory) -> None:
    (directory.path / "layout.json").write_bytes(b'{"format": 5, "id": "\xe5", "workers": 2}')
    with pytest.raises(StorageError, match=r"layout\.json is damaged"):
        directory.layout()


def test_a_truncated_layout_is_refused(directory: DataDirectory) -> None:
    file = directory.path / "layout.json"
    data = file.read_bytes().strip()
    for size in range(len(data)):
        file.write_bytes(data[:size])
        with pytest.raises(StorageError):
            directory.layout()


def test_a_layout_with_any_byte_changed_is_refused(directory: DataDirectory) -> None:
    file = directory.path / "layout.json"
    data = file.read_bytes().strip()
    believed = []
    for at in range(len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            believed.append(directory.layout())
        except StorageError:
            continue
    assert believed == []


@pytest.mark.parametrize("change", [{"workers": 0}, {"workers": -1}, {"workers": 10**9}, {"id": "no hexadecimal digits"}])
def test_a_layout_of_impossible_values_is_refused(directory: DataDirectory, change: dict[str, Any]) -> None:
    layout_file(directory, **change)
    with pytest.raises(StorageError):
        directory.layout()


@pytest.mark.parametrize(("other", "advice"), [(FORMAT + 1, "use a later version"), (1, "begin anew in another directory")])
def test_another_format_is_refused_and_says_which_and_what_to_do(directory: DataDirectory, other: int, advice: str) -> None:
    layout_file(directory, format=other, fields_of_that_format=True)
    with pytest.raises(StorageError, match=f"has format {other}.*this version of holdall reads format {FORMAT}.*{advice}"):
        directory.prepare(None)


def test_stores_of_another_engine_are_refused(directory: DataDirectory) -> None:
    layout = msgspec.structs.replace(directory.layout(), engine="another")
    sound = msgspec.structs.replace(layout, crc=crc32(" ".join(map(str, msgspec.structs.astuple(layout)[:-1])).encode()))
    (directory.path / "layout.json").write_bytes(msgspec.json.encode(sound))
    with pytest.raises(StorageError, match="kept in 'another': use a later version"):
        directory.prepare(None)


def test_a_layout_that_is_missing_is_refused_where_none_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be used"):
        DataDirectory(tmp_path).layout()


def test_a_lost_layout_is_not_replaced_where_there_are_stores(directory: DataDirectory) -> None:
    lock = directory.lock_worker(0)
    directory.open_store(0, directory.layout().engine).close()
    lock.release()
    (directory.path / "layout.json").unlink()
    with pytest.raises(StorageError):
        directory.prepare(None)


@pytest.mark.parametrize("where", ["file", "file/below", "dangling/below"])
def test_a_directory_cannot_be_made_in_a_wrong_place(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "dangling").symlink_to(tmp_path / "file" / "nowhere")
    directory = DataDirectory(tmp_path / where)
    for use in (directory.lock, lambda: directory.prepare(2), directory.layout):
        with pytest.raises(StorageError, match=f"the data directory {directory.path} cannot be"):
            use()
    assert (tmp_path / "file").read_text() == "text"


def test_a_worker_of_a_directory_that_is_missing_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        DataDirectory(tmp_path / "missing").lock_worker(0)


@pytest.mark.parametrize("same", ["path", "symlink", "symlink above", "relative", "dots"])
def test_a_second_lock_is_refused_by_whatever_path_and_names_the_process(
    directory: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "symlink").symlink_to(directory.path)
    (tmp_path / "above").symlink_to(tmp_path)
    paths = {"symlink": "symlink", "symlink above": "above/data", "relative": "data", "dots": "data/../data/."}
    with pytest.raises(
        StorageError, match=f"{directory.path} is in use by process {os.getpid()} of holdall {__version__}: end"
    ):
        DataDirectory(paths.get(same, directory.path)).lock()


def test_a_workers_part_is_locked_by_itself(directory: DataDirectory) -> None:
    locks = [directory.lock_worker(index) for index in (0, 1)]
    with pytest.raises(StorageError, match=f"the part of worker 1 in {directory.path} is in use by process {os.getpid()}"):
        directory.lock_worker(1)
    for lock in locks:
        lock.release()
    directory.lock_worker(1).release()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    for _ in range(3):
        lock = directory.lock()
        assert (tmp_path / "lock").read_text() == f"{os.getpid()} {__version__} {VERSION}\n"
        assert directory.holder() == Holder(os.getpid(), __version__, VERSION)
        lock.release()
        lock.release()


def test_the_lock_names_its_holder_and_not_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999\n")
    lock = DataDirectory(tmp_path).lock()
    with pytest.raises(StorageError, match=f"process {os.getpid()} of"):
        DataDirectory(tmp_path).lock()
    lock.release()


@pytest.mark.parametrize(
    ("line", "holder"),
    [
        (b"12345 0.2.0 4\n", Holder(12345, "0.2.0", 4)),
        (b"12345\n", Holder(12345)),
        (b"1 2.0.0.dev1+local 255\n", Holder(1, "2.0.0.dev1+local", 255)),
    ],
)
def test_a_lock_says_who_holds_it(directory: DataDirectory, line: bytes, holder: Holder) -> None:
    for file in (directory.path / "lock", directory.part(1) / "lock"):
        file.write_bytes(line)
    assert directory.holder() == read_holder(directory.part(1) / "lock") == holder


GARBAGE = (
    *(
        b"",
        b"\n",
        b"12345",
        b"0\n",
        b"-1\n",
        b"+1\n",
        b" 1\n",
        b"1_0\n",
        b"9999999999\n",
        b"process 1\n",
        b"1\n1\n",
        b"12345 0.2.0\n",
    ),
    *(b"12345 0.2.0 4 5\n", b"12345 0.2.0 four\n", b"12345 0.2.0 -4\n", b"12345 \xff 4\n", "\u0661 0.2.0 4\n".encode()),
    *(b"\xff\xfe", bytes(1_000), b"1" * 1_000_000, b"1 " + b"0" * 1_000_000 + b" 4\n"),
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:20]))
def test_a_lock_that_holds_garbage_names_nobody_and_is_a_lock(directory: DataDirectory, garbage: bytes) -> None:
    (directory.path / "lock").write_bytes(garbage)
    assert directory.holder() is None
    with pytest.raises(StorageError, match="is in use by an unknown process: end"):
        DataDirectory(directory.path).lock()


def test_a_lock_without_a_version_is_of_an_older_one(directory: DataDirectory) -> None:
    (directory.path / "lock").write_text("12345\n")
    with pytest.raises(StorageError, match="is in use by process 12345 of an older version of holdall: end"):
        DataDirectory(directory.path).lock()


def test_a_directory_without_a_lock_has_no_holder(tmp_path: Path) -> None:
    assert DataDirectory(tmp_path / "missing").holder() is None
    assert read_holder(DataDirectory(tmp_path).part(0) / "lock") is None


def test_reading_the_lock_file_does_not_drop_the_lock(directory: DataDirectory) -> None:
    assert directory.holder() is not None
    with open(directory.path / "lock", "a+"):
        pass
    with pytest.raises(StorageError, match="in use"):
        DataDirectory(directory.path).lock()


def test_a_lock_waits_for_its_holder_to_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, waits = DataDirectory(tmp_path), list[float]()
    holder = directory.lock()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            holder.release()

    monkeypatch.setattr("time.sleep", sleep)
    directory.lock(wait_seconds=3600).release()
    assert waits == [LOCK_RETRY_SECONDS] * 3


def test_a_lock_waits_no_longer_than_it_was_told(directory: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.append(now.pop() + seconds))
    with pytest.raises(StorageError, match="in use"):
        DataDirectory(directory.path).lock(wait_seconds=1.0)
    assert 101.0 <= now[0] < 101.0 + 2 * LOCK_RETRY_SECONDS


HOLD = """
import sys
from holdall.worker.directory.opening import DataDirectory
lock = DataDirectory(sys.argv[1]).lock()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_another_process_names_it_and_goes_when_it_is_killed(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=child.environment()) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match=f"in use by process {holder.pid} of holdall"):
            DataDirectory(tmp_path).lock()
        holder.kill()
        holder.wait()
        DataDirectory(tmp_path).lock().release()


def opened(directory: DataDirectory) -> Store:
    """The store of worker 0, as its process opens it."""
    directory.lock_worker(0).release()
    return directory.open_store(0, directory.layout().engine)


def test_a_store_is_made_whole_on_the_first_opening_and_kept_on_the_next(directory: DataDirectory) -> None:
    with closing(opened(directory)) as store:
        Transaction(store, sync=True, files=MemoryFiles())
        store.write({b"Na": b"1"}, True)
    with closing(opened(directory)) as store:
        assert store.get(b"Na") == b"1"


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "rubbish", "a store without its rows"])
def test_a_first_start_that_was_interrupted_is_begun_anew(directory: DataDirectory, left: str) -> None:
    path = directory.path / "worker-0" / "store"
    directory.lock_worker(0).release()
    if left != "nothing":
        path.mkdir()
    if left == "rubbish":
        (path / "MANIFEST-000001").write_bytes(b"\x00")
        (path / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    if left == "a store without its rows":
        path.rmdir()
        store_of(directory.layout().engine)(path, create=True).close()
    with closing(opened(directory)) as store:
        assert Transaction(store, sync=True, files=MemoryFiles()).dicts.get(b"d" * 16) is None
    opened(directory).close()


def test_a_store_with_data_is_not_begun_anew_when_its_marker_is_lost(directory: DataDirectory) -> None:
    with closing(opened(directory)) as store:
        store.write({b"Na": b"1"}, True)
    (directory.path / "worker-0" / "complete").unlink()
    try:
        with closing(opened(directory)) as store:
            assert store.get(b"Na") == b"1"
    except StorageError:
        (directory.path / "worker-0" / "complete").touch()
        with closing(opened(directory)) as store:
            assert store.get(b"Na") == b"1"


@pytest.mark.parametrize("lost", [("CURRENT", "rows.sqlite"), ("MANIFEST-*", "rows.sqlite"), ("*", "*")])
def test_a_store_that_was_made_is_never_made_again(directory: DataDirectory, tmp_path: Path, lost: tuple[str, str]) -> None:
    with closing(opened(directory)) as store:
        store.write({b"Na": b"1"}, True)
    path = directory.path / "worker-0" / "store"
    moved = {file: tmp_path / file.name for pattern in lost for file in path.glob(pattern)}
    for file, aside in moved.items():
        file.rename(aside)
    for _ in range(2):
        with pytest.raises(StorageError, match=f"the store {path} cannot be opened"):
            opened(directory)
    for file, aside in moved.items():
        aside.rename(file)
    with closing(opened(directory)) as store:
        assert store.get(b"Na") == b"1"


def test_a_store_that_is_gone_altogether_is_not_made_again(directory: DataDirectory) -> None:
    opened(directory).close()
    path = directory.path / "worker-0" / "store"
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(StorageError, match=r"does not exist|No such file"):
        opened(directory)


def test_a_workers_folder_that_is_gone_is_refused_and_not_begun_anew(directory: DataDirectory) -> None:
    directory.prepare(2)
    shutil.rmtree(directory.part(1))
    directory.lock_worker(0).release()
    with pytest.raises(StorageError, match="worker-1 is missing: restore"):
        directory.lock_worker(1)
    assert not directory.part(1).exists()
