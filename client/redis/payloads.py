"""The payloads of scripts as those of replies."""

from __future__ import annotations

from struct import Struct
from typing import Any

from holdall.bodies import Page, PageEntry, encode

_LENGTHS = Struct("<II")
_LENGTH = Struct("<i")


def counted(payload: bytes) -> bytes:
    return encode(int(payload))


def popped(payload: bytes) -> bytes:
    key_length, object_length = _LENGTHS.unpack_from(payload)
    key_end = _LENGTHS.size + key_length
    end = key_end + object_length
    return encode(PageEntry(payload[_LENGTHS.size : key_end], payload[key_end:end] or None, payload[end:]))


def all_popped(payload: bytes) -> bytes:
    values: list[bytes | None] = []
    at = 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        values.append(None if length < 0 else payload[at : at + length])
        at += max(length, 0)
    return encode(values)


def page_of(listed: list[Any], *, with_values: bool) -> Page:
    more, *rest = listed
    entries = [
        PageEntry(key, key_object or None, value if with_values else None)
        for key, key_object, value in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    ]
    return Page(entries, more)
