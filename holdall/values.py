"""Values ↔ bytes: pickle protocol 5.

    value   = pickle                                    its first byte is 0x80
            | 0x01 count:u32 length:u64* pickle buffer*  `count` buffers out of band; the length of each, the pickle's first

The memory of large arrays and other buffers is not pickled but put beside the pickle: copied once on the way out, and once
on the way in, into memory of its own that may be written to.

`pickle` succeeds for an instance of a class of `__main__`, by reference, and no other process can read it; `cloudpickle`
stores the class itself but is ten times slower for small objects. So the C pickler serves values made of exact builtin
types only, and gives way at the first object of any other type: `reducer_override` is called for just those.

Other first bytes are free for formats to come (safer serializers).

No server process imports this module.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, cast

from holdall.protocol import Buffer

PROTOCOL = 5
"""Of pickle: the newest that every supported Python reads."""
OUT_OF_BAND = b"\x01"
OUT_OF_BAND_BYTES_MIN = 64 * 1024
"""Smaller buffers are pickled with the rest: that costs less than the bookkeeping."""
_COUNT = struct.Struct("<I")
_SCALARS = frozenset((str, int, float, bool, bytes, type(None)))


class _NotPlain(Exception):
    """The value holds something that is not of an exact builtin type."""


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if type(value) is complex:
            return NotImplemented
        raise _NotPlain


def dump(value: object) -> bytes:
    """The bytes of a value. Raises whatever pickling it raises; `client.serialization` gives it a name."""
    if type(value) in _SCALARS:
        return pickle.dumps(value, PROTOCOL)
    buffer = BytesIO()
    try:
        _PlainPickler(buffer, PROTOCOL).dump(value)
    except _NotPlain:
        import cloudpickle  # type: ignore[import-untyped]  # 15 ms that a client of plain values never pays

        dumps = cast(Callable[..., bytes], cloudpickle.dumps)  # pyright: ignore[reportUnknownMemberType]
        buffers: list[memoryview] = []
        pickled = dumps(value, PROTOCOL, buffer_callback=partial(_stays_in, buffers))
        return _joined(pickled, buffers)
    return buffer.getvalue()


def load(data: Buffer) -> Any:
    """The value in these bytes. Runs what its writer pickled; raises whatever that raises."""
    if data[:1] != OUT_OF_BAND:
        return pickle.loads(data)
    view = memoryview(data)
    (count,) = _COUNT.unpack_from(view, 1)
    lengths = struct.unpack_from(f"<{count + 1}Q", view, 5)
    parts: list[memoryview] = []
    at = 5 + 8 * (count + 1)
    for length in lengths:
        parts.append(view[at : at + length])
        at += length
    return pickle.loads(parts[0], buffers=map(bytearray, parts[1:]))


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


def _joined(pickled: bytes, buffers: list[memoryview]) -> bytes:
    if not buffers:
        return pickled
    lengths = [len(pickled), *(each.nbytes for each in buffers)]
    head = OUT_OF_BAND + _COUNT.pack(len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    return b"".join((head, pickled, *buffers))
