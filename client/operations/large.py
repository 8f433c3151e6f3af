"""Large values to and from a worker: in the worker's own file where this client reaches it, else in chunks.

A worker names the file, and the client writes or reads it, and takes its checksum: then no worker carries the bytes, nor is
kept from small requests by them. Whether a client reaches files is found out by trying: a worker may run as another user, or
in a container of its own. Of chunks, at most WINDOW_CHUNKS of one value are on their way. Either way these are requests like
any other: numbered, sent again, by whatever way is open. A worker that was started anew has forgotten what was uploaded and
not yet stored; then all of it goes again, under another id.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from os import fsdecode, urandom
from typing import TYPE_CHECKING, Protocol

import msgspec

from holdall import blob, processors, protocol
from holdall.blob import Chunk, Reference
from holdall.bodies import FileToFill, decode
from holdall.client.connection.query import Operation, Queries, Query
from holdall.disk import crc32, sync
from holdall.errors import StorageError, TimeoutError

from .refusals import error_of

if TYPE_CHECKING:
    from typing import TypeAlias

    from holdall.protocol import Buffer, Reply

WINDOW_CHUNKS = 4
"""A worker is kept busy, and a client that stalls has so many chunks in the queues between."""
FILE_STEP_BYTES = 8 * 1024 * 1024
"""How much of a file is written, and made durable, or read in one go: so it goes to the disk in small parts, and does not hold
up others' writes, which wait for the same journal.
"""
GIVE_WAY_BYTES = 64 * 1024
"""What is checked and copied before the processor is given away."""
TRIES_MAX = 10
"""How often a value is transferred again that its worker lost, or that was replaced meanwhile."""
CHUNK_PATIENCE_SECONDS = 2.0
"""How much longer than usual a chunk's answer may take: others' chunks may be before it."""
SEAL_BYTES_PER_SECOND = 20 * 1024 * 1024
"""A blob is sealed when it is on the disk: slower ones are asked again, and nothing else."""

Progress: TypeAlias = "Callable[[int, int], object]"
"""What is called with the bytes that have been transferred, and with all there are."""
Open: TypeAlias = "Callable[[str, bool], File]"
"""Opens the file at a path, to read, or (True) to write into what is there. Raises OSError."""


class Pieces:
    """Buffers, one after the other. They must not change while they are sent."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self._views = [memoryview(each) for each in buffers if len(each)]
        self._starts: list[int] = []
        self._size = 0
        for view in self._views:
            self._starts.append(self._size)
            self._size += len(view)

    def __len__(self) -> int:
        return self._size

    def cut(self, offset: int, size: int) -> Buffer:
        """A part of them: the memory itself, or a copy of as much if it spans several buffers."""
        found = self.parts(offset, size)
        return found[0] if len(found) == 1 else b"".join(found)

    def parts(self, offset: int, size: int) -> list[memoryview]:
        """A part of them, as the memory itself."""
        first = bisect_right(self._starts, offset) - 1
        found: list[memoryview] = []
        at = offset
        for view, start in zip(self._views[first:], self._starts[first:], strict=True):
            if start >= offset + size:
                break
            found.append(view[at - start : offset + size - start])
            at = start + len(view)
        return found


class File(Protocol):
    """A file that is open, at its beginning."""

    def write(self, data: Buffer) -> int:
        """Write some of this; how many bytes. Raises OSError."""
        ...

    def read(self, into: memoryview) -> int:
        """Read some bytes; how many, 0 at the end. Raises OSError."""
        ...

    def end_at(self, size: int) -> None:
        """Cut off what is behind so many bytes: it may have been a larger blob's. Raises OSError."""

    def sync(self) -> None:
        """Make what was written survive a power cut. Raises OSError."""


class _Descriptor:
    """Open as long as somebody holds it: when a call is given up, a thread may still be in the middle of a write."""

    def __init__(self, path: str, flags: int) -> None:
        self._number = -1
        self._number = os.open(path, flags | os.O_CLOEXEC)

    def write(self, data: Buffer) -> int:
        return os.write(self._number, data)

    def read(self, into: memoryview) -> int:
        return os.readv(self._number, [into])

    def end_at(self, size: int) -> None:
        if os.fstat(self._number).st_size > size:
            os.ftruncate(self._number, size)

    def sync(self) -> None:
        sync(self._number)

    def __del__(self) -> None:
        if self._number >= 0:
            os.close(self._number)


def _opened(path: str, writes: bool) -> File:
    return _Descriptor(path, os.O_WRONLY if writes else os.O_RDONLY)


class Near:
    """What one client knows of its workers' files. `is_possible` as long as it may reach them."""

    def __init__(self, *, is_possible: bool, opened: Open = _opened) -> None:
        self.is_possible = is_possible
        self._opened = opened
        self._is_proved = False

    def open(self, path: str, *, writes: bool) -> File | None:
        """The file that a worker named; None if this client does not reach it.

        Names are random: what is found there is what the worker means, or is in a copy of its folder; then the worker finds
        that nobody has written to its own file, and what is read has another checksum, or is the same. Once one was found,
        one that is missing has been removed since it was named, as when the worker was started anew, and says nothing about
        the next one.
        """
        try:
            file = self._opened(path, writes)
        except OSError as error:
            if path and isinstance(error, (FileNotFoundError, PermissionError)):
                self.is_possible = self._is_proved
            return None
        self._is_proved = True
        return file


class Place(msgspec.Struct, frozen=True):
    """Whose value it is: where requests about it go, how errors call it, and whether its file may be near."""

    hash: int
    dict_id: bytes
    verb: str
    of: str
    key: object
    near: Near

    def query(
        self, opcode: int, data: bytes, value: protocol.Buffer = b"", patience: float = 0.0, *, wants_reply: bool = True
    ) -> Query:
        """A request about it."""
        return Query(
            opcode, self.hash, self.verb, self.of, self.dict_id, data, value, 0, self.key, patience, wants_reply=wants_reply
        )


def upload(place: Place, pieces: Pieces, progress: Progress | None, *, by_file: bool = True) -> Operation[bytes]:
    """Bring a value to its worker, in a file if it may and can be. Returns the reference to store in its place."""
    if by_file and place.near.is_possible:
        reference = yield from _write_file(place, pieces, progress)
        if reference is not None:
            return reference.pack()
    for _ in range(TRIES_MAX):
        reference = yield from _send_chunks(place, pieces, progress)
        if reference is not None:
            return reference.pack()
    raise lost(place)


def download(place: Place, reference: Reference, progress: Progress | None) -> Operation[bytearray | None]:
    """The value that a reference stands for, None if it was removed meanwhile. Raises StorageError if it is damaged."""
    data = bytearray(reference.size)
    crc = (yield from _read_file(place, reference, data, progress)) if place.near.is_possible else None
    if crc != reference.crc:  # or it became another blob's meanwhile, or is a copy of what the worker has
        crc = yield from _fetch_chunks(place, reference, data, progress)
    if crc is None:
        return None
    if crc != reference.crc:
        reply = yield from _ask(place, protocol.FIND_FILE, Chunk(reference.id, 0, 0))
        file = fsdecode(bytes(reply.payload)) if reply else f"blob {reference.id.hex()}"
        raise _damaged(place, f"{file} is damaged: its checksum does not match")
    return data


def _write_file(place: Place, pieces: Pieces, progress: Progress | None) -> Operation[Reference | None]:
    """Write a value into a file of its worker. Returns the blob that it is then, None if that cannot be done."""
    size = len(pieces)
    reply = yield from _ask(place, protocol.MAKE_FILE, Chunk(blob.NO_BLOB, 0, size))
    if reply is None:
        return None
    blob_id, path, syncs = decode(FileToFill, reply.payload)
    file = place.near.open(fsdecode(path), writes=True)
    if file is None:
        yield release(place, blob_id)
        return None
    crc = 0
    for start in range(0, size, FILE_STEP_BYTES):
        end = min(start + FILE_STEP_BYTES, size)
        parts = pieces.parts(start, end - start)
        fill = partial(_fill, file, parts, crc, syncs=syncs, ends_at=size if end == size else None)
        written: int | None = yield Queries(transfers=True, work=fill)
        if written is None:  # the disk is full, for example: the worker knows what to say about that
            yield release(place, blob_id)
            return None
        crc = written
        _tell(progress, end, size)
        if end < size and (yield from _ask(place, protocol.MAKE_FILE, Chunk(blob_id, end, size))) is None:
            return None
    return Reference(blob_id, size, crc)


def _fill(file: File, parts: list[memoryview], crc: int, *, syncs: bool, ends_at: int | None) -> int | None:
    """Write these, the last ones if it is said where the file ends. Returns the CRC, None if they cannot be written."""
    try:
        for part in parts:
            for at in range(0, len(part), GIVE_WAY_BYTES):
                piece: Buffer = part[at : at + GIVE_WAY_BYTES]
                if type(part.obj) is not bytes:  # then it may change between its being checked and its being written
                    piece = bytes(piece)
                crc = crc32(piece, crc)
                while piece:
                    piece = memoryview(piece)[file.write(piece) :]
                processors.give_way()
        if ends_at is not None:
            file.end_at(ends_at)
        if syncs:
            file.sync()
    except OSError:
        return None
    return crc


def _send_chunks(place: Place, pieces: Pieces, progress: Progress | None) -> Operation[Reference | None]:
    """Send a value. Returns the blob that it is then, None if its worker has lost it."""
    blob_id, crc = urandom(16), 0
    for offsets in _windows(len(pieces)):
        chunks: list[Query] = []
        for offset in offsets:
            data = pieces.cut(offset, min(blob.CHUNK_BYTES, len(pieces) - offset))
            crc = crc32(data, crc)
            key = Chunk(blob_id, offset, len(pieces)).pack()
            chunks.append(place.query(protocol.WRITE_CHUNK, key, data, CHUNK_PATIENCE_SECONDS))
        if (yield from _taken(chunks)) is None:
            return None
        _tell(progress, offsets[-1] + blob.CHUNK_BYTES, len(pieces))
    reference = Reference(blob_id, len(pieces), crc)
    patience = CHUNK_PATIENCE_SECONDS + len(pieces) / SEAL_BYTES_PER_SECOND
    sealed = yield from _taken([place.query(protocol.SEAL, blob_id, reference.pack(), patience)])
    return None if sealed is None else reference


def _read_file(place: Place, reference: Reference, data: bytearray, progress: Progress | None) -> Operation[int | None]:
    """Read the file of a blob. Returns the CRC of what was read, None if that cannot be done."""
    reply = yield from _ask(place, protocol.FIND_FILE, Chunk(reference.id, 0, 0))
    file = reply and place.near.open(fsdecode(bytes(reply.payload)), writes=False)
    if not file:
        return None
    view, crc = memoryview(data), 0
    for start in range(0, reference.size, FILE_STEP_BYTES):
        read: int | None = yield Queries(transfers=True, work=partial(_read, file, view[start : start + FILE_STEP_BYTES], crc))
        if read is None:
            return None
        crc = read
        _tell(progress, start + FILE_STEP_BYTES, reference.size)
    return crc


def _read(file: File, into: memoryview, crc: int) -> int | None:
    """Read as much. Returns the CRC, None if that cannot be read: its worker says why."""
    left = into
    try:
        while left:
            read = file.read(left[:GIVE_WAY_BYTES])
            if not read:
                return None
            crc = crc32(left[:read], crc)
            left = left[read:]
    except OSError:
        return None
    return crc


def _fetch_chunks(place: Place, reference: Reference, data: bytearray, progress: Progress | None) -> Operation[int | None]:
    """Fetch a blob. Returns the CRC of what has come, None if it was removed meanwhile."""
    view, crc = memoryview(data), 0
    for offsets in _windows(reference.size):
        chunks: list[Query] = []
        for offset in offsets:
            key = Chunk(reference.id, offset, min(blob.CHUNK_BYTES, reference.size - offset)).pack()
            chunks.append(place.query(protocol.READ_CHUNK, key, patience=CHUNK_PATIENCE_SECONDS))
        replies = yield from _taken(chunks)
        if replies is None:
            return None
        for offset, reply in zip(offsets, replies, strict=True):
            if len(reply.payload) != min(blob.CHUNK_BYTES, reference.size - offset):
                raise _damaged(place, f"blob {reference.id.hex()} is damaged: a chunk has a wrong size")
            view[offset : offset + len(reply.payload)] = reply.payload
            crc = crc32(reply.payload, crc)
        _tell(progress, offsets[-1] + blob.CHUNK_BYTES, reference.size)
    return crc


def release(place: Place, blob_id: bytes) -> Query:
    """What tells the worker that this client needs a blob no longer: it has read what it popped, or gives an upload up."""
    return place.query(protocol.DROP_BLOB, Chunk(blob_id, 0, 0).pack(), wants_reply=False)


def lost(place: Place) -> TimeoutError:
    """The error for a value that was transferred again and again."""
    query = place.query(protocol.GET, b"-")
    return TimeoutError(f"cannot {query}: {TRIES_MAX} times its worker lost it, or it was replaced, while it was transferred")


def _windows(size: int) -> list[range]:
    """The offsets of the chunks, as many together as may be on their way."""
    window = WINDOW_CHUNKS * blob.CHUNK_BYTES
    return [range(start, min(start + window, size), blob.CHUNK_BYTES) for start in range(0, size, window)]


def _ask(place: Place, opcode: int, about: Chunk) -> Operation[Reply | None]:
    """The answer to one request about a file; None if the worker does not know the blob."""
    replies = yield from _taken([place.query(opcode, about.pack(), patience=CHUNK_PATIENCE_SECONDS)])
    return None if replies is None else replies[0]


def _taken(queries: list[Query]) -> Operation[list[Reply] | None]:
    """The replies to requests about a blob; None if its worker does not know it."""
    replies: list[Reply] = yield Queries(queries, transfers=True)
    for query, reply in zip(queries, replies, strict=True):
        if reply.status not in (protocol.OK, protocol.UNKNOWN_BLOB):
            raise error_of(query, reply)
    return replies if all(reply.status == protocol.OK for reply in replies) else None


def _damaged(place: Place, what: str) -> StorageError:
    return StorageError(f"cannot {place.query(protocol.GET, b'-')}: {what}; restore a backup")


def _tell(progress: Progress | None, done: int, size: int) -> None:
    if progress is not None:
        progress(min(done, size), size)
