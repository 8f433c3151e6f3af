"""A data directory: whose it is, how it is laid out, and that only one process at a time uses a part of it.

    DIR/layout.json          format, ids (random), secret, engine of the stores, number of workers: written once
    DIR/lock                 held by the service that runs on it
    DIR/restoring            there while a backup is being restored, until layout.json is: all else is half of it
    DIR/worker-N/lock        held by worker N
    DIR/worker-N/store/      its LevelDB
    DIR/worker-N/blobs/      its values that are files of their own; and files that are soon to be some, empty or of values that
                             were removed, and those that clients are writing
    DIR/worker-N/reserve     room kept back for a full disk
    DIR/worker-N/complete    there once the store was made whole: only before that may it be created
    DIR/worker-N/version     the worker's version counter when it last ended in order: a store with less has lost writes

Locks are `flock`s on files of our own, of the real path: LevelDB's own lock is dropped when any descriptor of its file is
closed, and is passed by with a symlink. Such a file has one line: process id, holdall's version and its protocol's version of
whoever holds it, or held it last. Older versions of holdall write only the process id.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec

from holdall import __version__, processors
from holdall.disk import FORMAT, crc32, refusal, sync_folder
from holdall.errors import InvalidError, StorageError
from holdall.protocol import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.service.settings import Sync
    from holdall.worker.core import Worker
    from holdall.worker.store import Store

WORKERS_MAX = 64
"""More would leave each less than 16 slots."""
DEFAULT_WORKERS_MIN, DEFAULT_WORKERS_MAX = 2, 4

LOCK_RETRY_SECONDS = 0.05
HOLDER_BYTES_MAX = 200
"""More than any holder's line has: of a file that holds something else, no more is read."""
_HOLDER = re.compile(rb"([1-9]\d{0,8})(?: ([!-~]+) (\d{1,3}))?\n")


ENGINE = "leveldb"
"""What the stores of this version are kept in."""


class Layout(msgspec.Struct, frozen=True):
    """How the data is spread; it never changes. `crc` covers the other fields, in order.

    `history_id` is for what a restored copy will share with its original; `secret` for what only this service can have said.
    """

    format: int
    id: str
    history_id: str
    secret: str
    engine: str
    workers: int
    crc: int

    @classmethod
    def new(cls, workers: int) -> Layout:
        """The layout of a new directory."""
        fields = FORMAT, secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(32), ENGINE, workers
        return cls(*fields, _layout_crc(*fields))

    @property
    def is_sound(self) -> bool:
        """Whether this is what was written."""
        return self.crc == _layout_crc(*msgspec.structs.astuple(self)[:-1]) and 1 <= self.workers <= WORKERS_MAX


def _layout_crc(*fields: object) -> int:
    return crc32(" ".join(map(str, fields)).encode())


class LayoutFormat(msgspec.Struct):
    """What every format has."""

    format: int


def default_workers() -> int:
    """How many workers a new data directory is for: half the CPUs, DEFAULT_WORKERS_MIN to DEFAULT_WORKERS_MAX.

    A client at work needs as much of a CPU as the worker it talks to. Two at least: while one starts again, the other answers;
    and the number stays for good, also when the directory moves to a larger machine.
    """
    return min(max(processors.usable() // 2, DEFAULT_WORKERS_MIN), DEFAULT_WORKERS_MAX)


class Holder(NamedTuple):
    """A process that holds a lock, and its versions of holdall and of the protocol; None: older ones, which do not say."""

    pid: int
    version: str | None = None
    protocol: int | None = None

    def __str__(self) -> str:
        return f"process {self.pid} of {f'holdall {self.version}' if self.version else 'an older version of holdall'}"


def read_holder(file: Path) -> Holder | None:
    """Who holds this lock file, or held it last; None if it is missing, or does not say."""
    try:
        with open(file, "rb") as lock:
            line = _HOLDER.fullmatch(lock.read(HOLDER_BYTES_MAX))
    except OSError:
        return None
    if line is None:
        return None
    pid, version, protocol = line.groups()
    return Holder(int(pid)) if version is None else Holder(int(pid), version.decode(), int(protocol))


class DataDirectory:
    """The directory at `path`, by its real path."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(os.path.realpath(path))

    def prepare(self, workers: int | None) -> Layout:
        """The layout, made now if there is none: with `workers` workers, or `default_workers`.

        Only for whoever holds the lock. Raises StorageError if the directory cannot be used, InvalidError if it was made for
        another number of workers.
        """
        try:
            if not (self.path / "layout.json").exists():
                if workers is not None and not 1 <= workers <= WORKERS_MAX:
                    raise InvalidError(f"a service has 1 to {WORKERS_MAX} workers, not {workers}")
                self._refuse_half_restored()
                if any(self.path.glob("worker-*/store")):
                    raise StorageError(f"{self.path} holds data but no layout.json: restore that file from a backup")
                count = workers or default_workers()
                self.make_parts(count)
                self._write_layout(Layout.new(count))
        except OSError as error:
            raise StorageError(f"the data directory {self.path} cannot be used: {error.strerror}: {error.filename}") from None
        layout = self.layout()
        if workers is not None and workers != layout.workers:
            raise InvalidError(
                f"the data directory {self.path} was made for {layout.workers} workers and cannot be opened with {workers}: "
                "leave the number out, or use another directory"
            )
        return layout

    def layout(self) -> Layout:
        """The layout as written. Raises StorageError if there is none, or none that this version reads."""
        file = self.path / "layout.json"
        if not file.exists():
            self._refuse_half_restored()
        try:
            data = file.read_bytes()
            written = msgspec.json.decode(data, type=LayoutFormat).format
            if written != FORMAT:
                raise StorageError(refusal(f"the data directory {self.path}", written))
            layout = msgspec.json.decode(data, type=Layout)
        except OSError as error:
            raise StorageError(f"the data directory {self.path} cannot be used: {error}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StorageError(f"{file} is damaged: {error}") from None
        if not layout.is_sound:
            raise StorageError(f"{file} is damaged: its checksum does not match")
        if layout.engine != ENGINE:
            raise StorageError(f"the stores in {self.path} are kept in {layout.engine!r}: use a later version of holdall")
        return layout

    def lock(self, wait_seconds: float = 0.0) -> Lock:
        """Take the whole directory, made if it is missing, for one service.

        Waits `wait_seconds` for another to end; raises StorageError if it still has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"the data directory {self.path} cannot be made: {error.strerror}") from None
        return Lock(self.path / "lock", f"the data directory {self.path}", wait_seconds)

    def holder(self) -> Holder | None:
        """Who holds the whole directory, or held it last; None if its lock does not say."""
        return read_holder(self.path / "lock")

    def worker_holder(self, index: int) -> Holder | None:
        """Who holds the part of worker `index`, or held it last; None if its lock does not say."""
        return read_holder(self.part(index) / "lock")

    def lock_for_restore(self) -> Lock:
        """Take the whole directory, made if it is missing. Raises StorageError if it has data, or a service."""
        lock = self.lock()
        half = (self.path / "restoring").exists()
        if (self.path / "layout.json").exists() or (any(self.path.glob("worker-*")) and not half):
            lock.release()
            raise StorageError(f"the data directory {self.path} has data already: restore into another one, or move it away")
        return lock

    def begin_restore(self) -> None:
        """Mark it as half restored, and remove what a restore that was interrupted has left."""
        _write_durably(self.path / "restoring", b"")
        for part in self.path.glob("worker-*"):
            shutil.rmtree(part)

    def end_restore(self, layout: Layout) -> None:
        """Make it one that a service opens."""
        self._write_layout(layout)
        (self.path / "restoring").unlink()

    def _write_layout(self, layout: Layout) -> None:
        _write_durably(self.path / "layout.json", msgspec.json.encode(layout) + b"\n")

    def _refuse_half_restored(self) -> None:
        if (self.path / "restoring").exists():
            raise StorageError(f"a restore into {self.path} was interrupted: run `holdall restore` again")

    def lock_worker(self, index: int, wait_seconds: float = 0.0) -> Lock:
        """Take the part of worker `index`; waits `wait_seconds` for one that is just ending. Raises StorageError."""
        folder = self.part(index)
        if not folder.exists():
            raise StorageError(f"{folder} is missing: restore the data directory from a backup")
        return Lock(folder / "lock", f"the part of worker {index} in {self.path}", wait_seconds)

    def make_parts(self, workers: int) -> None:
        """Make the folders of so many workers, before there is a layout: one that is missing later was lost. Raises OSError."""
        for index in range(workers):
            self.part(index).mkdir(exist_ok=True, mode=0o700)

    def part(self, index: int) -> Path:
        """The folder of worker `index`."""
        return self.path / f"worker-{index}"

    def open_worker(self, index: int, layout: Layout, *, sync: Sync, wake: Callable[[], None] = lambda: None) -> Worker:
        """Worker `index` over its store and its blobs. `wake` is called when `Worker.told` has something to tell.

        Raises StorageError if the store is damaged, or has lost writes since it was closed.
        LevelDB takes a log that is missing, or a MANIFEST that is cut short, for the end of what was written.
        """
        from holdall.worker.core import Worker
        from holdall.worker.folder import Folder

        store = self.open_store(index)
        try:
            folder = Folder(self.part(index) / "blobs", sync=sync != "off", wake=wake)
            layout_id = bytes.fromhex(layout.id)
            worker = Worker(store, index, layout.workers, sync=sync == "always", layout_id=layout_id, files=folder)
            closed_at = self.version_at_close(index)
            if worker.version < closed_at:
                raise StorageError(
                    f"the store {self.part(index) / 'store'} has lost writes: it was closed with version "
                    f"{closed_at:,} and has {worker.version:,}; restore the data directory from a backup"
                )
        except StorageError:
            store.close()
            raise
        worker.collect_orphans()
        return worker

    def close_worker(self, index: int, worker: Worker) -> None:
        """End it in order: everything it answered survives a power cut, whatever the sync mode."""
        worker.flush()
        worker.close()
        _write_durably(self.part(index) / "version", f"{worker.version}\n".encode())

    def version_at_close(self, index: int) -> int:
        """The version counter of worker `index` when it last ended in order; 0 if it never did. Raises StorageError."""
        file = self.part(index) / "version"
        try:
            return int(file.read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise StorageError(f"{file} is damaged: {error}") from None

    def open_store(self, index: int) -> Store:
        """The store of worker `index`, made on the first call. Raises StorageError if it is damaged."""
        from holdall.worker.leveldb import LevelDBStore  # a supervisor prepares and locks, and never opens
        from holdall.worker.transaction import format_store

        folder = self.part(index)
        if not (folder / "complete").exists():
            if any((folder / "store").glob("*.ldb")):
                raise StorageError(f"{folder} holds data but no file 'complete': if the data is whole, make that file, empty")
            shutil.rmtree(folder / "store", ignore_errors=True)  # a start that was interrupted: nothing was ever stored
            store = LevelDBStore(folder / "store", create=True)
            format_store(store)
            store.close()  # and open it again: that moves what was written into a table, the sign of a store in use
            _write_durably(folder / "complete", b"")
        return LevelDBStore(folder / "store")


class Lock:
    """An exclusive lock on a file, held until `release` or the end of this process; the file says who holds it."""

    def __init__(self, file: Path, what: str, wait_seconds: float = 0.0) -> None:
        try:
            self._file: IO[str] = open(file, "a+")  # noqa: SIM115 - it is held
        except OSError as error:
            raise StorageError(f"{what} cannot be used: {error.strerror}: {file}") from None
        until = time.monotonic() + wait_seconds
        while not self._taken():
            if time.monotonic() >= until:
                self._file.close()
                holder = read_holder(file) or "an unknown process"
                raise StorageError(f"{what} is in use by {holder}: end that process first, or use another directory")
            time.sleep(LOCK_RETRY_SECONDS)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()} {__version__} {VERSION}\n")
        self._file.flush()

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StorageError(
                f"{self._file.name} cannot be locked: {error.strerror}; use a directory of a local disk"
            ) from None
        return True

    def release(self) -> None:
        """Let others have it."""
        self._file.close()


def _write_durably(file: Path, data: bytes) -> None:
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    with open(scratch, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.rename(scratch, file)
    sync_folder(file.parent)
