"""Blobs to and from a worker, in chunks: at most WINDOW_CHUNKS of one value are on their way.

Chunks are requests like any other: numbered, sent again, by whatever way is open. A worker that was started anew has forgotten
what was uploaded and not yet stored; then all of it goes again, under another id.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from holdall import blob, protocol
from holdall.blob import Chunk, Reference
from holdall.client import catalog
from holdall.client.ask import Ask, Chunks, Operation
from holdall.errors import StorageError, TimeoutError

if TYPE_CHECKING:
    from typing import TypeAlias

    from holdall.client.pieces import Pieces
    from holdall.protocol import Reply

WINDOW_CHUNKS = 4
"""A worker is kept busy, and a client that stalls has so many chunks in the queues between."""
TRIES_MAX = 10
"""How often a value is transferred again that its worker lost, or that was replaced meanwhile."""
CHUNK_PATIENCE_SECONDS = 2.0
"""How much longer than usual a chunk's answer may take: others' chunks may be before it."""
SEAL_BYTES_PER_SECOND = 20 * 1024 * 1024
"""A blob is sealed when it is on the disk: slower ones are asked again, and nothing else."""

Progress: TypeAlias = "Callable[[int, int], object]"
"""What is called with the bytes that have been transferred, and with all there are."""


class Place(NamedTuple):
    """Whose value it is: where requests about it go, and how errors call it."""

    hash: int
    dict_id: bytes
    verb: str
    of: str
    key: object

    def ask(self, opcode: int, data: bytes, value: protocol.Buffer = b"", patience: float = 0.0) -> Ask:
        """A request about it."""
        hash_, dict_id, verb, of, key = self
        return Ask(opcode, hash_, verb, of, dict_id=dict_id, data=data, value=value, key=key, patience=patience)


def upload(place: Place, pieces: Pieces, progress: Progress | None) -> Operation[bytes]:
    """Bring a value to its worker. Returns the reference to store in its place."""
    for _ in range(TRIES_MAX):
        blob_id, crc = os.urandom(16), 0
        for offsets in _windows(len(pieces)):
            asks = Chunks()
            for offset in offsets:
                data = pieces.cut(offset, min(blob.CHUNK_BYTES, len(pieces) - offset))
                crc = crc32(data, crc)
                key = Chunk(blob_id, offset, len(pieces)).pack()
                asks.append(place.ask(protocol.WRITE_CHUNK, key, data, CHUNK_PATIENCE_SECONDS))
            if not _taken(asks, (yield asks)):
                break
            _tell(progress, offsets, len(pieces))
        else:
            reference = Reference(blob_id, len(pieces), crc).pack()
            patience = CHUNK_PATIENCE_SECONDS + len(pieces) / SEAL_BYTES_PER_SECOND
            asks = Chunks([place.ask(protocol.SEAL, blob_id, reference, patience)])
            if _taken(asks, (yield asks)):
                return reference
    raise lost(place)


def download(place: Place, reference: Reference, progress: Progress | None) -> Operation[bytearray | None]:
    """The value that a reference stands for, None if it was removed meanwhile. Raises StorageError if it is damaged."""
    data = bytearray(reference.size)
    view, crc = memoryview(data), 0
    about = f"blob {reference.id.hex()}"
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
                raise StorageError(f"cannot {asks[0]}: a chunk of {about} has a wrong size")
            view[offset : offset + len(reply.payload)] = reply.payload
            crc = crc32(reply.payload, crc)
        _tell(progress, offsets, reference.size)
    if crc != reference.crc:
        asked = place.ask(protocol.READ_CHUNK, reference.id)
        raise StorageError(f"cannot {asked}: the file of {about} is damaged: its checksum does not match; restore a backup")
    return data


def release(place: Place, reference: Reference) -> Ask:
    """What tells the worker that a popped value has been read."""
    return place.ask(protocol.DROP_BLOB, Chunk(reference.id, 0, 0).pack())


def lost(place: Place) -> TimeoutError:
    """The error for a value that was transferred again and again."""
    asked = place.ask(protocol.GET, b"-")
    return TimeoutError(f"cannot {asked}: {TRIES_MAX} times its worker lost it, or it was replaced, while it was transferred")


def _windows(size: int) -> list[range]:
    """The offsets of the chunks, as many together as may be on their way."""
    window = WINDOW_CHUNKS * blob.CHUNK_BYTES
    return [range(start, min(start + window, size), blob.CHUNK_BYTES) for start in range(0, size, window)]


def _taken(asks: Chunks, replies: list[Reply]) -> bool:
    """Whether the worker did it; false if it does not know the blob."""
    for ask, reply in zip(asks, replies, strict=True):
        if reply.status not in (protocol.OK, protocol.UNKNOWN_BLOB):
            raise catalog.error_of(ask, reply)
    return all(reply.status == protocol.OK for reply in replies)


def _tell(progress: Progress | None, offsets: range, size: int) -> None:
    if progress is not None:
        progress(min(offsets[-1] + blob.CHUNK_BYTES, size), size)
