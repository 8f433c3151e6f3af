"""Clients that come all at once, are killed, cancelled, left with a closed loop, or end with something unsent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Client, Dict
from holdall.process.child import READY, command, environment
from holdall.process.config import ServiceSettings
from holdall.settings import service_url
from holdall.worker.directory.opening import DataDirectory
from tests.processes import WAIT_SECONDS, until

CLIENTS = 100
AWAY_SECONDS = 3.0
REQUESTS_PER_CALL_MAX = 6
"""Of a call that waited for a service that was away so long: the first time, and the retries after 0.5, 1.5 and 3.5 s, which
ZeroMQ keeps until there is a broker again; and once more for the connection that is new then, and for a worker that is away.
"""
COUNTING = """
import os
from holdall.broker.core import Broker
from_client, counted = Broker.from_client, os.open({file!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def counting(self, frames, now):
    os.write(counted, b".")
    return from_client(self, frames, now)

Broker.from_client = counting
"""


@contextmanager
def running(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv, pipe = command("holdall.service", ServiceSettings(str(data), workers=1, lock_seconds=10.0)), subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=environment()) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        assert service.stdout.readline().decode().strip() == READY
        yield service
        service.stdin.close()
        service.wait(WAIT_SECONDS)


@pytest.mark.slow
def test_100_clients_reconnecting_at_once_cause_no_storm_of_retries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(COUNTING.format(file=str(tmp_path / "counted")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    data = tmp_path / "data"

    def pop(client: Client, number: int) -> Any:
        return Dict.from_name("kv", client=client).pop(number)

    clients = [Client(service_url(data), lanes=False) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        try:
            with running(data) as service:
                d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=clients[0])
                d.update({number: number for number in range(2 * CLIENTS)})
                assert list(pool.map(pop, clients, range(CLIENTS))) == [*range(CLIENTS)]
                service.kill()
            calls = [pool.submit(pop, client, CLIENTS + number) for number, client in enumerate(clients)]
            time.sleep(AWAY_SECONDS)  # how long the service is away
            (tmp_path / "counted").write_bytes(b"")
            with running(data):
                assert [call.result(WAIT_SECONDS) for call in calls] == [*range(CLIENTS, 2 * CLIENTS)]
                assert d.len() == 0
                assert CLIENTS <= (tmp_path / "counted").stat().st_size <= CLIENTS * REQUESTS_PER_CALL_MAX
        finally:
            for client in clients:
                client.close()


def test_a_client_killed_in_the_middle_of_its_calls_harms_nobody_and_loses_nothing(d: Dict[Any, Any]) -> None:
    program = f"""
import holdall, itertools, os
d = holdall.Dict.from_name({d.name!r})
for number in itertools.count():
    d[number] = number
    os.write(1, b"%d\\n" % number)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment()) as victim:
        until(lambda: len(d) > 100)
        victim.kill()
        assert victim.stdout is not None
        acknowledged = [int(line) for line in victim.stdout.read().splitlines() if line]
    found = dict(d)
    assert found == {number: number for number in range(len(found))}
    assert len(found) - len(acknowledged) in (0, 1)
    assert d.pop(acknowledged[-1]) == acknowledged[-1]


def test_a_task_cancelled_in_mid_pop_takes_one_value_or_none(d: Dict[Any, Any]) -> None:
    async def main() -> None:
        for turn in range(10):
            await d.update.aio({number: (turn, number) for number in range(100)})
            tasks = [asyncio.create_task(d.pop.aio(number)) for number in range(100)]
            await asyncio.sleep(0.001 * (turn % 3))
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for number, answer in enumerate(answers):
                assert answer == (turn, number) or (number % 2 == 0 and isinstance(answer, asyncio.CancelledError))
            left = [key async for key in d]
            assert {*left} <= {number for number, answer in enumerate(answers) if isinstance(answer, asyncio.CancelledError)}
            assert await d.len.aio() == len(left)
            await d.clear.aio()

    asyncio.run(main())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_loop_closed_with_calls_under_way_leaves_nothing_open_and_the_next_one_gets_its_own_answers(
    service: holdall.LocalService, name: str
) -> None:
    with Client(service.url) as client:
        d: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True, client=client)
        d.update({number: number for number in range(100)})

        async def begin() -> None:
            calls = [asyncio.create_task(d.get.aio(number)) for number in range(100)]
            await asyncio.sleep(0)
            calls[0].cancel()

        async def ask(number: int) -> Any:
            return await d.get.aio(number)

        open_at: list[int] = []
        for number in range(10):
            asyncio.run(begin())  # which cancels what is left, and closes its loop
            assert asyncio.run(ask(number)) == number
            open_at.append(descriptors())
        until(lambda: descriptors() <= max(open_at[:5]))  # at some moments some are on their way to be closed
        assert d[7] == 7


def test_an_interpreter_exits_with_unsent_data(tmp_path: Path) -> None:
    """Nobody listens there: a thread and a task wait with something that cannot be sent, and the end waits for neither."""
    program = f"""
import asyncio, holdall, threading
client = holdall.Client("ipc://{tmp_path}/nobody", timeout=600)
d = holdall.Dict.from_name("kv", create_if_missing=True, client=client)
threading.Thread(target=lambda: d.put("key", bytes(1_000_000)), daemon=True).start()
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60.0  # -X dev tells of a machine that is busy
    task = asyncio.create_task(d.put.aio("key", bytes(1_000_000)))
    await asyncio.sleep(0.2)
asyncio.run(main())
print("the end")
"""
    argv = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_SECONDS, env=environment(), check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "the end\n", "")


def test_control_c_in_a_call_that_waits_is_heard_at_once(tmp_path: Path) -> None:
    program = f"""
import holdall, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background of a shell inherits that it is ignored
client = holdall.Client("ipc://{tmp_path}/nobody", timeout=600)
print("calling", flush=True)
try:
    holdall.Dict.from_name("kv", client=client)["key"]
except KeyboardInterrupt:
    print("interrupted")
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment()) as called:
        assert called.stdout is not None
        assert called.stdout.readline() == "calling\n"
        timer = threading.Timer(0.3, called.send_signal, [signal.SIGINT])
        timer.start()
        assert called.communicate(timeout=WAIT_SECONDS)[0] == "interrupted\n"
        timer.join()
    assert called.returncode == 0


@pytest.mark.parametrize(
    ("options", "is_killed"),
    [((), False), (("--detach",), False), (("--detach",), True)],
    ids=["of a block", "in the background", "in the background, whose other process is killed"],
)
def test_a_service_that_refuses_complains_nowhere_when_nobody_listens(
    tmp_path: Path, options: tuple[str, ...], is_killed: bool
) -> None:
    data, complaints = tmp_path / "data", tmp_path / "complaints"
    lock = DataDirectory(data).lock()
    ended, inherited = os.pipe()
    argv = command("holdall.service", ServiceSettings(str(data), lock_seconds=0.3), *options)
    with complaints.open("wb") as log:
        read, write = os.pipe()
        service = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=write, stderr=log, env=environment(), pass_fds=[inherited]
        )
        for descriptor in (read, write, inherited):
            os.close(descriptor)
        if is_killed:
            until((data / "service.log").exists)
            service.kill()  # the process that passes on what the one in the background says
        assert os.read(ended, 1) == b""  # all of them have ended
        os.close(ended)
        assert service.stdin is not None
        service.stdin.close()
        service.wait(WAIT_SECONDS)
    lock.release()
    said = [file.read_text() for file in (complaints, data / "service.log") if file.exists()]
    assert "".join(said) == ""
