"""Which entries are still there, and what counts as a use of one.

An entry lives for its Dict's `ttl` after its last use: it was written, or asked for by its key (`get`, `contains`, a put that
finds it there). Being iterated over, counted or copied is no use. A record has the time of its last write; a use that comes
more than a hundredth of the `ttl` after the last one is noted in a touch row, never with the value, and read only when the
record's own time is that old. So a fresh entry costs one lookup, and an entry at most one touch in a hundredth of its
`ttl`; for the uses that are not noted it lives by that hundredth longer.

An entry past its deadline is missing from that moment on, whoever asks; the sweeper removes it later. Until then it is counted
in the Dict's length.

Dropped: rewriting the record with a new time (a value of 100 MiB for each hundredth), and an index of deadlines (a row more
to write for each put, and all of them to move when a Dict's `ttl` changes).
"""

from __future__ import annotations

from holdall.worker.dicts import OpenDict
from holdall.worker.rows import Record, parse_record, time_of, touch_row
from holdall.worker.transaction import Transaction


def use(transaction: Transaction, held: OpenDict, row: bytes) -> Record | None:
    """The entry in this row, if it is there: it is used."""
    return used(transaction, held, row, transaction.get(row))


def used(transaction: Transaction, held: OpenDict, row: bytes, data: bytes | None) -> Record | None:
    """The entry that this is, read from this row, if it is there: it is used."""
    if data is None:
        return None
    record = parse_record(row, data)
    fresh = record.time >= fresh_from(transaction, held)
    return record if fresh or use_old(transaction, held, row, record.time) else None


def use_unread(transaction: Transaction, held: OpenDict, row: bytes) -> bool:
    """Whether there is an entry in this row: it is used, and its value not looked at."""
    data = transaction.get(row)
    if data is None:
        return False
    time = time_of(row, data)
    return time >= fresh_from(transaction, held) or use_old(transaction, held, row, time)


def is_live(transaction: Transaction, held: OpenDict, row: bytes, time: int) -> bool:
    """Whether the entry in this row, last written at this time, has not expired: it is not used by that."""
    if time >= fresh_from(transaction, held):
        return True
    used = _last_use(transaction, held, row, time)
    return used >= held.dead_before(transaction.clock_ms) or _expired(transaction, held, used)


def fresh_from(transaction: Transaction, held: OpenDict) -> float:
    """The time such that an entry that was last written since then cannot have a touch, nor need one."""
    return max(transaction.clock_ms - held.fresh_ms, held.row.dead_before)


def fresh_throughout(transaction: Transaction, held: OpenDict) -> float:
    """The same for the rest of the present span: see `fresh.py`."""
    return max(transaction.fresh.until_ms - held.touchless_ms, held.row.dead_before)


def last_use(transaction: Transaction, held: OpenDict, row: bytes, time: int, dead_before: int) -> int:
    """When the entry in this row, last written at this time, was last used; or a time from `dead_before` on, by when it was."""
    return _last_use(transaction, held, row, time) if time < dead_before else time


def use_old(transaction: Transaction, held: OpenDict, row: bytes, time: int) -> bool:
    """Whether the entry in this row, last written at this time, before `fresh_from`, is there: it is used."""
    used = _last_use(transaction, held, row, time)
    if used < held.dead_before(transaction.clock_ms):
        return _expired(transaction, held, used)
    if transaction.clock_ms - used > held.fresh_ms:
        transaction.touch(touch_row(row))
    return True


def _last_use(transaction: Transaction, held: OpenDict, row: bytes, time: int) -> int:
    if not held.has_touch(transaction.clock_ms - time):
        return time
    return max(time, transaction.touched(touch_row(row)))


def _expired(transaction: Transaction, held: OpenDict, used: int) -> bool:
    """False, and let it stay so."""
    if used >= held.row.dead_before:
        transaction.expired(int(used + held.life_ms))
    return False
