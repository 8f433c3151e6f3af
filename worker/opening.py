"""A worker over its part of a data directory: opened, and closed in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdall.errors import StorageError
from holdall.worker.directory.layout import Layout
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.large.folder import Folder

from .core import Worker

if TYPE_CHECKING:
    from holdall.process.config import Sync


def open_worker(
    directory: DataDirectory, index: int, layout: Layout, *, sync: Sync, wake: Callable[[], None] = lambda: None
) -> Worker:
    """Worker `index` over its store and its blobs. `wake` is called from a thread when `Worker.told` has something to tell.

    Raises StorageError if the store is damaged, or has lost writes since it was closed.
    """
    store = directory.open_store(index)
    try:
        folder = Folder(directory.part(index) / "blobs", sync=sync != "off", wake=wake)
        layout_id = bytes.fromhex(layout.id)
        worker = Worker(store, index, layout.workers, sync=sync == "always", layout_id=layout_id, files=folder)
        directory.refuse_if_lost(index, worker.version)
    except StorageError:
        store.close()
        raise
    worker.collect_orphans()
    return worker


def close_worker(directory: DataDirectory, worker: Worker) -> None:
    """End it in order: everything it answered survives a power cut, whatever the sync mode. Raises CommitFailed, OSError."""
    worker.flush()
    worker.close()
    directory.note_close(worker.index, worker.version)
