"""A client that asks and takes no answer: it costs a bounded amount of memory, and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from holdall import Client, Dict, LocalService, protocol
from holdall import keys as encoding
from holdall.blob import CHUNK_BYTES, Chunk, reference_of
from holdall.protocol import Reply, Request
from holdall.settings import socket_url
from holdall.slots import dict_crc, key_hash
from tests.faults.hostile import most_resident_bytes
from tests.processes import WAIT_SECONDS, children, process_ids, service_pid
from tests.slow import slow_but
from tests.streams import StreamClient

VALUE_BYTES = 8 * 1024 * 1024
ASKED = 100
"""Times that the large value is asked for: 800 MiB."""
CALLS = 5 * ASKED
"""Far more than there are ticks until they have all been answered."""
RESIDENT_BYTES_MAX = 450 * 1024 * 1024


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def service(data: Path) -> Iterator[LocalService]:
    with LocalService(data, workers=1, sync="off") as running:
        yield running


def chunks_of_large(d: Dict[Any, Any], data: Path) -> list[bytes]:
    """Requests for all chunks of the large value, again and again, as a stranger may send them."""
    key, dict_id = encoding.encode("large").data, bytes.fromhex(d.object_id.removeprefix("di-"))
    hash_ = key_hash(dict_crc(dict_id), key)

    def packed(opcode: int, number: int, key: bytes) -> bytes:
        return bytes(protocol.pack_request(Request(opcode, 0, hash_, b"s" * 16, number, 1, dict_id, key, b""))[0])

    def answer(request: bytes) -> Reply:
        alone.send(request)
        return protocol.parse_reply(*alone.recv_multipart())

    with StreamClient(socket_url(data, "worker-0"), timeout=WAIT_SECONDS) as alone:
        blob_id = reference_of(answer(packed(protocol.GET, 1, key)).payload).id
        chunks = [Chunk(blob_id, offset, CHUNK_BYTES).pack() for offset in range(0, VALUE_BYTES, CHUNK_BYTES)] * ASKED
        requests = [packed(protocol.READ_CHUNK, number, each) for number, each in enumerate(chunks, 1)]
        assert len(answer(requests[0]).payload) == CHUNK_BYTES
    return requests


@pytest.fixture(params=slow_but(["service"], ["service", "worker-0"]))
def reader(request: pytest.FixtureRequest, service: LocalService, data: Path) -> Iterator[Any]:
    """It is connected to one of these sockets, and never receives."""
    url = socket_url(data, request.param)
    if request.param == "worker-0":
        with StreamClient(url) as opened:
            yield opened
        return
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvhwm = 1  # nor does ZeroMQ receive in its place
        dealer.connect(url)
        yield dealer


@pytest.fixture(params=slow_but([False], [True, False]), ids=["by lane", "relayed"])
def asked(request: pytest.FixtureRequest, service: LocalService, reader: Any, data: Path) -> Iterator[Dict[Any, Any]]:
    """Another client's Dict, with a large value that the reader has asked for."""
    with Client(service.url, lanes=request.param) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["large"] = bytes(VALUE_BYTES)
        for each in chunks_of_large(d, data):
            reader.send(each)
        yield d


def test_a_slow_reader_of_large_answers_holds_nobody_up_and_costs_bounded_memory(
    asked: Dict[Any, Any], reader: Any, data: Path
) -> None:
    before = process_ids(data)
    for number in range(200):
        asked[number] = number
        assert asked.pop(number) == number
    assert len(asked["large"]) == VALUE_BYTES
    assert reader.poll(WAIT_SECONDS * 1000)  # there are answers, and they are not taken
    for _ in range(CALLS):
        assert "large" in asked  # in the end all chunks have been read: a tick reads 8 of them
    assert process_ids(data) == before
    pids = children(service_pid(data)).values()
    assert max(map(most_resident_bytes, pids)) < RESIDENT_BYTES_MAX
