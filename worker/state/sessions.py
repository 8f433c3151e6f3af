"""Once: the outcome of every write is remembered under (session, sequence), so that a retry gets the first outcome.

A plain put is remembered too: a late retry of it must not undo a newer value of another client. One row per session, written
in the batch that holds the writes themselves; trimmed by the client's lowest pending number; forgotten an hour after the
session's last write. A row is written anew with each outcome, so it stays small: a larger payload has a row of its own.

A backup holds none of it. In a store that was restored the row of NO_SESSION, which writes nothing, says so until it is
forgotten as any other: meanwhile a write that is sent again and not remembered is refused, for it may have happened before.
So it is when sessions or outcomes were too many, and some of them were forgotten sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from typing import Union

import msgspec

from holdall import protocol
from holdall.errors import ProtocolError, StorageError
from holdall.protocol import Buffer, Reply, Request
from holdall.worker.store.rows import SESSION_PREFIX, outcome_row
from holdall.worker.store.store import Store

SESSION_SECONDS = 3600
"""The horizon: how long after its last write a session is remembered. No client sends a request again that late."""
SESSIONS_MAX = 100_000
"""Sessions remembered at once, about 50 MB. Beyond it, writes of further sessions are refused for now."""
CROWDED_SECONDS = 60
"""The horizon while they, or their outcomes, are too many."""
OUTCOMES_MAX = 20_000
"""Outcomes remembered per session, and one more. Beyond it its client must first take the answers it has."""
OUTCOME_INLINE_BYTES_MAX = 1024
ROW_BYTES_MAX = 64 * 1024
"""Of all payloads in the row of a session."""
OUTCOME_BYTES = 200
"""What an outcome takes in memory beside its payload, about."""
OUTCOMES_BYTES_MAX = 512 * 1024 * 1024
"""For the outcomes of all sessions, in memory and in rows of their own. Beyond it a session has one write at a time, a new one
none.
"""

_FORGOTTEN = b"the outcome of this request is no longer remembered: it is too old, or the data directory was restored meanwhile"


class Outcome(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a write's reply said; `payload` is None when it stands in a row of its own; `weight` is in bytes, about."""

    status: int
    version: int
    payload: Union[bytes, None]
    weight: int


class SessionRow(msgspec.Struct, array_like=True):
    """A session's row: its last write (in seconds of the store's use), its lowest pending number, its outcomes by sequence, the
    bytes of the payloads in it.
    """

    active: int
    lowest: int
    outcomes: dict[int, Outcome]
    payload_bytes: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SessionRow).decode


class Sessions:
    """The outcomes of all sessions, in memory as in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[bytes, SessionRow] = {}
        self._touched: set[bytes] = set()
        self._changes: dict[bytes, bytes | None] = {}
        self._unwritten: dict[bytes, bytes] = {}
        self.weight = 0
        """Bytes of all outcomes, about."""

    def load(self, stored: Iterable[tuple[bytes, bytes]]) -> None:
        found = [(session, _decode(data)) for session, data in stored]
        self._rows = dict(sorted(found, key=lambda each: each[1].active))
        self.weight = sum(outcome.weight for row in self._rows.values() for outcome in row.outcomes.values())

    def __len__(self) -> int:
        return len(self._rows)

    def begin_history(self, elapsed: int) -> None:
        """What was remembered of earlier writes is not here: the store was restored, or there was too much of it."""
        self._rows[protocol.NO_SESSION] = SessionRow(elapsed, 0, {})
        self._touched.add(protocol.NO_SESSION)

    def recall(self, request: Request) -> Reply | None:
        """The reply this write got before, or a refusal to run it; None if it is to be run. Raises ProtocolError."""
        session, sequence, lowest = request.session, request.sequence, request.lowest
        if session == protocol.NO_SESSION:
            raise ProtocolError("a write has a session")
        row = self._rows.get(session)
        is_of_before = request.flags & protocol.RETRY and protocol.NO_SESSION in self._rows
        if is_of_before and (row is None or sequence not in row.outcomes):
            return Reply(protocol.FORGOTTEN, sequence, 0, _FORGOTTEN)
        if row is None:
            if len(self._rows) >= SESSIONS_MAX or self.weight >= OUTCOMES_BYTES_MAX:
                return Reply(protocol.UNAVAILABLE, sequence, 0, b"too many sessions, or outcomes, at once")
            return None
        if lowest > row.lowest:
            self._trim(session, row, lowest)
            self._touched.add(session)
        if sequence < row.lowest:
            return Reply(protocol.FORGOTTEN, sequence, 0, _FORGOTTEN)
        outcome = row.outcomes.get(sequence)
        if outcome is not None:
            return Reply(outcome.status, sequence, outcome.version, self._payload(session, sequence, outcome))
        is_full = len(row.outcomes) >= OUTCOMES_MAX or self.weight >= OUTCOMES_BYTES_MAX
        if is_full and sequence > lowest:  # the lowest may: till it is answered, nothing is trimmed
            return Reply(protocol.UNAVAILABLE, sequence, 0, b"too many writes of this session are waiting")
        return None

    def remember(self, session: bytes, lowest: int, reply: Reply, elapsed: int) -> None:
        row = self._rows.get(session)
        if row is None:
            row = self._rows[session] = SessionRow(elapsed, 0, {})
        if lowest > row.lowest:
            self._trim(session, row, lowest)
        payload = bytes(reply.payload)
        outcome = Outcome(reply.status, reply.version, payload, OUTCOME_BYTES + len(payload))
        if payload and (len(payload) > OUTCOME_INLINE_BYTES_MAX or row.payload_bytes + len(payload) > ROW_BYTES_MAX):
            name = outcome_row(session, reply.sequence)
            self._changes[name] = self._unwritten[name] = payload
            outcome = Outcome(reply.status, reply.version, None, outcome.weight)
        row.payload_bytes += len(outcome.payload or b"")
        row.outcomes[reply.sequence] = outcome
        self.weight += outcome.weight
        row.active = elapsed
        self._touched.add(session)

    def forget(self, elapsed: int, most: int) -> None:
        """Forget up to `most` sessions whose last write is past the horizon. The oldest come first."""
        is_crowded = len(self._rows) >= SESSIONS_MAX or self.weight >= OUTCOMES_BYTES_MAX
        rows, horizon = self._rows, elapsed - SESSION_SECONDS
        due = takewhile(lambda session: rows[session].active <= (elapsed - CROWDED_SECONDS if is_crowded else horizon), rows)
        for session in [*islice(due, most)]:
            if rows[session].active > horizon:
                if session == protocol.NO_SESSION:
                    continue
                self.begin_history(elapsed)
            self._trim(session, rows.pop(session), 1 << 64)
            self._touched.discard(session)
            self._changes[SESSION_PREFIX + session] = None

    def add_changes(self, changes: dict[bytes, bytes | None]) -> None:
        """Add the rows to write for what was remembered since the last call."""
        if self._changes:
            changes.update(self._changes)
            self._changes.clear()
            self._unwritten.clear()
        for session in self._touched:
            row = self._rows.pop(session)
            self._rows[session] = row  # to the end: `forget` looks at the front
            changes[SESSION_PREFIX + session] = _encode(row)
        self._touched.clear()

    def _payload(self, session: bytes, sequence: int, outcome: Outcome) -> Buffer:
        if outcome.payload is not None:
            return outcome.payload
        name = outcome_row(session, sequence)
        payload = self._unwritten.get(name) or self._store.get(name)
        if payload is None:
            raise StorageError(f"the row {name!r} of a remembered outcome is missing: the store is damaged")
        return payload

    def _trim(self, session: bytes, row: SessionRow, lowest: int) -> None:
        """Forget what is below that. As long as there is room, one that came after a higher one stays until that goes."""
        row.lowest = lowest
        has_room = len(row.outcomes) < OUTCOMES_MAX and self.weight < OUTCOMES_BYTES_MAX
        below: Callable[[int], bool] = lowest.__gt__
        due = takewhile(below, row.outcomes) if has_room else filter(below, row.outcomes)
        for sequence in list(due):
            outcome = row.outcomes.pop(sequence)
            self.weight -= outcome.weight
            row.payload_bytes -= len(outcome.payload or b"")
            if outcome.payload is None:
                self._changes[outcome_row(session, sequence)] = None
