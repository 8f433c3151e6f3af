"""The Dicts this worker holds entries of, in memory as in the store.

A deleted one leaves a tombstone, so that a client that looked it up just before cannot bring it back; an hour later no such
client is left. An ephemeral one has a lease, renewed by its owner and counted in the seconds for which the store has been in
use: a clock that jumps ends no lease, and after a restart each has its full time again.

A Dict with a name is registered by whoever has looked it up, with a seal over its id and all that the registration says, under
the layout's secret: nobody makes one up, with a ttl of his own. Nor has anybody the catalog seal one for the id of another
Dict: the ids of those that are made come from the secret too. A seal from before a change of the ttl is good still: that
change reaches every worker after it is noted in the catalog, and has the higher version.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Iterable
from itertools import islice, takewhile
from math import ceil, inf

import msgspec

from holdall import protocol
from holdall.bodies import CatalogEntry, Lifetime, Registration, encode
from holdall.errors import ProtocolError
from holdall.protocol import dict_id_of, is_ephemeral
from holdall.settings import is_creator, is_name
from holdall.worker.store import rows
from holdall.worker.store.rows import DictRow

from .refused import Refused

TOMBSTONE_SECONDS = 3600
DICTS_MAX = 1_000_000
"""Dicts of one worker, with those that were deleted lately: about a gigabyte."""
LEASE_SECONDS_MAX = 3600.0
LEFT_MAX = 100_000
"""Generations of entries that wait to be swept."""
TOMBSTONES_FULL_MAX = 10_000
"""Of Dicts that were not known, while the disk is full."""
TOUCHES_PER_TTL = 100
"""How often at most an entry that is only read is touched within the time to live of its Dict."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(DictRow).decode


class OpenDict:
    """A Dict that was registered here, and perhaps deleted since."""

    __slots__ = ("dict_id", "fresh_ms", "life_ms", "oldest_ms", "prefix", "row")

    def __init__(self, dict_id: bytes, row: DictRow, oldest_ms: int) -> None:
        self.dict_id = dict_id
        self.row = row
        self.prefix = rows.entry_prefix(dict_id, row.generation)
        self.oldest_ms = oldest_ms
        """No entry here was last used before this time of the store's own clock."""
        self._live_for(row.ttl)

    def next_generation(self) -> bytes:
        """Leave all entries behind. Returns the row that has them swept."""
        left = rows.sweep_row(self.dict_id, self.row.generation)
        self.row.generation += 1
        self.row.length = 0
        self.prefix = rows.entry_prefix(self.dict_id, self.row.generation)
        return left

    def set_ttl(self, seconds: float | None, version: int, clock_ms: int) -> None:
        """Keep entries for so long from now on; those that have expired stay so."""
        row = self.row
        if row.ttl is not None:
            row.dead_before = self.dead_before(clock_ms)
        row.ttl, row.ttl_version = seconds, version
        self._live_for(seconds)

    def dead_before(self, clock_ms: int) -> int:
        """The time of the store's own clock such that entries last used before it have expired."""
        if self.row.ttl is None:
            return self.row.dead_before
        return max(int(clock_ms - self.life_ms) + 1, self.row.dead_before)

    @property
    def due_ms(self) -> float:
        """The time of the store's own clock before which no entry here is due to be swept."""
        return 0.0 if self.oldest_ms < self.row.dead_before else self.oldest_ms + self.life_ms

    def has_touch(self, age_ms: int) -> bool:
        """Whether an entry last written so long ago may have a touch row."""
        return self.row.touch_after is not None and age_ms > self.row.touch_after

    def _live_for(self, seconds: float | None) -> None:
        """An entry that is read within `fresh_ms` of its last use is not touched, and lives by so much longer."""
        if seconds is None:
            self.fresh_ms = self.life_ms = inf
            return
        ttl_ms = ceil(seconds * 1000)
        fresh_ms = ttl_ms // TOUCHES_PER_TTL
        self.fresh_ms, self.life_ms = fresh_ms, ttl_ms + fresh_ms
        self.row.touch_after = min(fresh_ms, fresh_ms if self.row.touch_after is None else self.row.touch_after)


class Dicts:
    """The table of them; `secret` is the layout's."""

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret
        self._opened: dict[bytes, OpenDict] = {}
        self.get = self._opened.get
        """The Dict of this id, if it was registered here; a deleted one too, as long as its tombstone stands."""
        self.aging: list[OpenDict] = []
        """Those whose entries have come to expire, or expire at another time, since the sweeper looked here."""
        self.left: deque[tuple[bytes, int]] = deque()
        """Ids and generations whose entries have been left behind, and are to be swept."""
        self.changed_ids: set[bytes] = set()
        self.gone_ids: set[bytes] = set()
        """Of the Dicts whose rows are to be written, or deleted."""
        self._tombstones: dict[bytes, int] = {}
        self._leases: dict[bytes, float] = {}

    def load(self, stored: Iterable[tuple[bytes, bytes]], elapsed: float) -> None:
        for dict_id, data in stored:
            self._hold(dict_id, _decode(data), elapsed, 0)

    def add(self, dict_id: bytes, row: DictRow, elapsed: float, clock_ms: int = 0) -> None:
        self._hold(dict_id, row, elapsed, clock_ms)
        self.changed_ids.add(dict_id)

    def id_for(self, key: bytes, drawn: bytes) -> bytes:
        """The id of a Dict that is made under this key of the catalog; `drawn` are random bytes of whoever makes it."""
        return dict_id_of(hmac.digest(self._secret, b"id" + key + drawn, "sha256")[:16], ephemeral=False)

    def sealed(self, entry: CatalogEntry) -> CatalogEntry:
        """The entry, with what lets this Dict be registered as it is."""
        registration = Registration(entry.ttl, ttl_version=entry.ttl_version)
        return msgspec.structs.replace(entry, seal=self._seal(entry.dict_id, registration))

    def require_right(self, dict_id: bytes, of: Registration) -> None:
        """Raises ProtocolError if this Dict may not be registered so."""
        if is_ephemeral(dict_id):
            is_leased = 0 < (of.lease_seconds or 0.0) <= LEASE_SECONDS_MAX
            if not is_leased or not is_name(of.environment) or not is_creator(of.created_by):
                raise ProtocolError("an ephemeral Dict is registered with a lease, an environment, and who made it")
        elif not hmac.compare_digest(of.seal, self._seal(dict_id, of)):
            raise ProtocolError("a Dict with a name is registered with what the catalog says of it, and with the seal of that")
        self.require_room()

    def require_turn(self) -> None:
        """Raises Refused if so much is to be swept that what is left behind now is to wait."""
        if len(self.left) >= LEFT_MAX:
            raise Refused(protocol.UNAVAILABLE, "much of what was cleared and deleted is still being removed")

    def require_room(self) -> None:
        """Raises Refused if so many are known already."""
        if len(self._opened) >= DICTS_MAX:
            raise Refused(protocol.NO_ROOM, f"a worker knows at most {DICTS_MAX:,} Dicts, with those deleted lately")

    def _seal(self, dict_id: bytes, of: Registration) -> bytes:
        said = b"seal" + dict_id + encode(msgspec.structs.replace(of, seal=b""))
        return hmac.digest(self._secret, said, "sha256")[:16]

    def set_ttl(self, dict_id: bytes, of: Lifetime, clock_ms: int) -> None:
        """Have its entries expire so, unless another change of that came later. Raises ProtocolError as `require_right`."""
        opened = self._opened[dict_id]
        seal = self._seal(dict_id, Registration(of.ttl, ttl_version=of.ttl_version))
        if not (is_ephemeral(dict_id) or hmac.compare_digest(of.seal, seal)):
            raise ProtocolError("the ttl of a Dict with a name is what the catalog says, with the seal of that")
        if of.ttl_version > opened.row.ttl_version:
            opened.set_ttl(of.ttl, of.ttl_version, clock_ms)
            self.aging.append(opened)
            self.changed_ids.add(dict_id)

    def clear(self, dict_id: bytes) -> bytes:
        """Leave its entries behind. Returns the row that has them swept."""
        opened = self._opened[dict_id]
        self.left.append((dict_id, opened.row.generation))
        self.changed_ids.add(dict_id)
        return opened.next_generation()

    def delete(self, dict_id: bytes, elapsed: float) -> bytes:
        """Make it a tombstone. Returns the row that has its entries swept."""
        left = self.clear(dict_id)
        opened = self._opened[dict_id]
        opened.row.deleted_at = int(elapsed)
        self._tombstones[dict_id] = int(elapsed)
        self._leases.pop(dict_id, None)
        return left

    def renew(self, dict_id: bytes, elapsed: float) -> None:
        lease = self._opened[dict_id].row.lease_seconds
        if lease is not None:
            self._leases[dict_id] = elapsed + lease

    def unrenewed(self, elapsed: float, most: int) -> list[bytes]:
        """Up to `most` whose leases have ended; fewer while much is to be swept."""
        most = min(most, max(0, LEFT_MAX - len(self.left)))
        return [*islice((dict_id for dict_id, until in self._leases.items() if until < elapsed), most)]

    def forget(self, elapsed: float, most: int) -> None:
        """Remove up to `most` tombstones that are old enough. The oldest come first."""
        times = self._tombstones
        due = takewhile(lambda dict_id: times[dict_id] + TOMBSTONE_SECONDS <= elapsed, times)
        for dict_id in [*islice(due, most)]:
            del self._tombstones[dict_id], self._opened[dict_id]
            self.changed_ids.discard(dict_id)
            self.gone_ids.add(dict_id)

    @property
    def tombstones(self) -> int:
        return len(self._tombstones)

    @property
    def count(self) -> int:
        return sum(opened.row.deleted_at is None for opened in self._opened.values())

    @property
    def entries(self) -> int:
        return sum(opened.row.length for opened in self._opened.values())

    def add_changes(self, changes: dict[bytes, bytes | None]) -> None:
        """Add the rows to write for what changed since the last call."""
        for dict_id in self.changed_ids:
            changes[rows.DICT_PREFIX + dict_id] = _encode(self._opened[dict_id].row)
        for dict_id in self.gone_ids:
            changes[rows.DICT_PREFIX + dict_id] = None
        self.changed_ids.clear()
        self.gone_ids.clear()

    def _hold(self, dict_id: bytes, row: DictRow, elapsed: float, oldest_ms: int) -> None:
        opened = self._opened[dict_id] = OpenDict(dict_id, row, oldest_ms)
        if row.deleted_at is None and (row.ttl is not None or row.dead_before):
            self.aging.append(opened)
        if row.deleted_at is not None:
            self._tombstones[dict_id] = row.deleted_at
        elif row.lease_seconds is not None:
            self._leases[dict_id] = elapsed + row.lease_seconds
