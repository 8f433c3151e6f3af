"""Keys and values to bytes and back, with errors that name the key and the Dict."""

from __future__ import annotations

import sys
import warnings
from operator import itemgetter
from pickle import dumps, loads
from typing import Any, cast

from holdall import blob, keys, values
from holdall.client.connection.query import shown
from holdall.errors import DeserializationError, LargeValueWarning, RequestSizeError, SerializationError, plain
from holdall.keys import EncodedKey
from holdall.protocol import KEY_OBJECT_BYTES_MAX, OBJECT_BYTES_MAX, Buffer
from holdall.values import PROTOCOL

from .large import Pieces

WARNING_BYTES = 5 * 1024 * 1024
"""What the documentation recommends to stay under."""
_warned = False
SMALL = 4096
"""Characters or bytes."""
SMALL_INT = 1 << 64
_FIRST_PICKLED = {values.PICKLED[0]}
_first = itemgetter(0)
_PICKLING = frozenset(("builtins", "pickle", "_pickle", "copyreg", "struct", "holdall.errors"))
"""Where exceptions are defined that pickling raises by itself."""


def encode_key(of: str, key: object) -> EncodedKey:
    """The encoding of a key of the Dict `of`. Raises TypeError if unhashable, SerializationError if it cannot be pickled."""
    try:
        return keys.encode(key)
    except Exception as error:
        raise_unless_of_pickling(error)
        hash(key)  # an unhashable key, or a __hash__ that raises: as with dict, not as a matter of pickling
        raise SerializationError(f"the key {shown(key)} for {of} cannot be pickled: {_reason(error)}") from error


def key_data(of: str, key: object) -> bytes:
    """The bytes of a key's encoding: all that a reader needs. Raises what `encode_key` raises."""
    if type(key) is str and len(key) <= keys.SHORT:  # which takes no detour
        try:
            return b"s" + key.encode()
        except UnicodeEncodeError:
            pass
    return encode_key(of, key).data


def keys_data(of: str, some: list[object]) -> list[bytes]:
    """The bytes of the encodings of these keys. Raises what `encode_key` raises."""
    return keys.data_of_strings(some) or [key_data(of, key) for key in some]


def key_object(of: str, key: object, encoded: EncodedKey) -> bytes | None:
    """What to send along so that iteration gives back this very key; None if its encoding does that alone."""
    if encoded.exact:
        return None
    try:
        data = values.dump(key)
    except Exception as error:
        raise_unless_of_pickling(error)
        raise SerializationError(f"the key {shown(key)} for {of} cannot be pickled: {_reason(error)}") from error
    if len(data) > KEY_OBJECT_BYTES_MAX:
        raise RequestSizeError(
            f"the key {shown(key)} has {len(data):,} bytes as pickled, and a key of {of} has at most {KEY_OBJECT_BYTES_MAX:,}; "
            "nothing was stored: use a digest of it"
        )
    return data


def encode_value(of: str, key: object, value: object) -> bytes | Pieces:
    """The bytes of a value; those of a blob in pieces. Raises SerializationError if it cannot be pickled."""
    small = small_value(value)
    if small is not None:
        return small
    try:
        parts = values.parts(value)
    except Exception as error:
        raise_unless_of_pickling(error)
        raise SerializationError(
            f"the value of {shown(key)} for {of} cannot be pickled: {_reason(error)}; nothing was sent"
        ) from error
    if len(parts) == 1 and len(parts[0]) <= blob.BLOB_BYTES_MIN:
        only = parts[0]
        return only if type(only) is bytes else bytes(only)
    return Pieces(parts) if sum(map(len, parts)) > blob.BLOB_BYTES_MIN else values.join(parts)


def small_value(value: object) -> bytes | None:
    """The bytes of a small value of an exact builtin type, with few calls; None for any other, which is for `encode_value`."""
    kind = type(value)
    if kind is str or kind is bytes:
        is_small = len(value) <= SMALL  # type: ignore[arg-type]
    else:
        is_small = kind is float or kind is bool or value is None or (kind is int and -SMALL_INT < value < SMALL_INT)  # type: ignore[operator]
    if not is_small:
        return None
    data = dumps(value, PROTOCOL)
    return data if len(data) <= blob.BLOB_BYTES_MIN else None


def decode_value(of: str, key: object, data: Buffer) -> Any:
    """The value in these bytes. Raises DeserializationError if they cannot be read here."""
    try:
        return loads(data) if data[:1] == values.PICKLED else values.load(data)
    except Exception as error:
        raise_unless_of_pickling(error)
        raise _unreadable(of, key, error) from error


def decode_values(of: str, some: list[object], data_of: list[bytes | None], found: dict[Any, Any]) -> list[int]:
    """Add the values of these keys to `found`, as many as have come; None came for one that is missing. Returns which ones
    are blobs.

    Raises DeserializationError if one cannot be read here.
    """
    blobs: list[int] = []
    key: object = None
    failed: Exception | None = None
    if None not in data_of and set(map(_first, cast("list[bytes]", data_of))) == _FIRST_PICKLED:
        try:
            found.update(zip(some, map(loads, cast("list[bytes]", data_of)), strict=False))
            return blobs
        except Exception as error:
            failed = error  # met again below, where its key is known
    try:
        for at, (key, data) in enumerate(zip(some, data_of, strict=False)):
            if data is None:
                continue
            first = data[:1]
            if first == values.PICKLED:
                found[key] = loads(data)
            elif first == blob.MARK:
                blobs.append(at)
            else:
                found[key] = values.load(data)
    except Exception as error:
        raise_unless_of_pickling(error)
        raise _unreadable(of, key, error) from error
    if failed is not None:  # it was not: a signal handler had raised it
        raise failed
    return blobs


def decode_key(of: str, encoded: bytes, key_object: bytes | None) -> Any:
    """The key that was first stored. Raises DeserializationError if it cannot be read here."""
    try:
        return keys.decode(encoded) if key_object is None else values.load(key_object)
    except Exception as error:
        raise_unless_of_pickling(error)
        raise DeserializationError(f"a key in {of} cannot be read back in this process: {_reason(error)}") from error


def raise_unless_of_pickling(error: Exception) -> None:
    """Raise this as it is unless Python or pickle define it: an exception of a signal handler's own, or a time-out, which comes
    while something is pickled, is no fault of that. What an object's code raises of its own comes out as it is too.
    """
    if isinstance(error, OSError) or type(error).__module__ not in _PICKLING:
        raise error


def check_size(of: str, key: object, size: int) -> None:
    """Raise RequestSizeError if an entry of so many bytes is too large; warn once if one is larger than a Dict is for."""
    global _warned
    if size <= WARNING_BYTES:
        return
    if size > OBJECT_BYTES_MAX:
        raise RequestSizeError(
            f"{shown(key)} and its value have {size:,} bytes as pickled, and an entry of {of} has at most "
            f"{OBJECT_BYTES_MAX:,}; nothing was stored: split it, or keep a file and store its path"
        )
    if not _warned:
        _warned = True
        warnings.warn(
            f"{shown(key)} and its value have {size:,} bytes as pickled, and {of} is best for objects under "
            f"{WARNING_BYTES >> 20} MiB: keep a file and store its path",
            LargeValueWarning,
            stacklevel=_frames_of_ours(),
        )


def _frames_of_ours() -> int:
    """How far up its caller is called from outside this package, as `warnings.warn` counts; in an event loop, from asyncio."""
    frame, depth = sys._getframe(1), 1  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        frame, depth = frame.f_back, depth + 1
    return depth


def _unreadable(of: str, key: object, error: Exception) -> DeserializationError:
    return DeserializationError(f"the value of {shown(key)} in {of} cannot be read back in this process: {_reason(error)}")


def _reason(error: Exception) -> str:
    return plain(f"{type(error).__name__}: {error}")
