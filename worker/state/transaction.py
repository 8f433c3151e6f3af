"""What a worker knows: its store, what has been decided and is not in there yet, and the tables kept in memory. Everything
decided in a tick sees what was decided before it, and all of it becomes durable in one batch.

The tables that every tick needs (Dicts, sessions, the version counter) are kept in memory and written along with the
entries they describe, in the same batch.

There are two clocks of the store's own. Neither runs backwards, nor jumps when the wall clock does: while the store is in use
both go on with the wall clock, by STEP_SECONDS_MAX a look at most. `elapsed`, by which horizons and leases are counted, stands
still while the store is closed. `clock_ms`, by which entries age, is set forward by that time when it is opened, by
DOWNTIME_SECONDS_MAX at most: a wall clock that is wrong at a start makes no month pass. Whatever clocks do, entries live
longer than promised and not shorter, but for that one day.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from struct import Struct

import msgspec

from holdall.blob import is_reference, reference_of
from holdall.disk import FORMAT, refusal
from holdall.errors import StorageError
from holdall.protocol import Buffer
from holdall.worker.large.files import Files
from holdall.worker.store import rows
from holdall.worker.store.cache import RecordCache
from holdall.worker.store.rows import Record, pack_record
from holdall.worker.store.store import Changes, Store

from .blobs import Blobs
from .dicts import Dicts, OpenDict
from .sessions import Sessions

COUNTERS = Struct("<Qddd")

STEP_SECONDS_MAX = 2.0
"""The most that the clock is believed to have gone on between two looks: a worker looks twice a second."""
DOWNTIME_SECONDS_MAX = 86_400.0
"""The most by which entries age while their store is closed, each time."""
JUMP_SECONDS = 60.0
"""A difference between two looks that is worth a line in the log."""
TOUCHES_KEPT_MAX = 100_000
"""Touches kept in memory, about 20 MB, while the disk has no room for them."""

log = logging.getLogger("holdall.worker")


class CommitFailed(Exception):
    """A batch could not be written. Memory and store may differ now: only a new Transaction may go on."""


class Commit(msgspec.Struct):
    """What is left to do of a commit: to be called once, on any thread, while the store is only read."""

    store: Store
    changes: Changes
    sync: bool
    syncs_before: bool
    """Whether what was written before has to survive a power cut first: LevelDB may have closed its log without a sync."""

    def __call__(self) -> None:
        """Write it. Raises CommitFailed."""
        try:
            if self.syncs_before:
                self.store.sync()
            self.store.write(self.changes, self.sync)
        except StorageError as error:
            raise CommitFailed(str(error)) from error


class Unwritten(Exception):
    """A read would tell of what is not written yet, or leave something to be written."""


def format_store(store: Store) -> None:
    store.write({rows.FIRST_ROW: rows.SENTINEL, rows.LAST_ROW: rows.SENTINEL}, sync=True)


class Transaction:
    """What has been decided and is not in the store yet, over what is; and all that a worker keeps in memory of it."""

    def __init__(self, store: Store, *, sync: bool, files: Files, secret: bytes = b"") -> None:
        self._store = store
        self._sync = sync
        self._cache = RecordCache(store)
        self._changes: dict[bytes, bytes | None] = {}
        self._records: dict[bytes, Record | None] = {}
        """Those among the changes, as the cache is to have them."""
        self._in_flight: dict[bytes, bytes | None] = {}
        self._in_flight_records: dict[bytes, Record | None] = {}
        self._in_flight_synced = False
        self._in_flight_clock_ms = 0
        self._touches: dict[bytes, bytes] = {}
        self._clock = 0.0
        self._wall_at_commit = 0.0
        self._expired_ms = 0
        self.only_reads = False
        """Whether a read that would leave something to be written raises Unwritten."""
        self.notes_use = True
        """Whether a read makes its entry live longer: that of a client with a reader's key does not."""
        self.names_ids = True
        """Whether a CREATE may say which id its Dict is to have: who may, could take another one's. Admins alone do."""
        self.is_unflushed = False
        """Whether something was written that does not survive a power cut yet."""
        self.no_room = ""
        """Why nothing may be stored at the moment; empty if it may."""
        self.wall = 0.0
        self.touches = 0
        """Uses of entries that were noted in touch rows, so far."""
        self.clock_ms = 0
        """The store's own clock, by which entries age."""
        self.durable_clock_ms = 0
        """What it will be at least after a power cut."""
        self.elapsed = 0.0
        """Seconds for which this store has been in use, whatever the clock did: what horizons and leases are counted in."""
        self.dicts = Dicts(secret)
        self.sessions = Sessions(store)
        self.blobs = Blobs(store, files)
        self.version = 0
        """The last one that was given out."""
        self._load()

    def advance(self, wall: float) -> None:
        """The wall clock reads `wall`, in seconds since 1970."""
        if wall == self.wall:
            return
        if self.wall:
            step = wall - self.wall
            if not -JUMP_SECONDS < step < JUMP_SECONDS:
                log.warning("the wall clock went on by %.0f s at once: nothing expires by that", step)
            step = min(max(step, 0.0), STEP_SECONDS_MAX)
            self.elapsed += step
        else:
            step = min(max(wall - self._wall_at_commit, 0.0), DOWNTIME_SECONDS_MAX) if self._wall_at_commit else 0.0
        self._clock += step
        self.clock_ms = int(self._clock * 1000)
        self.wall = wall

    def get(self, row: bytes) -> bytes | None:
        """The value of a row as it will be after this tick. Raises Unwritten if it is being written to the disk."""
        if row in self._changes:
            return self._changes[row]
        if row in self._in_flight:
            raise Unwritten
        return self._store.get(row)

    def write(self, row: bytes, value: bytes) -> None:
        self._changes[row] = value

    def delete(self, row: bytes) -> None:
        self._changes[row] = None

    def record(self, row: bytes) -> Record | None:
        """This row's entry as it will be after this tick. Raises Unwritten as `get` does, StorageError if it is damaged."""
        if row in self._records:
            return self._records[row]
        if row in self._in_flight:
            raise Unwritten
        return self._cache.get(row)

    def write_record(self, row: bytes, record: Record) -> None:
        self._records[row] = record
        self._changes[row] = pack_record(row, record)

    def delete_record(self, row: bytes) -> None:
        self._records[row] = self._changes[row] = None

    def remove_entry(self, opened: OpenDict, row: bytes, record: Record) -> None:
        """Delete an entry, and what belongs to it; its value is still to be handed over, or let go."""
        self.delete_record(row)
        if opened.has_touch(self.clock_ms - record.time):
            self.forget_touch(rows.touch_row(row))
        opened.row.length -= 1
        self.dicts.changed_ids.add(opened.dict_id)

    def let_go(self, value: Buffer) -> None:
        """This value is not needed any more."""
        if is_reference(value):
            self.blobs.let_go(reference_of(value).id)

    def touch(self, row: bytes) -> bool:
        """Note in this touch row that its entry is used. Returns whether there was room for that. No answer waits for it."""
        if not self.notes_use:
            return False
        if self.only_reads and not self.no_room:
            raise Unwritten
        if self.no_room and len(self._touches) >= TOUCHES_KEPT_MAX:
            return False
        self._touches[row] = rows.pack_touch(self.clock_ms)
        self.touches += 1
        return True

    def touched(self, row: bytes) -> int:
        """When the entry of this touch row was last used, if there is such a row; else 0."""
        data = self._touches.get(row) or self.get(row)
        return 0 if data is None else rows.parse_touch(row, data)

    def forget_touch(self, row: bytes) -> None:
        """Delete a touch row: its entry goes, or is written anew."""
        self._touches.pop(row, None)
        self.delete(row)

    def forget_touches(self, prefix: bytes) -> None:
        """Write none of the touches under this prefix: their entries have gone together."""
        for row in [row for row in self._touches if row.startswith(prefix)]:
            del self._touches[row]

    def note_expired(self, deadline_ms: int) -> None:
        """A client is told that an entry has expired: the clock is written, if need be, lest a power cut bring it back."""
        if self.only_reads and deadline_ms > self.durable_clock_ms:
            raise Unwritten
        self._expired_ms = max(self._expired_ms, deadline_ms)

    def next_version(self) -> int:
        """The next version: it orders this worker's writes."""
        self.version += 1
        return self.version

    def scan(self, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on, in order, while they have this prefix. Raises StorageError if the store ends too early."""
        if self._changes or self.dicts.changed_ids or self.dicts.gone_ids:
            self.commit()
        for row, value in self._store.scan(start):
            if not row.startswith(prefix):
                return
            yield row, value
        raise StorageError(f"the store ends before its last row, in a scan from {start!r}: a table of it is damaged")

    def commit(self) -> None:
        """Make everything decided so far durable, as the sync mode demands. Raises CommitFailed."""
        self._carry_out(self.begin_commit())

    def begin_commit(self) -> Commit | None:
        """What is left to do for that, if there is something to do; nothing is to be decided before `end_commit`.

        Touches alone are written without a sync, and flushed soon: a power cut may forget the reads of about the last second.
        """
        return self._prepared(sync=self._sync or self.blobs.needs_sync, is_needed=self._expired_ms > self.durable_clock_ms)

    def end_commit(self) -> None:
        """It has been called, and has raised nothing; or there was none."""
        if not self._in_flight:
            return
        synced = self._in_flight_synced
        self._cache.update(self._in_flight_records)
        self._in_flight, self._in_flight_records = {}, {}
        self.is_unflushed = not synced
        if synced or not self._sync:
            self.durable_clock_ms = self._in_flight_clock_ms
        if self.blobs.waits_for_commit:
            self.blobs.committed(durable=synced)

    def write_behind(self) -> None:
        """Write what was decided, but no power cut need leave it: nobody was told of it. Raises CommitFailed."""
        self._carry_out(self._prepared(sync=False, is_needed=False))

    def flush(self) -> None:
        """Make everything survive a power cut. Raises CommitFailed."""
        self._carry_out(self._prepared(sync=True, is_needed=True))

    def _prepared(self, *, sync: bool, is_needed: bool) -> Commit | None:
        """The batch of all that was decided; there is one without anything if it is needed."""
        changes, self._changes = self._changes, {}
        self.sessions.add_changes(changes)
        if self.dicts.changed_ids or self.dicts.gone_ids:
            self.dicts.add_changes(changes)
        if self.blobs.changes:
            changes.update(self.blobs.changes)
            self.blobs.changes.clear()
        sync = sync and (is_needed or bool(changes))
        if self._touches and not self.no_room:
            changes.update(self._touches)
            self._touches = {}
        if not changes and not is_needed:
            return None
        changes[rows.COUNTER_ROW] = COUNTERS.pack(self.version, self.elapsed, self._clock, self.wall or self._wall_at_commit)
        self._in_flight, self._in_flight_synced, self._in_flight_clock_ms = changes, sync, self.clock_ms
        self._in_flight_records, self._records = self._records, {}
        return Commit(self._store, changes, sync, sync and self.is_unflushed)

    def _carry_out(self, commit: Commit | None) -> None:
        if commit is not None:
            commit()
            self.end_commit()

    def _load(self) -> None:
        for sentinel in (rows.FIRST_ROW, rows.LAST_ROW):
            found = self._store.get(sentinel)
            if found is not None and len(found) == 1 and found != rows.SENTINEL:
                raise StorageError(refusal("the store", found[0]))
            if found != rows.SENTINEL:
                raise StorageError(f"the store lacks its row {sentinel!r} in format {FORMAT}: it is damaged")
        try:
            counter = self._store.get(rows.COUNTER_ROW)
            if counter:
                self.version, self.elapsed, self._clock, self._wall_at_commit = COUNTERS.unpack(counter)
            self.clock_ms = self.durable_clock_ms = int(self._clock * 1000)
            self.dicts.load(self._table(rows.DICT_PREFIX), self.elapsed)
            self.sessions.load(self._table(rows.SESSION_PREFIX))
            self.blobs.load((blob_id for blob_id, _data in self._table(rows.HANDED_PREFIX)), self.elapsed)
        except (msgspec.MsgspecError, UnicodeDecodeError, struct.error) as error:
            raise StorageError(f"a row that every start reads is damaged: {error}") from None

    def _table(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((row[1:], data) for row, data in self.scan(prefix, prefix))
