"""What is ours of the store in SQLite: checksums of rows, the log, space, and what is left after kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from holdall.errors import StorageError
from holdall.worker.store.sqlite import FILE, LOG, LOG_BYTES, SQLiteStore
from tests.engines import Kind, on_each_engine

ROWS = {b"E%04d" % number: b"value %d " % number * 20 for number in range(500)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    SQLiteStore(path, create=True).close()
    with closing(SQLiteStore(path)) as store:
        yield store


def test_a_byte_of_a_row_that_has_changed_is_found_by_every_read(store: SQLiteStore, path: Path) -> None:
    store.write({b"D": b"a Dict", b"E": b"x" * 9_000, b"F": b"good"}, True)
    store.close()
    for wanted in (b"a Dict", b"xxxx"):
        data = bytearray((path / FILE).read_bytes())
        data[data.index(wanted) + 2] ^= 1
        (path / FILE).write_bytes(data)
    with closing(SQLiteStore(path)) as damaged:
        assert damaged.get(b"F") == b"good"
        reads: list[Callable[[], object]] = [
            lambda: damaged.get(b"D"),
            lambda: damaged.get(b"E"),
            lambda: list(damaged.scan(b"E")),
            lambda: list(damaged.snapshot().scan(b"")),
        ]
        for read in reads:
            with pytest.raises(StorageError, match=r"the row b'[DE]' of the store .*/store is damaged"):
                read()


def test_any_changed_byte_is_refused_or_harmless_or_found_by_a_check(store: SQLiteStore, path: Path, tmp_path: Path) -> None:
    store.write(ROWS, True)
    store.close()
    whole, copy, told = (path / FILE).read_bytes(), tmp_path / "copy", 0
    for position in [*range(0, 100, 3), *Random(1).sample(range(len(whole)), 100)]:
        shutil.copytree(path, copy)
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        (copy / FILE).write_bytes(data)
        try:
            with closing(SQLiteStore(copy)) as damaged:
                found = dict(damaged.scan(b""))
                told += bool(damaged.damages())
                assert found == ROWS or damaged.damages(), (
                    f"byte {position} lost {len(ROWS.keys() - found.keys())} rows in silence"
                )
                assert found.items() <= ROWS.items()
        except StorageError:
            told += 1
        shutil.rmtree(copy)
    assert told > 70


@pytest.mark.parametrize("size", [0, 1, 100, 4_096, 20_000])
def test_a_file_that_is_cut_short_is_refused_and_its_log_is_left(
    store: SQLiteStore, path: Path, tmp_path: Path, size: int
) -> None:
    store.write(ROWS, True)
    store.close()
    with closing(SQLiteStore(path)) as again:
        again.write({b"E0000": b"new"}, True)
        shutil.copytree(path, tmp_path / "copy")
    os.truncate(tmp_path / "copy" / FILE, size)
    log = (tmp_path / "copy" / LOG).read_bytes()
    with (
        pytest.raises(StorageError, match=r"cannot be (opened|read|scanned)"),
        closing(SQLiteStore(tmp_path / "copy")) as damaged,
    ):
        list(damaged.scan(b""))
    if size == 0:
        assert (tmp_path / "copy" / LOG).read_bytes() == log


def test_a_log_that_is_cut_short_is_like_a_power_cut(store: SQLiteStore, path: Path, tmp_path: Path) -> None:
    states = [{}, *({b"E%d" % each: b"v" for each in range(number)} for number in range(1, 20))]
    for state in states[1:]:
        store.write(dict[bytes, bytes | None](state), False)
    size = (path / LOG).stat().st_size
    seen: set[int] = set()
    for number in range(0, size, size // 15):
        copy = shutil.copytree(path, tmp_path / str(number))
        os.truncate(copy / LOG, number)
        with closing(SQLiteStore(copy)) as cut:
            found = dict(cut.scan(b""))
        assert found in states
        seen.add(len(found))
    assert len(seen) > 5


def test_the_log_grows_while_a_snapshot_is_held_and_is_small_again_afterwards(store: SQLiteStore, path: Path) -> None:
    store.write({b"before": b"1"}, False)
    snapshot, value = store.snapshot(), os.urandom(100_000)
    for number in range(200):
        store.write({b"%d" % (number % 10): value}, False)
    assert (path / LOG).stat().st_size > 3 * LOG_BYTES
    assert dict(snapshot.scan(b"")) == {b"before": b"1"}
    snapshot.close()
    for number in range(100):
        store.write({b"%d" % (number % 10): value}, False)
    assert (path / LOG).stat().st_size <= 2 * LOG_BYTES


def test_rows_are_read_while_another_thread_writes_a_batch_whole_or_not_at_all(store: SQLiteStore) -> None:
    written, over = [b"E%d" % number for number in range(20)], threading.Event()

    def write() -> None:
        for number in range(100):
            store.write(dict.fromkeys(written, b"%d" % number), number % 2 == 0)
        over.set()

    writing = threading.Thread(target=write)
    writing.start()
    seen: set[bytes | None] = set()
    while not over.is_set():
        assert len({value for _row, value in store.scan(b"E")}) <= 1
        seen.add(store.get(b"E7"))
    writing.join()
    assert len(seen) > 2


def test_another_process_cannot_open_it(store: SQLiteStore, path: Path) -> None:
    store.write({b"row": b"value"}, True)
    program = f"import sqlite3; sqlite3.connect({str(path / FILE)!r}, timeout=0).execute('SELECT * FROM rows')"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "locked" in other.stderr


WRITING = """
import sys
from pathlib import Path
from holdall.worker.store.engines import store_of
store = store_of(sys.argv[1])(Path(sys.argv[2]))
for number in range(int(sys.argv[3]), 10**9):
    store.write({b"%d" % each: b"%d " % number * 2_000 for each in range(20)}, number % 3 == 0)
    print(number, flush=True)
"""


@on_each_engine
def test_a_batch_is_whole_after_a_kill_in_the_middle(path: Path, kind: Kind) -> None:
    kind(path, create=True).close()
    engine, begun = kind.__name__.removesuffix("Store").lower(), 0
    for round_ in range(3):
        argv = [sys.executable, "-c", WRITING, engine, str(path), str(begun)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writing:
            assert writing.stdout is not None
            for _ in range(30 + round_ * 7):
                acknowledged = int(writing.stdout.readline())
            writing.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writing.stdout.read().split())])
        with closing(kind(path)) as store:
            [value] = {value for _row, value in store.scan(b"")}
            assert len(list(store.scan(b""))) == 20
            begun = int(value.split()[0]) + 1
        assert begun > acknowledged
