"""A blob: a value above BLOB_BYTES_MIN, which stands in a file of its own, written and read by clients of this machine, and
travels in chunks to and from all others; and what messages say of it.

    reference = 0x02 blob_id:16 size:u64 crc:u32      stands wherever a value stands, in requests, replies and records
    chunk     = blob_id:16 offset:u64 size:u64        the key of a request about a chunk

The size in a chunk's key is that of the whole blob where it is written, and of the chunk where it is read. A blob's id is
random, chosen by the client that sends it; the crc is the CRC-32 of the whole. A value that is not a blob never begins with
0x02: the formats of `holdall.values` begin otherwise.
"""

from __future__ import annotations

from struct import Struct

import msgspec

from holdall.errors import ProtocolError
from holdall.protocol import OBJECT_BYTES_MAX, Buffer

BLOB_BYTES_MIN = 256 * 1024
"""A value of more bytes is a blob: LevelDB was measured with 100 MiB values, at +500 MiB of memory and up to 3.6 s."""
CHUNK_BYTES = 1024 * 1024
"""How much of a blob travels in one message; the last chunk may be shorter."""
MARK = b"\x02"
_REFERENCE = Struct("<c16sQI")
_CHUNK = Struct("<16sQQ")
REFERENCE_BYTES = _REFERENCE.size


class Reference(msgspec.Struct, frozen=True):
    """A blob: its id, its size in bytes, the CRC-32 of all of it."""

    id: bytes
    size: int
    crc: int

    def pack(self) -> bytes:
        """What stands in place of the value."""
        return _REFERENCE.pack(MARK, self.id, self.size, self.crc)


class Chunk(msgspec.Struct, frozen=True):
    """A part of a blob, from `offset` on; the size of the whole where it is written, of the part where it is read."""

    id: bytes
    offset: int
    size: int

    def pack(self) -> bytes:
        """The key of a request about it."""
        return _CHUNK.pack(self.id, self.offset, self.size)


def is_reference(value: Buffer) -> bool:
    return value[:1] == MARK


def reference_of(value: Buffer) -> Reference:
    """The reference in these bytes. Raises ProtocolError if they are none, or one of more than any value may have."""
    if len(value) != _REFERENCE.size or value[:1] != MARK:
        raise ProtocolError(f"a reference to a blob has {_REFERENCE.size} bytes and begins with 2")
    _mark, blob_id, size, crc = _REFERENCE.unpack(value)
    if size > OBJECT_BYTES_MAX:
        raise ProtocolError(f"a reference to a blob of {size:,} bytes, and a value has at most {OBJECT_BYTES_MAX:,}")
    return Reference(blob_id, size, crc)


def chunk_of(key: bytes) -> Chunk:
    """The chunk that a request's key names. Raises ProtocolError if it names none."""
    if len(key) != _CHUNK.size:
        raise ProtocolError(f"the key of a request about a chunk has {_CHUNK.size} bytes, this one {len(key)}")
    chunk = Chunk(*_CHUNK.unpack(key))
    if chunk.offset > OBJECT_BYTES_MAX:
        raise ProtocolError(f"no object has a byte {chunk.offset:,}")
    return chunk
