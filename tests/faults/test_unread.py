"""What a client sends and nobody reads yet: within a bound, for all of them together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from holdall import Client, Dict
from holdall.process.config import ServiceSettings
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
