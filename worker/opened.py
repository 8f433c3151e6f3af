"""Opening a worker's store: its LevelDB, brought to the present format, behind its journal."""

from __future__ import annotations

import contextlib
from pathlib import Path

from holdall.errors import StorageError
from holdall.worker.journal import Journal
from holdall.worker.journal_file import DiskJournalFile
from holdall.worker.journaled import JournaledStore
from holdall.worker.leveldb import LevelDBStore
from holdall.worker.rows import JOURNAL_ROW
from holdall.worker.store import Store
from holdall.worker.transaction import convert_store


def opened_store(folder: Path) -> Store:
    """The store in this worker's folder, which was made before. Raises StorageError if it is damaged, or of a later version."""
    with contextlib.ExitStack() as stack:
        store = LevelDBStore(folder / "store")
        stack.callback(store.close)
        convert_store(store)
        file = folder / "journal"
        if store.get(JOURNAL_ROW) is not None and not file.exists():
            raise StorageError(f"{file} is missing, with what was written last: restore the data directory from a backup")
        journal_file = DiskJournalFile(file)
        stack.callback(journal_file.close)
        journaled = JournaledStore(store, Journal(journal_file))
        stack.pop_all()
    return journaled
