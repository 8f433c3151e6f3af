"""The payloads of scripts as those of replies."""

from __future__ import annotations

from struct import Struct

from holdall.bodies import Page, PageEntry, encode

_LENGTH = Struct("<i")
_LENGTHS = Struct("<iii")


def counted(payload: bytes) -> bytes:
    return encode(int(payload))


def values_of(payload: bytes) -> bytes:
    return encode(split(payload))


def split(payload: bytes) -> list[bytes | None]:
    values: list[bytes | None] = []
    at = 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        values.append(None if length < 0 else payload[at : at + length])
        at += max(length, 0)
    return values


def popped(payload: bytes) -> bytes:
    return encode(_entries(payload)[0])


def page_of(payload: bytes) -> bytes:
    """The first entry has the key after which there is more."""
    first, *entries = _entries(payload)
    return encode(Page(entries, first.key))


def _entries(payload: bytes) -> list[PageEntry]:
    entries: list[PageEntry] = []
    at = 0
    while at < len(payload):
        key, key_object, value = _LENGTHS.unpack_from(payload, at)
        key_end = at + _LENGTHS.size + key
        value_at = key_end + key_object
        at = value_at + max(value, 0)
        found = None if value < 0 else payload[value_at:at]
        entries.append(PageEntry(payload[key_end - key : key_end], payload[key_end:value_at] or None, found))
    return entries
