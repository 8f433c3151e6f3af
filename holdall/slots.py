"""Key → hash → slot → worker.

hash = crc32(dict id + encoded key), slot = hash % 1024, and each worker owns one contiguous range of slots. CRC-32 because
every language has it at C speed; never Python's `hash()`, which differs from process to process.
"""

from __future__ import annotations

from zlib import crc32

SLOTS = 1024
"""Number of slots. Also the most workers a service can have."""


def key_hash(dict_crc: int, key: bytes) -> int:
    """The 32-bit hash of an encoded key in the Dict whose id has the CRC `dict_crc` (see `dict_crc`)."""
    return crc32(key, dict_crc)


def dict_crc(dict_id: bytes) -> int:
    """The CRC of a Dict's id, from which `key_hash` goes on: computed once per handle."""
    return crc32(dict_id)


def slot_of(hash_: int) -> int:
    """The slot of a hash, 0 to 1023."""
    return hash_ % SLOTS


def slot_range(index: int, workers: int) -> tuple[int, int]:
    """First slot of worker `index` of `workers`, and the first one after its range."""
    return index * SLOTS // workers, (index + 1) * SLOTS // workers
