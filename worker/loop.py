"""The worker's process: one loop around its schedule. A turn: take what has come, have it decided, send what is to be sent.

Lanes and the uplink to the broker are alike to it: sources that give messages, and take answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from holdall.process.poller import Poller
from holdall.worker.state.transaction import Commit, CommitFailed

from .message import Answer, Message
from .schedule import Schedule

BYTES_PER_TURN = 8 * 1024 * 1024
"""Bounds a turn's time and memory, its answers with chunks of blobs included; what is left waits for the next one."""


class Committer(Protocol):
    """What writes a batch while the loop goes on."""

    is_busy: bool
    has_ended: bool

    def begin(self, commit: Commit) -> None: ...

    def join(self) -> CommitFailed | None:
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
        schedule = self._schedule
        now = self._now()
        while True:
            if schedule.is_over:
                break
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
        self._send(schedule.finish(self._wall()))

    def _finish(self) -> None:
        """Wait until the batch is written, and answer who waited for that."""
        self._send(self._schedule.written(self._committer.join(), self._wall()))

    def _take(self, sources: list[Any]) -> tuple[list[Message], int]:
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
            answer.source.send(answer.address, answer.frames, answer.file)
