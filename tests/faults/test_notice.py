"""How the end of a process, or its silence, is noticed at the other ends of its ZeroMQ connections."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from holdall import Client, Dict, sockets
from holdall.process.config import ServiceSettings
from holdall.settings import service_url
from tests.processes import WAIT_SECONDS, children, service_process, stopped, until

KILL_MILLISECONDS = 1_000
STOP_MILLISECONDS = 6_000
"""Within so long."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def service(tmp_path: Path, log: Path) -> Iterator[int]:
    """A service that writes a log; the process id of its parent."""
    settings = ServiceSettings(str(tmp_path / "data"), workers=2, sync="off")
    with open(log, "w") as file, service_process(settings, log=file) as pid:
        yield pid


@contextmanager
def watched(url: str) -> Iterator[Any]:
    """What ZeroMQ tells of the connection of a client's socket, once it is there."""
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
    with (
        sockets.new_context() as context,
        sockets.client_dealer(context) as dealer,
        dealer.get_monitor_socket(events) as monitor,
    ):
        dealer.connect(url)
        assert event(monitor, int(WAIT_SECONDS * 1000)) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        yield monitor


def event(monitor: Any, milliseconds: int) -> int | None:
    """The next thing that happens within so long."""
    return int(recv_monitor_message(monitor)["event"]) if monitor.poll(milliseconds) else None


def test_a_client_notices_that_its_broker_was_killed_and_has_the_next_one(service: int, tmp_path: Path) -> None:
    with watched(service_url(tmp_path / "data")) as monitor:
        os.kill(children(service)["broker"], signal.SIGKILL)
        assert event(monitor, KILL_MILLISECONDS) == zmq.EVENT_DISCONNECTED
        assert event(monitor, int(WAIT_SECONDS * 1000)) == zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_a_client_notices_that_its_broker_was_stopped(service: int, tmp_path: Path) -> None:
    with watched(service_url(tmp_path / "data")) as monitor, stopped(children(service)["broker"]):
        assert event(monitor, STOP_MILLISECONDS) == zmq.EVENT_DISCONNECTED


def test_a_broker_notices_that_a_worker_was_killed_and_holds_what_is_for_it(
    service: int, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent, which would start another one at once, is stopped meanwhile; and the client sends nothing again."""
    monkeypatch.setattr("holdall.client.connection.session.RESEND_SECONDS", (3600.0, 3600.0))
    with Client(service_url(tmp_path / "data"), lanes=False, timeout=WAIT_SECONDS) as client, ThreadPoolExecutor(20) as threads:
        d: Dict[int, int] = Dict.from_name("kv", create_if_missing=True, client=client)
        d.update({number: number for number in range(20)})
        with stopped(service):
            os.kill(children(service)["worker 0"], signal.SIGKILL)
            until(lambda: "worker 0 cannot be reached" in log.read_text())
            getting = [threads.submit(d.get, number) for number in range(20)]
            until(lambda: any(each.done() for each in getting))  # those of the other worker
        assert [each.result() for each in getting] == list(range(20))


def test_a_broker_notices_that_a_worker_was_stopped_and_holds_what_is_for_it(
    service: int, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdall.client.connection.session.RESEND_SECONDS", (3600.0, 3600.0))
    with Client(service_url(tmp_path / "data"), lanes=False, timeout=WAIT_SECONDS) as client, ThreadPoolExecutor(20) as threads:
        d: Dict[int, int] = Dict.from_name("kv", create_if_missing=True, client=client)
        d.update({number: number for number in range(20)})
        with stopped(children(service)["worker 0"]):
            until(lambda: "worker 0 has said nothing" in log.read_text())
            getting = [threads.submit(d.get, number) for number in range(20)]
            until(lambda: any(each.done() for each in getting))
        assert [each.result() for each in getting] == list(range(20))
