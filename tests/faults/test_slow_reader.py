"""A client that asks and takes no answer: it costs a bounded amount of memory, and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict, LocalService, protocol
from holdall import keys as encoding
from holdall.blob import CHUNK_BYTES, Chunk
from holdall.protocol import Request
from holdall.slots import dict_crc, key_hash
from tests.processes import WAIT_SECONDS, children, process_ids
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


def most_resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024


def chunks_of_large(d: Dict[Any, Any], data: Path) -> list[bytes]:
    """Requests for all chunks of the large value, again and again, as a stranger may send them."""
    key, dict_id = encoding.encode("large").data, bytes.fromhex(d.object_id.removeprefix("di-"))
    hash_ = key_hash(dict_crc(dict_id), key)
    blob_id = bytes.fromhex(next(data.glob("worker-0/blobs/[0-9a-f]*")).name)
    chunks = [Chunk(blob_id, offset, CHUNK_BYTES).pack() for offset in range(0, VALUE_BYTES, CHUNK_BYTES)] * ASKED
    numbered = enumerate(chunks, 1)
    requests = [Request(protocol.READ_CHUNK, 0, hash_, b"s" * 16, number, 1, dict_id, each, b"") for number, each in numbered]
    return [bytes(protocol.pack_request(each)[0]) for each in requests]


@pytest.fixture(params=["service", "worker-0"])
def reader(request: pytest.FixtureRequest, service: LocalService) -> Iterator[Any]:
    """It is connected to one of these sockets, and never receives."""
    url = f"{service.url.rpartition('/')[0]}/{request.param}"
    with StreamClient(url) as opened:
        yield opened


@pytest.fixture
def asked(service: LocalService, reader: Any, data: Path) -> Iterator[Dict[Any, Any]]:
    """Another client's Dict, with a large value that the reader has asked for."""
    with Client(service.url) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["large"] = bytes(VALUE_BYTES)
        for each in chunks_of_large(d, data):
            reader.send(each)
        yield d


def test_a_slow_reader_of_large_answers_holds_nobody_up(asked: Dict[Any, Any], reader: Any, data: Path) -> None:
    before = process_ids(data)
    for number in range(200):
        asked[number] = number
        assert asked.pop(number) == number
    assert len(asked["large"]) == VALUE_BYTES
    assert reader.poll(WAIT_SECONDS * 1000)  # there are answers, and they are not taken
    assert process_ids(data) == before


def test_a_slow_reader_of_large_answers_costs_bounded_memory(asked: Dict[Any, Any], data: Path) -> None:
    for _ in range(CALLS):
        assert "large" in asked  # in the end all chunks have been read: a tick reads 8 of them
    pids = children(int((data / "lock").read_text())).values()
    assert max(map(most_resident_bytes, pids)) < RESIDENT_BYTES_MAX
