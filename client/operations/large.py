"""Large values to and from a worker: in the worker's own file where a lane brings its descriptor, else in chunks.

A client fills or reads the open file that a worker passes to it: then no worker carries the bytes, nor is kept from small
requests by them. No path is ever named. Of chunks, at most WINDOW_CHUNKS of one value are on their way. Either way these are
requests like any other: numbered, sent again, by whatever way is open; one that should bring a file and comes by the broker is
answered MISSING, and chunks do. A worker that was started anew has forgotten what was uploaded and not yet stored; then all of
it goes again, under another id.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from os import urandom
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from holdall import blob, protocol
from holdall.blob import Chunk, Reference
from holdall.client.connection.query import Operation, Queries, Query
from holdall.disk import crc32
from holdall.errors import StorageError, TimeoutError

from .refusals import error_of

if TYPE_CHECKING:
    from holdall.protocol import Buffer, Reply

WINDOW_CHUNKS = 4
"""A worker is kept busy, and a client that stalls has so many chunks in the queues between."""
FILE_STEP_BYTES = 8 * 1024 * 1024
"""How much of a file is written and made durable, or read, in one go: so it holds up no others' writes to the same disk."""
TRIES_MAX = 10
"""How often a value is transferred again that its worker lost, or that was replaced meanwhile."""
CHUNK_PATIENCE_SECONDS = 2.0
"""How much longer than usual a chunk's answer may take: others' chunks may be before it."""
SEAL_BYTES_PER_SECOND = 20 * 1024 * 1024
"""A blob is sealed when it is on the disk: slower ones are asked again, and nothing else."""

Progress: TypeAlias = "Callable[[int, int], object]"
"""What is called with the bytes that have been transferred, and with all there are."""


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


class Place(msgspec.Struct, frozen=True):
    """Whose value it is: where requests about it go, how errors call it, and whether its file may come by a lane."""

    hash: int
    dict_id: bytes
    verb: str
    of: str
    shown_key: object
    passes_files: bool

    def query(
        self, opcode: int, key: bytes = b"", value: protocol.Buffer = b"", patience: float = 0.0, *, wants_reply: bool = True
    ) -> Query:
        """A request about it."""
        about = (opcode, self.hash, self.verb, self.of, self.dict_id, key, value, 0, self.shown_key)
        return Query(*about, patience, wants_reply=wants_reply)


def upload(place: Place, pieces: Pieces, progress: Progress | None) -> Operation[bytes]:
    """Bring a value to its worker. Returns the reference to store in its place. When it is given up, so is what was brought."""
    passes_files = place.passes_files
    for _ in range(TRIES_MAX):
        blob_id = urandom(16)
        try:
            transfer = _fill_file if passes_files else _send_chunks
            crc = yield from transfer(place, blob_id, pieces, progress)
            if crc is not None:
                reference = Reference(blob_id, len(pieces), crc)
                patience = CHUNK_PATIENCE_SECONDS + len(pieces) / SEAL_BYTES_PER_SECOND
                if (yield from _taken([place.query(protocol.SEAL, blob_id, reference.pack(), patience)])) is not None:
                    return reference.pack()
        except GeneratorExit:  # nobody carries this out any more
            raise
        except BaseException:
            yield release(place, blob_id)
            raise
        passes_files = passes_files and crc is not None  # if it cannot be done by a file, the worker says why of chunks
    raise lost(place)


def upload_all(values: list[tuple[Place, Pieces]]) -> Operation[list[bytes]]:
    """The same for several values: all of them, or when that is given up, none."""
    references: list[bytes] = []
    try:
        for place, pieces in values:
            references.append((yield from upload(place, pieces, None)))
    except GeneratorExit:
        raise
    except BaseException:
        for (place, _pieces), reference in zip(values, references, strict=False):
            yield release(place, blob.reference_of(reference).id)
        raise
    return references


def download(place: Place, reference: Reference, progress: Progress | None) -> Operation[bytearray | None]:
    """The value that a reference stands for, None if it was removed meanwhile. Raises StorageError if it is damaged."""
    found = (yield from _read_file(place, reference, progress)) if place.passes_files else None
    if found is None:  # if it should be there, the worker knows what to say when it is asked for chunks
        found = yield from _fetch_chunks(place, reference, progress)
    if found is None:
        return None
    data, crc = found
    if crc != reference.crc:
        raise _damaged(place, f"the file blobs/{reference.id.hex()} of its worker is damaged: its checksum does not match")
    return data


def _fill_file(place: Place, blob_id: bytes, pieces: Pieces, progress: Progress | None) -> Operation[int | None]:
    """Write a value into the file of its blob. Returns the CRC, None if that cannot be done."""
    size = len(pieces)
    reply = yield from _ask(place, protocol.MAKE_FILE, Chunk(blob_id, 0, size))
    if reply is None or reply.file is None or reply.file.size != 0:
        yield release(place, blob_id)  # a copy of the request may have come by a lane meanwhile
        return None
    syncs = bytes(reply.payload) == b"\x01"
    crc = 0
    for start in range(0, size, FILE_STEP_BYTES):
        parts = pieces.parts(start, min(FILE_STEP_BYTES, size - start))
        written: int | None = yield Queries(transfers=True, work=partial(_write, reply.file, parts, crc, syncs=syncs))
        if written is None:  # the disk is full, for example
            yield release(place, blob_id)
            return None
        crc = written
        _tell(progress, start + FILE_STEP_BYTES, size)
    return crc


def _write(file: Any, parts: list[memoryview], crc: int, *, syncs: bool) -> int | None:
    """Write these to an open file. Returns the CRC, None if they cannot be written."""
    try:
        for part in parts:
            step = len(part) if type(part.obj) is bytes else blob.CHUNK_BYTES
            for at in range(0, len(part), step):
                piece: Buffer = part[at : at + step]
                if type(part.obj) is not bytes:  # then it may change between its being checked and its being written
                    piece = bytes(piece)
                crc = crc32(piece, crc)
                while piece:
                    piece = memoryview(piece)[file.write(piece) :]
        if syncs:
            file.sync()
    except OSError:
        return None
    return crc


def _send_chunks(place: Place, blob_id: bytes, pieces: Pieces, progress: Progress | None) -> Operation[int | None]:
    """Send a value in chunks. Returns the CRC, None if its worker has lost it."""
    crc = 0
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
    return crc


def _read_file(place: Place, reference: Reference, progress: Progress | None) -> Operation[tuple[bytearray, int] | None]:
    """Read the file of a blob. Returns what was read and its CRC, None if that cannot be done."""
    reply = yield from _ask(place, protocol.OPEN_FILE, Chunk(reference.id, 0, 0))
    if reply is None or reply.file is None or reply.file.size != reference.size:
        return None
    data = bytearray(reference.size)
    view, crc = memoryview(data), 0
    for start in range(0, reference.size, FILE_STEP_BYTES):
        part = view[start : start + FILE_STEP_BYTES]
        read: int | None = yield Queries(transfers=True, work=partial(_read, reply.file, part, crc))
        if read is None:
            return None
        crc = read
        _tell(progress, start + FILE_STEP_BYTES, reference.size)
    return data, crc


def _read(file: Any, into: memoryview, crc: int) -> int | None:
    """Fill this from an open file. Returns the CRC, None if there is too little to read."""
    left = into
    try:
        while left:
            count = file.read(left)
            if not count:
                return None
            left = left[count:]
    except OSError:
        return None
    return int(crc32(into, crc))


def _fetch_chunks(place: Place, reference: Reference, progress: Progress | None) -> Operation[tuple[bytearray, int] | None]:
    """Fetch a blob in chunks. Returns what has come and its CRC, None if it was removed meanwhile."""
    data, crc = bytearray(), 0
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
            data += reply.payload
            crc = crc32(reply.payload, crc)
        _tell(progress, offsets[-1] + blob.CHUNK_BYTES, reference.size)
    return data, crc


def release(place: Place, blob_id: bytes) -> Query:
    """What tells the worker that this client needs a blob no longer: it has read what it popped, or gives an upload up."""
    return place.query(protocol.DROP_BLOB, Chunk(blob_id, 0, 0).pack(), wants_reply=False)


def lost(place: Place) -> TimeoutError:
    """The error for a value that was transferred again and again."""
    query = place.query(protocol.GET)
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
        if reply.status not in (protocol.OK, protocol.MISSING, protocol.UNKNOWN_BLOB):
            raise error_of(query, reply)
    return None if any(reply.status == protocol.UNKNOWN_BLOB for reply in replies) else replies


def _damaged(place: Place, what: str) -> StorageError:
    return StorageError(f"cannot {place.query(protocol.GET)}: {what}; restore a backup")


def _tell(progress: Progress | None, done: int, size: int) -> None:
    if progress is not None:
        progress(min(done, size), size)
