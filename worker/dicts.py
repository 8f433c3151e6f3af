"""The Dicts this worker holds entries of, in memory as in the store.

A deleted one leaves a tombstone, so that a client that looked it up just before cannot bring it back; an hour later no such
client is left. An ephemeral one has a lease, renewed by its owner and counted in the seconds for which the store has been in
use: a clock that jumps ends no lease, and after a restart each has its full time again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from holdall.worker import rows
from holdall.worker.rows import DictRow

TOMBSTONE_SECONDS = 3600

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(DictRow).decode


class OpenDict:
    """A Dict that was registered here, and perhaps deleted since."""

    __slots__ = ("_dict_id", "prefix", "row")

    def __init__(self, dict_id: bytes, row: DictRow) -> None:
        self._dict_id = dict_id
        self.row = row
        self.prefix = rows.entry_prefix(dict_id, row.generation)

    def next_generation(self) -> bytes:
        """Leave all entries behind. Returns the row that has them swept."""
        left = rows.sweep_row(self._dict_id, self.row.generation)
        self.row.generation += 1
        self.row.length = 0
        self.prefix = rows.entry_prefix(self._dict_id, self.row.generation)
        return left


class Dicts:
    """The table of them."""

    def __init__(self) -> None:
        self._held: dict[bytes, OpenDict] = {}
        self._changed: set[bytes] = set()
        self._gone: set[bytes] = set()
        self._tombstones: dict[bytes, int] = {}
        self._leases: dict[bytes, float] = {}

    def load(self, stored: Iterable[tuple[bytes, bytes]], elapsed: float) -> None:
        """Take over all Dicts as the store holds them."""
        for dict_id, data in stored:
            self._hold(dict_id, _decode(data), elapsed)

    def get(self, dict_id: bytes) -> OpenDict | None:
        """The Dict of this id, if it was registered here; a deleted one too, as long as its tombstone stands."""
        return self._held.get(dict_id)

    def add(self, dict_id: bytes, row: DictRow, elapsed: float) -> None:
        """Hold another Dict."""
        self._hold(dict_id, row, elapsed)
        self._changed.add(dict_id)

    def changed(self, dict_id: bytes) -> None:
        """Have the row of this Dict written."""
        self._changed.add(dict_id)

    def delete(self, dict_id: bytes, elapsed: float) -> bytes:
        """Make it a tombstone. Returns the row that has its entries swept."""
        held = self._held[dict_id]
        left = held.next_generation()
        held.row.deleted_at = int(elapsed)
        self._tombstones[dict_id] = int(elapsed)
        self._leases.pop(dict_id, None)
        self._changed.add(dict_id)
        return left

    def renew(self, dict_id: bytes, elapsed: float) -> None:
        """The owner of an ephemeral Dict is alive."""
        lease = self._held[dict_id].row.lease_seconds
        if lease is not None:
            self._leases[dict_id] = elapsed + lease

    def unrenewed(self, elapsed: float) -> list[bytes]:
        """Ephemeral Dicts whose lease has ended."""
        return [dict_id for dict_id, until in self._leases.items() if until < elapsed]

    def forget(self, elapsed: float, most: int) -> None:
        """Remove up to `most` tombstones that are old enough. The oldest come first."""
        due: list[bytes] = []
        for dict_id, deleted_at in self._tombstones.items():
            if deleted_at + TOMBSTONE_SECONDS > elapsed or len(due) == most:
                break
            due.append(dict_id)
        for dict_id in due:
            del self._tombstones[dict_id], self._held[dict_id]
            self._changed.discard(dict_id)
            self._gone.add(dict_id)

    @property
    def entries(self) -> int:
        """How many entries they have in all."""
        return sum(held.row.length for held in self._held.values())

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows to write for what changed since the last call."""
        for dict_id in self._changed:
            yield rows.DICT_PREFIX + dict_id, _encode(self._held[dict_id].row)
        for dict_id in self._gone:
            yield rows.DICT_PREFIX + dict_id, None
        self._changed.clear()
        self._gone.clear()

    def __bool__(self) -> bool:
        """Whether something is to be written."""
        return bool(self._changed or self._gone)

    def _hold(self, dict_id: bytes, row: DictRow, elapsed: float) -> None:
        self._held[dict_id] = OpenDict(dict_id, row)
        if row.deleted_at is not None:
            self._tombstones[dict_id] = row.deleted_at
        elif row.lease_seconds is not None:
            self._leases[dict_id] = elapsed + row.lease_seconds
