"""Makes a data directory of a backup: the same rows, the same number of workers, an id of its own.

The backup is read twice: first all its checksums are verified, then it is written. `layout.json` comes last; until then a mark
says that what is there is half of it, and the next restore begins anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from holdall import backup
from holdall.backup import Blob, Head
from holdall.disk import sync_folder
from holdall.errors import StorageError
from holdall.protocol import Buffer
from holdall.worker.large.folder import Folder
from holdall.worker.state.transaction import Transaction
from holdall.worker.store.store import Store

from .layout import WORKERS_MAX, Layout
from .opening import DataDirectory


class Restored(msgspec.Struct):
    """What has been restored so far: `bytes` of the file's `bytes_in_all` were read, twice in the end."""

    workers: int
    made_at: float
    rows: int = 0
    bytes: int = 0
    bytes_in_all: int = 0


def restore(file: Path, directory: DataDirectory, progressed: Callable[[Restored], None]) -> Restored:
    """Restore a backup into this directory, which must have no data; calls `progressed` now and then.

    Raises StorageError if the backup is damaged or incomplete, or the directory has data, or a service, or cannot be written.
    """
    try:
        with open(file, "rb") as opened, contextlib.ExitStack() as stack:
            stack.callback(directory.lock_for_restore().release)
            head = backup.read_head(opened, str(file))
            if head.workers > WORKERS_MAX:
                raise StorageError(f"the backup {file} is of {head.workers} workers, a directory has at most {WORKERS_MAX}")
            done = Restored(head.workers, head.made_at, bytes_in_all=2 * file.stat().st_size)

            def note(rows: int, size: int) -> None:
                done.rows += rows
                done.bytes += size
                progressed(done)

            begin = opened.tell()
            for part in backup.read_parts(opened, head, str(file)):
                note(0, part.bytes)
            opened.seek(begin)
            directory.begin_restore()
            layout = Layout.new(head.workers)
            _write(opened, head, directory, note)
            directory.end_restore(layout)
    except OSError as error:
        raise StorageError(f"{file} cannot be restored into {directory.path}: {error.strerror or error}") from None
    done.bytes = done.bytes_in_all
    return done


def _write(opened: BinaryIO, head: Head, directory: DataDirectory, note: Callable[[int, int], None]) -> None:
    with contextlib.ExitStack() as stack:
        stores: list[Store] = []
        directory.make_parts(head.workers)
        for index in range(head.workers):
            stack.callback(directory.lock_worker(index).release)
            store = directory.open_store(index)
            stack.callback(store.close)
            stores.append(store)
        for part in backup.read_parts(opened, head, opened.name):
            if isinstance(part, Blob):
                _write_blob(directory.part(part.worker) / "blobs" / part.reference.id.hex(), part.data)
                note(0, part.bytes)
            else:
                stores[part.worker].write(dict(part.rows), sync=True)
                note(len(part.rows), part.bytes)
    for index in range(head.workers):  # opened and closed as by a service: that finds what it would refuse
        with contextlib.ExitStack() as stack:
            stack.callback(directory.lock_worker(index).release)
            store = directory.open_store(index)
            stack.callback(store.close)
            transaction = Transaction(store, sync=True, files=Folder(directory.part(index) / "blobs", sync=True))
            transaction.sessions.begin_history(int(transaction.elapsed))
            transaction.flush()
            directory.note_close(index, transaction.version)


def _write_blob(file: Path, data: Buffer) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with open(file, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    sync_folder(file.parent)
