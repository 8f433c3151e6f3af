"""A worker is reached by a lane where it answers there, through the broker where it does not, and a program notices neither."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Client, Dict, LocalService
from holdall.framing import path_of
from holdall.process.config import ServiceSettings
from holdall.settings import service_url, socket_url
from tests.processes import free_port, new_key, process_ids, restarting_at_once, service_process, stopped, until
from tests.slow import slow_but

WORKERS = 2
KEYS = range(100)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def service(data: Path, tmp_path: Path) -> Iterator[LocalService]:
    with restarting_at_once(tmp_path), LocalService(data, workers=WORKERS, sync="off") as running:
        yield running


def lane_paths(data: Path) -> list[Path]:
    """The sockets at which this service's workers take lanes."""
    return [Path(path_of(socket_url(data, f"worker-{index}"))) for index in range(WORKERS)]


def broker_of(data: Path) -> int:
    """The process that is the broker."""
    return next(int(pid) for pid in process_ids(data) if b"holdall.broker" in Path(f"/proc/{pid}/cmdline").read_bytes())


def kill_last(data: Path) -> None:
    """Kill the worker started last, and wait for another one."""
    before = process_ids(data)
    os.kill(int(before[-1]), signal.SIGKILL)
    until(lambda: len({*process_ids(data)} - {*before}) == 1)


def fill(d: Dict[Any, Any]) -> None:
    for key in KEYS:
        d[key] = str(key)


def test_blocking_calls_need_no_broker_once_there_are_lanes(service: LocalService, data: Path) -> None:
    with Client(service.url, timeout=5) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        with stopped(broker_of(data)):
            assert [d[key] for key in KEYS] == [str(key) for key in KEYS]
            d.update(dict.fromkeys(KEYS, "new"))
            assert dict(d) == dict.fromkeys(KEYS, "new")


def test_awaited_calls_need_no_broker_once_there_are_lanes(service: LocalService, data: Path) -> None:
    async def calls() -> None:
        async with Client(service.url, timeout=5) as client:
            d = Dict.from_name("kv", create_if_missing=True, client=client)
            for _ in range(5):
                await asyncio.gather(*(d.put.aio(key, str(key)) for key in KEYS))
            with stopped(broker_of(data)):
                assert await asyncio.gather(*(d.get.aio(key) for key in KEYS)) == [str(key) for key in KEYS]

    asyncio.run(calls())


@pytest.mark.parametrize("sync", slow_but(["interval"], ["always", "interval"]))
def test_no_request_is_lost_while_batches_are_decided_and_written(
    tmp_path: Path, sync: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is lost would be sent again, and only be late: here it is not."""
    monkeypatch.setattr("holdall.client.connection.session.RESEND_SECONDS", (3600.0, 3600.0))
    with LocalService(tmp_path, workers=1, sync=sync) as service, Client(service.url, timeout=5.0) as client:
        d = Dict[Any, Any].from_name("kv", create_if_missing=True, client=client)

        def ask(who: int) -> None:
            for number in range(200):
                d[who, number % 3] = number
                assert d[who, number % 3] == number

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))


def test_a_client_without_lanes_is_relayed(service: LocalService, data: Path) -> None:
    with Client(service.url, lanes=False) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        d["large"] = bytes(5_000_000)
        assert d["large"] == bytes(5_000_000)
        assert not [link for driver in client._idle for link in driver._session.links if link.lane is not None]
        with ThreadPoolExecutor() as threads:
            with stopped(broker_of(data)):
                getting = threads.submit(d.get, 1)
                with pytest.raises(concurrent.futures.TimeoutError):
                    getting.result(0.1)
            assert getting.result() == "1"


def test_a_client_that_finds_no_lane_is_relayed(service: LocalService, data: Path) -> None:
    for path in lane_paths(data):
        path.unlink()
    with Client(service.url) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        assert [d[key] for key in KEYS] == [str(key) for key in KEYS]


def test_a_path_that_leads_to_another_service_is_not_believed(service: LocalService, data: Path, tmp_path: Path) -> None:
    with LocalService(tmp_path / "other", workers=WORKERS, sync="off") as other:
        for ours, theirs in zip(lane_paths(data), lane_paths(tmp_path / "other"), strict=True):
            ours.unlink()
            ours.symlink_to(theirs)
        with Client(service.url) as client, Client(other.url) as other_client:
            d = Dict.from_name("kv", create_if_missing=True, client=client)
            theirs_too = Dict.from_name("kv", create_if_missing=True, client=other_client)
            for _ in range(5):
                fill(d)
            assert len(theirs_too) == 0
            assert [d[key] for key in KEYS] == [str(key) for key in KEYS]


def test_two_workers_whose_paths_are_swapped_are_not_believed(service: LocalService, data: Path) -> None:
    one, two = lane_paths(data)
    spare = one.with_name("spare")
    for old, new in ((one, spare), (two, one), (spare, two)):
        old.rename(new)
    with Client(service.url) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        for _ in range(5):
            fill(d)
        assert [d[key] for key in KEYS] == [str(key) for key in KEYS]


def test_pipelined_writes_happen_once_and_in_order_though_workers_die(service: LocalService, data: Path) -> None:
    """Many tasks, each in the order of its own calls; lanes are lost and found again."""

    async def append(d: Dict[Any, Any], task: int) -> None:
        for number in range(300):
            assert await d.put.aio((task, number), number, skip_if_exists=True)
            assert number == 0 or await d.contains.aio((task, number - 1))

    async def calls() -> None:
        async with Client(service.url) as client:
            d = Dict.from_name("kv", create_if_missing=True, client=client)
            await d.hydrate.aio()
            working = asyncio.gather(*(append(d, task) for task in range(20)))
            for _ in range(3):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(kill_last, data)
            await working
            assert await d.len.aio() == 20 * 300

    asyncio.run(calls())


def test_blocking_relayed_calls_go_on_with_the_next_broker(service: LocalService, data: Path) -> None:
    with Client(service.url, lanes=False) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        for number in range(3):
            fill(d)
            os.kill(broker_of(data), signal.SIGKILL)
            assert d.pop(number) == str(number)


@pytest.mark.slow
def test_awaited_relayed_calls_in_flight_are_answered_by_the_next_broker(service: LocalService, data: Path) -> None:
    async def calls() -> None:
        async with Client(service.url, lanes=False) as client:
            d = Dict.from_name("kv", create_if_missing=True, client=client)
            for number in range(3):
                broker = broker_of(data)
                with stopped(broker):
                    putting = asyncio.gather(*(d.put.aio((number, key), key, skip_if_exists=True) for key in KEYS))
                    await asyncio.sleep(0)
                    os.kill(broker, signal.SIGKILL)
                assert await putting == [True] * len(KEYS)

    asyncio.run(calls())


def test_a_call_ends_in_time_though_the_broker_takes_nothing(service: LocalService, data: Path) -> None:
    with Client(service.url, timeout=1, lanes=False) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        with stopped(broker_of(data)), ThreadPoolExecutor() as threads:
            updating = threads.submit(d.update, {key: bytes(200_000) for key in KEYS})
            with pytest.raises(holdall.TimeoutError, match="no answer"):
                updating.result(5)

        def goes_on() -> bool:
            try:
                return d.put("key", "value")
            except holdall.TimeoutError:
                return False

        until(goes_on)


def test_a_write_that_was_given_up_without_a_broker_never_happens(data: Path) -> None:
    with LocalService(data, workers=WORKERS) as service, Client(service.url, lanes=False, timeout=0.5) as late:
        d: Dict[str, str] = Dict.from_name("kv", create_if_missing=True, client=late)
        d["key"] = "first"
        service.stop()
        with pytest.raises(holdall.TimeoutError, match="unknown"):
            d["key"] = "given up"
        service.start()
        with Client(service.url, lanes=False) as client:
            same = Dict[str, str].from_name("kv", client=client)
            same["key"] = "acknowledged"
            until(lambda: late._idle[0]._broker.send([b"no request"]))  # its connection is there again
            for _ in range(100):
                assert same["key"] == "acknowledged"
            assert d["key"] == "acknowledged"


def test_a_client_finds_a_service_that_is_started_later(tmp_path: Path) -> None:
    with Client(service_url(tmp_path / "data"), timeout=20) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        with ThreadPoolExecutor() as threads:
            putting = threads.submit(d.put, "key", "value")
            until(lambda: putting.running())
            with LocalService(tmp_path / "data", workers=1, sync="off"):
                assert putting.result()
                assert d["key"] == "value"


def test_a_client_at_a_tcp_address_is_relayed(data: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"

    async def calls() -> None:
        async with Client(connection=file) as client:
            d = Dict.from_name("kv", client=client)
            assert await asyncio.gather(*(d.get.aio(key) for key in KEYS)) == [str(key) for key in KEYS]
            os.kill(broker_of(data), signal.SIGKILL)
            assert await asyncio.gather(*(d.pop.aio(key) for key in KEYS)) == [str(key) for key in KEYS]

    wanted = ServiceSettings(str(data), listen=[url], workers=WORKERS, sync="off")
    with service_process(wanted), Client(connection=(file := new_key(data))) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        d["large"] = bytes(5_000_000)
        os.kill(broker_of(data), signal.SIGKILL)
        assert d["large"] == bytes(5_000_000)
        asyncio.run(calls())
        assert len(d) == 1
