"""The two ways to a worker: straight where it answers, through the broker where it does not, and a program notices neither."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Client, Dict, LocalService
from holdall.service import process
from holdall.service.address import make_private
from holdall.service.child import READY
from holdall.service.settings import BrokerSettings, ServiceSettings, WorkerSettings
from holdall.settings import runtime_directory, service_url
from holdall.worker.directory import DataDirectory
from tests.processes import process_ids, service_process, until

WORKERS = 2
KEYS = range(100)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def service(data: Path) -> Iterator[LocalService]:
    with LocalService(data, workers=WORKERS, sync="off") as running:
        yield running


def straight(data: Path) -> list[Path]:
    """The sockets on which this service's workers can be reached straight."""
    return [runtime_directory(data) / f"worker-{index}" for index in range(WORKERS)]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile, and its parent has seen that
            os.kill(pid, signal.SIGCONT)


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


def test_blocking_calls_need_no_broker_once_the_workers_answer_straight(service: LocalService, data: Path) -> None:
    with Client(service.url, timeout=5) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        with stopped(broker_of(data)):
            assert [d[key] for key in KEYS] == [str(key) for key in KEYS]
            d.update(dict.fromkeys(KEYS, "new"))
            assert dict(d) == dict.fromkeys(KEYS, "new")


def test_awaited_calls_need_no_broker_once_the_workers_answer_straight(service: LocalService, data: Path) -> None:
    async def calls() -> None:
        async with Client(service.url, timeout=5) as client:
            d = Dict.from_name("kv", create_if_missing=True, client=client)
            for _ in range(5):
                await asyncio.gather(*(d.put.aio(key, str(key)) for key in KEYS))
            with stopped(broker_of(data)):
                assert await asyncio.gather(*(d.get.aio(key) for key in KEYS)) == [str(key) for key in KEYS]

    asyncio.run(calls())


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_no_request_is_lost_while_batches_are_decided_and_written(
    tmp_path: Path, sync: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is lost would be sent again, and only be late: here it is not."""
    monkeypatch.setattr("holdall.client.channel.RESEND_SECONDS", (3600.0, 3600.0))
    with LocalService(tmp_path, workers=1, sync=sync) as service, Client(service.url, timeout=5.0) as client:
        d = Dict[Any, Any].from_name("kv", create_if_missing=True, client=client)

        def ask(who: int) -> None:
            for number in range(200):
                d[who, number % 3] = number
                assert d[who, number % 3] == number

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))


def test_a_client_that_cannot_reach_the_workers_straight_is_relayed(service: LocalService, data: Path) -> None:
    for path in straight(data):
        path.unlink()
    with Client(service.url) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        assert [d[key] for key in KEYS] == [str(key) for key in KEYS]


def test_a_path_that_leads_to_another_service_is_not_believed(service: LocalService, data: Path, tmp_path: Path) -> None:
    with LocalService(tmp_path / "other", workers=WORKERS, sync="off") as other:
        for ours, theirs in zip(straight(data), straight(tmp_path / "other"), strict=True):
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
    one, two = straight(data)
    spare = one.with_name("spare")
    for old, new in ((one, spare), (two, one), (spare, two)):
        old.rename(new)
    with Client(service.url) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        for _ in range(5):
            fill(d)
        assert [d[key] for key in KEYS] == [str(key) for key in KEYS]


def test_pipelined_writes_happen_once_and_in_order_though_workers_die(service: LocalService, data: Path) -> None:
    """Many tasks, each in the order of its own calls; straight ways are lost and found again."""

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


@contextmanager
def child(module: str, settings: BrokerSettings | WorkerSettings) -> Iterator[int]:
    """A process of a service that is put together by hand; its id."""
    argv = process.command(module, settings)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=process.environment(), text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline().strip() == READY
        yield running.pid
        running.communicate()


def test_a_worker_that_has_a_tcp_address_is_reached_straight_there(data: Path) -> None:
    directory = DataDirectory(data)
    lock = directory.lock()
    directory.prepare(1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    runtime = make_private(runtime_directory(data))
    url, backend = service_url(data), f"ipc://{runtime}/workers"
    with (
        child("holdall.broker", BrokerSettings([url], backend)) as broker,
        child("holdall.worker", WorkerSettings(str(data), 0, backend, address, "off")),
        Client(url, timeout=5) as client,
    ):
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        with stopped(broker):
            assert [d[key] for key in KEYS] == [str(key) for key in KEYS]
            d["large"] = bytes(5_000_000)
            assert d["large"] == bytes(5_000_000)
    lock.release()


def cut_off(data: Path) -> None:
    """Leave no way to a worker but through the broker."""
    for path in straight(data):
        path.unlink()


def test_blocking_relayed_calls_go_on_with_the_next_broker(service: LocalService, data: Path) -> None:
    cut_off(data)
    with Client(service.url) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        for number in range(3):
            fill(d)
            os.kill(broker_of(data), signal.SIGKILL)
            assert d.pop(number) == str(number)


def test_awaited_relayed_calls_in_flight_are_answered_by_the_next_broker(service: LocalService, data: Path) -> None:
    cut_off(data)

    async def calls() -> None:
        async with Client(service.url) as client:
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
    cut_off(data)
    with Client(service.url, timeout=1) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        fill(d)
        with stopped(broker_of(data)), ThreadPoolExecutor() as threads:
            updating = threads.submit(d.update, {key: bytes(200_000) for key in KEYS})
            with pytest.raises(holdall.TimeoutError, match="no answer"):
                updating.result(5)
        until(lambda: d.put("key", "value"))


def test_awaited_calls_go_on_though_there_was_no_descriptor_for_the_next_broker(
    service: LocalService, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(data)

    def none_is_left(_address: str) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    complaints: list[Any] = []

    async def calls() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with Client(service.url, timeout=3) as client:
            d = Dict.from_name("kv", create_if_missing=True, client=client)
            await d.put.aio("key", "value")
            monkeypatch.setattr("holdall.client.client.connected", none_is_left)
            os.kill(broker_of(data), signal.SIGKILL)
            with pytest.raises(holdall.TimeoutError):
                await d.get.aio("key")
            monkeypatch.undo()
            assert await d.get.aio("key") == "value"

    asyncio.run(calls())
    assert not complaints


def test_a_client_finds_a_service_that_is_started_later(tmp_path: Path) -> None:
    with Client(service_url(tmp_path / "data"), timeout=20) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        with ThreadPoolExecutor() as threads:
            putting = threads.submit(d.put, "key", "value")
            until(lambda: putting.running())
            with LocalService(tmp_path / "data", workers=1, sync="off"):
                assert putting.result()
                assert d["key"] == "value"


def test_a_client_of_another_machine_is_relayed_through_zeromq(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    async def calls() -> None:
        async with Client(url) as client:
            d = Dict.from_name("kv", client=client)
            assert await asyncio.gather(*(d.get.aio(key) for key in KEYS)) == [str(key) for key in KEYS]
            os.kill(broker_of(data), signal.SIGKILL)
            assert await asyncio.gather(*(d.pop.aio(key) for key in KEYS)) == [str(key) for key in KEYS]

    with service_process(ServiceSettings(str(data), listen=url, workers=WORKERS, sync="off")):
        cut_off(data)
        with Client(url) as client:
            d = Dict.from_name("kv", create_if_missing=True, client=client)
            fill(d)
            d["large"] = bytes(5_000_000)
            os.kill(broker_of(data), signal.SIGKILL)
            assert d["large"] == bytes(5_000_000)
            asyncio.run(calls())
            assert len(d) == 1
