"""What a client sends and nobody reads yet: within a bound, for all of them together."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import holdall
from holdall import Client, Dict, blob, protocol
from holdall.blob import Chunk
from holdall.broker.gate import Connection
from holdall.client.connection.query import Operation, Query
from holdall.client.operations.encoding import key_data
from holdall.process.config import ServiceSettings
from holdall.roles import Role
from holdall.settings import service_url
from holdall.slots import key_hash
from tests.processes import children, free_port, keyed, new_key, service_process, until

ALLOWED_BYTES = 2 << 30
"""Of address space, for each process of the service: a fourth of it is for what is unread."""
FRAME = bytes(1 << 20)
LARGE = 5 << 20


def peak_bytes(pid: int) -> int:
    """The most memory that this process has had."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])


@contextlib.contextmanager
def speaking(url: str, keys: Path) -> Iterator[Any]:
    """A socket of ZeroMQ's own with this key."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        keyed(dealer, keys).linger = 0
        dealer.connect(url)
        yield dealer


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [1, 20])
def test_messages_of_frames_without_end_are_cut_off(tmp_path: Path, speakers: int) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    settings = ServiceSettings(str(tmp_path), listen=[url], workers=1, sync="off")
    limits = f'ulimit -v {ALLOWED_BYTES // 1024} && exec "$@"'
    with (
        service_process(settings, "sh", "-c", limits, "sh") as service,
        Client(connection=new_key(tmp_path)) as client,
        contextlib.ExitStack() as stack,
    ):
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["large"] = bytes(LARGE)
        broker = children(service)["broker"]
        dealers = [stack.enter_context(speaking(url, new_key(tmp_path))) for _ in range(speakers)]
        monitors = [stack.enter_context(each.get_monitor_socket(zmq.EVENT_DISCONNECTED)) for each in dealers]

        for dealer in dealers:
            dealer.send_multipart([FRAME] * (2 * ALLOWED_BYTES // len(FRAME) // speakers), copy=False)

        def is_one_cut_off() -> bool:
            assert len(d["large"]) == LARGE
            return any(monitor.poll(0) for monitor in monitors)

        until(is_one_cut_off)
        assert peak_bytes(broker) < ALLOWED_BYTES // 2
        assert children(service)["broker"] == broker
        assert d.pop("large") == bytes(LARGE)


@pytest.mark.slow
def test_who_takes_no_answers_keeps_nobody_elses_back(tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    settings = ServiceSettings(str(tmp_path), listen=[url], workers=1, sync="off")
    with (
        service_process(settings) as service,
        Client(connection=new_key(tmp_path), timeout=10) as client,
        contextlib.ExitStack() as stack,
    ):
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["large"] = bytes(8 * LARGE)
        broker = children(service)["broker"]
        asked = Query(protocol.GET, key_hash(d.crc, b""), "get", "it", d.id or b"", key_data(d, "large"))
        reference = blob.reference_of(client.run(_payload(asked)))
        for dealer in [stack.enter_context(speaking(url, new_key(tmp_path, Role.READER))) for _ in range(8)]:
            dealer.rcvhwm = 1
            for number in range(150):
                key = Chunk(reference.id, 0, 1 << 20).pack()
                head = protocol.pack_fields(protocol.READ_CHUNK, 0, 0, bytes(16), number, 0, bytes(16), key, b"")
                dealer.send_multipart(head)
        for _ in range(20):
            assert len(d["large"]) == 8 * LARGE
        assert peak_bytes(broker) < 1 << 30
        assert children(service)["broker"] == broker


def _payload(query: Query) -> Operation[bytes]:
    reply = yield query
    return bytes(reply.payload)


def test_who_says_nothing_for_long_has_no_more_to_say_then() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            connection = Connection(accepted.fileno(), b"\0name", since=0.0)
            assert connection.unread(1e9) == 0  # seconds later
            client.sendall(bytes(50_000))
            until(lambda: connection.unread(1e9) == 50_000)


@pytest.mark.slow
def test_a_message_of_millions_of_frames_is_dropped_in_turns(tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    with service_process(ServiceSettings(str(tmp_path), listen=[url], workers=1, sync="off")) as service:
        broker = children(service)["broker"]
        with (
            speaking(url, new_key(tmp_path, Role.READER)) as dealer,
            dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor,
            Client(service_url(tmp_path), timeout=2) as here,
            Client(connection=new_key(tmp_path)) as elsewhere,
        ):
            dealer.send_multipart([b""] * 1_000_000)
            d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=here)
            number = 0
            while not monitor.poll(0):
                number += 1
                d["key"] = number
                assert d["key"] == number
            assert number > 0

            def is_read_elsewhere() -> bool:  # those at the port wait until all of it is dropped
                with contextlib.suppress(holdall.Error):
                    return Dict[Any, Any].from_name("kv", client=elsewhere).get("key") == number
                return False

            until(is_read_elsewhere)
        assert children(service)["broker"] == broker
