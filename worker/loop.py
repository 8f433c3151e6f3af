"""The worker's process: one loop around the core.

It answers alike what the broker relays to it and what comes by a lane. Its HELLO to the broker goes out from this loop,
between two ticks: a worker that is stuck in its work falls silent.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from holdall import protocol
from holdall.bodies import Hello, RosterWorker, encode
from holdall.errors import InvalidError, StorageError
from holdall.protocol import Request
from holdall.service.address import listening_socket
from holdall.service.child import Child
from holdall.service.door import Door
from holdall.service.settings import WorkerSettings
from holdall.service.watch import Watch
from holdall.worker.directory import DataDirectory, Layout
from holdall.worker.lanes import Lanes
from holdall.worker.message import Answer, Message
from holdall.worker.space import Space
from holdall.worker.transaction import CommitFailed
from holdall.worker.uplink import Uplink
from holdall.worker.writer import Writer

BYTES_PER_TICK = 8 * 1024 * 1024
"""Bounds a tick's time and memory, its answers with chunks of blobs included; what is left waits for the next one."""
LOOK_BYTES = 4 * 1024 * 1024
"""After so much has come in, the room on the disk is looked at: fast writers use all of it between two HELLOs."""
HELLO_SECONDS = 0.5
LOCK_SECONDS = 5.0
"""How long a worker waits for its predecessor, whose service was killed, to write what it has and end."""
FLUSH_SECONDS = 1.0
"""How often what was written without a sync is made to survive a power cut: by `--sync interval`, and touches in any mode."""
WAITING_MAX = 10_000
"""Messages that wait while a batch is being written; beyond it, or BYTES_PER_TICK, nothing more is read before that ends."""
SHARED_SECONDS = 1.0
"""How long after two clients asked in turns it is worth a wake-up more that one reads while the other's batch is synced."""

if TYPE_CHECKING:
    from socket import socket

log = logging.getLogger("holdall.worker")

R = TypeVar("R")


def serve(settings: WorkerSettings, child: Child) -> None:
    """Answer requests until the process is to end."""
    directory = DataDirectory(settings.data)
    layout = directory.layout()
    if not 0 <= settings.index < layout.workers:
        raise InvalidError(f"{directory.path} has the workers 0 to {layout.workers - 1}, not {settings.index}")
    lock = directory.lock_worker(settings.index, LOCK_SECONDS)
    with listening_socket(settings.address) as listening:
        Loop(settings, directory, layout, child, listening).run()
    lock.release()


class Loop:
    """The worker's loop. A tick: take what has come, decide, write, answer."""

    def __init__(
        self, settings: WorkerSettings, directory: DataDirectory, layout: Layout, child: Child, listening: socket
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._layout = layout
        self._child = child
        self._instance = secrets.token_bytes(16)
        self._watch = Watch(child, Door(settings.address))
        self._wake = self._watch.waker()
        self._writer = Writer(self._wake)
        self._writing: list[Message] = []
        self._waiting: list[Message] = []
        self._askers: set[tuple[Any, bytes]] = set()
        self._waiting_bytes = 0
        self._asker: tuple[Any, bytes] | None = None
        self._shared_until = 0.0
        self._uplink = Uplink(settings.broker, self._watch)
        self._lanes = Lanes(listening, self._watch)
        self._space = Space(directory.part(settings.index))
        self._open()
        self._hello_due = self._flush_due = self._sweep_due = self._due = 0.0
        self._sweeping = True
        self._unlooked_bytes = 0
        self._is_busy = False
        self._is_put_off = False

    def run(self) -> None:
        """Until the process is to end."""
        self._child.ready()
        now = time.monotonic()
        while not self._watch.is_over:
            are_threads_busy = self._writer.is_busy or bool(self._worker.waiting)
            messages = self._take(self._watch.wait(now, self._due, looks=not are_threads_busy))
            if self._writer.has_ended:
                self._send(self._written())
                if self._is_put_off:  # now, or else a service that always writes would never sweep
                    self._between_ticks(time.monotonic())
            if messages or self._waiting:
                self._turn(messages, now)
                self._is_busy = True
            if self._worker.waiting:
                self._send(self._worker.told())
            now = time.monotonic()
            if now >= self._due:
                self._between_ticks(now)
        self._close()

    def _turn(self, messages: list[Message], now: float) -> None:
        """Answer those who only read; the others by a tick, when the one before is written."""
        if self._settings.sync == "always":
            self._note_askers(messages, now)
        if self._waiting and not self._writer.is_busy:
            messages = self._no_longer_waiting() + messages
        wall = time.time()
        answers, left = self._worker.read(messages, wall, self._askers)
        self._send(answers)
        if left:
            self._carry_out(left, wall, now)

    def _carry_out(self, left: list[Message], wall: float, now: float) -> None:
        """Do more than read: when the tick before is written."""
        if self._writer.is_busy:
            self._have_wait(left)
            if len(self._waiting) < WAITING_MAX and self._waiting_bytes < BYTES_PER_TICK:
                return
            self._send(self._written())
            left = self._no_longer_waiting()
        self._askers.clear()
        self._send(self._tick(left, wall, behind=now < self._shared_until))

    def _have_wait(self, left: list[Message]) -> None:
        self._waiting += left
        self._waiting_bytes += sum([len(each.head) + len(each.payload or b"") for each in left])

    def _no_longer_waiting(self) -> list[Message]:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._askers.clear()
        return waiting

    def _note_askers(self, messages: list[Message], now: float) -> None:
        for message in messages:
            if self._asker != (message.origin, message.route):
                if self._asker is not None:
                    self._shared_until = now + SHARED_SECONDS
                self._asker = (message.origin, message.route)

    def _take(self, sources: list[Any]) -> list[Message]:
        messages: list[Message] = []
        size = 0
        for number, source in enumerate(sources, 1):
            taken, taken_bytes = source.take()
            messages += taken
            size += taken_bytes
            if size >= BYTES_PER_TICK:
                self._watch.put_back(sources[number:])
                break
        self._unlooked_bytes += size
        if self._unlooked_bytes >= LOOK_BYTES:
            self._look_for_room()
        return messages

    def _tick(self, messages: list[Message], wall: float, *, behind: bool) -> list[Answer]:
        """Carry these out. Returns the answers; none if they wait for the disk, and others need not."""
        try:
            commit = self._worker.begin(messages, wall)
            if commit is not None and behind and self._worker.may_read_meanwhile(messages):
                self._writing = messages
                self._writer.begin(commit)
                return []
            if commit is not None:
                commit()
            return self._worker.end()
        except CommitFailed as error:
            return self._again(messages, error)

    def _written(self) -> list[Answer]:
        """The answers to those whose batch has been written meanwhile."""
        messages, self._writing = self._writing, []
        try:
            self._writer.end()
            return self._worker.end()
        except CommitFailed as error:
            return self._again(messages, error)

    def _again(self, messages: list[Message], error: CommitFailed) -> list[Answer]:
        """What could not be written, once more over the store opened anew: nothing remembered is repeated."""
        self._recover(error)
        try:
            return self._worker.tick(messages, time.time())
        except CommitFailed as error:
            self._recover(error)
            return self._worker.refuse(messages, str(error))

    def _recover(self, error: CommitFailed) -> None:
        """Open the store anew: LevelDB writes nothing more after it has failed to."""
        log.error("%s; the store is opened again", error)
        self._worker.close()
        self._open()

    def _send(self, answers: list[Answer]) -> None:
        for answer in answers:
            answer.origin.send(answer.route, answer.frames)

    def _between_ticks(self, now: float) -> None:
        """Say HELLO, flush, sweep; nothing while a batch is being written, lest a worker whose write never ends speak."""
        self._is_put_off = self._writer.is_busy
        if self._is_put_off:
            self._due = now + HELLO_SECONDS
            return
        if now >= self._hello_due:
            self._hello_due = now + HELLO_SECONDS
            self._sweeping = True
            self._look_for_room()
            self._uplink.send(b"", [self._hello()])
        flushes = self._worker.needs_flush or (self._worker.is_unflushed and self._settings.sync != "off")
        if flushes and now >= self._flush_due:
            self._flush_due = now + FLUSH_SECONDS
            self._write_behind(self._worker.flush)
            flushes = False
        if self._sweeping and now >= self._sweep_due:
            self._sweeping = bool(self._write_behind(lambda: self._worker.sweep(time.time())))
            end = time.monotonic()
            self._sweep_due = end + self._worker.rest_seconds(end - now) if self._is_busy else end
            self._is_busy = False
        if self._worker.resumes:
            self._send(self._tick([], time.time(), behind=False))
        self._due = min(
            self._hello_due,
            self._sweep_due if self._sweeping else self._hello_due,
            self._flush_due if flushes else self._hello_due,
        )

    def _write_behind(self, write: Callable[[], R]) -> R | None:
        """Write what nobody waits for."""
        try:
            return write()
        except CommitFailed as error:
            self._recover(error)
            return None

    def _look_for_room(self) -> None:
        self._unlooked_bytes = 0
        self._space.look()
        self._worker.refuse_values(self._space.why if self._space.is_short else "")

    def _open(self) -> None:
        index, layout, sync = self._settings.index, self._layout, self._settings.sync
        while True:
            try:
                self._worker = self._directory.open_worker(index, layout, sync=sync, wake=self._wake)
                break
            except StorageError:
                if not self._space.give_up_reserve():
                    raise
        self._look_for_room()

    def _close(self) -> None:
        if self._writer.is_busy:
            self._send(self._written())
        if self._waiting:
            self._send(self._tick(self._no_longer_waiting(), time.time(), behind=False))
        self._uplink.close()
        try:
            self._directory.close_worker(self._settings.index, self._worker)
        except (CommitFailed, OSError) as error:
            log.error("%s; what was answered survives the end of this process, but perhaps no power cut", error)

    def _hello(self) -> bytes:
        worker = self._worker
        entry = RosterWorker(self._settings.index, worker.first_slot, worker.end_slot, [self._settings.address])
        body = Hello(bytes.fromhex(self._layout.id), self._instance, self._layout.workers, entry, worker.handled)
        request = Request(protocol.HELLO, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", encode(body))
        return bytes(protocol.pack_request(request)[0])
