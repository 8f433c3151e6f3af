"""What a worker does next: what is answered and what waits, which batch is being written, when HELLO, flushes, sweeps are due.

It decides over a `Worker`, and touches neither socket nor clock: `now` is of a clock that never jumps, `wall` in seconds since
1970. Rules:

1. While a batch is being written nothing is decided but reads of rows that are not in it, in the order of each connection.
2. A batch is written by a thread if it is to be synced (`--sync always`), more than one connection was heard in the last
   second, and nothing but gets, puts and pops is in it; any other one by the loop itself.
3. While a batch is being written no HELLO is due: a worker whose write never ends falls silent, and is replaced.
4. When the data directory is no longer what was locked (`is_in_place`), nothing more is acknowledged, the process is to end:
   it is looked at with each HELLO, and before each answer that waited for a sync.
5. After a write that failed the store is opened anew, and what was decided is decided again: nothing remembered is repeated.
   After a second one it is refused; whether it is in the log is unknown then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from holdall.worker.state.transaction import Commit, CommitFailed

from .core import Worker
from .message import Answer, Connection, Message, work_bytes

if TYPE_CHECKING:
    from holdall.process.config import Sync

HELLO_SECONDS = 0.5
FLUSH_SECONDS = 1.0
"""How often what was written without a sync is made to survive a power cut: by `--sync interval`, and touches in any mode."""
SHARED_SECONDS = 1.0
"""How long after two clients asked in turns it is worth a wake-up more that one reads while the other's batch is synced."""
DELAYED_MAX = 10_000
DELAYED_BYTES_MAX = 32 * 1024 * 1024
"""Messages that wait while a batch is being written, and the work that they bring; beyond either bound nothing more is read
before that ends.
"""
LOOK_BYTES = 4 * 1024 * 1024
"""After so much has come in, the room on the disk is looked at: fast writers use all of it between two HELLOs."""

log = logging.getLogger("holdall.worker")


class Turn(msgspec.Struct):
    """What is to be sent now, and the batch that a thread is to write, if there is one: `Schedule.written` is to follow."""

    answers: list[Answer]
    commit: Commit | None = None


class Schedule:
    """The schedule of one worker, which `opened` opens, once and after each write that failed.

    `hello` makes the message for the broker; `why_no_room` looks at the disk, and says why no value may be stored, or "".
    """

    def __init__(
        self,
        opened: Callable[[], Worker],
        sync: Sync,
        hello: Callable[[Worker], Answer],
        why_no_room: Callable[[], str],
        is_in_place: Callable[[], bool] = lambda: True,
        why_lost: str = "",
    ) -> None:
        self.is_over = False
        """Whether nothing more is to be decided: the process is to end."""
        self.due = 0.0
        """When `turn` is to be called at the latest, whether anything has come or not."""
        self._opened = opened
        self._sync = sync
        self._hello = hello
        self._why_no_room = why_no_room
        self._is_in_place = is_in_place
        self._why_lost = why_lost
        self._writing: list[Message] | None = None
        """What the batch that is being written has decided."""
        self._delayed: list[Message] = []
        self._delayed_bytes = 0
        self._blocked: set[Connection] = set()
        """Connections of these."""
        self._heard: Connection | None = None
        """The connection that was heard last."""
        self._shared_until = 0.0
        self._hello_due = self._flush_due = self._sweep_due = 0.0
        self._is_sweeping = True
        self._is_postponed = False
        self._is_busy = False
        """Whether anything has come since the last step of the sweeper."""
        self._unlooked_bytes = 0
        self.worker = self._open()

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be read before the batch is written."""
        return len(self._delayed) >= DELAYED_MAX or self._delayed_bytes >= DELAYED_BYTES_MAX

    @property
    def waits_for_thread(self) -> bool:
        """Whether a thread of this process has work."""
        return self._writing is not None or bool(self.worker.sealing)

    def turn(self, messages: list[Message], size: int, now: float, wall: float) -> Turn:
        """These messages, of so many bytes, have come; or none, and it is time."""
        answers: list[Answer] = []
        commit: Commit | None = None
        if messages:
            self._is_busy = True
            self._unlooked_bytes += size
            if self._unlooked_bytes >= LOOK_BYTES:
                self._look_for_room()
            for message in messages:
                if self._heard != (message.source, message.address):
                    if self._heard is not None:
                        self._shared_until = now + SHARED_SECONDS
                    self._heard = message.source, message.address
        if self._delayed and self._writing is None:
            messages = self._no_longer_delayed() + messages
        if messages:
            answers, left = self.worker.read(messages, wall, self._blocked)
            if left:
                decided, commit = self._decide(left, now, wall)
                answers += decided
        if self.worker.sealing:
            answers += self.worker.told()
        if now >= self.due:
            answers += self._between_ticks(now, wall)
        return Turn(answers, commit)

    def written(self, failed: CommitFailed | None, wall: float) -> list[Answer]:
        """The batch of the last turn is written, or could not be. Returns the answers that waited for it."""
        decided, self._writing = self._writing, None
        assert decided is not None
        if self._is_postponed or self._delayed:  # now, or else a service that always writes would never sweep
            self.due = 0.0
        return self._again(decided, failed, wall) if failed is not None else self._acknowledged(decided, self.worker.end())

    def finish(self, wall: float) -> list[Answer]:
        """The process is to end, and no batch is being written: the answers to all that still waits."""
        return self._tick(self._no_longer_delayed(), wall) if self._delayed else []

    def _decide(self, left: list[Message], now: float, wall: float) -> tuple[list[Answer], Commit | None]:
        """Carry these out by a tick, once the one before is written. Returns answers, or the batch for a thread to write."""
        if self._writing is not None:
            self._delayed += left
            self._delayed_bytes += sum([work_bytes(each.head, each.payload) for each in left])
            return [], None
        self._blocked.clear()
        if self._sync != "always" or now >= self._shared_until or not self.worker.may_read_meanwhile(left):
            return self._tick(left, wall), None
        try:
            commit = self.worker.begin(left, wall)
        except CommitFailed as error:
            return self._again(left, error, wall), None
        if commit is None:
            return self._acknowledged(left, self.worker.end()), None
        self._writing = left
        return [], commit

    def _no_longer_delayed(self) -> list[Message]:
        delayed, self._delayed, self._delayed_bytes = self._delayed, [], 0
        self._blocked.clear()
        return delayed

    def _tick(self, messages: list[Message], wall: float) -> list[Answer]:
        """The answers to these, which are carried out, and written, here and now."""
        try:
            commit = self.worker.begin(messages, wall)
            if commit is not None:
                commit()
        except CommitFailed as error:
            return self._again(messages, error, wall)
        return self._acknowledged(messages, self.worker.end())

    def _acknowledged(self, messages: list[Message], answers: list[Answer]) -> list[Answer]:
        """These answers to these messages, which are written: where they were to be."""
        return answers if self._sync != "always" or self._is_in_place() else self._lost(messages)

    def _lost(self, messages: list[Message]) -> list[Answer]:
        self.is_over = True
        log.error("%s", self._why_lost)
        return self.worker.refuse(messages, f"{self._why_lost}; whether this happened is unknown")

    def _again(self, messages: list[Message], error: CommitFailed, wall: float) -> list[Answer]:
        """The answers to these, whose batch could not be written: carried out once more, or refused."""
        if not self._is_in_place():
            return self._lost(messages)
        self._recover(error)
        try:
            return self._acknowledged(messages, self.worker.tick(messages, wall))
        except CommitFailed as still:
            self._recover(still)
            return self.worker.refuse(messages, f"{still}; whether it happened is unknown")

    def _recover(self, error: CommitFailed) -> None:
        """Open the store anew: LevelDB writes nothing more after it has failed to."""
        log.error("%s; the store is opened again", error)
        self.worker.close()
        self.worker = self._open()

    def _open(self) -> Worker:
        worker = self._opened()
        worker.refuse_values(self._why_no_room())
        return worker

    def _look_for_room(self) -> None:
        self._unlooked_bytes = 0
        self.worker.refuse_values(self._why_no_room())

    def _between_ticks(self, now: float, wall: float) -> list[Answer]:
        """Say HELLO, flush, sweep: what is due of these. Returns what is to be sent."""
        self._is_postponed = self._writing is not None
        if self._is_postponed:
            self.due = now + HELLO_SECONDS
            return []
        answers: list[Answer] = []
        if now >= self._hello_due:
            self._hello_due = now + HELLO_SECONDS
            self._is_sweeping = True
            self._look_for_room()
            if not self._is_in_place():
                return self._lost([])
            answers.append(self._hello(self.worker))
        try:
            flushes = self._flush(now)
            self._sweep(now, wall)
        except CommitFailed as error:
            self._recover(error)
            flushes = False
        if self.worker.resumes:
            answers += self._tick([], wall)
        self.due = min(
            self._hello_due,
            self._sweep_due if self._is_sweeping else self._hello_due,
            self._flush_due if flushes else self._hello_due,
        )
        return answers

    def _flush(self, now: float) -> bool:
        """Flush if that is due. Returns whether it will be."""
        worker = self.worker
        if not worker.needs_flush(for_all=self._sync != "off"):
            return False
        if now < self._flush_due:
            return True
        self._flush_due = now + FLUSH_SECONDS
        worker.flush()
        return False

    def _sweep(self, now: float, wall: float) -> None:
        """Take a step of the sweeper if one is due: they follow one another, but rest while there are requests."""
        if not self._is_sweeping or now < self._sweep_due:
            return
        self._is_sweeping = False  # should it fail, until the next HELLO
        self._is_sweeping = self.worker.sweep(wall)
        self._sweep_due = now + (self.worker.rest_seconds if self._is_busy else 0.0)
        self._is_busy = False
