"""Memory grows with what has come, and not with what somebody says is to come."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict, protocol
from holdall.process.admission import raise_descriptor_limit
from holdall.process.config import ServiceSettings
from holdall.protocol import FRAME_BYTES_MAX
from holdall.settings import service_url, socket_url
from tests.faults.hostile import most_resident_bytes, request
from tests.fuzz.strangers import HANDSHAKE, connected, shake_hands
from tests.processes import children, service_process, until

CONNECTIONS = 1_000
GROWTH_BYTES_MAX = 64 * 1024 * 1024
GOOD = request(protocol.GET, key=b"sk")


def unread(raw: socket.socket) -> int:
    """Bytes that the other end has not taken."""
    return int.from_bytes(fcntl.ioctl(raw, termios.TIOCOUTQ, bytes(4)), "little")


def by_zeromq(raw: socket.socket) -> None:
    """The first frame of a request, and one byte of the largest that may follow it."""
    shake_hands(raw, HANDSHAKE)
    raw.sendall(bytes([1, len(GOOD)]) + GOOD + b"\x02" + FRAME_BYTES_MAX.to_bytes(8, "big") + b"x")


def by_a_lane(raw: socket.socket) -> None:
    raw.sendall(len(GOOD).to_bytes(4, "little") + FRAME_BYTES_MAX.to_bytes(4, "little") + GOOD + b"x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "announce"), [("service", by_zeromq), ("workers", by_zeromq), ("worker-0", by_a_lane), ("worker-1", by_a_lane)]
)
def test_1000_peers_that_announce_the_largest_message_cost_little(
    tmp_path: Path, at: str, announce: Callable[[socket.socket], None]
) -> None:
    raise_descriptor_limit()
    url = service_url(tmp_path)
    with service_process(ServiceSettings(str(tmp_path), workers=2)) as service, contextlib.ExitStack() as stack:
        with Client(url) as client:
            d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
            d.update(dict.fromkeys(range(100), "value"))
            before = {pid: most_resident_bytes(pid) for pid in children(service).values()}
            peers = [stack.enter_context(connected(socket_url(tmp_path, at))) for _ in range(CONNECTIONS)]
            for raw in peers:
                raw.settimeout(10)
                announce(raw)
            until(lambda: not any(map(unread, peers)))
            assert len(d) == 100
            with Client(url) as newcomer:
                assert Dict.from_name("kv", client=newcomer)[0] == "value"
        assert {pid for pid in before if most_resident_bytes(pid) > before[pid] + GROWTH_BYTES_MAX} == set()
