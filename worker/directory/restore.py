"""Makes a data directory of a backup: the same entries and names, an id of its own, any number of workers and either engine.

The backup is read twice: first all its checksums are verified, then it is written (`spread`). `layout.json` comes last; until
then a mark says that what is there is half of it, and the next restore begins anew.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec

from holdall import backup
from holdall.backup import Rows
from holdall.disk import write_durably
from holdall.errors import StorageError
from holdall.worker.large.folder import Folder
from holdall.worker.state.transaction import Transaction
from holdall.worker.store.store import Store

from .layout import Layout
from .opening import DataDirectory
from .spread import Spread


class Restored(msgspec.Struct):
    """What has been restored so far: `rows` of the backup; `bytes` of the file's `bytes_in_all` were read, twice in the end."""

    workers: int
    made_at: float
    rows: int = 0
    bytes: int = 0
    bytes_in_all: int = 0


def restore(
    file: Path, directory: DataDirectory, progressed: Callable[[Restored], None], workers: int | None = None
) -> Restored:
    """Restore a backup into this directory, which must have no data; calls `progressed` now and then. It is then for so many
    workers, or as many as before, and kept in the `default_engine`, whatever it was kept in.

    Raises StorageError if the backup is damaged or incomplete, or the directory has data, or a service, or cannot be written,
    InvalidError for an impossible number of workers.
    """
    try:
        with open(file, "rb") as opened, contextlib.ExitStack() as stack:
            stack.callback(directory.lock_for_restore().release)
            head = backup.read_head(opened, str(file))
            layout = Layout.new(workers or head.workers)
            done = Restored(layout.workers, head.made_at, bytes_in_all=2 * file.stat().st_size)

            def note(rows: int, size: int) -> None:
                done.rows += rows
                done.bytes += size
                progressed(done)

            begin = opened.tell()
            spread = Spread(head.workers, layout.workers)
            for part in backup.read_parts(opened, head, str(file)):
                if isinstance(part, Rows):
                    spread.note(part.worker, part.rows)
                note(0, part.bytes)
            opened.seek(begin)
            directory.begin_restore()
            directory.make_parts(layout.workers)
            stores: list[Store] = []
            for index in range(layout.workers):
                stack.callback(directory.lock_worker(index).release)
                stores.append(directory.open_store(index, layout.engine))
                stack.callback(stores[index].close)
            for part in backup.read_parts(opened, head, str(file)):
                if isinstance(part, Rows):
                    for worker, batch in spread.placed(part.worker, part.rows).items():
                        stores[worker].write(batch, sync=False)
                    note(len(part.rows), part.bytes)
                else:
                    owner = spread.owner_of(part.reference.id)
                    if owner is not None:
                        blobs = directory.part(owner) / "blobs"
                        blobs.mkdir(mode=0o700, exist_ok=True)
                        write_durably(blobs / part.reference.id.hex(), part.data)
                    note(0, part.bytes)
            for index, store in enumerate(stores):
                store.write(spread.table(index), sync=False)
                store.sync()
                transaction = Transaction(store, sync=True, files=Folder(directory.part(index) / "blobs", sync=True))
                transaction.sessions.begin_history(int(transaction.elapsed))
                transaction.flush()  # what a service would refuse, it refuses here
                directory.note_close(index, transaction.version)
            directory.end_restore(layout)
    except (OSError, ValueError, ArithmeticError, struct.error, msgspec.MsgspecError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"{file} cannot be restored into {directory.path}: {reason}") from None
    done.bytes = done.bytes_in_all
    return done
