"""A client that asks faster than a worker answers takes nobody else's turn."""

from __future__ import annotations

import contextlib
import multiprocessing
import select
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdall import protocol
from holdall.process.config import ServiceSettings
from holdall.settings import service_url
from tests.faults.hostile import asked, dealer, request, shaken
from tests.processes import WAIT_SECONDS, process_ids, service_process, until

CONNECTIONS = 4
OTHERS = 20
CALLS = 5
"""Of each of the others, who call at the same time: behind what the flood has filled an answer takes long."""
REQUEST = request(protocol.GET, key=b"sk")
REQUESTS = (bytes([0, len(REQUEST)]) + REQUEST) * 500
ANSWERED_BYTES = 1_000_000
"""Of answers to the flood, before anybody else calls: by then it has filled what there is to fill."""

PATIENT = "import holdall.broker.core; holdall.broker.core.SILENT_SECONDS = 60.0"
"""The broker does not take a worker for gone because the machine is busy."""


def flood(url: str, answered_bytes: Any) -> None:
    """Send requests without pause, and take and count the answers, until this process is killed."""
    with contextlib.ExitStack() as stack:
        unsent = {stack.enter_context(shaken(url))[0]: b"" for _ in range(CONNECTIONS)}
        for raw in unsent:
            raw.setblocking(False)
        while True:
            readable, writable, _ = select.select([*unsent], [*unsent], [])
            for raw in readable:
                answered_bytes.value += len(raw.recv(1 << 18))
            for raw in writable:
                words = unsent[raw] or REQUESTS
                unsent[raw] = words[raw.send(words) :]


def wait_for_answers(answered_bytes: Any) -> None:
    """Wait until the flood has got its answers, for as long as more of them come."""
    while (before := answered_bytes.value) < ANSWERED_BYTES:
        until(lambda: answered_bytes.value > before)


def call(url: str) -> None:
    """Be another client, none of whose requests may be refused."""
    with dealer(url) as other:
        other.rcvtimeo = int(WAIT_SECONDS * 1000)
        for sequence in range(CALLS):
            reply = asked(other, request(protocol.LENGTH, sequence=sequence))
            assert reply.sequence == sequence
            assert reply.status == protocol.UNKNOWN_DICT  # and not UNAVAILABLE


@pytest.mark.slow
def test_a_flood_of_requests_to_a_worker_has_no_other_clients_request_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    data = tmp_path / "data"
    url, spawn = service_url(data), multiprocessing.get_context("spawn")
    answered_bytes = spawn.Value("q", 0)
    flooding = spawn.Process(target=flood, args=(url, answered_bytes))
    with service_process(ServiceSettings(str(data), workers=2, sync="off")), ThreadPoolExecutor(OTHERS) as others:
        before = process_ids(data)
        flooding.start()
        try:
            wait_for_answers(answered_bytes)
            for calling in [others.submit(call, url) for _ in range(OTHERS)]:
                calling.result()
            assert flooding.is_alive()
        finally:
            flooding.kill()
            flooding.join()
        assert process_ids(data) == before
