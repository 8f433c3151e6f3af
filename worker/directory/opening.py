"""A data directory: what is in it, and its parts opened and closed.

    DIR/layout.json          format, ids (random), secret, engine of the stores, number of workers: written once
    DIR/lock                 held by the service that runs on it
    DIR/starting             held by the client that starts a service on it
    DIR/restoring            there while a backup is being restored, until layout.json is: all else is half of it
    DIR/worker-N/lock        held by worker N
    DIR/worker-N/place       where this part is: see `place`
    DIR/worker-N/store/      its LevelDB, or its SQLite
    DIR/worker-N/blobs/      its values that are files of their own, and files that are about to be some
    DIR/worker-N/reserve     room kept back for a full disk
    DIR/worker-N/complete    there once the store was made whole: only before that may it be created
    DIR/worker-N/version     the worker's version counter when it last ended in order, or 0: a store with less has lost writes

The real path of a directory is used, and its parts are locked by that: see `locks`. A worker's process goes into its part and
uses the names of what is in there alone: whatever becomes of the path, nothing is written into what takes its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from holdall.disk import FORMAT, refusal, write_durably
from holdall.errors import InvalidError, StorageError
from holdall.private import fault, open_own, planted
from holdall.settings import data_path
from holdall.worker.store.engines import ENGINES, store_of

from . import place
from .layout import Layout, LayoutFormat, default_workers
from .locks import Holder, Lock, is_locked, read_holder

if TYPE_CHECKING:
    from holdall.worker.store.store import Store


class DataDirectory:
    """The directory at `path`, by its real path."""

    def __init__(self, path: Path | str) -> None:
        self.path = data_path(path)
        self._entered: int | None = None

    def prepare(self, workers: int | None) -> Layout:
        """The layout, made now if there is none: with `workers` workers, or `default_workers`, in the `default_engine`.

        The caller holds the lock. Raises StorageError if the directory cannot be used, InvalidError if it was made for
        another number of workers.
        """
        try:
            if not (self.path / "layout.json").exists():
                layout = Layout.new(default_workers() if workers is None else workers)
                self._refuse_half_restored()
                if any(self.path.glob("worker-*/store")):
                    raise StorageError(f"{self.path} holds data but no layout.json: restore that file from a backup")
                for left in self.path.glob("worker-*"):  # of a directory whose removal was interrupted
                    shutil.rmtree(left)
                self.make_parts(layout.workers)
                self._write_layout(layout)
        except OSError as error:
            raise StorageError(f"the data directory {self.path} cannot be used: {error.strerror}: {error.filename}") from None
        layout = self.layout()
        if workers is not None and workers != layout.workers:
            raise InvalidError(
                f"the data directory {self.path} was made for {layout.workers} workers and cannot be opened with {workers}: "
                "leave the number out, or `holdall restore --workers` a backup into another directory"
            )
        store_of(layout.engine)
        return layout

    def layout(self) -> Layout:
        """The layout as written. Raises StorageError if there is none, or none that this version reads."""
        file = self.path / "layout.json"
        if not file.exists():
            self._refuse_half_restored()
        try:
            with open(file, "rb", opener=open_own) as opened:
                data = opened.read()
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
        if layout.engine not in ENGINES:
            raise StorageError(f"the stores in {self.path} are kept in {layout.engine!r}: use a later version of holdall")
        return layout

    def lock(self, wait_seconds: float = 0.0, url: str = "") -> Lock:
        """Take the whole directory, made if it is missing, for one service, which listens at this URL.

        Waits `wait_seconds` for another to end; raises StorageError if it still has it.
        """
        self.make()
        self._refuse_shared(*self.path.glob("worker-*"))
        return Lock(self.path / "lock", f"the data directory {self.path}", wait_seconds, url)

    def make(self) -> None:
        """Make it, if it is missing. Raises StorageError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"the data directory {self.path} cannot be made: {error.strerror}; set HOLDALL_DATA") from None
        self._refuse_shared()

    def _refuse_shared(self, *parts: Path) -> None:
        """Raise StorageError if others can change the directory, or what is in these parts of it."""
        try:
            what = fault(self.path) or next((found for found in map(planted, parts) if found), "")
        except OSError as error:
            what = str(error)
        if what:
            raise StorageError(f"the data directory {self.path} cannot be used, it is not this user's alone: {what}")

    @property
    def is_held(self) -> bool:
        """Whether a service has the whole directory."""
        return is_locked(self.path / "lock")

    def holder(self) -> Holder | None:
        """The process that holds the whole directory, or held it last; None if its lock does not say."""
        return read_holder(self.path / "lock")

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
        write_durably(self.path / "restoring", b"")
        for part in self.path.glob("worker-*"):
            shutil.rmtree(part)

    def end_restore(self, layout: Layout) -> None:
        """Make it one that a service opens."""
        self._write_layout(layout)
        (self.path / "restoring").unlink()

    def _write_layout(self, layout: Layout) -> None:
        write_durably(self.path / "layout.json", msgspec.json.encode(layout) + b"\n")

    def _refuse_half_restored(self) -> None:
        if (self.path / "restoring").exists():
            raise StorageError(f"a restore into {self.path} was interrupted: run `holdall restore` again")

    def lock_worker(self, index: int, wait_seconds: float = 0.0) -> Lock:
        """Take the part of worker `index`; waits `wait_seconds` for one that is just ending. Raises StorageError."""
        folder = self.part(index)
        if not folder.exists():
            raise StorageError(f"{folder} is missing: restore the data directory from a backup")
        self._refuse_shared(folder)
        return Lock(folder / "lock", f"the part of worker {index} in {self.path}", wait_seconds)

    def make_parts(self, workers: int) -> None:
        """Make the folders of so many workers, before there is a layout: one that is missing later was lost. Raises OSError."""
        for index in range(workers):
            self.part(index).mkdir(exist_ok=True, mode=0o700)
            self._record_place(index)

    def settle(self, index: int, *, adopt: bool = False) -> None:
        """Record where the part of worker `index` is. Raises StorageError if it belongs elsewhere, but to `adopt` it."""
        if not adopt:
            place.require(self.inside(index), self.part(index))
        with contextlib.suppress(OSError):  # the disk is full: an older record says the same, or the next start refuses
            self._record_place(index)

    def _record_place(self, index: int) -> None:
        write_durably(self.inside(index) / place.PLACE, place.packed(self.inside(index)))

    def part(self, index: int) -> Path:
        return self.path / f"worker-{index}"

    def enter(self, index: int, lock: Lock) -> None:
        """Have this process use the part of worker `index`, which it has locked, from inside. Raises StorageError."""
        try:
            os.chdir(self.part(index))
        except OSError as error:
            raise StorageError(f"{self.part(index)} cannot be used: {error.strerror}") from None
        if not lock.is_in_place("lock"):
            raise StorageError(self.why_lost())
        self._entered = index

    def why_lost(self) -> str:
        """What calls are told when the directory is no longer what its service has locked."""
        return (
            f"the data directory {self.path} was removed, moved or replaced while its service ran: the service ends, and the "
            "next call starts one on what is there"
        )

    def inside(self, index: int) -> Path:
        """The part of worker `index`, to be used; `part` is how it is called."""
        return Path() if index == self._entered else self.part(index)

    def version_at_close(self, index: int) -> int:
        """The version counter of worker `index` when it last ended in order; 0 if it never did. Raises StorageError."""
        try:
            return int((self.inside(index) / "version").read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise StorageError(f"{self.part(index) / 'version'} is damaged: {error}") from None

    def refuse_if_lost(self, index: int, version: int) -> None:
        """Raise StorageError if the store of worker `index`, whose last version is this, has lost writes since it was closed:
        LevelDB takes a log that is cut short, or a MANIFEST, for the end of what was written.
        """
        closed_at = self.version_at_close(index)
        if version < closed_at:
            raise StorageError(
                f"the store {self.part(index) / 'store'} has lost writes: it was closed with version "
                f"{closed_at:,} and has {version:,}; restore the data directory from a backup"
            )

    def note_close(self, index: int, version: int) -> None:
        """The store of worker `index` is closed in order, with this version. Raises OSError."""
        write_durably(self.inside(index) / "version", f"{version}\n".encode())

    def open_store(self, index: int, engine: str) -> Store:
        """The store of worker `index`, made on the first call. Raises StorageError if it is damaged."""
        from holdall.worker.state.transaction import format_store  # a supervisor prepares and locks, and never opens

        folder, name, kind = self.inside(index), self.part(index), store_of(engine)
        if not (folder / "complete").exists():
            if (folder / "version").exists():
                raise StorageError(f"{name} holds data but no file 'complete': if the data is whole, make that file, empty")
            shutil.rmtree(folder / "store", ignore_errors=True)  # a start that was interrupted: nothing was ever stored
            store = kind(folder / "store", create=True)
            format_store(store)
            store.close()
            write_durably(folder / "complete", b"")
            self.note_close(index, 0)
        return kind(folder / "store", name=name / "store")
