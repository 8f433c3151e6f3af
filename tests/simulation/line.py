"""A client's line: a Channel and its socket, driven as holdall.client.blocking and holdall.client.awaiting drive theirs.

A blocking line reads only during a call, sends each request at once, and looks for overdue answers when nothing came for a
while. An awaiting line reads always, sends what was asked in one moment as one message per worker, and looks regularly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdall.client.ask import Ask, Operation, Shared
from holdall.client.awaiting import LOOK_SECONDS
from holdall.client.channel import Waiting
from holdall.errors import Error
from holdall.protocol import Reply, has_payload_frame
from tests.simulation.network import Frames, Socket

if TYPE_CHECKING:
    from tests.simulation.client_process import ClientProcess
    from tests.simulation.simulation import Simulation


class Run:
    """An operation on its way. `done` is called with its result or its error."""

    def __init__(self, operation: Operation[Any], deadline: float, done: Callable[[Any, Error | None], None]) -> None:
        self.operation = _alone(operation)
        self.deadline = deadline
        self.done = done
        self.single = True
        self.sent: list[Waiting] = []
        self.replies: dict[int, Reply] = {}


class Line:
    """The requests and answers of one client."""

    def __init__(self, simulation: Simulation, client: ClientProcess, *, awaits: bool) -> None:
        self.socket = Socket(simulation.network, client.name, simulation.broker.front, self._receive, patient=True)
        self._simulation = simulation
        self._client = client
        self._awaits = awaits
        self._channel = simulation.cores.channel(simulation.random.randbytes(16), simulation.random)
        self._runs: list[Run] = []
        self._outbox: list[Waiting] = []
        self._unread: list[Frames] = []
        self._looks = False
        self._heard_at = 0.0

    @property
    def heard(self) -> bool:
        """Whether the service has ever answered here."""
        return self._channel.heard

    def start(self, run: Run) -> None:
        """Begin an operation."""
        self._runs.append(run)
        self._advance(run, None)
        while self._unread and self._runs:
            self._read(self._unread.pop(0))

    def abandon(self, run: Run) -> None:
        """Nobody waits for this operation any more."""
        if run in self._runs:
            self._end(run)

    def close(self) -> None:
        """Be gone, with all that waits."""
        for run in list(self._runs):
            self._end(run)
        self.socket.close()

    def _end(self, run: Run) -> None:
        self._runs.remove(run)
        self._give_up(run)
        run.operation.close()

    def _give_up(self, run: Run) -> None:
        for waiting in run.sent:
            self._channel.abandon(waiting)

    def _advance(self, run: Run, answers: Any) -> None:
        """Send an operation its answers, and what it asks then."""
        try:
            asked = run.operation.send(answers)
        except StopIteration as stop:
            self._end(run)
            run.done(stop.value, None)
        except Error as error:
            self._end(run)
            run.done(None, error)
        else:
            run.single = isinstance(asked, Ask)
            run.replies.clear()
            run.sent = [self._send(run, ask) for ask in ([asked] if isinstance(asked, Ask) else asked)]

    def _send(self, run: Run, ask: Ask) -> Waiting:
        clock = self._simulation.clock
        waiting = self._channel.send(ask, clock.now, run.deadline)
        waiting.answer = run
        if not self._awaits:
            self.socket.send(waiting.frames)
        else:
            if not self._outbox:
                clock.call_in(0, self._flush)
            self._outbox.append(waiting)
        self._heard_at = clock.now
        if not self._looks:
            self._looks = True
            clock.call_in(LOOK_SECONDS, self._look)
        return waiting

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        groups: dict[int, list[Waiting]] = {}
        for waiting in outbox:
            groups.setdefault(self._client.worker_index(waiting.ask.hash), []).append(waiting)
        for group in groups.values():
            for message in self._channel.batch(group):
                self.socket.send(message)

    def _receive(self, frames: Frames) -> None:
        if self._runs or self._awaits:
            self._read(frames)
        else:
            self._unread.append(frames)

    def _read(self, frames: Frames) -> None:
        now = self._heard_at = self._simulation.clock.now
        payload = memoryview(frames[1]) if has_payload_frame(frames[0]) else None
        for waiting, reply in self._channel.receive(frames[0], payload, now):
            run: Run = waiting.answer
            run.replies[waiting.sequence] = reply
            if len(run.replies) == len(run.sent):
                answers = [run.replies[each.sequence] for each in run.sent]
                self._give_up(run)
                self._advance(run, answers[0] if run.single else answers)

    def _look(self) -> None:
        """Look for overdue answers."""
        now = self._simulation.clock.now
        if not self._awaits and self._heard_at + LOOK_SECONDS > now:
            self._simulation.clock.call_at(self._heard_at + LOOK_SECONDS, self._look)
            return
        again, failed = self._channel.overdue(now)
        for waiting in failed:
            run: Run = waiting.answer
            if run in self._runs:
                self._end(run)
                run.done(None, self._channel.failure(waiting, self._client.address, now))
        for waiting in again:
            self.socket.send(waiting.frames)
        self._looks = bool(self._channel.waiting)
        if self._looks:
            self._simulation.clock.call_in(LOOK_SECONDS, self._look)


def _alone(operation: Operation[Any]) -> Operation[Any]:
    """The operation, which carries out by itself what real drivers share among callers: more look-ups to go wrong."""
    answers: Any = None
    try:
        while True:
            asked = operation.send(answers)
            answers = None
            if not isinstance(asked, Shared):
                answers = yield asked
            elif not asked.of.is_hydrated():
                yield from _alone(asked.operation())
    except StopIteration as stop:
        return stop.value
