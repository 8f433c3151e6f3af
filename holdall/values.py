"""Values ↔ bytes: pickle protocol 5.

`pickle` succeeds for an instance of a class of `__main__`, by reference, and no other process can read it; `cloudpickle`
stores the class itself but is ten times slower for small objects. So the C pickler serves values made of exact builtin
types only, and gives way at the first object of any other type: `reducer_override` is called for just those.

A pickle starts with byte 0x80; other first bytes are free for formats to come (buffers out of band, safer serializers).

No server process imports this module.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any, cast

from holdall.protocol import Buffer

PROTOCOL = 5
"""Of pickle: the newest that every supported Python reads."""
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

        dumps = cast(Callable[[object, int], bytes], cloudpickle.dumps)  # pyright: ignore[reportUnknownMemberType]
        return dumps(value, PROTOCOL)
    return buffer.getvalue()


def load(data: Buffer) -> Any:
    """The value in these bytes. Runs what its writer pickled; raises whatever that raises."""
    return pickle.loads(data)
