"""Messages: round trips, and nothing but ProtocolError for whatever else arrives."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdall import bodies, keys, protocol
from holdall.errors import ProtocolError
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS, dict_crc, key_hash, part_hash, slot_of, slot_range

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
ids = st.binary(min_size=16, max_size=16)
large = st.sampled_from([b"", b"x" * protocol.PAYLOAD_INLINE_BYTES_MAX, b"x" * (protocol.PAYLOAD_INLINE_BYTES_MAX + 1)])
flags = st.integers(0, protocol.FLAGS_MAX).map(lambda value: value & ~protocol.PAYLOAD)
requests = st.builds(Request, u8, flags, u32, ids, u64, u64, ids, st.binary(), st.binary() | large)
replies = st.builds(Reply, u8, u64, u64, st.binary() | large)


@given(requests)
def test_a_request_survives_packing(request: Request) -> None:
    frames = protocol.pack_request(request)
    assert len(frames) == (2 if len(request.value) > protocol.PAYLOAD_INLINE_BYTES_MAX else 1)
    parsed = protocol.parse_request(*frames)  # type: ignore[arg-type]
    assert replace(parsed, flags=parsed.flags & ~protocol.PAYLOAD) == request
    assert protocol.routing_hash(bytes(frames[0])) == request.hash
    assert protocol.sequence_of(bytes(frames[0])) == request.sequence


@given(replies)
def test_a_reply_survives_packing(reply: Reply) -> None:
    frames = protocol.pack_reply(reply)
    assert protocol.parse_reply(*frames) == reply  # type: ignore[arg-type]


@given(requests)
def test_marking_a_retry_changes_nothing_else(request: Request) -> None:
    frames = protocol.mark_retry(protocol.pack_request(request), request.lowest)
    parsed = protocol.parse_request(*frames)  # type: ignore[arg-type]
    assert parsed.flags & protocol.RETRY
    assert replace(parsed, flags=0) == replace(request, flags=0)


versioned = st.builds(lambda tail: bytes([protocol.VERSION]) + tail, st.binary())
heads = st.binary() | st.binary(min_size=60, max_size=80) | versioned


@given(heads, st.none() | st.binary())
def test_arbitrary_frames_raise_nothing_but_protocol_error(head: bytes, payload: bytes | None) -> None:
    for parse in (protocol.parse_request, protocol.parse_reply):
        try:
            parsed: Any = parse(head, payload)
        except ProtocolError:
            continue
        assert head[0] == protocol.VERSION
        assert isinstance(parsed, (Request, Reply))


@given(st.binary())
def test_arbitrary_bodies_raise_nothing_but_protocol_error(body: bytes) -> None:
    for kind in (
        bodies.CatalogEntry,
        bodies.Page,
        bodies.PageRequest,
        bodies.Update,
        bodies.Roster,
        bodies.Hello,
        list[bytes],
        int,
    ):
        try:
            decoded = bodies.decode(kind, body)
        except ProtocolError:
            continue
        assert bodies.decode(kind, bodies.encode(decoded)) == decoded or decoded != decoded


@given(st.binary(), st.binary())
def test_a_key_object_survives_packing(key_object: bytes, value: bytes) -> None:
    assert protocol.split_key_object(protocol.join_key_object(key_object, value)) == (key_object, value)


@pytest.mark.parametrize("field", [b"", b"\1\0\0", b"\5\0\0\0abcd"])
def test_a_wrong_key_object_is_a_protocol_error(field: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.split_key_object(field)


KEYS = {
    "integers": [keys.encode(number).data for number in range(128)],
    "names": [f"skey-{number}".encode() for number in range(128)],
    "pairs": [keys.encode(("job", number)).data for number in range(128)],
}


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("kind", KEYS)
def test_few_and_regular_keys_spread_over_all_workers(kind: str, workers: int) -> None:
    for number in range(20):
        crc = dict_crc(bytes([number]) * 16)
        counts = Counter(slot_of(key_hash(crc, key)) * workers // SLOTS for key in KEYS[kind])
        assert min(counts[worker] for worker in range(workers)) > len(KEYS[kind]) / workers / 3


@given(st.integers(0, SLOTS - 1))
def test_a_slot_has_a_hash(slot: int) -> None:
    assert slot_of(part_hash(slot, SLOTS)) == slot


@given(st.integers(1, SLOTS), u32)
def test_every_slot_has_exactly_one_worker(workers: int, hash_: int) -> None:
    ranges = [range(*slot_range(index, workers)) for index in range(workers)]
    assert sum(slot_of(hash_) in slots for slots in ranges) == 1


def test_the_specification_names_every_opcode_status_and_flag_with_its_number() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    in_text = {name: int(number) for number, name in re.findall(r"\| (\d+) \| `([A-Z_]+)` \|", text)}
    numbers = {name: value for name, value in vars(protocol).items() if name.isupper() and isinstance(value, int)}
    in_code = {name: value for name, value in numbers.items() if not re.match("_|VERSION$|.*_(MAX|OFFSET)$", name)}
    assert in_text == in_code


@given(requests, st.integers(protocol.FLAGS_MAX + 1, 0xFFFF))
def test_a_flag_that_is_not_known_is_refused_and_never_ignored(request: Request, unknown: int) -> None:
    with pytest.raises(ProtocolError, match="flags"):
        protocol.parse_request(*map(bytes, protocol.pack_request(replace(request, flags=unknown & ~protocol.PAYLOAD))))
