"""How the keys of a Dict are called, so that all of one part are in one slot of a cluster, and the parts lie evenly over all.

    NAMESPACE:{TAG}KIND:ID         the tag alone says the slot: its CRC-16 modulo 16,384 (redis.io, cluster specification)

Part i of Dict D lies `i * 16,384 / parts` slots behind where D begins. CRC-16 is linear, so a tag of four letters for a slot is
found by a look into a table of the first two.
"""

from __future__ import annotations

import string
from binascii import crc_hqx
from functools import lru_cache
from typing import NamedTuple

from holdall.slots import SLOTS, slot_of

CLUSTER_SLOTS = 16_384
_LETTERS = (string.ascii_letters + string.digits).encode()
_CACHED_MAX = 65_536


class PartKeys(NamedTuple):
    """Where a part of a Dict is: its slot, what the names of its keys begin with, and those that most scripts take."""

    slot: int
    prefix: bytes
    keys: tuple[bytes, ...]

    def session(self, session: bytes) -> bytes:
        """The key of the outcomes of a session."""
        return self.prefix + b"s:" + session.hex().encode()

    def blob(self, blob_id: bytes) -> bytes:
        return self.prefix + b"b:" + blob_id.hex().encode()


class Keyspace:
    """The keys of this namespace, whose Dicts have so many parts."""

    def __init__(self, namespace: str, parts: int) -> None:
        self.parts = parts
        name = namespace.encode()
        self._name = name
        prefix = b"%s:{%s}" % (name, name)
        kinds = (b"catalog", b"names", b"ids", b"catalog-")
        self.catalog = PartKeys(slot_of_key(name), prefix, tuple(prefix + kind for kind in kinds))
        self.layout = prefix + b"layout"
        self.part = lru_cache(_CACHED_MAX)(self._part)

    def index(self, hash_: int) -> int:
        """The part that a hash leads to."""
        return slot_of(hash_) * self.parts // SLOTS

    def of(self, dict_id: bytes, hash_: int) -> PartKeys:
        """The part of this Dict that a hash leads to."""
        return self.part(dict_id, slot_of(hash_) * self.parts // SLOTS)

    def _part(self, dict_id: bytes, index: int) -> PartKeys:
        slot = (crc_hqx(dict_id, 0) + index * CLUSTER_SLOTS // self.parts) % CLUSTER_SLOTS
        prefix = b"%s:{%s}" % (self._name, tag_of(slot))
        name = dict_id.hex().encode()
        return PartKeys(slot, prefix, tuple(prefix + kind + name for kind in (b"d:", b"k:", b"o:", b"g:")))


def slot_of_key(tag: bytes) -> int:
    """The slot of the keys with this tag."""
    return crc_hqx(tag, 0) % CLUSTER_SLOTS


@lru_cache(CLUSTER_SLOTS)
def tag_of(slot: int) -> bytes:
    """Letters and digits that lead to this slot: the same ones always.

    >>> slot_of_key(tag_of(12_345))
    12345
    """
    for first in _LETTERS:
        for second in _LETTERS:
            start = crc_hqx(bytes((first, second, 0, 0)), 0)
            for high in range(0, 1 << 16, CLUSTER_SLOTS):
                end = _ends().get(start ^ (slot | high))
                if end is not None:
                    return bytes((first, second)) + end
    raise AssertionError(f"no tag leads to slot {slot}")  # each of the 16,384 was tried


@lru_cache(1)
def _ends() -> dict[int, bytes]:
    """The CRC-16 of each two letters."""
    return {crc_hqx(bytes((a, b)), 0): bytes((a, b)) for a in _LETTERS for b in _LETTERS}
