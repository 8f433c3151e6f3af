"""A worker with blobs, driven without sockets."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from holdall import blob, protocol
from holdall.blob import Chunk, Reference
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS, dict_crc, key_hash, part_hash
from holdall.worker.core import Worker
from holdall.worker.large.files import Files
from holdall.worker.large.folder import Folder
from holdall.worker.message import Message
from holdall.worker.state.transaction import STEP_SECONDS_MAX, format_store
from holdall.worker.store import rows
from tests.memory_store import MemoryStore
from tests.processes import until
from tests.registration import registration

DICT = b"d" * 16
SESSION = b"s" * 16
ID, OTHER = b"1" * 16, b"2" * 16
VALUE = bytes(range(256)) * 5_000
"""Two chunks."""


class Lane:
    """Where requests come from; open files can be passed there, or not."""

    passes_files = True


class Driver:
    """One worker over a store in memory and these files, its clock, and the numbering of its client."""

    def __init__(self, files: Files, store: MemoryStore | None = None, *, sync: bool = True) -> None:
        self.files = files
        self.sync = sync
        self.store = store or MemoryStore()
        if store is None:
            format_store(self.store)
        self.worker = Worker(self.store, 0, 1, sync=sync, files=files)
        self.worker.collect_orphans()
        self.sequence = self.lowest = 0
        self.now = 1_000_000.0
        self.source: Any = Lane()
        if store is None:
            assert self.ask(protocol.REGISTER, value=registration(DICT)).status == protocol.OK

    def send(self, opcode: int, key: bytes = b"", value: protocol.Buffer = b"", flags: int = 0, **fields: Any) -> list[Reply]:
        self.sequence += 1
        numbers = {"session": SESSION, "sequence": self.sequence, "lowest": self.lowest or self.sequence, **fields}
        hash_ = part_hash(0, SLOTS) if opcode in protocol.PARTS else key_hash(dict_crc(DICT), key)
        request = Request(opcode, flags, hash_, dict_id=DICT, key=key, value=value, **numbers)
        answers = self.worker.tick([Message(self.source, b"\0route", *protocol.pack_request(request))], self.now)  # type: ignore[arg-type]
        return [
            protocol.parse_reply(bytes(each.frames[0]), each.frames[1] if len(each.frames) > 1 else None, each.file)
            for each in answers
        ]

    def ask(self, opcode: int, key: bytes = b"", value: protocol.Buffer = b"", flags: int = 0, **fields: Any) -> Reply:
        replies = self.send(opcode, key, value, flags, **fields)
        return replies[0] if replies else self.later()

    def later(self, count: int = 1) -> Reply:
        """The last of so many answers that wait for a thread."""
        answers: list[Any] = []

        def heard() -> bool:
            answers.extend(self.worker.told())
            return len(answers) == count

        until(heard)
        return protocol.parse_reply(*answers[-1].frames)

    def write(self, value: bytes = VALUE, blob_id: bytes = ID) -> Reply:
        replies = [
            self.ask(protocol.WRITE_CHUNK, Chunk(blob_id, at, len(value)).pack(), value[at : at + blob.CHUNK_BYTES])
            for at in range(0, len(value), blob.CHUNK_BYTES)
        ]
        return replies[-1]

    def upload(self, value: bytes = VALUE, blob_id: bytes = ID) -> bytes:
        self.write(value, blob_id)
        reference = Reference(blob_id, len(value), crc32(value)).pack()
        assert self.ask(protocol.SEAL, blob_id, reference).status == protocol.OK
        return reference

    def put(self, key: bytes = b"sk", value: bytes = VALUE, blob_id: bytes = ID) -> bytes:
        reference = self.upload(value, blob_id)
        assert self.ask(protocol.PUT, key, reference).status == protocol.OK
        return reference

    def read(self, blob_id: bytes = ID, size: int = len(VALUE)) -> bytes | Reply:
        found = b""
        for at in range(0, size, blob.CHUNK_BYTES):
            key = Chunk(blob_id, at, min(blob.CHUNK_BYTES, size - at)).pack()
            reply = self.ask(protocol.READ_CHUNK, key)
            if reply.status != protocol.OK:
                return reply
            found += bytes(reply.payload)
        return found

    def wait(self, seconds: float) -> None:
        """Let time pass, as the loop does."""
        for _ in range(int(seconds / STEP_SECONDS_MAX) + 2):
            self.now += STEP_SECONDS_MAX
            while self.worker.sweep(self.now):
                pass
            if self.sync:
                self.worker.flush()

    def owned(self) -> list[bytes]:
        return [row[1:] for row, _data in self.store.scan(rows.BLOB_PREFIX) if row[:1] == rows.BLOB_PREFIX]

    def reopened(self) -> Driver:
        self.worker.close()
        files = Folder(self.files._path, sync=True) if isinstance(self.files, Folder) else self.files
        again = Driver(files, self.store)
        again.sequence = self.sequence
        return again
