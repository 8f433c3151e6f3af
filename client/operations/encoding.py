"""Keys and values to bytes and back, with errors that name the key and the Dict."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from holdall import blob, keys, plain, values
from holdall.client.connection.query import shown
from holdall.errors import DeserializationError, LargeValueWarning, RequestSizeError, SerializationError, printable, warn
from holdall.keys import EncodedKey
from holdall.plain import Unsupported
from holdall.protocol import KEY_OBJECT_BYTES_MAX, OBJECT_BYTES_MAX, Buffer

from .large import Pieces

if TYPE_CHECKING:
    from holdall.settings import Serializer

    from .exchange import DictHandle

WARNING_BYTES = 5 * 1024 * 1024
"""What the documentation recommends to stay under."""
_warned = False
SMALL = 4096
"""Characters or bytes."""
_SCALARS = frozenset((type(None), bool, int, float))
_FIRST_PLAIN = {values.PLAIN}
_first, _first_byte = itemgetter(0), itemgetter(slice(1))
_ENCODING = frozenset(
    ("builtins", "pickle", "_pickle", "copyreg", "struct", "msgspec", "holdall.errors", "holdall.plain", "holdall.values")
)
"""Where exceptions are defined that encoding and decoding raise by themselves."""


def encode_key(handle: DictHandle, key: object) -> EncodedKey:
    """The encoding of a key. Raises TypeError if unhashable, SerializationError if it cannot be pickled, or must not be."""
    try:
        return keys.encode(key, partial(values.dump, serializer=_of_keys(handle)))
    except Exception as error:
        raise_unless_of_encoding(error)
        hash(key)  # an unhashable key, or a __hash__ that raises: as with dict, not as a matter of pickling
        raise _unwritable(handle, f"key {shown(key)}", error) from error


def key_data(handle: DictHandle, key: object) -> bytes:
    """The bytes of a key's encoding: all that a reader needs. Raises what `encode_key` raises."""
    if type(key) is str and len(key) <= keys.SHORT:  # which takes no detour
        try:
            return b"s" + key.encode()
        except UnicodeEncodeError:
            pass
    return encode_key(handle, key).data


def keys_data(handle: DictHandle, some: list[object]) -> list[bytes]:
    """The bytes of the encodings of these keys. Raises what `encode_key` raises."""
    return keys.data_of_strings(some) or [key_data(handle, key) for key in some]


def key_object(handle: DictHandle, key: object, encoded: EncodedKey, *, puts_back: bool = False) -> bytes | None:
    """What to send along so that iteration gives back this very key; None if its encoding does that alone, or gives back one
    that is equal, and an entry is put back under a key that the handle may not write.
    """
    if encoded.exact:
        return None
    try:
        data = values.dump(key, _of_keys(handle))
    except Exception as error:
        raise_unless_of_encoding(error)
        if puts_back:
            return None
        raise _unwritable(handle, f"key {shown(key)}", error) from error
    if len(data) > KEY_OBJECT_BYTES_MAX:
        raise RequestSizeError(
            f"the key {shown(key)} has {len(data):,} bytes as encoded, and a key of {handle.label} has at most "
            f"{KEY_OBJECT_BYTES_MAX:,}; nothing was stored: use a digest of it"
        )
    return data


def encode_value(handle: DictHandle, key: object, value: object) -> bytes | Pieces:
    """The bytes of a value; those of a blob in pieces. Raises SerializationError if the handle's serializer cannot write it."""
    small = small_value(handle, value)
    if small is not None:
        return small
    try:
        parts = values.parts(value, handle.serializer)
    except RequestSizeError as error:
        raise RequestSizeError(
            f"the value of {shown(key)} for {handle.label} cannot be stored: {error}; nothing was stored: split it"
        ) from None
    except Exception as error:
        raise_unless_of_encoding(error)
        raise _unwritable(handle, f"value of {shown(key)}", error) from error
    if len(parts) == 1 and len(parts[0]) <= blob.BLOB_BYTES_MIN:
        only = parts[0]
        return only if type(only) is bytes else bytes(only)
    return Pieces(parts) if sum(map(len, parts)) > blob.BLOB_BYTES_MIN else values.join(parts)


def small_value(handle: DictHandle, value: object) -> bytes | None:
    """The bytes of a small plain value that is no container, with few calls; None for any other: that is for `encode_value`."""
    kind: Any = type(value)
    is_small = kind in _SCALARS or ((kind is str or kind is bytes) and len(cast(bytes, value)) <= SMALL)
    if not is_small or handle.serializer not in ("auto", "plain"):
        return None
    try:
        data = plain.dump((value,))
    except (OverflowError, UnicodeEncodeError):
        return None
    return data if len(data) <= blob.BLOB_BYTES_MIN else None


def decode_value(handle: DictHandle, key: object, data: Buffer) -> Any:
    """The value in these bytes. Raises DeserializationError if they cannot be read here."""
    try:
        if data[:1] == values.PLAIN and handle.serializer in ("auto", "plain"):
            return plain.decode(data)[0]
        return values.load(data, handle.serializer)
    except Exception as error:
        raise_unless_of_encoding(error)
        raise _unreadable(handle, f"the value of {shown(key)}", error) from error


def decode_values(handle: DictHandle, some: list[object], data_of: list[bytes | None], found: dict[Any, Any]) -> list[int]:
    """Add the values of these keys to `found`, as many as have come; None came for one that is missing. Returns which ones
    are blobs.

    Raises DeserializationError if one cannot be read here.
    """
    blobs: list[int] = []
    key: object = None
    failed: Exception | None = None
    is_plain = handle.serializer in ("auto", "plain") and None not in data_of
    if is_plain and set(map(_first_byte, cast("list[bytes]", data_of))) == _FIRST_PLAIN:
        try:
            found.update(zip(some, map(_first, map(plain.decode, cast("list[bytes]", data_of))), strict=False))
            return blobs
        except Exception as error:
            failed = error  # met again below, where its key is known
    try:
        for at, (key, data) in enumerate(zip(some, data_of, strict=False)):
            if data is None:
                continue
            if data[:1] == blob.MARK:
                blobs.append(at)
            else:
                found[key] = values.load(data, handle.serializer)
    except Exception as error:
        raise_unless_of_encoding(error)
        raise _unreadable(handle, f"the value of {shown(key)}", error) from error
    if failed is not None:  # it was not: a signal handler had raised it
        raise failed
    return blobs


def decode_key(handle: DictHandle, encoded: bytes, key_object: bytes | None) -> Any:
    """The key that was first stored. Raises DeserializationError if it cannot be read here."""
    load = partial(values.load, serializer=_of_keys(handle))
    try:
        return keys.decode(encoded, load) if key_object is None else load(key_object)
    except Exception as error:
        raise_unless_of_encoding(error)
        raise _unreadable(handle, "a key", error) from error


def _of_keys(handle: DictHandle) -> Serializer:
    """How keys are written and read that have no encoding of their own, and the objects that go along."""
    return "auto" if handle.serializer == "auto" else "plain"


def raise_unless_of_encoding(error: Exception) -> None:
    """Raise this as it is unless Python, pickle or we define it: an exception of a signal handler's own, or a time-out, which
    comes while something is encoded, is no fault of that. What an object's code raises of its own comes out as it is too.
    """
    if isinstance(error, (OSError, Warning)) or type(error).__module__ not in _ENCODING:
        raise error


def check_size(handle: DictHandle, key: object, size: int) -> None:
    """Raise RequestSizeError if an entry of so many bytes is too large; warn once if one is larger than a Dict is for."""
    global _warned
    if size <= WARNING_BYTES:
        return
    if size > OBJECT_BYTES_MAX:
        raise RequestSizeError(
            f"{shown(key)} and its value have {size:,} bytes as encoded, and an entry of {handle.label} has at most "
            f"{OBJECT_BYTES_MAX:,}; nothing was stored: split it, or keep a file and store its path"
        )
    if not _warned:
        _warned = True
        warn(
            LargeValueWarning(
                f"{shown(key)} and its value have {size:,} bytes as encoded, and {handle.label} is best for objects under "
                f"{WARNING_BYTES >> 20} MiB: keep a file and store its path"
            )
        )


def _unwritable(handle: DictHandle, what: str, error: Exception) -> SerializationError:
    if handle.serializer != "auto":
        how = f"stored with serializer={handle.serializer!r}"
    else:
        how = "stored with HOLDALL_PICKLE=off" if isinstance(error, Unsupported) else "pickled"
    return SerializationError(f"the {what} for {handle.label} cannot be {how}: {_reason(error)}; nothing was sent")


def _unreadable(handle: DictHandle, what: str, error: Exception) -> DeserializationError:
    return DeserializationError(f"{what} in {handle.label} cannot be read back in this process: {_reason(error)}")


def _reason(error: Exception) -> str:
    return printable(str(error) if isinstance(error, Unsupported) else f"{type(error).__name__}: {error}")
