"""Clients: addresses, threads, forks, signals, the end of things."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Dict
from tests.processes import until
from tests.slow import slow_but

NO_URLS = "localhost:4255", "http://localhost", "tcp://", "tcp://host:0", "tcp://h:99999", "ipc://", "ipc:///" + "x" * 200


@pytest.mark.parametrize("url", NO_URLS)
def test_a_url_that_is_none_is_an_invalid_error(url: str) -> None:
    with pytest.raises(holdall.InvalidError, match="Invalid URL"):
        holdall.Client(url)


def test_a_wrong_url_is_a_connection_error_that_names_it(d: Dict[Any, Any], tmp_path: Path) -> None:
    with holdall.Client(f"ipc://{tmp_path}/wrong", timeout=0.4) as client:
        for _ in range(2):
            with pytest.raises(holdall.ConnectionError, match=f"ipc://{tmp_path}/wrong.*holdall serve") as caught:
                Dict.from_name("kv", client=client)["key"]
    assert isinstance(caught.value, ConnectionError)
    assert d.get("key") is None


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_must_be_above_zero(timeout: float) -> None:
    with pytest.raises(holdall.InvalidError, match="timeout"):
        holdall.Client(timeout=timeout)


def test_a_closed_client_says_so(service: holdall.LocalService, name: str) -> None:
    with holdall.Client(service.url) as client:
        d: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True, client=client)
        d["key"] = 1
    with pytest.raises(holdall.ConnectionError, match="closed"):
        d["key"]
    client.close()


def test_a_handle_of_the_default_client_goes_on_at_the_next_service() -> None:
    d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True)
    for number in range(2):
        with holdall.LocalService(workers=1):
            assert d.get("key") is None
            d["key"] = number
            assert d["key"] == number


def test_one_handle_in_many_threads(d: Dict[Any, Any]) -> None:
    def work(number: int) -> None:
        for step in range(50):
            d[number, step] = step
            if d[number, step] != step:
                wrong.append((number, step))

    wrong: list[Any] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(d) == 800


def claim(d: Dict[Any, Any], number: int) -> int:
    return sum(d.put(key, number, skip_if_exists=True) for key in range(100))


@pytest.mark.parametrize("method", slow_but(["fork"], ["fork", "spawn", "forkserver"]))
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_pool_of_processes_claims_each_key_once(d: Dict[Any, Any], method: str) -> None:
    d["before"] = "the fork"  # the parent has sockets that its children must not use
    with multiprocessing.get_context(method).Pool(4) as pool:
        claimed = pool.starmap(claim, [(d, number) for number in range(4)])
        pool.close()
        pool.join()
    assert sum(claimed) == 100
    assert len(d) == 101


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_calls_of_other_threads(d: Dict[Any, Any]) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            d["parent"] = 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            child = os.fork()
            if child == 0:
                try:
                    d["child", number] = number
                    os._exit(0 if d["child", number] == number else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [d["child", number] for number in range(5)] == list(range(5))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_client_that_was_closed_is_closed_in_a_forked_child(service: holdall.LocalService, d: Dict[Any, Any]) -> None:
    client = holdall.Client(service.url)
    closed = Dict[Any, Any].from_id(d.object_id, client)
    closed["key"] = 1
    client.close()
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(holdall.ConnectionError, match="closed"):
                closed["key"] = 2
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert d["key"] == 1


def test_control_c_in_the_middle_of_a_call_leaves_no_wrong_answer(service: holdall.LocalService, d: Dict[Any, Any]) -> None:
    d.update({number: number for number in range(10)})
    program = f"""
import holdall, os, signal, threading, time
d = holdall.Dict.from_name({d.name!r})
wrong = interrupted = 0
calling = False
def interrupt_calls(*_):
    global calling
    if calling:
        calling = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt_calls)
def interrupt():
    for _ in range(200):
        time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)
d[0]
thread = threading.Thread(target=interrupt)
thread.start()
while thread.is_alive():
    try:
        calling = True
        for number in range(10):
            wrong += d[number] != number
        calling = False
    except KeyboardInterrupt:
        interrupted += 1
print(wrong, interrupted > 10)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("0 True\n", "")


def test_a_process_ends_quietly_without_closing_anything(d: Dict[Any, Any]) -> None:
    program = f"""
import asyncio, holdall, threading
d = holdall.Dict.from_name({d.name!r})
d["a"] = 1
thread = threading.Thread(target=lambda: d.put("b", 2)); thread.start(); thread.join()
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60.0  # -X dev tells of a machine that is busy
    await d.put.aio("c", 3)
asyncio.run(main())
client = holdall.Client(); holdall.Dict.from_name({d.name!r}, client=client)["d"] = 4
"""
    strict = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    ran = subprocess.run(strict, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert sorted(d) == ["a", "b", "c", "d"]


def test_a_signal_handler_may_call_in_the_middle_of_a_call(d: Dict[Any, Any]) -> None:
    def count(*_: object) -> None:
        d["count"] = d["count"] + 1
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    d["count"] = 0
    before = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        for number in range(300):
            d[number] = number
            assert d[number] == number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert d["count"] > 0


def test_importing_holdall_loads_neither_leveldb_nor_the_command_line() -> None:
    program = "import sys, holdall; holdall.Dict; holdall.Client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"plyvel", "click", "rich", "cloudpickle", "asyncio", "numpy", "zmq"}.isdisjoint(loaded)


@pytest.mark.slow
def test_many_sockets_that_are_closed_while_they_connect_leave_their_context_as_it_was(service: holdall.LocalService) -> None:
    with holdall.Client(lanes=False, timeout=5) as client:
        d = holdall.Dict[str, int].from_name("kv", create_if_missing=True, client=client)
        before = len(os.listdir("/dev/fd"))
        for number in range(2000):
            dealer = client._connector.open_broker()
            for _ in range(number % 50 * 20):  # it is closed at any moment of its handshake
                dealer.has_come_back()
            dealer.close()
            client._connector.forget_closed()
        d["key"] = 1  # on a new driver, whose socket ZeroMQ's thread has to connect
        assert d["key"] == 1
        until(lambda: len(os.listdir("/dev/fd")) < before + 20)


def test_calls_that_go_on_when_their_client_is_closed_end_in_connection_errors(service: holdall.LocalService) -> None:
    async def calls(d: holdall.Dict[int, bytes], number: int) -> None:
        while True:
            await d.put.aio(number, bytes(100_000))
            await d.put_many.aio({number: b"x", -number: b"y"})
            await d.get.aio(number)

    async def main(lanes: bool) -> None:
        client = holdall.Client(lanes=lanes, timeout=5)
        d = holdall.Dict[int, bytes].from_name("kv", create_if_missing=True, client=client)
        tasks = [asyncio.ensure_future(calls(d, number)) for number in range(1, 31)]
        await d.put.aio(0, b"")
        await d.get.aio(0)
        client.close()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert {type(each) for each in ended} == {holdall.ConnectionError}

    for _ in range(5):
        for lanes in (True, False):
            asyncio.run(main(lanes))
