"""Keys ↔ bytes: equal keys have equal bytes, in every process, whatever the hash seed.

Equal objects do not pickle equally (shared parts, the order of a frozenset, 1 and 1.0), so the common types have one
canonical encoding each:

    key       = "n"                        None
              | "s" utf-8                  str, lone surrogates passed through
              | "b" bytes                  bytes
              | "i" little-endian          int, two's complement, as short as it goes; also 1.0, True, Fraction(1), 1+0j
              | "d" f64                    float that is no integer, infinity, NaN (all NaNs are one key)
              | "q" sized(int) sized(int)  Fraction, Decimal and the like that no float equals: numerator, denominator
              | "c" f64 f64                complex with an imaginary part
              | "t" sized(key)*            tuple
              | "f" sized(key)*            frozenset, its members' encodings sorted
              | "D" dict id                a Dict's handle
              | "p" pickle                 any other object
              | "h" blake2b-256(key)       in place of a key of more than KEY_BYTES_MAX bytes
    sized(x)  = length:u32 x

Subclasses that inherit `__eq__` and `__hash__` (enums, named tuples) and numpy's scalars equal what they look like, and
are encoded so. An encoding is *exact* when decoding it gives back the type that was encoded; where it is not, the
writer sends the key object along, for iteration to return.

What pickling makes a string, a number or a tuple of that equals the key is encoded as that one.

"Any other object" is keyed by its cloudpickle bytes: two such keys are the same key when they pickle to the same bytes,
which `==` alone does not promise: `KeyTypeWarning`. Values that a class of `__main__` defines are pickled with their class,
and that class is another one in each process: keys of such types find nothing elsewhere. Import the class from a module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from numbers import Complex, Number, Real
from struct import Struct
from typing import Any, cast
from weakref import WeakSet

import msgspec

from holdall import values
from holdall.errors import KeyTypeWarning, warn
from holdall.protocol import KEY_BYTES_MAX, Buffer

Dump = Callable[[object], bytes]
Load = Callable[[Buffer], Any]

DECIMAL_EXPONENT_MAX = 10_000
"""Of a Decimal key: what equals it is an int or a fraction of so many digits, and one of 100,000,000 takes minutes to make."""
SHORT = KEY_BYTES_MAX // 4 - 1
"""A string of so many characters is surely encoded as itself, and that gives it back."""
_F64 = Struct("<d")
_COMPLEX = Struct("<dd")
_NAN = _F64.pack(float("nan"))
_U32 = Struct("<I")


class EncodedKey(msgspec.Struct, frozen=True, gc=False):
    """A key's encoding, and whether decoding it gives back the object's own type and value."""

    data: bytes
    exact: bool


def encode(key: object, dump: Dump = values.dump) -> EncodedKey:
    """The encoding of a key; `dump` pickles what has no encoding of its own.

    Raises what hashing it raises (`TypeError` for a list), or what `dump` raises.

    >>> encode("a"), encode(1.0), encode((1, "a")) == encode((True, "a"))
    (EncodedKey(data=b'sa', exact=True), EncodedKey(data=b'i\\x01', exact=False), False)
    >>> encode((1, "a")).data == encode((True, "a")).data
    True
    """
    encoded = _encode(key, dump)
    if len(encoded.data) > KEY_BYTES_MAX:
        from hashlib import blake2b

        return EncodedKey(b"h" + blake2b(encoded.data, digest_size=32).digest(), False)
    return encoded


def data_of_strings(keys: Sequence[Any]) -> list[bytes]:
    """The bytes of the encodings of these keys, without a call of ours for each; none if not all are short strings."""
    if set(map(type, keys)) == {str} and max(map(len, keys)) <= SHORT:
        try:
            return [b"s" + encoded for encoded in map(str.encode, keys)]
        except UnicodeEncodeError:
            pass
    return []


def decode(data: bytes, load: Load = values.load) -> Any:
    """The key in an exact encoding; `load` reads what was pickled.

    >>> decode(encode(("a", 1.5, frozenset({None}))).data)
    ('a', 1.5, frozenset({None}))
    """
    return _DECODERS[data[:1]](data[1:], load)


def _encode(key: object, dump: Dump = values.dump) -> EncodedKey:
    encoder = _ENCODERS.get(type(key))
    return _encode_other(key, dump) if encoder is None else encoder(key, dump)


def _int_bytes(number: int) -> bytes:
    return int.to_bytes(number, (int.bit_length(number) + 8) // 8, "little", signed=True)


def _int_of(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _encode_float(key: float, _dump: Dump = values.dump) -> EncodedKey:
    if float.is_integer(key):
        return EncodedKey(b"i" + _int_bytes(int(key)), False)
    return EncodedKey(b"d" + (_F64.pack(key) if key == key else _NAN), True)


def _encode_complex(key: complex, _dump: Dump) -> EncodedKey:
    if key.imag == 0:
        return EncodedKey(_encode_float(key.real).data, False)
    return EncodedKey(b"c" + _COMPLEX.pack(key.real + 0.0, key.imag), True)  # + 0.0: -0.0 equals 0.0


def _sized(parts: list[bytes]) -> bytes:
    return b"".join([piece for part in parts for piece in (_U32.pack(len(part)), part)])


def _split(data: bytes) -> list[bytes]:
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int(_U32.unpack_from(data, at)[0])
        parts.append(data[at + 4 : end])
        at = end
    return parts


def _encode_tuple(key: tuple[object, ...], dump: Dump) -> EncodedKey:
    members = [_encode(member, dump) for member in tuple[Any, ...].__iter__(key)]
    return EncodedKey(b"t" + _sized([m.data for m in members]), all(m.exact for m in members))


def _encode_frozenset(key: frozenset[object], dump: Dump) -> EncodedKey:
    members = [_encode(member, dump) for member in frozenset[Any].__iter__(key)]
    return EncodedKey(b"f" + _sized(sorted(m.data for m in members)), all(m.exact for m in members))


def add_type(kind: type, encoder: Callable[[Any, Dump], EncodedKey]) -> None:
    """Let keys of exactly this type be encoded by `encoder`; the first byte of their encodings is in the grammar above."""
    _ENCODERS[kind] = encoder


_ENCODERS: dict[type, Callable[[Any, Dump], EncodedKey]] = {
    str: lambda key, _: EncodedKey(b"s" + str.encode(key, "utf-8", "surrogatepass"), True),
    int: lambda key, _: EncodedKey(b"i" + _int_bytes(key), True),
    bytes: lambda key, _: EncodedKey(b"b" + bytes.__getitem__(key, slice(None)), True),
    type(None): lambda key, _: EncodedKey(b"n", True),
    bool: lambda key, _: EncodedKey(b"i\x01" if key else b"i\x00", False),
    float: _encode_float,
    complex: _encode_complex,
    tuple: _encode_tuple,
    frozenset: _encode_frozenset,
}


def _fraction(data: bytes, _load: Load) -> Any:
    from fractions import Fraction

    return Fraction(*map(_int_of, _split(data)))


_DECODERS: dict[bytes, Callable[[bytes, Load], Any]] = {
    b"n": lambda data, _: None,
    b"s": lambda data, _: data.decode("utf-8", "surrogatepass"),
    b"b": lambda data, _: data,
    b"i": lambda data, _: _int_of(data),
    b"d": lambda data, _: _F64.unpack(data)[0],
    b"c": lambda data, _: complex(*_COMPLEX.unpack(data)),
    b"q": _fraction,
    b"t": lambda data, load: tuple([decode(member, load) for member in _split(data)]),
    b"f": lambda data, load: frozenset([decode(member, load) for member in _split(data)]),
    b"p": lambda data, load: load(data),
}
_BASES: tuple[Any, ...] = (str, bytes, int, float, complex, tuple, frozenset)


def _encode_other(key: Any, dump: Dump) -> EncodedKey:
    kind = cast(Any, type(key))
    hash(key)  # an unhashable key is a TypeError, and a __hash__ that raises is heard, as with dict
    for base in _BASES:
        if isinstance(key, base) and kind.__hash__ is base.__hash__ and kind.__eq__ is base.__eq__:
            return EncodedKey(_ENCODERS[base](key, dump).data, False)
    if isinstance(key, Number):
        encoded = _encode_number(key)
        if encoded is not None:
            return encoded
    elif kind.__module__ == "numpy" and isinstance(key, getattr(sys.modules["numpy"], "generic", ())):
        for base in (str, bytes):  # `item` drops the NULs at their end
            if isinstance(key, base):
                return EncodedKey(_ENCODERS[base](key, dump).data, False)
        twin = cast(Any, key).item()  # pyright: ignore[reportUnnecessaryCast]
        if type(twin) in _ENCODERS and twin == key and hash(twin) == hash(key):
            return EncodedKey(_encode(twin).data, False)
    pickled = dump(key)
    if kind not in _COMES_BACK_AS_ITSELF:
        twin = values.load(pickled)
        if type(twin) not in _ENCODERS:
            _COMES_BACK_AS_ITSELF.add(kind)
        elif twin == key and hash(twin) == hash(key):
            return EncodedKey(_encode(twin).data, False)
        else:
            raise ValueError(f"it comes back as {twin!r}, which is another key")
    _warn_of(key)
    return EncodedKey(b"p" + pickled, True)


def _warn_of(key: object) -> None:
    """Warn, once of each type, that what it calls equal need not pickle alike; that of what inherits `==` from object does."""
    kind = type(key)
    name = f"{kind.__module__}.{kind.__qualname__}"
    pickles_alike = name in _PICKLE_ALIKE and getattr(key, "tzinfo", None) is None
    if pickles_alike or kind.__eq__ is object.__eq__ or kind in _WARNED:
        return
    _WARNED.add(kind)
    what = f"keys of type {name} are compared by their pickles, not by ==, and equal ones may be two keys"
    warn(KeyTypeWarning(f"{what}: use a str, or a tuple of what makes them equal"))


_PICKLE_ALIKE = frozenset(("uuid.UUID", "datetime.date", "datetime.time", "datetime.datetime", "datetime.timedelta"))
"""Types whose equal objects surely pickle alike, those with a time zone excepted."""
_WARNED: WeakSet[type] = WeakSet()
_COMES_BACK_AS_ITSELF: WeakSet[type] = WeakSet()
"""Types whose keys pickling makes no string, number or tuple of, unlike memoryviews and some proxies: the first one tells."""


def _encode_number(key: Any) -> EncodedKey | None:
    """The encoding of what equals this number: an int, else a float, else a fraction, else a complex; None if nothing does."""
    if type(key).__name__ == "Decimal" and key.is_finite() and abs(key.adjusted()) > DECIMAL_EXPONENT_MAX:
        raise OverflowError(f"as a fraction it would have more than {DECIMAL_EXPONENT_MAX:,} digits")
    try:
        numerator, denominator = map(int, key.as_integer_ratio())
    except (AttributeError, OverflowError, ValueError):  # complex, infinities and NaNs
        convert: Any = complex if isinstance(key, Complex) and not isinstance(key, Real) else float
        try:
            twin = convert(key)
        except (TypeError, ValueError, OverflowError):
            return None
        if (twin == key and hash(twin) == hash(key)) or (twin != twin and key != key):
            return EncodedKey(_encode(twin).data, False)
        return None
    if denominator == 1:
        return EncodedKey(b"i" + _int_bytes(numerator), False)
    try:
        as_float = numerator / denominator
        if as_float.as_integer_ratio() == (numerator, denominator):
            return EncodedKey(_encode(as_float).data, False)
    except OverflowError:  # it is beyond all floats
        pass
    data = b"q" + _sized([_int_bytes(numerator), _int_bytes(denominator)])
    return EncodedKey(data, type(key).__name__ == "Fraction" and type(key).__module__ == "fractions")
