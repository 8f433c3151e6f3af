"""Processes of a service killed while calls are under way: what was acknowledged is there, once, and no call fails."""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Dict, protocol
from holdall.process.child import READY, command, environment
from holdall.process.config import ServiceSettings
from holdall.settings import service_url
from holdall.worker.directory.opening import DataDirectory
from tests import processes
from tests.faults.hostile import asked, dealer, request
from tests.processes import WAIT_SECONDS, children, restarting_at_once, until
from tests.registration import registration


def kill(service_pid: int, *names: str) -> None:
    """Kill these processes of a service, and wait until it has started as many new ones.

    Each stands still for a moment before: what others have done for it meanwhile gets lost with it.
    """
    before = children(service_pid)
    for name in names:
        os.kill(before[name], signal.SIGSTOP)
    time.sleep(0.05)
    for name in names:
        os.kill(before[name], signal.SIGKILL)
    until(lambda: len({*children(service_pid).values()} - {*before.values()}) == len(names))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[holdall.LocalService]:
    """In the weakest mode: what is lost here when a process is killed would be lost in any."""
    with restarting_at_once(tmp_path_factory.mktemp("path")), holdall.LocalService(data, workers=2, sync="off") as running:
        yield running


@pytest.fixture
def service_pid(service: holdall.LocalService, data: Path) -> int:
    return processes.service_pid(data)


@pytest.mark.parametrize(
    "victims",
    [["worker 0"], ["broker"], ["worker 1", "broker"], ["worker 0", "worker 1"]],
    ids=["a worker", "the broker", "a worker and the broker", "all workers"],
)
def test_what_was_put_outlives_a_kill_and_no_put_fails(d: Dict[Any, Any], service_pid: int, victims: list[str]) -> None:
    acknowledged: dict[Any, int] = {}
    stop = threading.Event()

    def write(thread: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            d["thread", thread, number] = number
            acknowledged["thread", thread, number] = number

    async def write_awaiting(task: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            await d.put.aio(("task", task, number), number)
            acknowledged["task", task, number] = number

    async def write_in_tasks() -> None:
        await asyncio.gather(*map(write_awaiting, range(10)))

    with ThreadPoolExecutor(3) as pool:
        try:
            writers = [pool.submit(write, 0), pool.submit(write, 1), pool.submit(lambda: asyncio.run(write_in_tasks()))]
            until(lambda: len(acknowledged) > 200)
            kill(service_pid, *victims)
            at_kill = len(acknowledged)
            until(lambda: len(acknowledged) > at_kill + 200)
        finally:
            stop.set()
        for writer in writers:
            writer.result(WAIT_SECONDS)
    assert dict(d.items()) == acknowledged
    assert len(d) == len(acknowledged)


def compete(d: Dict[Any, Any], process: int) -> list[tuple[str, int]]:
    """In ten tasks: claim numbers, make a job of each claimed one, take each job that is there; returns what succeeded."""
    succeeded: list[tuple[str, int]] = []
    d.hydrate()

    async def one(task: int) -> None:
        for number in itertools.count(task * 1_000_000):
            if await d.put.aio(("claim", number), (process, task), skip_if_exists=True):
                succeeded.append(("claim", number))
                await d.put.aio(("job", number), number)
            if await d.pop.aio(("job", number), None) is not None:
                succeeded.append(("job", number))
            if number % 20 == 0 and await d.contains.aio("stop"):
                return

    async def all_tasks() -> None:
        await asyncio.gather(*map(one, range(10)))

    asyncio.run(all_tasks())
    return succeeded


def test_put_if_absent_and_pop_happen_exactly_once_whoever_is_killed(d: Dict[Any, Any], service_pid: int) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        try:
            competitors = [pool.submit(compete, d, process) for process in range(2)]
            for victims in (["broker"], ["worker 0"], ["worker 1", "broker"]):
                before = len(d)
                until(lambda before=before: len(d) > before + 100)  # type: ignore[misc]
                kill(service_pid, *victims)
        finally:
            d["stop"] = True
        succeeded = Counter(each for competitor in competitors for each in competitor.result(WAIT_SECONDS))
    claimed = {number for kind, number in succeeded if kind == "claim"}
    left = [number for kind, number in (key for key in d if key != "stop") if kind == "job"]
    assert {number for kind, number in (key for key in d if key != "stop") if kind == "claim"} == claimed
    assert sorted([*left, *(number for kind, number in succeeded if kind == "job")]) == sorted(claimed)
    assert set(succeeded.values()) == {1}


def test_an_answer_to_a_request_of_a_killed_brokers_client_reaches_no_client_of_the_next(
    service: holdall.LocalService, service_pid: int, data: Path
) -> None:
    """A route means one client at one broker, and may mean another client at the next."""
    before = children(service_pid)
    registered = registration(b"hostile dict id!", secret=bytes.fromhex(DataDirectory(data).layout().secret))
    os.kill(before["worker 0"], signal.SIGSTOP)
    try:
        with dealer(service.url, b"twin") as first:
            first.send(request(protocol.REGISTER, value=registered, sequence=5))
            assert asked(first, request(protocol.LENGTH, worker=1, sequence=6)).sequence == 6  # both have been relayed
            kill(service_pid, "broker")
        with dealer(service.url, b"twin") as second:
            assert asked(second, request(protocol.LENGTH, worker=1, sequence=7)).sequence == 7
            os.kill(before["worker 0"], signal.SIGCONT)
            for sequence in range(8, 100_000):
                reply = asked(second, request(protocol.LENGTH, sequence=sequence))
                assert reply.sequence == sequence
                if reply.status == protocol.OK:  # the first one's request has been carried out, and so was answered
                    break
            assert all(asked(second, request(protocol.LENGTH, sequence=number)).sequence == number for number in range(50))
    finally:
        os.kill(before["worker 0"], signal.SIGCONT)
    assert children(service_pid)["worker 0"] == before["worker 0"]


def test_calls_to_a_stopped_worker_complete_when_it_goes_on(
    d: Dict[Any, Any], name: str, service: holdall.LocalService, service_pid: int
) -> None:
    keys = range(100)
    d.update(dict.fromkeys(keys, -1))
    worker = children(service_pid)["worker 0"]
    with ThreadPoolExecutor(8) as pool, holdall.Client(service.url, timeout=0.8) as impatient:
        same: Dict[Any, Any] = Dict.from_name(name, client=impatient).hydrate()
        os.kill(worker, signal.SIGSTOP)
        try:
            calls = [pool.submit(d.put, key, key) for key in keys]
            with pytest.raises(holdall.TimeoutError):  # so the worker does stand still, and by now the puts were sent again
                list(map(same.get, keys))
        finally:
            os.kill(worker, signal.SIGCONT)
        assert all(call.result(WAIT_SECONDS) for call in calls)
    assert dict(d.items()) == {key: key for key in keys}
    assert children(service_pid)["worker 0"] == worker


def test_a_worker_that_never_goes_on_is_replaced(tmp_path: Path) -> None:
    settings = ServiceSettings(str(tmp_path), workers=1, stuck_seconds=2.5)
    argv, pipe = command("holdall.service", settings), subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment()) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline().strip() == READY
            with holdall.Client(service_url(tmp_path)) as client:
                d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
                d["key"] = "before"
                stuck = children(running.pid)["worker 0"]
                until(lambda: Path(f"/proc/{stuck}/stat").stat().st_ctime + 3.0 < time.time())
                os.kill(stuck, signal.SIGSTOP)
                assert d.pop("key") == "before"
                assert children(running.pid)["worker 0"] != stuck
                assert "key" not in d
        finally:
            output = running.communicate(timeout=WAIT_SECONDS)
    assert "worker 0 does not answer" in output[1]


@pytest.mark.slow
def test_the_demo_gives_the_right_answer_though_a_worker_and_the_broker_are_killed() -> None:
    argv, pipe = [sys.executable, "-m", "holdall", "demo", "--json", "--files", "150", "--processes", "2"], subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=environment()) as demo:
        try:
            assert demo.stderr is not None
            url = demo.stderr.readline().split()[1]
            with holdall.Client(url) as client:
                survey: Dict[Any, Any] = Dict.from_name("survey", create_if_missing=True, client=client)
                for entries, victim in ((60, "worker 0"), (150, "broker")):
                    until(lambda entries=entries: len(survey) > entries)  # type: ignore[misc]
                    kill(children(demo.pid)["service"], victim)
            summary = json.loads(demo.communicate(timeout=60)[0])
        finally:
            demo.kill()
    assert demo.returncode == 0
    assert summary["files"] == 150
    assert (summary["claimed_once"], summary["missing"], summary["same_after_restart"]) == (True, [], True)
