"""A large Dict: its length at once, its items as a stream in flat memory, each entry once while others come and go.

HOLDALL_TEST_ENTRIES says how large; `make soak` takes a million.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict, LocalService
from holdall.client.operations import catalog
from holdall.worker.store.sqlite import LOG
from tests.processes import until

ENTRIES = int(os.environ.get("HOLDALL_TEST_ENTRIES", "40000"))
GROWTH_MIB_MAX = 24
"""By how much a client may grow while it iterates: some pages, whatever the size of the Dict."""


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_each_entry_comes_once_in_flat_memory_while_others_are_written_and_removed(d: Dict[Any, Any]) -> None:
    for first in range(0, ENTRIES, 10_000):
        d.update({("stays", number): "x" * 100 for number in range(first, min(first + 10_000, ENTRIES))})
    assert len(d) == ENTRIES
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            d["comes", number % 100] = number
            d.pop(("comes", (number + 50) % 100), None)
            number += 1

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        before, grown, seen = resident_mib(), 0.0, bytearray(ENTRIES)
        for position, (kind, number) in enumerate(d):
            if kind == "stays":
                seen[number] += 1
            if position % 10_000 == 0:
                grown = max(grown, resident_mib() - before)
    finally:
        stop.set()
        churning.join()
    assert seen == b"\x01" * ENTRIES
    assert grown < GROWTH_MIB_MAX


@pytest.mark.slow
def test_the_space_of_a_cleared_dict_is_given_back(tmp_path: Path) -> None:
    def disk_bytes() -> int:
        found = 0
        for file in tmp_path.glob("data/worker-*/store/*"):
            if file.name == LOG:  # of SQLite: it keeps its room, LOG_BYTES at most
                continue
            with suppress(FileNotFoundError):  # LevelDB is just removing it
                found += file.stat().st_size
        return found

    with LocalService(tmp_path / "data", workers=2, sync="off") as service, Client(service.url) as client:
        d: Dict[int, bytes] = Dict.from_name("kv", create_if_missing=True, client=client)
        for first in range(0, ENTRIES, 10_000):
            d.update({number: os.urandom(600) for number in range(first, min(first + 10_000, ENTRIES))})
        assert disk_bytes() > ENTRIES * 600
        d.clear()
        assert len(d) == 0
        deadline = time.monotonic() + 120
        while disk_bytes() > ENTRIES * 60:
            assert time.monotonic() < deadline, f"{disk_bytes():,} bytes are not given back"
            time.sleep(0.1)


@pytest.mark.slow
def test_a_cleared_dict_is_swept_though_somebody_always_writes(tmp_path: Path) -> None:
    stop = threading.Event()

    def write(url: str, key: int) -> int:
        with Client(url) as client:
            d: Dict[int, int] = Dict.from_name("written", create_if_missing=True, client=client)
            written = 0
            while not stop.is_set():
                written += 1
                d[key] = written
            return written

    def swept_rows() -> int:
        return sum(each["swept_rows"] for each in client.run(catalog.statistics(client)))

    with LocalService(tmp_path / "data", workers=1, sync="always") as service, Client(service.url) as client:
        d: Dict[int, int] = Dict.from_name("cleared", create_if_missing=True, client=client)
        d.update(dict.fromkeys(range(5_000), 0))
        with ThreadPoolExecutor() as threads:
            writers = [threads.submit(write, service.url, key) for key in range(3)]
            try:
                d.clear()
                until(lambda: swept_rows() >= 5_000)
            finally:
                stop.set()
            last = [each.result() for each in writers]
        assert dict(Dict.from_name("written", client=client)) == dict(enumerate(last))
        assert len(d) == 0
