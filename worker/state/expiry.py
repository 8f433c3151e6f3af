"""Which entries are still there, and what counts as a use of one.

An entry lives for its Dict's `ttl` after its last use: it was written, its value was read, by its key or along with others
(`values`, `items`, `copy`), or it was asked for (`contains`, a put that finds it there). That its key alone is listed, or it is
counted, is no use. A record has the time of its last write; a use that comes
more than a hundredth of the `ttl` after the last one is noted in a touch row, never with the value, and read only when the
record's own time is that old. So a fresh entry costs one lookup, and an entry at most one touch in a hundredth of its
`ttl`; for the uses that are not noted it lives by that hundredth longer.

An entry past its deadline is missing from that moment on for every client; the sweeper removes it later. Until then it is
counted in the Dict's length.
"""

from __future__ import annotations

from holdall.worker.store.rows import Record, touch_row

from .dicts import OpenDict
from .transaction import Transaction


def use(transaction: Transaction, opened: OpenDict, row: bytes) -> Record | None:
    """The entry in this row, if it is there: it is used."""
    record = transaction.record(row)
    if record is None or record.used >= max(transaction.clock_ms - opened.fresh_ms, opened.row.dead_before):
        return record  # it needs no touch
    used = _live_use(transaction, opened, row, record)
    if used is None:
        return None
    if transaction.clock_ms - used > opened.fresh_ms and transaction.touch(touch_row(row)):
        used = transaction.clock_ms
    record.used = used
    return record


def use_read(transaction: Transaction, opened: OpenDict, row: bytes, record: Record) -> bool:
    """Whether the entry in this row, which was read along with others, has not expired: it is used."""
    used = _live_use(transaction, opened, row, record)
    if used is not None and transaction.clock_ms - used > opened.fresh_ms:
        transaction.touch(touch_row(row))
    return used is not None


def is_live(transaction: Transaction, opened: OpenDict, row: bytes, record: Record) -> bool:
    """Whether the entry in this row has not expired: it is not used by that."""
    return _live_use(transaction, opened, row, record) is not None


def last_use(transaction: Transaction, opened: OpenDict, row: bytes, record: Record, dead_before: int) -> int:
    """When the entry in this row was last used; or a time from `dead_before` on, by when it was."""
    return record.used if record.used >= dead_before else _last_use(transaction, opened, row, record)


def _last_use(transaction: Transaction, opened: OpenDict, row: bytes, record: Record) -> int:
    if not opened.has_touch(transaction.clock_ms - record.time):
        return record.used
    return max(record.used, transaction.touched(touch_row(row)))


def _live_use(transaction: Transaction, opened: OpenDict, row: bytes, record: Record) -> int | None:
    """When the entry in this row was last used; None: it has expired, is missing from now on, and stays so."""
    used = _last_use(transaction, opened, row, record)
    if used >= opened.dead_before(transaction.clock_ms):
        return used
    if used >= opened.row.dead_before:
        transaction.note_expired(int(used + opened.life_ms))
    return None
