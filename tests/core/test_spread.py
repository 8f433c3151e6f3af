"""The rows of a backup for another number of workers: everything is there, once, where it belongs, and as old as it was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import backup, protocol
from holdall.bodies import CatalogEntry, decode, encode
from holdall.disk import FORMAT, crc32
from holdall.errors import StorageError
from holdall.protocol import Reply, Request
from holdall.slots import dict_crc, key_hash, slot_of
from holdall.worker.core import Worker
from holdall.worker.directory.check import Part, _Reader
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.directory.restore import restore
from holdall.worker.directory.spread import Spread
from holdall.worker.message import Message
from holdall.worker.state.transaction import COUNTERS, format_store
from holdall.worker.store import rows
from tests.memory_files import MemoryFiles
from tests.memory_store import MemoryStore
from tests.nowhere import NOWHERE
from tests.registration import lifetime, registration

DICTS = {name: bytes([number]) * 16 for number, name in enumerate(("kept", "brief", "cleared", "gone"), 1)}
TTL = 100.0
NOW = 1_000_000.0


class Service:
    """Workers in memory, each with a wall clock of its own, and a client that asks the one that owns a key."""

    def __init__(self, workers: int, stores: list[MemoryStore] | None = None, ahead: list[float] | None = None) -> None:
        self.stores = stores or [MemoryStore() for _ in range(workers)]
        for store in [] if stores else self.stores:
            format_store(store)
        self.workers = [Worker(store, n, workers, sync=True, files=MemoryFiles()) for n, store in enumerate(self.stores)]
        self.now = NOW
        self._numbers = count(1)
        for worker, seconds in zip(self.workers, ahead or [], strict=False):
            for second in range(0, int(seconds) + 1, 2):
                worker.tick([], self.now - seconds + second)

    def pass_time(self, seconds: int) -> None:
        for _ in range(0, seconds, 2):
            self.now += 2.0
            for worker in self.workers:
                worker.tick([], self.now)

    def ask(self, opcode: int, name: str, key: bytes, value: bytes = b"", worker: Worker | None = None) -> Reply:
        crc = 0 if opcode in (protocol.CREATE, protocol.LOOKUP) else dict_crc(DICTS[name])
        hash_ = worker._part_hash if worker else key_hash(crc, key)
        asked = worker or next(each for each in self.workers if each.first_slot <= slot_of(hash_) < each.end_slot)
        number = next(self._numbers)
        request = Request(opcode, 0, hash_, b"s" * 16, number, number, DICTS[name], key, value)
        [answer] = asked.tick([Message(NOWHERE, b"\0route", *protocol.pack_request(request))], self.now)  # type: ignore[arg-type]
        return protocol.parse_reply(*answer.frames)  # type: ignore[arg-type]

    def ask_all(self, opcode: int, name: str, value: bytes = b"") -> Iterator[Reply]:
        return (self.ask(opcode, name, b"", value, worker) for worker in self.workers)

    def entries(self, name: str, keys: range) -> dict[int, bytes]:
        replies = {key: self.ask(protocol.GET, name, b"k%d" % key) for key in keys}
        return {key: bytes(reply.payload) for key, reply in replies.items() if reply.status == protocol.OK}

    def length(self, name: str) -> int:
        return sum(decode(int, reply.payload) for reply in self.ask_all(protocol.LENGTH, name))


def used(before: int, ahead: list[float], keys: range, read: set[int]) -> Service:
    """A service with entries, some of which were read later, and with what is about to be swept."""
    service = Service(before, ahead=ahead)
    for name, dict_id in DICTS.items():
        ttl = TTL if name == "brief" else None
        service.ask(protocol.CREATE, name, b"main/" + name.encode(), encode(CatalogEntry("main", name, dict_id, 0.0, "", ttl)))
        sealed = registration(dict_id, ttl)
        assert all(reply.status == protocol.OK for reply in service.ask_all(protocol.REGISTER, name, sealed))
        for key in keys:
            service.ask(protocol.PUT, name, b"k%d" % key, b"%s %d" % (name.encode(), key))
    assert all(reply.status == protocol.OK for reply in service.ask_all(protocol.CLEAR, "cleared"))
    service.ask(protocol.PUT, "cleared", b"k1", b"after the clear")
    assert service.ask(protocol.DROP, "gone", b"", b"", service.workers[0]).status == protocol.OK  # and was interrupted
    service.pass_time(60)
    for key in read:
        service.ask(protocol.GET, "brief", b"k%d" % key)
    return service


def spread(service: Service, workers: int) -> Service:
    made = Spread(len(service.stores), workers)
    stores = [MemoryStore() for _ in range(workers)]
    for store in stores:
        format_store(store)
    for index, store in enumerate(service.stores):
        made.note(index, list(store.scan(b"")))
    for index, store in enumerate(service.stores):
        for owner, batch in made.placed(index, list(store.scan(b""))).items():
            assert not any(row in dict(stores[owner].scan(b"")) for row in batch)
            stores[owner].write(dict[bytes, bytes | None](batch), True)
    for index, store in enumerate(stores):
        store.write(dict[bytes, bytes | None](made.table(index)), True)
    return Service(workers, stores)


def findings(service: Service) -> list[Any]:
    found: list[Any] = []
    for worker, store in zip(service.workers, service.stores, strict=True):
        part = Part(worker.index)
        list(_Reader(part, worker.first_slot, worker.end_slot).read(store))
        found += part.findings
    return found


KEYS = range(20)


@settings(max_examples=10)
@given(
    st.integers(1, 4),
    st.integers(1, 6),
    st.lists(st.sampled_from([0.0, 8.0, 30.0]), min_size=4, max_size=4),
    st.sets(st.sampled_from(KEYS)),
)
def test_all_that_is_there_is_there_once_where_it_belongs(before: int, after: int, ahead: list[float], read: set[int]) -> None:
    old = used(before, ahead, KEYS, read)
    new = spread(old, after)
    new.now = old.now
    assert findings(new) == []
    assert new.entries("kept", KEYS) == {key: b"kept %d" % key for key in KEYS}
    assert new.entries("cleared", KEYS) == {1: b"after the clear"}
    assert [new.length(name) for name in ("kept", "brief", "cleared")] == [len(KEYS), len(KEYS), 1]
    assert new.ask(protocol.GET, "gone", b"k1").status == protocol.DICT_NOT_FOUND
    assert all(new.ask(protocol.LOOKUP, name, b"main/" + name.encode()).status == protocol.OK for name in DICTS)
    assert not any(row[:1] in (rows.SESSION_PREFIX, rows.OUTCOME_PREFIX) for store in new.stores for row, _ in store.scan(b"S"))
    new.pass_time(50)  # 110 after all were written, 50 after some were read
    assert new.entries("brief", KEYS).keys() == read
    new.ask(protocol.PUT, "kept", b"k1", b"new")
    assert findings(new) == []


@pytest.mark.parametrize("after", [1, 3])
def test_what_had_expired_when_its_ttl_was_changed_stays_so(after: int) -> None:
    old = used(2, [0.0, 20.0], KEYS, {1, 2})
    old.pass_time(50)
    assert all(r.status == protocol.OK for r in old.ask_all(protocol.SET_TTL, "brief", lifetime(DICTS["brief"], None, 9)))
    new = spread(old, after)
    new.now = old.now
    assert new.entries("brief", KEYS).keys() == {1, 2}
    versions = [worker.version for worker in (*old.workers, *new.workers)]
    assert min(versions[2:]) >= max(versions[:2])


D, NOT_MSGPACK = b"D" + b"d" * 16, b"\xc1"
RECORD = rows.pack_record(b"E" + b"d" * 16 + bytes(4) + b"k", rows.Record(2**64 - 1, 1, None, b"v", 0))
HOSTILE: dict[str, list[tuple[bytes, bytes]]] = {
    "counters cut short": [(b"C", b"short")],
    "a clock of no number": [(b"C", COUNTERS.pack(1, 0.0, float("nan"), 1.0)), (D, encode(rows.DictRow()))],
    "an endless clock": [(b"C", COUNTERS.pack(1, 0.0, float("inf"), 1.0)), (D, encode(rows.DictRow()))],
    "no Dict": [(D, NOT_MSGPACK)],
    "a generation of no u32": [(D, encode(rows.DictRow(generation=-1))), (b"E" + D[1:] + b"xxxxk", RECORD)],
    "a damaged record": [(D, encode(rows.DictRow())), (b"E" + D[1:] + bytes(4) + b"other", RECORD)],
    "a touch cut short": [(D, encode(rows.DictRow())), (b"T" + D[1:] + bytes(4) + b"k", b"")],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_backup_of_rows_that_are_none_is_a_storage_error_and_no_directory(tmp_path: Path, what: str) -> None:
    body = encode(HOSTILE[what])
    with open(tmp_path / "backup", "wb") as file:
        backup.write_head(file, backup.Head(FORMAT, b"l" * 16, 1, 0.0))
        backup.write_rows(file, 0, body)
        backup.write_end(file, backup.End([backup.Tally(len(HOSTILE[what]), crc32(body))]))
    directory = DataDirectory(tmp_path / "data")
    with pytest.raises(StorageError):
        restore(tmp_path / "backup", directory, lambda done: None, 2)
    assert not (directory.path / "layout.json").exists()
