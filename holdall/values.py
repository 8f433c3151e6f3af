"""Values ↔ bytes: pickle protocol 5.

    value   = pickle                                    its first byte is 0x80
            | 0x01 count:u32 length:u64* pickle buffer*  `count` buffers out of band; the length of each, the pickle's first
            | 0x02 …                                     a reference to a blob (`holdall.blob`); never made here

The memory of large arrays and other buffers is not pickled but put beside the pickle, which zeros fill up so that the first
buffer is aligned. `parts` copies none of it, nor large bytes; `load` makes the buffers views of a bytearray, which is
its reader's own and may be written to, and copies them out of anything else.

`pickle` succeeds for an instance of a class of `__main__`, by reference, and no other process can read it; `cloudpickle`
stores the class itself but is ten times slower for small objects. So the C pickler serves values made of exact builtin
types only, and gives way at the first object of any other type: `reducer_override` is called for just those.

Other first bytes are free for formats to come (safer serializers).

No server process imports this module.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from holdall.protocol import Buffer

PROTOCOL = 5
"""Of pickle: the newest that every supported Python reads."""
PICKLED = b"\x80"
OUT_OF_BAND = b"\x01"
OUT_OF_BAND_BYTES_MIN = 64 * 1024
"""Smaller buffers are pickled with the rest: that costs less than the bookkeeping."""
ALIGNMENT_BYTES = 16
"""What the largest numbers that arrays hold need, and what memory has that is allocated."""
_COUNT = struct.Struct("<I")
_SCALARS = frozenset((str, int, float, bool, bytes, type(None)))


class _NotPlain(Exception):
    """The value holds something that is not of an exact builtin type."""


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if type(value) is complex:
            return NotImplemented
        raise _NotPlain


class _Written(list[bytes]):
    """A file that keeps what is written, without a copy of large bytes."""

    def write(self, data: Buffer) -> None:
        self.append(data if type(data) is bytes else bytes(data))


def dump(value: object) -> bytes:
    """The bytes of a value. Raises whatever pickling it raises; `client.encoding` gives it a name."""
    return join(parts(value))


def join(buffers: Sequence[Buffer]) -> bytes:
    """One after the other."""
    return buffers[0] if len(buffers) == 1 and type(buffers[0]) is bytes else b"".join(buffers)


def parts(value: object) -> Sequence[Buffer]:
    """The bytes of a value, in parts, some of which may be its own memory."""
    if type(value) in _SCALARS and not (isinstance(value, bytes) and len(value) > OUT_OF_BAND_BYTES_MIN):
        return (pickle.dumps(value, PROTOCOL),)
    written = _Written()
    try:
        _PlainPickler(written, PROTOCOL).dump(value)
    except _NotPlain:
        import cloudpickle  # type: ignore[import-untyped]  # slow to load, and plain values need none of it

        dump_into = cast(Callable[..., None], cloudpickle.dump)  # pyright: ignore[reportUnknownMemberType]
        buffers: list[memoryview] = []
        written.clear()
        dump_into(value, written, PROTOCOL, buffer_callback=partial(_stays_in, buffers))
        return _beside(written, buffers)
    return written


def load(data: Buffer) -> Any:
    """The value in these bytes. Runs what its writer pickled; raises whatever that raises."""
    if data[:1] != OUT_OF_BAND:
        return pickle.loads(data)
    view = memoryview(data)
    (count,) = _COUNT.unpack_from(view, 1)
    lengths = struct.unpack_from(f"<{count + 1}Q", view, 5)
    at = 5 + 8 * (count + 1)
    pickled = view[at : at + lengths[0]]
    at += lengths[0]
    buffers: list[memoryview | bytearray] = []
    for length in lengths[1:]:
        buffer = view[at : at + length]
        owned = type(data) is bytearray and at % ALIGNMENT_BYTES == 0
        buffers.append(buffer if owned else bytearray(buffer))
        at += length
    return pickle.loads(pickled, buffers=buffers)


def _stays_in(out: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    """Whether the pickle holds this memory itself; if not, it is in `out`."""
    try:
        raw = buffer.raw()
    except BufferError:  # not contiguous
        return True
    if raw.nbytes < OUT_OF_BAND_BYTES_MIN:
        return True
    out.append(raw)
    return False


def _beside(pickled: list[bytes], buffers: list[memoryview]) -> Sequence[Buffer]:
    """The pickle, with these buffers beside it."""
    if not buffers:
        return pickled
    head_bytes = 1 + _COUNT.size + 8 * (1 + len(buffers))
    pickle_bytes = sum(map(len, pickled))
    padding = -(head_bytes + pickle_bytes) % ALIGNMENT_BYTES
    lengths = [pickle_bytes + padding, *(each.nbytes for each in buffers)]
    head = OUT_OF_BAND + _COUNT.pack(len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    return [head, *pickled, bytes(padding), *buffers]
