"""A client that asks faster than a worker answers takes nobody else's turn."""

from __future__ import annotations

import contextlib
import multiprocessing
import select
from pathlib import Path
from typing import Any

from holdall import protocol
from holdall.process.config import ServiceSettings
from holdall.settings import service_url
from tests.faults.hostile import asked, dealer, request, shaken
from tests.processes import WAIT_SECONDS, process_ids, service_process

CONNECTIONS = 4
CALLS = 100
REQUEST = request(protocol.GET, key=b"sk")
REQUESTS = (bytes([0, len(REQUEST)]) + REQUEST) * 500
ANSWERED_BYTES = 3_000_000
"""Of answers to the flood, before anybody else calls: by then it has filled what there is to fill."""


def flood(url: str, begun: Any) -> None:
    """Send requests without pause, and take the answers, until this process is killed."""
    with contextlib.ExitStack() as stack:
        unsent = {stack.enter_context(shaken(url))[0]: b"" for _ in range(CONNECTIONS)}
        answered_bytes = 0
        for raw in unsent:
            raw.setblocking(False)
        while True:
            readable, writable, _ = select.select([*unsent], [*unsent], [])
            for raw in readable:
                answered_bytes += len(raw.recv(1 << 18))
            for raw in writable:
                words = unsent[raw] or REQUESTS
                unsent[raw] = words[raw.send(words) :]
            if answered_bytes > ANSWERED_BYTES:
                begun.set()


def test_a_flood_of_requests_to_a_worker_has_no_other_clients_request_refused(tmp_path: Path) -> None:
    url, spawn = service_url(tmp_path), multiprocessing.get_context("spawn")
    begun = spawn.Event()
    flooding = spawn.Process(target=flood, args=(url, begun))
    with service_process(ServiceSettings(str(tmp_path), workers=2, sync="off")):
        before = process_ids(tmp_path)
        flooding.start()
        try:
            assert begun.wait(WAIT_SECONDS)
            with dealer(url) as other:
                for sequence in range(CALLS):
                    reply = asked(other, request(protocol.LENGTH, sequence=sequence))
                    assert reply.sequence == sequence
                    assert reply.status == protocol.UNKNOWN_DICT  # and not UNAVAILABLE
            assert flooding.is_alive()
        finally:
            flooding.kill()
            flooding.join()
        assert process_ids(tmp_path) == before
