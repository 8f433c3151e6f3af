"""The rows of a backup for any number of workers: each goes to the one that owns its slot. `note` sees all rows first.

1. Left behind is what was about to be swept, and what answers calls that were under way: outcomes, popped blobs.
2. All workers get the clock that was ahead, if all were opened now; times are set forward by as much as theirs was behind.
3. Versions go on from the highest one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property

import msgspec

from holdall.blob import is_reference, reference_of
from holdall.slots import dict_crc, key_hash, slot_of, slot_range
from holdall.worker.state.transaction import COUNTERS, DOWNTIME_SECONDS_MAX
from holdall.worker.store import rows
from holdall.worker.store.rows import DictRow


class Spread:
    """The rows of a backup of `before` workers, for as many as `workers`."""

    def __init__(self, before: int, workers: int) -> None:
        self._counters: list[tuple[int, float, float, float]] = [(0, 0.0, 0.0, 0.0)] * before
        self._dicts: list[dict[bytes, DictRow]] = [{} for _ in range(before)]
        self._blobs: dict[bytes, tuple[int, bytes]] = {}
        """The worker and the row of the entry that refers to each."""
        self._lengths: Counter[tuple[int, bytes]] = Counter()
        self._worker_of_slot = [index for index in range(workers) for _ in range(*slot_range(index, workers))]

    def note(self, worker: int, found: list[tuple[bytes, bytes]]) -> None:
        """These are rows of that worker. Raises StorageError, or a msgspec.MsgspecError, if one is damaged."""
        for row, data in found:
            if row == rows.COUNTER_ROW:
                self._counters[worker] = COUNTERS.unpack(data)
            elif row[:1] == rows.DICT_PREFIX:
                self._dicts[worker][row[1:]] = msgspec.msgpack.decode(data, type=DictRow)
            elif row[:1] == rows.ENTRY_PREFIX and is_reference(value := rows.parse_record(row, data).value):
                self._blobs[reference_of(value).id] = worker, row

    def placed(self, worker: int, found: list[tuple[bytes, bytes]]) -> dict[int, dict[bytes, bytes]]:
        """What becomes of these rows of that worker: what is to be written by which worker."""
        behind_ms, given = self._behind_ms(worker), defaultdict[int, dict[bytes, bytes]](dict)
        for row, data in found:
            kind, owner, moved = row[:1], None, row
            if kind in (rows.NAME_PREFIX, rows.ID_PREFIX):
                owner = self._owner(0, row[1:] if kind == rows.NAME_PREFIX else data)
            elif kind == rows.BLOB_PREFIX:
                owner = self.owner_of(row[1:])
            elif kind in (rows.ENTRY_PREFIX, rows.TOUCH_PREFIX) and self._stays(worker, row):
                owner, moved = self._owner(dict_crc(row[1:17]), row[21:]), row[:17] + bytes(4) + row[21:]
                if kind == rows.TOUCH_PREFIX:
                    data = rows.pack_touch(rows.parse_touch(row, data) + behind_ms)
                else:
                    record = rows.parse_record(row, data)
                    record.time += behind_ms
                    data = rows.pack_record(moved, record)
                    self._lengths[owner, row[1:17]] += 1
            if owner is not None:
                given[owner][moved] = data
        return given

    def owner_of(self, blob_id: bytes) -> int | None:
        """The worker that this blob goes to; None if it is left behind."""
        worker, row = self._blobs.get(blob_id, (0, b""))
        return self._owner(dict_crc(row[1:17]), row[21:]) if self._stays(worker, row) else None

    def table(self, worker: int) -> dict[bytes, bytes]:
        """The rows of its counters and Dicts that this worker gets: asked for when all others were placed."""
        version, elapsed, _, wall = (max(each) for each in zip(*self._counters, strict=True))
        found = {rows.COUNTER_ROW: COUNTERS.pack(version, elapsed, max(self._clocks), wall)}
        for dict_id in {dict_id for each in self._dicts for dict_id in each}:
            held = [(before, each[dict_id]) for before, each in enumerate(self._dicts) if dict_id in each]
            merged = msgspec.structs.replace(
                max((of for _, of in held), key=lambda of: of.ttl_version),
                generation=0,
                length=self._lengths[worker, dict_id],
                deleted_at=int(elapsed) if any(of.deleted_at is not None for _, of in held) else None,
                dead_before=max(of.dead_before and of.dead_before + self._behind_ms(before) for before, of in held),
                touch_after=min((of.touch_after for _, of in held if of.touch_after is not None), default=None),
            )
            found[rows.DICT_PREFIX + dict_id] = msgspec.msgpack.encode(merged)
        return found

    @cached_property
    def _clocks(self) -> list[float]:
        """Of each worker, opened when the last of them was written to."""
        now = max(wall for _, _, _, wall in self._counters)
        return [wall and clock + min(now - wall, DOWNTIME_SECONDS_MAX) for _, _, clock, wall in self._counters]

    def _behind_ms(self, worker: int) -> int:
        return int((max(self._clocks) - self._clocks[worker]) * 1000)

    def _owner(self, crc: int, key: bytes) -> int:
        return self._worker_of_slot[slot_of(key_hash(crc, key))]

    def _stays(self, worker: int, row: bytes) -> bool:
        """Whether this entry, or touch, is not about to be swept: left behind by a clear, or as its Dict was deleted."""
        of = [each[row[1:17]] for each in (self._dicts[worker], *self._dicts) if row[1:17] in each]
        return bool(of) and row[17:21] == of[0].generation.to_bytes(4, "big") and all(each.deleted_at is None for each in of)
