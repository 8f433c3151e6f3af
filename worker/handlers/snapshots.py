"""Snapshots of the store for a backup, and the hold that makes those of all workers one consistent copy.

A backup sends SNAPSHOT to every worker, waits for all the answers, and only then sends RELEASE to every worker. A worker's
snapshot is its store at the end of the tick that SNAPSHOT came in; from then on until RELEASE it carries out no write (they
wait here; reads go on). So, if A was acknowledged before B was sent, and B is in the copy, then A is in it too:

    B is in the copy     so B was carried out before its worker's snapshot, which came before the first RELEASE;
    A came before B      so A was carried out before the first RELEASE too;
    no worker writes between its snapshot and its RELEASE, so A was carried out before its worker's snapshot.

A hold ends by itself after HOLD_SECONDS_MAX, for a client may be gone, or when too much waits. Then RELEASE is answered with
MISSING, nothing of the above holds, and the backup begins anew. A client that is gone leaves a snapshot, which is given up
when its rows were not asked for during SNAPSHOT_SECONDS. A restarted worker has none: MISSING again.

What is remembered of sessions is told to nobody: who knows a session's id can speak for it. So a restored store does not know
which writes it has seen, and refuses those that are sent again for as long as any may be: see `Sessions.begin_history`.

The hold is kept by `Worker.begin` and `Worker.sweep`, which ask here only while there is a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from holdall import protocol
from holdall.bodies import RowsPage, RowsRequest, decode, encode
from holdall.disk import crc32
from holdall.errors import ProtocolError, StorageError
from holdall.protocol import Reply, Request
from holdall.worker.state.refused import Refused
from holdall.worker.state.transaction import Transaction
from holdall.worker.store.rows import BLOB_PREFIX, LAST_ROW, OUTCOME_PREFIX, SESSION_PREFIX, TOUCH_PREFIX, unpack_blob
from holdall.worker.store.store import Snapshot, Store

if TYPE_CHECKING:
    from holdall.worker.message import Message

HOLD_SECONDS_MAX = 1.0
"""How long writes wait for RELEASE. All workers' answers to SNAPSHOT take some milliseconds."""
HELD_MESSAGES_MAX = 10_000
HELD_BYTES_MAX = 64 * 1024 * 1024
"""What may wait; beyond it the hold ends: the backup can begin anew, clients have deadlines."""
SNAPSHOTS_MAX = 4
"""At once. Each keeps LevelDB from giving back the room of what is deleted meanwhile."""
SNAPSHOT_SECONDS = 60.0
"""How long after the last question about it a snapshot is given up."""
SNAPSHOT_ID_BYTES = 16
PAGE_ROWS_MAX = 1_000
PAGE_BYTES_MAX = 1024 * 1024
"""A page ends before the row that crosses this, unless it is the page's only one."""


class Held(msgspec.Struct):
    """`rows` is None until the tick of SNAPSHOT has ended, `hold_until` None once the hold has; `released`: before it had."""

    used_at: float
    hold_until: float | None
    rows: Snapshot | None = None
    released: bool = False


class Snapshots:
    """All snapshots of one store, by the ids that their clients chose."""

    def __init__(self, store: Store) -> None:
        self.held: dict[bytes, Held] = {}
        self.handlers: dict[int, Callable[[Transaction, Request], Reply]] = {
            protocol.SNAPSHOT: self._snapshot,
            protocol.RELEASE: self._release,
            protocol.ROWS: self._rows,
            protocol.DISCARD: self._discard,
        }
        self._store = store
        self._held_back: list[Message] = []
        self._held_back_bytes = 0

    def admit(self, messages: Iterable[Message], elapsed: float, writes: Callable[[Message], bool]) -> Iterator[Message]:
        """Those of a tick's messages that may be carried out now, in order, and those that waited long enough.

        Each is to be carried out before the next one is asked for: RELEASE among them ends the hold.
        """
        self.look(elapsed)
        for message in messages:
            if self.holds and writes(message):
                self._wait(message)
                continue
            yield from self._free()
            yield message
        yield from self._free()

    def look(self, elapsed: float) -> None:
        """Take the snapshots that were asked for, before anything else is written; end what is due. Raises CommitFailed."""
        for snapshot_id, held in list(self.held.items()):
            if held.rows is None:
                try:
                    held.rows = self._store.snapshot()
                except StorageError:  # its client hears of a snapshot that is not there, and begins anew
                    del self.held[snapshot_id]
                    continue
            if held.hold_until is not None and held.hold_until < elapsed:
                held.hold_until = None
            if held.used_at + SNAPSHOT_SECONDS < elapsed and not self._held_back:
                self._give_up(snapshot_id)

    @property
    def holds(self) -> bool:
        """Whether nothing may be written now."""
        return any(held.hold_until is not None and held.rows is not None for held in self.held.values())

    @property
    def resumes(self) -> bool:
        """Whether messages wait here that nothing holds back any more."""
        return bool(self._held_back) and not self.holds

    def _wait(self, message: Message) -> None:
        self._held_back.append(message)
        self._held_back_bytes += len(message.head) + len(message.payload or b"")
        if len(self._held_back) > HELD_MESSAGES_MAX or self._held_back_bytes > HELD_BYTES_MAX:
            for held in self.held.values():
                held.hold_until = None

    def _free(self) -> list[Message]:
        if not self.resumes:
            return []
        waiting, self._held_back, self._held_back_bytes = self._held_back, [], 0
        return waiting

    def close(self) -> None:
        """Give all of them up: a store is closed after its snapshots."""
        for snapshot_id in list(self.held):
            self._give_up(snapshot_id)

    def _give_up(self, snapshot_id: bytes) -> None:
        held = self.held.pop(snapshot_id)
        if held.rows is not None:
            held.rows.close()

    def _snapshot(self, transaction: Transaction, request: Request) -> Reply:
        if len(request.key) != SNAPSHOT_ID_BYTES:
            raise ProtocolError(f"a snapshot's id has {SNAPSHOT_ID_BYTES} bytes, this one {len(request.key)}")
        if request.key not in self.held:
            if len(self.held) == SNAPSHOTS_MAX:
                raise Refused(protocol.INVALID, f"{SNAPSHOTS_MAX} backups are being taken already: try again in a minute")
            self.held[request.key] = Held(transaction.elapsed, transaction.elapsed + HOLD_SECONDS_MAX)
        return Reply(protocol.OK, request.sequence, 0, encode(transaction.dicts.entries))

    def _release(self, _transaction: Transaction, request: Request) -> Reply:
        held = self.held.get(request.key)
        if held is None:
            return Reply(protocol.MISSING, request.sequence, 0, b"")
        if held.hold_until is not None:
            held.hold_until, held.released = None, True
        return Reply(protocol.OK if held.released else protocol.MISSING, request.sequence, 0, b"")

    def _rows(self, transaction: Transaction, request: Request) -> Reply:
        held = self.held.get(request.key)
        if held is None or held.rows is None:
            return Reply(protocol.MISSING, request.sequence, 0, b"")
        held.used_at = transaction.elapsed
        return Reply(protocol.OK, request.sequence, 0, encode(_page(held.rows, decode(RowsRequest, request.value))))

    def _discard(self, _transaction: Transaction, request: Request) -> Reply:
        if request.key in self.held:
            self._give_up(request.key)
        return Reply(protocol.OK, request.sequence, 0, b"")


def _told_rows(snapshot: Snapshot, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All rows from `start` on but those of sessions and outcomes, which stand together, before the touches."""
    for row, value in snapshot.scan(start):
        if row.startswith((OUTCOME_PREFIX, SESSION_PREFIX)):
            yield from snapshot.scan(TOUCH_PREFIX)
            return
        yield row, value


def _page(snapshot: Snapshot, wanted: RowsRequest) -> RowsPage:
    found: list[tuple[bytes, bytes]] = []
    blobs: list[bytes] = []
    size, more = 0, False
    for row, value in _told_rows(snapshot, wanted.after + b"\x00" if wanted.after else b""):
        size += len(row) + len(value)
        more = len(found) == PAGE_ROWS_MAX or (size > PAGE_BYTES_MAX and bool(found))
        if more:
            break
        found.append((row, value))
        if row.startswith(BLOB_PREFIX):
            reference = unpack_blob(row, value)
            blobs.append(reference.pack())
            size += reference.size  # so that a client asks again before its snapshot is given up
    last = found[-1][0] if found else b""
    if not more and last != LAST_ROW:
        raise StorageError(f"the store ends before its last row, in a backup after {wanted.after!r}: a table of it is damaged")
    data = encode(found)
    return RowsPage(data, len(found), last, more, crc32(data, wanted.crc & 0xFFFFFFFF), blobs)
