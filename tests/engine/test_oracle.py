"""The scripts answer as a worker does: sequences of requests, some of them sent again, to both."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdall import protocol
from holdall.blob import Chunk, Reference
from holdall.bodies import (
    CatalogEntry,
    CatalogPage,
    CatalogPageRequest,
    Lifetime,
    PageRequest,
    Registration,
    Update,
    decode,
    encode,
)
from holdall.client.redis.connector import RedisConnector
from holdall.disk import crc32
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS, part_hash
from holdall.worker.core import Worker
from holdall.worker.message import Message
from holdall.worker.state.transaction import format_store
from tests import clusters
from tests.memory_files import MemoryFiles
from tests.memory_store import MemoryStore

HASH = part_hash(0, SLOTS)
KEYS = [b"a", b"b", b"\0", b"c" * 100]
VALUES = [b"\x00one", b"\x00two", b"", b"x" * 70_000]
NAMES = ["one", "two"]
SECONDS = 10.0
IDEMPOTENT = (protocol.REGISTER, protocol.DROP, protocol.SET_TTL)


class Line:
    """Requests of one session, with numbers that go up; any of them may be sent again."""

    def __init__(self) -> None:
        self.session = os.urandom(16)
        self.dict_id = protocol.dict_id_of(os.urandom(16), ephemeral=True)
        self.sent: list[Request] = []

    def request(
        self, opcode: int, key: bytes = b"", value: bytes = b"", flags: int = 0, dict_id: bytes | None = None
    ) -> Request:
        number = len(self.sent) + 1
        lowest = max(1, number - 5)
        about = self.dict_id if dict_id is None else dict_id
        self.sent.append(Request(opcode, flags, HASH, self.session, number, lowest, about, key, value))
        return self.sent[-1]


class Oracle:
    """A worker's pure core, over a store in memory."""

    passes_files = False

    def __init__(self) -> None:
        store = MemoryStore()
        format_store(store)
        self._worker = Worker(store, 0, 1, sync=False, files=MemoryFiles())
        self._wall = 1e9

    def ask(self, request: Request) -> Reply:
        self._wall += 0.001
        head, *payload = protocol.pack_request(request)
        answers = self._worker.tick([Message(self, b"", bytes(head), *payload)], self._wall)  # type: ignore[arg-type]
        for _ in range(3):
            answers = answers or self._worker.told()
        [answer] = answers
        return protocol.parse_reply(*answer.frames)  # type: ignore[arg-type]


class Engine:
    """A server, through the transport."""

    def __init__(self, url: str) -> None:
        self._transport = RedisConnector(url).open_broker(0.05)

    def ask(self, request: Request) -> Reply:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self._transport.send(protocol.pack_request(request))
            for received in self._transport.receive(wait=True):
                if received.reply is not None and received.reply.sequence == request.sequence:
                    return received.reply
            self._transport.has_come_back()
        raise AssertionError(f"no answer to {request}: {self._transport.trouble}")

    def close(self) -> None:
        self._transport.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with clusters.running("redis") as server:
        yield f"{clusters.url_of(server)}?parts=1"


def same(oracle: Reply, engine: Reply) -> None:
    """They say the same, but for versions."""
    assert told(oracle) == told(engine)
    assert bool(oracle.version) == bool(engine.version)


def told(reply: Reply) -> tuple[int, bytes]:
    """Status and payload; a refusal has a sentence, which may be another one."""
    return reply.status, b"" if reply.status > protocol.ANSWERS_MAX else bytes(reply.payload)


keys, values = st.sampled_from(KEYS), st.sampled_from(VALUES)
skips = st.sampled_from([0, protocol.SKIP_IF_EXISTS])
key_objects = st.sampled_from([None, b"first", b"other"])
entry_steps = st.one_of(
    st.tuples(st.just("put"), keys, values, skips, key_objects),
    st.tuples(st.just("set default"), keys, values, key_objects),
    st.tuples(st.just("get"), keys),
    st.tuples(st.just("contains"), keys),
    st.tuples(st.just("pop"), keys, st.sampled_from([0, protocol.WITHOUT_VALUE])),
    st.tuples(st.just("pop any")),
    st.tuples(
        st.just("put many"), st.lists(st.tuples(keys, values, key_objects), max_size=4, unique_by=lambda each: each[0]), skips
    ),
    st.tuples(st.just("get many"), st.lists(keys, max_size=5)),
    st.tuples(st.just("pop many"), st.lists(keys, max_size=5)),
    st.tuples(st.just("length")),
    st.tuples(st.just("page"), st.sampled_from([b"", *KEYS]), st.integers(1, 3), st.sampled_from([0, protocol.WITH_VALUES])),
    st.tuples(st.just("clear")),
    st.tuples(st.just("again"), st.integers(1, 8)),
    st.tuples(st.just("blob"), keys, st.integers(1, 3)),
    st.tuples(st.just("set ttl"), st.sampled_from([None, 1000.0]), st.integers(1, 3)),
    st.tuples(st.just("drop")),
    st.tuples(st.just("register")),
)


def requests_of(line: Line, step: tuple[Any, ...]) -> list[Request]:
    """What this step asks."""
    what, *told = step
    if what in ("put", "set default"):
        key, value, *rest = told
        flags, key_object = (rest[0], rest[1]) if what == "put" else (0, rest[0])
        if key_object is not None:
            flags, value = flags | protocol.KEY_OBJECT, protocol.join_key_object(key_object, value)
        return [line.request(protocol.PUT if what == "put" else protocol.SET_DEFAULT, key, value, flags)]
    if what == "pop":
        return [line.request(protocol.POP, told[0], flags=told[1])]
    if what == "put many":
        objects = [each[2] for each in told[0]]
        update = Update([each[0] for each in told[0]], [each[1] for each in told[0]], objects if any(objects) else [])
        return [line.request(protocol.PUT_MANY, value=encode(update), flags=told[1])]
    if what in ("get many", "pop many"):
        return [line.request(protocol.GET_MANY if what == "get many" else protocol.POP_MANY, value=encode(told[0]))]
    if what == "page":
        return [line.request(protocol.PAGE, value=encode(PageRequest(told[0], told[1])), flags=told[2])]
    if what == "again":
        return [line.sent[-told[0]]] if told[0] <= len(line.sent) else []
    if what == "blob":
        data = bytes([told[1]]) * 300_000
        reference = Reference(Random(len(line.sent)).randbytes(16), len(data), crc32(data))
        chunk = Chunk(reference.id, 0, len(data)).pack()
        return [
            line.request(protocol.WRITE_CHUNK, chunk, data),
            line.request(protocol.SEAL, reference.id, reference.pack()),
            line.request(protocol.PUT, told[0], reference.pack()),
            line.request(protocol.READ_CHUNK, chunk),
        ]
    if what == "set ttl":
        return [line.request(protocol.SET_TTL, value=encode(Lifetime(*told)))]
    if what == "register":
        return [line.request(protocol.REGISTER, value=encode(Registration(None, 100.0, "main", "me@here")))]
    opcodes = {"get": protocol.GET, "contains": protocol.CONTAINS, "pop any": protocol.POP_ANY, "length": protocol.LENGTH}
    opcode = {**opcodes, "clear": protocol.CLEAR, "drop": protocol.DROP}[what]
    return [line.request(opcode, *told)]


@given(st.lists(entry_steps, max_size=25))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries(url: str, steps: list[tuple[Any, ...]]) -> None:
    oracle, engine, line = Oracle(), Engine(url), Line()
    first: dict[int, tuple[int, bytes]] = {}
    try:
        for step in (("register",), *steps):
            for request in requests_of(line, step):
                expected, found = oracle.ask(request), engine.ask(request)
                if request.opcode in (protocol.READ_CHUNK, protocol.SEAL) and expected.status == protocol.UNKNOWN_BLOB:
                    continue  # of what no entry owns a server may have something still
                if request.opcode in IDEMPOTENT and step[0] == "again":
                    continue  # what may happen again is not remembered there
                if expected.status == protocol.FORGOTTEN and told(found) == first.get(request.sequence):
                    continue  # a server may remember longer: what is not remembered tells it of no lowest number
                same(expected, found)
                first.setdefault(request.sequence, told(found))
    finally:
        engine.close()


catalog_steps = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(NAMES), skips, st.sampled_from([None, 60.0])),
    st.tuples(st.just("lookup"), st.sampled_from(NAMES)),
    st.tuples(st.just("mark deleted"), st.sampled_from(NAMES)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("change ttl"), st.sampled_from(NAMES), st.sampled_from([None, 5.0])),
    st.tuples(st.just("find"), st.sampled_from(NAMES)),
    st.tuples(st.just("list"), st.sampled_from(["", *NAMES]), st.integers(1, 3)),
    st.tuples(st.just("again"), st.integers(1, 8)),
)


class Catalog:
    """One side's: ids are its own."""

    def __init__(self, side: Oracle | Engine) -> None:
        self._side = side
        self._line = Line()
        self._ids: dict[str, bytes] = {}
        self._asked: list[Request] = []

    def step(self, environment: str, what: str, *told: Any) -> Any:
        """What is told after this step, without what differs from side to side."""
        if what == "again":
            if told[0] > len(self._asked):
                return None
            request = self._asked[-told[0]]
            return self._said(request, self._side.ask(request))
        name = told[0]
        key, dict_id = f"{environment}/{name}".encode(), self._ids.get(name, bytes(16))
        if what == "create":
            body = encode(CatalogEntry(environment, name, os.urandom(16), 0.0, "me@here", told[2]))
            request = self._line.request(protocol.CREATE, key, body, told[1], protocol.NO_DICT)
        elif what == "change ttl":
            request = self._line.request(protocol.CHANGE_TTL, key, encode(Lifetime(told[1], 0)), 0, dict_id)
        elif what == "list":
            body = encode(CatalogPageRequest(environment, key if name else b"", told[1]))
            request = self._line.request(protocol.LIST, value=body, dict_id=protocol.NO_DICT)
        else:
            opcodes = {"lookup": protocol.LOOKUP, "mark deleted": protocol.MARK_DELETED, "remove": protocol.REMOVE}
            request = self._line.request({**opcodes, "find": protocol.FIND}[what], key, dict_id=dict_id)
        self._asked.append(request)
        reply = self._side.ask(request)
        if reply.status == protocol.OK and what == "create":
            self._ids[name] = decode(CatalogEntry, reply.payload).dict_id
        return self._said(request, reply)

    def _said(self, request: Request, reply: Reply) -> Any:
        if reply.status != protocol.OK or not reply.payload:
            return told(reply)
        if request.opcode == protocol.LIST:
            page = decode(CatalogPage, reply.payload)
            return [self._plain(each) for each in page.entries]
        return self._plain(decode(CatalogEntry, reply.payload))

    def _plain(self, entry: CatalogEntry) -> Any:
        names = {dict_id: name for name, dict_id in self._ids.items()}
        changed = {"dict_id": b"", "created_at": 0.0, "ttl_version": int(bool(entry.ttl_version)), "seal": b""}
        return names.get(entry.dict_id), msgspec.structs.replace(entry, **changed)


@given(st.lists(catalog_steps, max_size=20))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_catalog(url: str, steps: list[tuple[Any, ...]]) -> None:
    engine = Engine(url)
    environment = f"e{struct.unpack('<Q', os.urandom(8))[0]}"
    try:
        oracle_side, engine_side = Catalog(Oracle()), Catalog(engine)
        for step in steps:
            assert oracle_side.step(environment, *step) == engine_side.step(environment, *step)
    finally:
        engine.close()
