"""What can wait: in steps of a fraction of a millisecond, between two ticks.

A step does one of these things, in this order: end what is over (leases, sessions, tombstones); sweep a generation that was
left behind, by a clear or a deletion; look for entries that have expired; have space given back.

Expired entries are found by a pass over a Dict. It begins when an entry may be due, which is known from the pass before: a
Dict in which nothing can be due is not looked at. It is paced to take a hundredth of the `ttl`, so an entry is removed at the
latest about a fiftieth of the `ttl` after its deadline, and a million entries kept for a week cost some 170 rows a second.

What is removed is written without a sync: no request waits for it, and after a power cut it is removed again.

Deleted rows take space until LevelDB compacts their range, which it is told to do for each COMPACT_BYTES of them, and for
what is left when there is nothing else to do. It compacts in a thread of its own; the worker goes on meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
from heapq import heappop, heappush
from math import inf

from holdall.errors import StorageError
from holdall.worker.store.rows import ENTRY_PREFIX, SWEEP_PREFIX, TOUCH_PREFIX, entry_prefix, parse_record, sweep_row
from holdall.worker.store.store import Store

from . import expiry
from .dicts import TOUCHES_PER_TTL, OpenDict
from .transaction import Transaction

STEP_ROWS = 64
"""Rows looked at in one step: a small request waits so long. Of a shorter one the first row's look-up would be the most."""
STEP_PARTS = 16
"""Halves of generations that are looked at in one step, while they are small."""
STEP_BYTES_MAX = 1024 * 1024
"""A step ends at the row that crosses this."""
FORGET_MAX = 100
"""Sessions, and tombstones, forgotten in one step; leases ended."""
COMPACT_BYTES = 32 * 1024 * 1024
"""Compacting a range takes LevelDB long, however little there is to give back."""
COMPACT_BYTES_MIN = 1024 * 1024
"""So much of one Dict is worth it when there is nothing else to do; less is left to LevelDB's own compactions."""
COMPACT_SECONDS = 10.0
"""How long such small ones are apart."""
CLOCK_LAG_MS = 1_000
"""An entry is removed when it will still have expired after a power cut; the clock is made durable if it lags by more."""
LATE_SECONDS = 10.0
"""By how much a pass may fall behind its pace before it gets a larger share of a busy worker's time."""
REST_SECONDS, LATE_REST_SECONDS = 0.05, 0.02
"""How long steps are apart while there are requests, so that small ones need not wait for many; and when a pass is late."""

log = logging.getLogger("holdall.worker")


class _Freed:
    """What was deleted of a Dict since it was last compacted: from which row to which, how much."""

    def __init__(self, first: bytes, last: bytes, size: int) -> None:
        self.first, self.last, self.bytes = first, last, size


class _Pass:
    """A look at all entries of a Dict."""

    def __init__(self, opened: OpenDict, clock_ms: int) -> None:
        self.opened = opened
        self.prefix = opened.prefix
        self.begun_ms = self.oldest_ms = clock_ms
        self.rows = 0
        self._length = opened.row.length
        self.start = opened.prefix

    @property
    def end_ms(self) -> float:
        """When it is to be over: it takes a hundredth of the entries' life."""
        return self.begun_ms + (self.opened.life_ms / TOUCHES_PER_TTL if self.opened.row.ttl is not None else 0.0)

    @property
    def next_ms(self) -> float:
        share = self.rows / max(self._length, self.rows)
        return self.begun_ms + share * (self.end_ms - self.begun_ms)


class Sweeper:
    """The background work of one worker."""

    def __init__(self, store: Store, transaction: Transaction) -> None:
        self.counts = dict.fromkeys(("expired_entries", "looked_rows", "swept_rows", "compactions", "sweep_steps"), 0)
        """What was done so far, as STATISTICS tells it: see docs/protocol.md."""
        self._store = store
        self._transaction = transaction
        self._left = transaction.dicts.left
        self._left += [(row[1:17], int.from_bytes(row[17:], "big")) for row, _ in transaction.scan(SWEEP_PREFIX, SWEEP_PREFIX)]
        self._left_start = b""
        self._left_since_ms: int | None = None
        self._looked = False
        """Whether the last step was to look for entries that have expired."""
        self._due: list[tuple[float, bytes]] = []
        self._passes: dict[bytes, _Pass] = {}
        self._next: list[tuple[float, bytes]] = []
        self._freed: dict[bytes, _Freed] = {}
        self._freed_bytes = 0
        self._compacted_ms = -inf

    def step(self) -> bool:
        """One step. Returns whether more is to do right now."""
        self._end_what_is_over()
        self._begin_passes()
        self._looked = not self._looked and self._pass_is_due  # by turns, if both are to be done
        if self._left and not self._looked:
            self._sweep_generations()
        else:
            if not self._pass_is_due:
                self._compact_a_little()
                return False
            self._look(self._passes[heappop(self._next)[1]])
        self.counts["sweep_steps"] += 1
        self._compact()
        return bool(self._left) or self._pass_is_due

    @property
    def rest_seconds(self) -> float:
        """How long to rest after a step, while there are requests."""
        due_ms = self._next[0][0] if self._next else inf
        if self._left_since_ms is not None:
            due_ms = min(due_ms, self._left_since_ms)
        is_late = self._transaction.clock_ms - due_ms > LATE_SECONDS * 1000
        return LATE_REST_SECONDS if is_late else REST_SECONDS

    @property
    def _pass_is_due(self) -> bool:
        return bool(self._next) and self._next[0][0] <= self._transaction.clock_ms

    def _end_what_is_over(self) -> None:
        transaction = self._transaction
        transaction.sessions.forget(int(transaction.elapsed), FORGET_MAX)
        transaction.dicts.forget(transaction.elapsed, FORGET_MAX)
        ended = transaction.dicts.unrenewed(transaction.elapsed, FORGET_MAX)
        for dict_id in ended:
            transaction.write(transaction.dicts.delete(dict_id, transaction.elapsed), b"")
        if ended:
            transaction.commit()
        if self._left and self._left_since_ms is None:
            self._left_since_ms = transaction.clock_ms

    def _sweep_generations(self) -> None:
        """Delete some rows of what was left: many generations have few."""
        rows = parts = 0
        while self._left and rows < STEP_ROWS and parts < STEP_PARTS:
            rows += self._sweep_generation()
            parts += 1

    def _sweep_generation(self) -> int:
        """Delete some rows of the first generation: entries, then touches, then the row that says so. Returns how many."""
        transaction = self._transaction
        dict_id, generation = self._left[0]
        prefix = self._left_start[:21] or entry_prefix(dict_id, generation)
        try:
            found, is_end = self._scan(self._left_start or prefix, prefix)
        except StorageError as error:
            log.error("%s; what is left there is not swept before the next start", error)
            self._next_generation()
            return 0
        for row, data in found:
            if prefix[:1] == ENTRY_PREFIX:
                transaction.delete_record(row)
                with contextlib.suppress(StorageError):  # one that is damaged leaves a file for `check`
                    transaction.let_go(parse_record(row, data).value)
            else:
                transaction.delete(row)
        self._note_freed(found)
        self.counts["swept_rows"] += len(found)
        if not is_end:
            self._left_start = found[-1][0] + b"\x00"
        elif prefix[:1] == ENTRY_PREFIX:
            self._left_start = TOUCH_PREFIX + prefix[1:]
        else:
            transaction.forget_touches(prefix)
            transaction.delete(sweep_row(dict_id, generation))
            self._next_generation()
        return len(found)

    def _next_generation(self) -> None:
        self._left.popleft()
        self._left_start = b""
        self._left_since_ms = self._transaction.clock_ms if self._left else None

    def _begin_passes(self) -> None:
        transaction, due = self._transaction, self._due
        for each in transaction.dicts.aging:
            heappush(due, (each.due_ms, each.dict_id))
        transaction.dicts.aging.clear()
        while due and due[0][0] <= transaction.clock_ms:
            _due_ms, dict_id = heappop(due)
            opened = transaction.dicts.get(dict_id)
            if opened is None or opened.row.deleted_at is not None or dict_id in self._passes:
                continue  # a pass that is under way expects the next one when it ends
            if not opened.row.length:
                opened.oldest_ms = transaction.clock_ms
            if opened.due_ms > transaction.clock_ms:
                self._expect(opened, 0.0)
            else:
                self._passes[dict_id] = _Pass(opened, transaction.clock_ms)
                heappush(self._next, (transaction.clock_ms, dict_id))

    def _expect(self, opened: OpenDict, earliest_ms: float) -> None:
        """Look at this Dict again when something may be due in it, if that can be."""
        if opened.due_ms < inf:
            heappush(self._due, (max(opened.due_ms, earliest_ms), opened.dict_id))

    def _look(self, at: _Pass) -> None:
        """Go on with this pass: remove what has expired."""
        transaction, opened = self._transaction, at.opened
        if opened.row.deleted_at is not None or opened.prefix != at.prefix:  # all that was there has been left behind
            self._end_pass(at)
            return
        try:
            found, is_end = self._scan(at.start, at.prefix)
        except StorageError as error:
            log.error("%s; what has expired behind it is not removed", error)
            self._end_pass(at)
            return
        if transaction.clock_ms - transaction.durable_clock_ms > CLOCK_LAG_MS:
            transaction.flush()
        dead_before = opened.dead_before(transaction.durable_clock_ms)
        expired: list[tuple[bytes, bytes]] = []
        for row, data in found:
            try:
                record = parse_record(row, data)
                last_use = expiry.last_use(transaction, opened, row, record, dead_before)
                if last_use < dead_before:
                    transaction.remove_entry(opened, row, record)
                    transaction.let_go(record.value)
                    expired.append((row, data))
                else:
                    at.oldest_ms = min(at.oldest_ms, last_use)
            except StorageError as error:
                log.error("%s", error)
        self._note_freed(expired)
        self.counts["expired_entries"] += len(expired)
        at.rows += len(found)
        self.counts["looked_rows"] += len(found)
        if is_end:
            self._end_pass(at)
        else:
            at.start = found[-1][0] + b"\x00"
            heappush(self._next, (at.next_ms, opened.dict_id))

    def _end_pass(self, at: _Pass) -> None:
        del self._passes[at.opened.dict_id]
        at.opened.oldest_ms = at.oldest_ms
        self._expect(at.opened, at.end_ms)

    def _scan(self, start: bytes, prefix: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Some rows, and whether no more follow."""
        found: list[tuple[bytes, bytes]] = []
        size = 0
        for row, data in self._transaction.scan(start, prefix):
            if len(found) == STEP_ROWS or size > STEP_BYTES_MAX:
                return found, False
            found.append((row, data))
            size += len(data)
        return found, True

    def _note_freed(self, found: list[tuple[bytes, bytes]]) -> None:
        if not found:
            return
        first, last = found[0][0], found[-1][0]
        size = sum([len(row) + len(data) for row, data in found])
        self._freed_bytes += size
        freed = self._freed.setdefault(first[:17], _Freed(first, last, 0))
        freed.bytes += size
        freed.first, freed.last = min(freed.first, first), max(freed.last, last)

    def _compact(self) -> None:
        """Have space given back if that is worth it, of one Dict if most of it was there."""
        if self._freed_bytes < COMPACT_BYTES:
            return
        most = max(self._freed.values(), key=lambda each: each.bytes)
        if most.bytes * 2 < self._freed_bytes:
            freed = self._freed.values()
            most = _Freed(min(each.first for each in freed), max(each.last for each in freed), self._freed_bytes)
        self._begin_compaction(most)

    def _compact_a_little(self) -> None:
        """Have the space of one Dict given back: there is nothing else to do."""
        clock_ms = self._transaction.clock_ms
        if self._freed_bytes < COMPACT_BYTES_MIN or clock_ms - self._compacted_ms < COMPACT_SECONDS * 1000:
            return
        most = max(self._freed.values(), key=lambda each: each.bytes)
        if most.bytes >= COMPACT_BYTES_MIN:
            self._begin_compaction(most)

    def _begin_compaction(self, freed: _Freed) -> None:
        self._transaction.commit()
        if not self._store.compact(freed.first, freed.last):
            return  # it is still busy with the one before
        self.counts["compactions"] += 1
        self._compacted_ms = self._transaction.clock_ms
        inside = [prefix for prefix, each in self._freed.items() if freed.first <= each.first and each.last <= freed.last]
        for prefix in inside:
            self._freed_bytes -= self._freed.pop(prefix).bytes
