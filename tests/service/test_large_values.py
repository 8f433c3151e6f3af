"""Values of any size through a real service: whole, from and to the caller's memory, in both colours."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdall
from holdall import Dict, LargeValueWarning, RequestSizeError, StorageError, values
from holdall.blob import BLOB_BYTES_MIN, CHUNK_BYTES
from holdall.client.connection.query import Queries, Query
from holdall.client.operations import encoding
from holdall.client.operations.entries import put
from holdall.protocol import KEY_OBJECT_BYTES_MAX, OBJECT_BYTES_MAX, WRITE_CHUNK
from holdall.worker.state.blobs import SESSION_UPLOADS_MAX
from tests import clusters
from tests.processes import until, wait_for_lanes

Files = Callable[[], list[Path]]
"""Lists the files of values."""

ENCODED_OVERHEAD = len(values.dump(bytes(BLOB_BYTES_MIN))) - BLOB_BYTES_MIN


def blob_files(data: Path) -> list[Path]:
    return [*data.glob("worker-*/blobs/*")]


@pytest.fixture(params=["in files", "in chunks"])
def by_file(request: pytest.FixtureRequest) -> bool:
    """How values travel: a client that reaches the files of its workers sends no chunks. Files are passed over lanes."""
    if request.param == "in files" and os.environ.get("HOLDALL_LANES") == "off":
        pytest.skip("files are passed over lanes, and this run has none")
    if request.param == "in files" and clusters.ENGINE:
        pytest.skip("a server of another engine passes no files")
    return bool(request.param == "in files")


@pytest.fixture
def d(d: Dict[Any, Any], by_file: bool, monkeypatch: pytest.MonkeyPatch) -> Dict[Any, Any]:
    monkeypatch.setattr(d.connected(), "passes_files", by_file)
    if by_file:
        wait_for_lanes(d)
    return d


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL and the data directory of a service that only this module uses."""
    data = tmp_path_factory.mktemp("data")
    service = holdall.LocalService(data, workers=1, sync="off")
    service.start()
    yield service.url, data
    service.stop()


@pytest.fixture
def own(alone: tuple[str, Path], by_file: bool) -> Iterator[tuple[Dict[str, Any], Files]]:
    """A Dict of a service that has no other one, and what lists its files: what the last test left may stay for a while."""
    url, data = alone
    before = {*blob_files(data)}
    with holdall.Client(url) as client:
        d = Dict[str, Any].from_name("own", create_if_missing=True, client=client).hydrate()
        client.passes_files = by_file
        if by_file:
            wait_for_lanes(d)
        yield d, lambda: [file for file in blob_files(data) if file not in before]
        d.clear()


@pytest.mark.parametrize("excess", [-1, 0, 1, CHUNK_BYTES - BLOB_BYTES_MIN, CHUNK_BYTES - BLOB_BYTES_MIN + 1])
def test_values_around_the_size_from_which_they_are_blobs_come_back(d: Dict[Any, Any], excess: int) -> None:
    value = os.urandom(BLOB_BYTES_MIN - ENCODED_OVERHEAD + excess)
    d["key"] = value
    assert d["key"] == value
    assert d.pop("key") == value


def test_only_values_above_that_size_have_files(own: tuple[Dict[str, Any], Files]) -> None:
    d, files = own
    d["inline"] = bytes(BLOB_BYTES_MIN - ENCODED_OVERHEAD)
    assert files() == []
    d["blob"] = bytes(BLOB_BYTES_MIN - ENCODED_OVERHEAD + 1)
    assert len(files()) == 1
    del d["blob"]
    until(lambda: not files())


def test_a_value_that_is_written_over_again_and_again_has_few_files(own: tuple[Dict[str, Any], Files]) -> None:
    d, files = own
    for number in range(100):
        d["key"] = bytes([number]) * BLOB_BYTES_MIN
    assert d["key"] == bytes([99]) * BLOB_BYTES_MIN
    until(lambda: len(files()) == 1)


@pytest.mark.parametrize("made", [bytes, bytearray, lambda size: "x" * size, lambda size: ["y" * 1000] * (size // 1000)])
def test_the_largest_values_of_plain_types_come_back(d: Dict[Any, Any], made: Any) -> None:
    value = made(5 * CHUNK_BYTES + 3)
    d["key"] = value
    assert d["key"] == value


def test_arrays_come_back_as_views_of_one_buffer_that_may_be_written_to(d: Dict[Any, Any]) -> None:
    arrays = [np.arange(300_000.0), np.ones((700, 700), np.complex128), np.arange(100_001, dtype=np.uint8)]
    d["key"] = arrays
    found = d["key"]
    for before, after in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.flags.aligned
        after[0] = 1
    assert not found[0].flags.owndata


def test_values_stay_what_they_are_when_others_are_read(d: Dict[Any, Any]) -> None:
    """They come into memory that was kept from the one before, if that is not the value's own."""
    written: dict[str, Any] = {}
    for number in range(4):
        written[f"array {number}"] = np.full(400_000, number, np.uint8)
        written[f"bytes {number}"] = bytes([number]) * 400_000
    d.update(written)
    read = {key: d[key] for key in sorted(written)}
    for key, value in written.items():
        assert bytes(read[key]) == bytes(value)


@pytest.mark.parametrize("by_file", [False])
def test_what_is_sent_is_the_memory_of_the_array(d: Dict[Any, Any]) -> None:
    array = np.arange(1_000_000.0)
    operation = put(d, "key", array, False)
    asked: Any = next(operation)
    assert isinstance(asked, Queries)
    sent = [np.frombuffer(query.value, np.uint8) for query in asked.queries if query.opcode == WRITE_CHUNK]
    assert len(sent) == 4
    assert [np.shares_memory(array, each) for each in sent] == [False, True, True, True]  # the first has the pickle before it


@pytest.mark.parametrize("by_file", [False])
def test_large_bytes_are_not_copied_to_be_sent(d: Dict[Any, Any]) -> None:
    value = os.urandom(3 * CHUNK_BYTES)
    asked: Any = next(put(d, "key", value, False))
    memory = np.frombuffer(value, np.uint8)
    assert any(np.shares_memory(memory, np.frombuffer(query.value, np.uint8)) for query in asked.queries)


def test_every_way_to_read_gives_the_whole_value(d: Dict[Any, Any]) -> None:
    value = os.urandom(2 * CHUNK_BYTES)
    d.update({"a": value, "b": 1, "c": value[::-1]})
    whole = {"a": value, "b": 1, "c": value[::-1]}
    assert dict(d.items()) == d.copy() == d.get_many(["a", "b", "c", "d"]) == whole
    assert sorted(map(len, (each for each in d.values() if each != 1))) == [len(value)] * 2
    assert d == whole
    assert d.setdefault("a", 5) == value
    assert d.setdefault("e", value) == value
    assert d.setdefault("e", value[::-1]) == value
    assert d.put("a", value[::-1], skip_if_exists=True) is False
    assert d.put_many({"a": value[::-1], "f": value}, skip_if_exists=True) == 1
    assert d.pop_many(["a", "b", "f"]) == {"a": value, "b": 1, "f": value}
    assert {d.popitem()[0], d.popitem()[0]} == {"c", "e"}
    assert len(d) == 0


def test_awaitable_twins_carry_large_values_too(d: Dict[Any, Any]) -> None:
    values = {number: os.urandom(BLOB_BYTES_MIN * (1 + number % 7)) for number in range(30)}

    async def exchange() -> None:
        await asyncio.gather(*(d.put.aio(number, value) for number, value in values.items()))
        assert await asyncio.gather(*(d.get.aio(number) for number in values)) == [*values.values()]
        assert {key: value async for key, value in d.items.aio()} == values
        assert await asyncio.gather(*(d.pop.aio(number) for number in values)) == [*values.values()]

    asyncio.run(exchange())
    assert len(d) == 0


@pytest.mark.slow
def test_more_large_values_are_put_at_once_than_a_worker_takes_uploads_of_one_line(own: tuple[Dict[str, Any], Files]) -> None:
    d, files = own
    value = bytes(BLOB_BYTES_MIN)
    keys = [str(number) for number in range(SESSION_UPLOADS_MAX + 50)]

    async def exchange() -> None:
        assert all(await asyncio.gather(*(d.put.aio(key, value) for key in keys)))

    asyncio.run(exchange())
    assert len(d) == len(files()) == len(keys)


def test_readers_of_a_value_that_is_replaced_get_one_or_the_other(d: Dict[Any, Any]) -> None:
    values = [bytes([number]) * (3 * CHUNK_BYTES) for number in range(4)]
    d["key"] = values[0]
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            try:
                if d["key"] not in values:
                    wrong.append("torn")
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    for number in range(24):
        d["key"] = values[number % 4]
    stop.set()
    for each in readers:
        each.join()
    assert wrong == []


def test_of_many_who_pop_a_large_value_one_gets_it(own: tuple[Dict[str, Any], Files], by_file: bool) -> None:
    d, files = own
    value = os.urandom(2 * CHUNK_BYTES)
    d["key"] = value
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(d.pop("key", None))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(got, key=lambda each: each is None) == [value, *[None] * 7]
    until(lambda: len(files()) == by_file)  # the outcome of the pop keeps it


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_is_at_100_mib_with_the_key(d: Dict[Any, Any], excess: int) -> None:
    overhead = ENCODED_OVERHEAD + len(b"skey")
    value = bytes(OBJECT_BYTES_MAX - overhead + excess)
    if excess:
        with pytest.raises(RequestSizeError, match=r"'key' and its value have 104,857,601 bytes.*nothing was stored"):
            d["key"] = value
        with pytest.raises(RequestSizeError):
            d.update({"small": 1, "key": value})
        assert len(d) == 0
    else:
        d["key"] = value
        assert d["key"] == value


def test_a_key_has_a_limit_of_its_own(d: Dict[Any, Any]) -> None:
    d["x" * (KEY_OBJECT_BYTES_MAX - 100)] = 1
    assert [len(key) for key in d] == [KEY_OBJECT_BYTES_MAX - 100]
    with pytest.raises(RequestSizeError, match=r"at most 1,048,576; nothing was stored"):
        d["x" * KEY_OBJECT_BYTES_MAX] = 1


def test_values_above_5_mib_give_one_warning_per_process(d: Dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_warned", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        d["key"] = bytes(encoding.WARNING_BYTES - 100)
        assert caught == []
        d["key"] = bytes(encoding.WARNING_BYTES)
        d["key"] = bytes(encoding.WARNING_BYTES)
    assert [each.category for each in caught] == [LargeValueWarning]
    assert "best for objects under 5 MiB" in str(caught[0].message)
    assert caught[0].filename == __file__  # the caller's line, not one of holdall's


def test_progress_is_told_up_to_the_end(d: Dict[Any, Any], by_file: bool) -> None:
    size = 9 * CHUNK_BYTES + 5
    steps = [8 * CHUNK_BYTES] if by_file else [4 * CHUNK_BYTES, 8 * CHUNK_BYTES]
    told: list[tuple[int, int]] = []
    d.put("key", bytes(size), progress=lambda done, total: told.append((done, total)))
    in_all = told[-1][1]
    assert in_all > size
    assert [done for done, _total in told] == [*steps, in_all]
    again: list[tuple[int, int]] = []
    d.get("key", progress=lambda done, total: again.append((done, total)))
    assert again == told
    d.put("key", 1, progress=told.append)  # type: ignore[arg-type]
    assert again == told


def test_a_progress_that_raises_ends_the_call_and_nothing_is_stored(d: Dict[Any, Any]) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        d.put("key", bytes(9 * CHUNK_BYTES), progress=stop)
    assert len(d) == 0
    d["key"] = 1
    assert d["key"] == 1


class GivenUp(Exception):
    """What a caller raises."""


def uploads_given_up(d: Dict[str, Any], files: Files) -> dict[str, Callable[[], object]]:
    """Calls that are given up when some of a value has come to its worker: they raise GivenUp."""

    def stop(done: int, total: int) -> None:
        if done == total:  # all has come, and is not sealed
            raise GivenUp

    def stop_at_once(_done: int, _total: int) -> None:
        raise GivenUp

    async def in_a_loop(cancels: bool) -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        told: Any = (lambda done, total: loop.call_soon_threadsafe(begun.set)) if cancels else stop_at_once
        call = asyncio.ensure_future(d.put.aio("key", bytes(60 * CHUNK_BYTES), progress=told))
        if cancels:
            await begun.wait()
            call.cancel()
        with pytest.raises((GivenUp, asyncio.CancelledError)):
            await call
        while len(files()) > await d.len.aio():
            await asyncio.sleep(0.01)
        raise GivenUp

    def raised_by_handler() -> None:
        def handler(*_arguments: object) -> None:
            raise GivenUp

        before = signal.signal(signal.SIGALRM, handler)
        try:
            while True:  # one of them is interrupted in the middle
                signal.setitimer(signal.ITIMER_REAL, 0.03)
                d.update({"small": 1, "first": bytes(9 * CHUNK_BYTES), "second": bytes(90 * CHUNK_BYTES)})
                signal.setitimer(signal.ITIMER_REAL, 0)
                d.clear()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return {
        "progress": lambda: d.put("key", bytes(9 * CHUNK_BYTES), progress=stop_at_once),
        "progress at the end": lambda: d.put("key", bytes(9 * CHUNK_BYTES), progress=stop),
        "awaited": lambda: asyncio.run(in_a_loop(cancels=False)),
        "cancelled": lambda: asyncio.run(in_a_loop(cancels=True)),
        "handler": raised_by_handler,
    }


@pytest.mark.parametrize("how", ["progress", "progress at the end", "awaited", "cancelled", "handler"])
def test_an_upload_that_is_given_up_is_freed_at_once(own: tuple[Dict[str, Any], Files], how: str) -> None:
    d, files = own
    with warnings.catch_warnings(action="ignore"), pytest.raises(GivenUp):
        uploads_given_up(d, files)[how]()
    until(lambda: len(files()) <= len(d))
    d["key"] = 1
    assert d["key"] == 1


@pytest.mark.parametrize("damage", ["flipped", "cut short", "missing"])
def test_a_damaged_file_is_a_storage_error_that_names_it(own: tuple[Dict[str, Any], Files], damage: str) -> None:
    d, files = own
    d["key"] = bytes(2 * CHUNK_BYTES)
    (file,) = files()
    if damage == "flipped":
        with open(file, "r+b") as opened:
            opened.seek(CHUNK_BYTES + 7)
            opened.write(b"\x01")
    elif damage == "cut short":
        os.truncate(file, CHUNK_BYTES + 7)
    else:
        file.unlink()
    with pytest.raises(StorageError, match=f"cannot get 'key' in Dict 'own'.*{file.name}"):
        d["key"]
    d["key"] = 1
    assert d["key"] == 1


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_one_damaged_file_takes_nothing_else_that_is_popped_with_it(tmp_path: Path, by_file: bool, damage: str) -> None:
    with holdall.LocalService(tmp_path, workers=1, sync="off"):
        d = Dict[str, Any].from_name("own", create_if_missing=True).hydrate()
        d.connected().passes_files = by_file
        if by_file:
            wait_for_lanes(d)
        d["damaged"] = bytes(2 * CHUNK_BYTES)
        (file,) = blob_files(tmp_path)
        good = {"large": b"x" * (2 * CHUNK_BYTES), **{f"small-{number}": number for number in range(300)}}
        d.update(good)
        if damage == "missing":
            file.unlink()
        else:
            with open(file, "r+b") as opened:
                opened.write(b"\x01\x01")
        with pytest.raises(StorageError, match="damaged"):
            d.pop_many([*good, "damaged"])
        assert {key: value for key, value in d.items() if key != "damaged"} == good


UPLOADER = """
import os, sys
import holdall

def told(done, total):
    print(done, flush=True)
    sys.stdin.read()

holdall.Dict.from_name("own").put("key", bytes(50_000_000), progress=told)
"""


def test_a_client_that_is_killed_in_the_middle_leaves_nothing_after_a_start(tmp_path: Path) -> None:
    with holdall.LocalService(tmp_path, workers=1, sync="off"):
        d = Dict[str, Any].from_name("own", create_if_missing=True).hydrate()
        uploader = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", UPLOADER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert uploader.stdout is not None
        assert uploader.stdin is not None
        assert uploader.stdout.readline()
        uploader.kill()
        uploader.wait()
        uploader.stdout.close()
        uploader.stdin.close()
        assert len(blob_files(tmp_path)) == 1
        assert "key" not in d
    with holdall.LocalService(tmp_path, sync="off"):
        d = Dict[str, Any].from_name("own").hydrate()
        until(lambda: not blob_files(tmp_path))
        assert len(d) == 0


@pytest.mark.parametrize("by_file", [False])
def test_a_message_of_a_transfer_is_small(d: Dict[Any, Any]) -> None:
    asked: Any = next(put(d, "key", bytes(20 * CHUNK_BYTES), False))
    assert [type(query) for query in asked.queries] == [Query] * 4
    assert max(len(query.value) for query in asked.queries) == CHUNK_BYTES
