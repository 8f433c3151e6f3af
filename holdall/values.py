"""Values ↔ bytes.

    value   = 0x91 …                                    plain data (`holdall.plain`)
            | 0x80 …                                    pickle, of protocol 5
            | 0x01 count:u32 length:u64* pickle buffer* `count` buffers out of band; the length of each, the pickle's first
            | 0x02 …                                    a reference to a blob (`holdall.blob`); never made here
            | 0x03 byte*                                bytes
            | 0x04 utf-8                                JSON

The serializer "auto" writes plain data where that says a value exactly, else a pickle, and reads all; "plain", "json" and
"bytes" write and read their own kind alone. The caller chooses, never what is stored.

The memory of large arrays and other buffers is not pickled but stands beside the pickle, which zeros fill up so that the first
buffer is aligned. `parts` copies none of it, nor large bytes; `load` makes the buffers views of a bytearray, which is
its reader's own and may be written to, and copies them out of anything else.

No server process imports this module.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import msgspec

from holdall import plain
from holdall.errors import RequestSizeError
from holdall.plain import Unsupported
from holdall.protocol import OBJECT_BYTES_MAX, Buffer
from holdall.settings import Serializer, is_on

PICKLE_PROTOCOL = 5
"""The newest that every supported Python reads."""
PLAIN, PICKLED, OUT_OF_BAND, RAW, JSON = b"\x91", b"\x80", b"\x01", b"\x03", b"\x04"
OUT_OF_BAND_BYTES_MIN = 64 * 1024
"""Smaller buffers are pickled with the rest: that costs less than the bookkeeping."""
ALIGNMENT_BYTES = 16
"""What the largest numbers that arrays hold need, and what memory has that is allocated."""
_COUNT = struct.Struct("<I")
_LARGE_BYTES = struct.Struct(">2sI")  # msgpack's array of one member, and its bin 32


class _Written(list[bytes]):
    """A file that keeps what is written, without a copy of large bytes."""

    def write(self, data: Buffer) -> None:
        self.append(data if type(data) is bytes else bytes(data))


def dump(value: object, serializer: Serializer = "auto") -> bytes:
    """The bytes of a value. Raises what `parts` raises."""
    return join(parts(value, serializer))


def join(buffers: Sequence[Buffer]) -> bytes:
    return buffers[0] if len(buffers) == 1 and type(buffers[0]) is bytes else b"".join(buffers)


def parts(value: object, serializer: Serializer = "auto") -> Sequence[Buffer]:
    """The bytes of a value, in parts, some of which may be its own memory.

    Raises Unsupported if the serializer does not write it, RequestSizeError, or whatever pickling raises.
    """
    if serializer == "bytes":
        return RAW, _memory(value)
    if serializer == "json":
        return JSON, _json(value)
    if type(value) is bytes and OUT_OF_BAND_BYTES_MIN < len(value) <= OBJECT_BYTES_MAX:
        return _LARGE_BYTES.pack(b"\x91\xc6", len(value)), value
    try:
        return (plain.encode(value, keeps_shared=serializer == "auto"),)
    except (Unsupported, RequestSizeError, RecursionError):
        if serializer == "plain":
            raise
    if not is_on("HOLDALL_PICKLE"):
        return (plain.encode(value, keeps_shared=False),)
    return _pickled(value)


def load(data: Buffer, serializer: Serializer = "auto") -> Any:
    """The value in these bytes. With "auto" it runs what a writer pickled. Raises Unsupported, or whatever reading raises."""
    kind, read = _READERS.get(bytes(data[:1]), ("of no kind that is known here", None))
    if read is None or serializer not in ("auto", kind):
        raise Unsupported(f"it is {kind}, and is to be read with serializer={serializer!r}")
    return read(data)


def _memory(value: object) -> Buffer:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Unsupported(f"an object of type {type(value).__qualname__} is neither bytes, a bytearray nor a memoryview")
    view = memoryview(cast(bytes, value))
    return view.cast("B") if view.nbytes and view.c_contiguous else view.tobytes()


def _json(value: object) -> bytes:
    """The text of a value. What comes back must be the same plain data."""
    encoded = plain.encode(value, keeps_shared=False)
    text = msgspec.json.encode(value)
    if plain.encode(msgspec.json.decode(text), keeps_shared=False) != encoded:
        raise Unsupported("JSON has no tuples, sets, bytes, nan, infinity, nor keys that are no str")
    return text


def _pickled(value: object) -> Sequence[Buffer]:
    import cloudpickle  # type: ignore[import-untyped]  # slow to load, and plain values need none of it

    dump_into = cast(Callable[..., None], cloudpickle.dump)  # pyright: ignore[reportUnknownMemberType]
    written = _Written()
    buffers: list[memoryview] = []
    dump_into(value, written, PICKLE_PROTOCOL, buffer_callback=partial(_stays_in, buffers))
    return _beside(written, buffers)


def _unpickled(data: Buffer) -> Any:
    if not is_on("HOLDALL_PICKLE"):
        raise Unsupported("it is a pickle, and HOLDALL_PICKLE=off refuses those")
    if data[:1] == PICKLED:
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


_READERS: dict[bytes, tuple[str, Callable[[Buffer], Any] | None]] = {
    PLAIN: ("plain", lambda data: plain.decode(data)[0]),
    PICKLED: ("a pickle", _unpickled),
    OUT_OF_BAND: ("a pickle", _unpickled),
    RAW: ("bytes", lambda data: bytes(memoryview(data)[1:])),
    JSON: ("json", lambda data: msgspec.json.decode(memoryview(data)[1:])),
}


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
    if not buffers:
        return pickled
    head_bytes = 1 + _COUNT.size + 8 * (1 + len(buffers))
    pickle_bytes = sum(map(len, pickled))
    padding = -(head_bytes + pickle_bytes) % ALIGNMENT_BYTES
    lengths = [pickle_bytes + padding, *(each.nbytes for each in buffers)]
    head = OUT_OF_BAND + _COUNT.pack(len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    return [head, *pickled, bytes(padding), *buffers]
