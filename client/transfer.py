"""Blobs to and from a worker: in the worker's own file where this client reaches it, else in chunks.

A worker names the file, and the client writes or reads it, and takes its checksum. Of chunks, at most WINDOW_CHUNKS of one
value are on their way. Either way these are requests like any other: numbered, sent again, by whatever way is open. A worker
that was started anew has forgotten what was uploaded and not yet stored; then all of it goes again, under another id.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import fsdecode, urandom
from typing import TYPE_CHECKING

import msgspec

from holdall import blob, processors, protocol
from holdall.blob import Chunk, Reference
from holdall.bodies import FileToFill, decode
from holdall.checksum import crc32
from holdall.client import catalog
from holdall.client.ask import Ask, Chunks, Operation, Tell, Work
from holdall.errors import StorageError, TimeoutError

if TYPE_CHECKING:
    from typing import TypeAlias

    from holdall.client.near import File, Near
    from holdall.client.pieces import Pieces
    from holdall.protocol import Buffer, Reply

WINDOW_CHUNKS = 4
"""A worker is kept busy, and a client that stalls has so many chunks in the queues between."""
STEP_BYTES = 8 * 1024 * 1024
"""How much of a file is written, and made durable, or read in one go: so it goes to the disk in small parts, and does not hold
up others' writes, which wait for the same journal.
"""
PIECE_BYTES = 64 * 1024
"""What is checked and copied before the processor is given away. Beside a client that wrote 1 MiB values without pause another
one got 19,400, 17,300 and 13,000 small ones in a second with 32, 64 and 128 KiB, and 394, 459 and 495 were written.
"""
TRIES_MAX = 10
"""How often a value is transferred again that its worker lost, or that was replaced meanwhile."""
CHUNK_PATIENCE_SECONDS = 2.0
"""How much longer than usual a chunk's answer may take: others' chunks may be before it."""
SEAL_BYTES_PER_SECOND = 20 * 1024 * 1024
"""A blob is sealed when it is on the disk: slower ones are asked again, and nothing else."""

Progress: TypeAlias = "Callable[[int, int], object]"
"""What is called with the bytes that have been transferred, and with all there are."""


class Place(msgspec.Struct, frozen=True):
    """Whose value it is: where requests about it go, how errors call it, and whether its file may be near."""

    hash: int
    dict_id: bytes
    verb: str
    of: str
    key: object
    near: Near

    def ask(self, opcode: int, data: bytes, value: protocol.Buffer = b"", patience: float = 0.0) -> Ask:
        """A request about it."""
        return Ask(
            opcode, self.hash, self.verb, self.of, dict_id=self.dict_id, data=data, value=value, key=self.key, patience=patience
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
        yield Tell(release(place, blob_id))
        return None
    crc = 0
    for start in range(0, size, STEP_BYTES):
        end = min(start + STEP_BYTES, size)
        parts = pieces.parts(start, end - start)
        written: int | None = yield Work(partial(_fill, file, parts, crc, syncs=syncs, ends_at=size if end == size else None))
        if written is None:  # the disk is full, for example: the worker knows what to say about that
            yield Tell(release(place, blob_id))
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
            for at in range(0, len(part), PIECE_BYTES):
                piece: Buffer = part[at : at + PIECE_BYTES]
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
        asks = Chunks()
        for offset in offsets:
            data = pieces.cut(offset, min(blob.CHUNK_BYTES, len(pieces) - offset))
            crc = crc32(data, crc)
            key = Chunk(blob_id, offset, len(pieces)).pack()
            asks.append(place.ask(protocol.WRITE_CHUNK, key, data, CHUNK_PATIENCE_SECONDS))
        if not _taken(asks, (yield asks)):
            return None
        _tell(progress, offsets[-1] + blob.CHUNK_BYTES, len(pieces))
    reference = Reference(blob_id, len(pieces), crc)
    patience = CHUNK_PATIENCE_SECONDS + len(pieces) / SEAL_BYTES_PER_SECOND
    asks = Chunks([place.ask(protocol.SEAL, blob_id, reference.pack(), patience)])
    return reference if _taken(asks, (yield asks)) else None


def _read_file(place: Place, reference: Reference, data: bytearray, progress: Progress | None) -> Operation[int | None]:
    """Read the file of a blob. Returns the CRC of what was read, None if that cannot be done."""
    reply = yield from _ask(place, protocol.FIND_FILE, Chunk(reference.id, 0, 0))
    file = reply and place.near.open(fsdecode(bytes(reply.payload)), writes=False)
    if not file:
        return None
    view, crc = memoryview(data), 0
    for start in range(0, reference.size, STEP_BYTES):
        read: int | None = yield Work(partial(_read, file, view[start : start + STEP_BYTES], crc))
        if read is None:
            return None
        crc = read
        _tell(progress, start + STEP_BYTES, reference.size)
    return crc


def _read(file: File, into: memoryview, crc: int) -> int | None:
    """Read as much. Returns the CRC, None if that cannot be read: its worker says why."""
    left = into
    try:
        while left:
            read = file.read(left[:PIECE_BYTES])
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
        asks = Chunks()
        for offset in offsets:
            key = Chunk(reference.id, offset, min(blob.CHUNK_BYTES, reference.size - offset)).pack()
            asks.append(place.ask(protocol.READ_CHUNK, key, patience=CHUNK_PATIENCE_SECONDS))
        replies: list[Reply] = yield asks
        if not _taken(asks, replies):
            return None
        for offset, reply in zip(offsets, replies, strict=True):
            if len(reply.payload) != min(blob.CHUNK_BYTES, reference.size - offset):
                raise _damaged(place, f"blob {reference.id.hex()} is damaged: a chunk has a wrong size")
            view[offset : offset + len(reply.payload)] = reply.payload
            crc = crc32(reply.payload, crc)
        _tell(progress, offsets[-1] + blob.CHUNK_BYTES, reference.size)
    return crc


def release(place: Place, blob_id: bytes) -> Ask:
    """What tells the worker that this client needs a blob no longer: it has read what it popped, or gives an upload up."""
    return place.ask(protocol.DROP_BLOB, Chunk(blob_id, 0, 0).pack())


def lost(place: Place) -> TimeoutError:
    """The error for a value that was transferred again and again."""
    asked = place.ask(protocol.GET, b"-")
    return TimeoutError(f"cannot {asked}: {TRIES_MAX} times its worker lost it, or it was replaced, while it was transferred")


def _windows(size: int) -> list[range]:
    """The offsets of the chunks, as many together as may be on their way."""
    window = WINDOW_CHUNKS * blob.CHUNK_BYTES
    return [range(start, min(start + window, size), blob.CHUNK_BYTES) for start in range(0, size, window)]


def _ask(place: Place, opcode: int, about: Chunk) -> Operation[Reply | None]:
    """The answer to one request about a file; None if the worker does not know the blob."""
    asks = Chunks([place.ask(opcode, about.pack(), patience=CHUNK_PATIENCE_SECONDS)])
    replies: list[Reply] = yield asks
    return replies[0] if _taken(asks, replies) else None


def _damaged(place: Place, what: str) -> StorageError:
    return StorageError(f"cannot {place.ask(protocol.GET, b'-')}: {what}; restore a backup")


def _taken(asks: Chunks, replies: list[Reply]) -> bool:
    """Whether the worker did it; false if it does not know the blob."""
    for ask, reply in zip(asks, replies, strict=True):
        if reply.status not in (protocol.OK, protocol.UNKNOWN_BLOB):
            raise catalog.error_of(ask, reply)
    return all(reply.status == protocol.OK for reply in replies)


def _tell(progress: Progress | None, done: int, size: int) -> None:
    if progress is not None:
        progress(min(done, size), size)
