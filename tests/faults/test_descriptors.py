"""File descriptors: as many as the system allows, and when they run out those who are there go on being served."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict
from holdall.framing import connected as connected_at_once
from holdall.framing import path_of
from holdall.process.admission import raise_descriptor_limit
from holdall.process.config import ServiceSettings
from holdall.settings import service_url, socket_url
from tests.fuzz.strangers import GREETING, HANDSHAKE, connected
from tests.processes import children, free_port, new_key, process_ids, service_process, until

SOFT, HARD = 100, 400
FEW = 200
"""A limit with which a broker has room for fewer clients than may wait to be let in."""
CLIENTS = 1_000


def limited(data: Path, soft: int, hard: int, *listen: str) -> contextlib.AbstractContextManager[int]:
    """A service that begins with these limits of descriptors; its process id."""
    limits = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    return service_process(ServiceSettings(str(data), [*listen], workers=1, sync="off"), "sh", "-c", limits, "sh")


def soft_limit(pid: int) -> int:
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return int(next(line for line in limits if line.startswith("Max open files")).split()[3])


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Crowd:
    """Connections that stay, and say nothing more than what they said when they came."""

    def __init__(self) -> None:
        self._open: list[Any] = []

    def come(self, url: str, words: bytes = b"") -> bool:
        """One more; returns whether it was let in."""
        try:
            raw = connected(url)
        except OSError:
            return False
        self._open.append(raw)
        raw.sendall(words)
        return True

    def stays(self, url: str) -> bool:
        """One more, which begins to shake hands; returns whether it is not cut off at once."""
        if not self.come(url, GREETING[:9]):
            return False
        raw = self._open[-1]
        raw.settimeout(0.05)
        try:
            while raw.recv(100):
                pass
        except TimeoutError:
            return True
        except OSError:
            pass
        self._open.pop().close()
        return False

    def wait(self, url: str) -> None:
        """As many as can wait there to be let in."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._open.append(connected_at_once(url))

    def leave(self) -> None:
        """All of them."""
        while self._open:
            self._open.pop().close()

    def __len__(self) -> int:
        return len(self._open)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


@pytest.mark.slow
@pytest.mark.parametrize("at", ["broker", "worker 0"])
def test_no_file_descriptors_left(tmp_path: Path, at: str) -> None:
    url = service_url(tmp_path)
    with limited(tmp_path, SOFT, HARD) as service, Client(url) as client, Crowd() as crowd:
        processes = children(service)
        assert {soft_limit(pid) for name, pid in processes.items()} == {HARD}
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["key"] = 0
        crowded, words = (url, HANDSHAKE) if at == "broker" else (socket_url(tmp_path, "worker-0"), b"")
        until(lambda: not crowd.come(crowded, words))
        before = cpu_ticks(processes[at])
        time.sleep(1)  # the time over which a process must not spin
        assert cpu_ticks(processes[at]) - before < os.sysconf("SC_CLK_TCK") // 2
        for number in range(100):
            assert d.pop("key") == number
            d["key"] = number + 1
        assert len(crowd) < HARD
        assert not crowd.come(crowded, words)
        crowd.leave()
        until(lambda: crowd.come(crowded, words))
        with Client(url) as newcomer:
            assert Dict.from_name("kv", client=newcomer)["key"] == 100
        assert children(service) == processes


@pytest.mark.slow
def test_a_port_is_closed_while_there_are_no_descriptors_left(tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    with limited(tmp_path, SOFT, HARD, url) as service, Client(connection=new_key(tmp_path)) as client, Crowd() as crowd:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["key"] = 0
        broker = children(service)["broker"]
        until(lambda: any(not crowd.come(url, GREETING[:9]) for _ in range(HARD)) or not crowd.stays(url))
        before = cpu_ticks(broker)
        time.sleep(1)  # the time over which a process must not spin
        assert cpu_ticks(broker) - before < os.sysconf("SC_CLK_TCK") // 2
        for number in range(100):
            assert d.pop("key") == number
            d["key"] = number + 1
        assert client_connections(client) == 1  # it was not cut off
        crowd.leave()
        until(lambda: crowd.stays(url))
        with Client(connection=new_key(tmp_path)) as newcomer:
            assert Dict.from_name("kv", client=newcomer)["key"] == 100
        assert children(service)["broker"] == broker


@pytest.mark.slow
def test_more_come_to_a_port_in_one_moment_than_there_are_descriptors(tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    with limited(tmp_path, SOFT, HARD, url) as service, Client(connection=new_key(tmp_path)) as client, Crowd() as crowd:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        broker = children(service)["broker"]
        for number in range(5):
            os.kill(broker, signal.SIGSTOP)
            for _ in range(2 * HARD):
                crowd.come(url, GREETING[:9])
            os.kill(broker, signal.SIGCONT)
            d["key"] = number
            assert d.pop("key") == number
        until(lambda: not crowd.stays(url))
        crowd.leave()
        until(lambda: crowd.stays(url))
        assert children(service)["broker"] == broker


@pytest.mark.slow
def test_5000_that_never_shake_hands_leave_room_for_those_who_do(tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    with limited(tmp_path, SOFT, 20_000, url) as service, Crowd() as crowd:
        broker = children(service)["broker"]
        before = resident_bytes(broker)
        for number in range(5_000):
            crowd.come(url, GREETING[: number % len(GREETING)])
        with ThreadPoolExecutor(50) as pool:
            file = new_key(tmp_path)

            def call(number: int) -> int:
                with Client(connection=file) as client:
                    d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
                    d[number] = number
                    return int(d[number])

            assert list(pool.map(call, range(200))) == list(range(200))
        assert resident_bytes(broker) - before < 64 * 1024 * 1024
        assert children(service)["broker"] == broker


def client_connections(client: Client) -> int:
    """How often this client's one blocking line has connected."""
    return int(client._idle[0]._broker._connections)  # type: ignore[attr-defined]


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_worker_that_was_started_again_gets_in_though_more_clients_wait_than_there_is_room_for(tmp_path: Path) -> None:
    url = service_url(tmp_path)
    with limited(tmp_path, SOFT, FEW) as service, Client(url) as client, Crowd() as crowd:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["key"] = "value"
        broker, worker = children(service)["broker"], children(service)["worker 0"]
        os.kill(broker, signal.SIGSTOP)  # all come before it can look whether there is room
        crowd.wait(url)
        os.kill(broker, signal.SIGCONT)
        until(lambda: not Path(path_of(url)).exists())  # they were more: it lets in nobody any more
        os.kill(worker, signal.SIGKILL)
        assert d.pop("key") == "value"
        before = cpu_ticks(broker)
        time.sleep(1)  # the time over which a process must not spin
        assert cpu_ticks(broker) - before < os.sysconf("SC_CLK_TCK") // 2
        assert children(service)["broker"] == broker


@pytest.mark.slow
@pytest.mark.parametrize("at", ["service", "worker-0", "workers"])
def test_1000_half_handshakes(tmp_path: Path, at: str) -> None:
    url = service_url(tmp_path)
    with limited(tmp_path, SOFT, 4_096) as service, Client(url) as client, Crowd() as crowd:
        processes = children(service)
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["key"] = 0
        for number in range(1_000):
            assert crowd.come(socket_url(tmp_path, at), GREETING[: number % len(GREETING)])
        for number in range(100):
            assert d.pop("key") == number
            d["key"] = number + 1
        with Client(url) as newcomer:
            assert Dict.from_name("kv", client=newcomer)["key"] == 100
        assert children(service) == processes


@pytest.mark.slow
def test_1000_clients(tmp_path: Path) -> None:
    """Each with a socket of its own to the broker, all there at once, and each gets what it has put."""
    raise_descriptor_limit()  # they are all in this process
    url = service_url(tmp_path)
    with limited(tmp_path, SOFT, 4_096) as service, contextlib.ExitStack() as stack:
        processes = process_ids(tmp_path)

        def call(number: int) -> bool:
            client = stack.enter_context(Client(url))
            d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
            d[number] = number
            return bool(d[number] == number)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(call, range(CLIENTS)))
        first: Dict[Any, Any] = Dict.from_name("kv", client=stack.enter_context(Client(url)))
        assert first.len() == CLIENTS
        assert process_ids(tmp_path) == processes
        assert service == int(processes[0])
