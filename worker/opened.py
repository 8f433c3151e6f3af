"""Opening a worker's store: its LevelDB, brought to the present format, behind its journal."""

from __future__ import annotations

import contextlib
from pathlib import Path

from holdall.errors import StorageError
from holdall.worker.journal import JOURNAL_BYTES, Journal
from holdall.worker.journal_file import opened_journal
from holdall.worker.journaled import JournaledStore
from holdall.worker.leveldb import LevelDBStore
from holdall.worker.rows import JOURNAL_ROW
from holdall.worker.store import Store
from holdall.worker.transaction import convert_store

_RESTORE = "restore the data directory from a backup"


def opened_store(folder: Path, *, mostly_synced: bool = False) -> Store:
    """The store in this worker's folder, which was made before; say if most of its writes will be synced.

    Raises StorageError if it is damaged, or of a later version.
    """
    with contextlib.ExitStack() as stack:
        store = LevelDBStore(folder / "store")
        stack.callback(store.close)
        convert_store(store)
        file = folder / "journal"
        if store.get(JOURNAL_ROW) is not None:
            _refuse_unless_whole(file)
        opened = opened_journal(file, mostly_synced=mostly_synced)
        stack.callback(opened.close)
        journaled = JournaledStore(store, Journal(opened), mostly_synced=mostly_synced)
        stack.pop_all()
    return journaled


def _refuse_unless_whole(file: Path) -> None:
    """A journal has its size before its store knows of it, and keeps it."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise StorageError(f"{file} is missing, with what was written last: {_RESTORE}") from None
    if size < JOURNAL_BYTES:
        raise StorageError(f"{file} has {size:,} of its {JOURNAL_BYTES:,} bytes, and lacks what was written last: {_RESTORE}")
