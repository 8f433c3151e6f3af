"""The worker's process: one loop around its schedule. A turn: take what has come, have it decided, send what is to be sent.

Lanes and the uplink to the broker are alike to it: sources that give messages, and take answers.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from holdall import protocol
from holdall.bodies import Hello, RosterWorker, encode
from holdall.errors import InvalidError, StorageError
from holdall.process.admission import Admission
from holdall.process.child import Child
from holdall.process.config import WorkerSettings
from holdall.process.listen import listening_socket
from holdall.process.poller import Poller, SystemPoller
from holdall.protocol import Request
from holdall.worker.directory.layout import Layout
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.directory.space import Space
from holdall.worker.handlers.message import Answer, Message
from holdall.worker.state.transaction import Commit, CommitFailed

from .commit import CommitThread
from .lanes import Lanes
from .opening import close_worker, open_worker
from .schedule import Schedule
from .uplink import Uplink

if TYPE_CHECKING:
    from .core import Worker

BYTES_PER_TURN = 8 * 1024 * 1024
"""Bounds a turn's time and memory, its answers with chunks of blobs included; what is left waits for the next one."""
LOCK_SECONDS = 5.0
"""How long a worker waits for its predecessor, whose service was killed, to write what it has and end."""

log = logging.getLogger("holdall.worker")


class Committer(Protocol):
    """What writes a batch while the loop goes on."""

    is_busy: bool
    has_ended: bool

    def begin(self, commit: Commit) -> None:
        """Have this written."""

    def end(self) -> CommitFailed | None:
        """Wait for that. Returns the failure, if it is one."""
        ...


class Loop:
    """The worker's loop, from `run` until its process is to end."""

    def __init__(
        self,
        poller: Poller,
        committer: Committer,
        schedule: Schedule,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._poller = poller
        self._committer = committer
        self._schedule = schedule
        self._now = now
        self._wall = wall

    def run(self) -> None:
        """Take turns."""
        schedule = self._schedule
        now = self._now()
        while True:
            sources = self._poller.wait(now, schedule.due, spins=not schedule.waits_for_thread)
            if self._poller.is_over:
                break
            messages, size = self._take(sources)
            if self._committer.has_ended:
                self._finish()
            turn = schedule.turn(messages, size, self._now(), self._wall())
            self._send(turn.answers)
            if turn.commit is not None:
                self._committer.begin(turn.commit)
            if schedule.is_full:
                self._finish()
            now = self._now()
        if self._committer.is_busy:
            self._finish()
        self._send(schedule.end(self._wall()))

    def _finish(self) -> None:
        """Wait until the batch is written, and answer who waited for that."""
        self._send(self._schedule.written(self._committer.end(), self._wall()))

    def _take(self, sources: list[Any]) -> tuple[list[Message], int]:
        """What has come, and its bytes."""
        messages: list[Message] = []
        size = 0
        for number, source in enumerate(sources, 1):
            taken, taken_bytes = source.take()
            messages += taken
            size += taken_bytes
            if size >= BYTES_PER_TURN:
                self._poller.defer(sources[number:])
                break
        return messages, size

    def _send(self, answers: list[Answer]) -> None:
        for answer in answers:
            if answer.file is None:
                answer.origin.send(answer.route, answer.frames)
            else:
                answer.origin.send_file(answer.route, answer.frames, answer.file)


def serve(settings: WorkerSettings, child: Child) -> None:
    """Answer requests until the process is to end."""
    directory = DataDirectory(settings.data)
    layout = directory.layout()
    if not 0 <= settings.index < layout.workers:
        raise InvalidError(f"{directory.path} has the workers 0 to {layout.workers - 1}, not {settings.index}")
    lock = directory.lock_worker(settings.index, LOCK_SECONDS)
    with listening_socket(settings.address) as listening:
        poller = SystemPoller(child, Admission(settings.address))
        wake = poller.waker()
        with closing(Uplink(settings.broker, poller)) as uplink:
            Lanes(listening, poller)
            space = Space(directory.part(settings.index))
            instance = secrets.token_bytes(16)
            schedule = Schedule(
                lambda: _opened(directory, layout, settings, space, wake),
                settings.sync,
                lambda worker: Answer(uplink, b"", [hello(worker, bytes.fromhex(layout.id), instance, settings.address)]),
                space.why_no_room,
            )
            child.ready()
            Loop(poller, CommitThread(wake), schedule).run()
        try:
            close_worker(directory, schedule.worker)
        except (CommitFailed, OSError) as error:
            log.error("%s; what was answered survives the end of this process, but perhaps no power cut", error)
    lock.release()


def hello(worker: Worker, layout_id: bytes, instance: bytes, address: str) -> bytes:
    """What a worker tells its broker: who it is, and where it has lanes."""
    entry = RosterWorker(worker.index, worker.first_slot, worker.end_slot, [address])
    body = Hello(layout_id, instance, worker.workers, entry, worker.handled)
    request = Request(protocol.HELLO, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", encode(body))
    return bytes(protocol.pack_request(request)[0])


def _opened(
    directory: DataDirectory, layout: Layout, settings: WorkerSettings, space: Space, wake: Callable[[], None]
) -> Worker:
    while True:
        try:
            return open_worker(directory, settings.index, layout, sync=settings.sync, wake=wake)
        except StorageError:
            if not space.give_up_reserve():
                raise
