"""Key → slot → worker.

    crc  = crc32(dict id + encoded key)
    hash = crc * 0x9E3779B1 mod 2^32
    slot = hash >> 22                     0 to 1023; each worker owns one contiguous range

CRC-32 because every language has it at C speed; never Python's `hash()`, which differs from process to process. It is
linear: the keys 0 to 127 have CRCs that agree in some bits, and `crc % 1024` gave all of them to the same one of two workers.
The multiplication (Fibonacci hashing; Knuth, The Art of Computer Programming, volume 3, 6.4) carries every bit into the
highest ones.
"""

from __future__ import annotations

from typing import Any

from holdall.disk import crc32

SLOTS = 1024
"""Number of slots. Also the most workers a service can have."""

_MULTIPLIER = 0x9E3779B1
SLOT_SHIFT = 22


def key_hash(dict_crc: int, key: bytes) -> int:
    """The 32-bit hash of an encoded key in the Dict whose id has the CRC `dict_crc` (see `dict_crc`)."""
    return crc32(key, dict_crc) * _MULTIPLIER & 0xFFFFFFFF


def owners(dict_crc: int, keys: list[bytes], part_of_slot: list[Any]) -> list[Any]:
    """For each of these encoded keys, what `part_of_slot` has for its slot. One loop, without a call for each."""
    return [part_of_slot[(crc32(key, dict_crc) * _MULTIPLIER & 0xFFFFFFFF) >> SLOT_SHIFT] for key in keys]


def dict_crc(dict_id: bytes) -> int:
    """The CRC of a Dict's id, from which `key_hash` goes on: computed once per handle."""
    return crc32(dict_id)


def slot_of(hash_: int) -> int:
    return hash_ >> SLOT_SHIFT


def first_hash(slot: int) -> int:
    return slot << SLOT_SHIFT


def part_hash(first_slot: int, end_slot: int) -> int:
    """A hash that has the first of these slots and tells where they end: a worker sees whether its own part is meant."""
    return first_slot << SLOT_SHIFT | end_slot


def slot_range(index: int, workers: int) -> tuple[int, int]:
    """First slot of worker `index` of `workers`, and the first one after its range."""
    return index * SLOTS // workers, (index + 1) * SLOTS // workers
