"""A worker over its part of a data directory: opened, served until its process is to end, and closed in order."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from holdall import protocol
from holdall.bodies import Hello, RosterWorker, encode
from holdall.errors import InvalidError, StorageError
from holdall.process.admission import Admission
from holdall.process.child import EXIT_GONE, Child
from holdall.process.config import WorkerSettings
from holdall.process.listen import listening_socket
from holdall.process.poller import SystemPoller
from holdall.worker.directory.layout import Layout
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.directory.space import Space
from holdall.worker.large.folder import Folder
from holdall.worker.message import Answer
from holdall.worker.state.transaction import CommitFailed

from .commit import CommitThread
from .core import Worker
from .lanes import Entrance
from .loop import Loop
from .schedule import Schedule
from .uplink import Uplink

if TYPE_CHECKING:
    from holdall.process.config import Sync

LOCK_SECONDS = 5.0
"""How long a worker waits for its predecessor, whose service was killed, to write what it has and end."""

log = logging.getLogger("holdall.worker")


def serve(settings: WorkerSettings, child: Child) -> int:
    """Answer requests until the process is to end. Returns its exit status."""
    directory = DataDirectory(settings.data)
    layout = directory.layout()
    if not 0 <= settings.index < layout.workers:
        raise InvalidError(f"{directory.path} has the workers 0 to {layout.workers - 1}, not {settings.index}")
    lock = directory.lock_worker(settings.index, LOCK_SECONDS)
    directory.enter(settings.index, lock)
    directory.settle(settings.index, adopt=settings.adopt)
    with listening_socket(settings.address) as listening:
        poller = SystemPoller(child, Admission(settings.address))
        wake = poller.waker()
        with closing(Uplink(settings.broker, poller)) as uplink:
            Entrance(listening, poller)
            space = Space(directory.inside(settings.index), directory.part(settings.index))
            instance = secrets.token_bytes(16)
            schedule = Schedule(
                lambda: _opened(directory, layout, settings, space, wake),
                settings.sync,
                lambda worker: Answer(uplink, b"", [hello(worker, bytes.fromhex(layout.id), instance, settings.address)]),
                space.why_no_room,
                lock.is_in_place,
                directory.why_lost(),
            )
            child.ready()
            Loop(poller, CommitThread(wake), schedule).run()
        if lock.is_in_place("lock"):  # else it is being removed, and what were written now would be left
            try:
                close_worker(directory, schedule.worker)
            except (CommitFailed, OSError) as error:
                log.error("%s; what was answered survives the end of this process, but perhaps no power cut", error)
    lock.release()
    return EXIT_GONE if schedule.is_over else 0


def hello(worker: Worker, layout_id: bytes, instance: bytes, address: str) -> bytes:
    """What a worker tells its broker: its index and slots, and where it has lanes."""
    entry = RosterWorker(worker.index, worker.first_slot, worker.end_slot, [address])
    body = Hello(layout_id, instance, worker.workers, entry, worker.handled)
    return bytes(protocol.pack_fields(protocol.HELLO, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", encode(body))[0])


def _opened(
    directory: DataDirectory, layout: Layout, settings: WorkerSettings, space: Space, wake: Callable[[], None]
) -> Worker:
    while True:
        try:
            return open_worker(directory, settings.index, layout, sync=settings.sync, wake=wake)
        except StorageError:
            if not space.give_up_reserve():
                raise


def open_worker(
    directory: DataDirectory, index: int, layout: Layout, *, sync: Sync, wake: Callable[[], None] = lambda: None
) -> Worker:
    """Worker `index` over its store and its blobs. `wake` is called from a thread when `Worker.told` has something to tell.

    Raises StorageError if the store is damaged, or has lost writes since it was closed.
    """
    store = directory.open_store(index, layout.engine)
    try:
        blobs, name = directory.inside(index) / "blobs", directory.part(index) / "blobs"
        folder = Folder(blobs, sync=sync != "off", wake=wake, name=name)
        of_layout = {"layout_id": bytes.fromhex(layout.id), "secret": bytes.fromhex(layout.secret)}
        worker = Worker(store, index, layout.workers, sync=sync == "always", files=folder, **of_layout)
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
