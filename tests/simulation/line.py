"""A client's line: a Channel and its socket, driven as holdall.client.blocking and holdall.client.awaiting drive theirs.

A blocking line reads only during a call, sends each request at once, and looks for overdue answers when nothing came for a
while. An awaiting line reads always, sends what was asked in one moment as one message per worker, and looks regularly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import holdall.client.line
from holdall.client.ask import Ask, Chunks, Flow, Operation, Tell, Work
from holdall.client.awaiting import LOOK_SECONDS
from holdall.client.channel import Waiting
from holdall.client.client import Client
from holdall.client.route import Route
from holdall.errors import Error
from holdall.framing import Received
from holdall.protocol import Reply
from holdall.slots import SLOT_SHIFT
from tests.simulation.network import Frames, Socket
from tests.simulation.transport import Transport

if TYPE_CHECKING:
    from tests.simulation.client_process import ClientProcess
    from tests.simulation.simulation import Simulation


class Run:
    """An operation on its way. `done` is called with its result or its error."""

    def __init__(
        self, operation: Operation[Any], now: float, timeout: float, done: Callable[[Any, Error | None], None]
    ) -> None:
        self.operation = operation
        self.timeout = timeout
        self.deadline = now + timeout
        self.done = done
        self.single = True
        self.flow: Flow | None = None
        self.sent: list[Waiting] = []
        self.replies: dict[int, Reply] = {}


class Line(holdall.client.line.Line):
    """The requests and answers of one client."""

    def __init__(self, simulation: Simulation, client: ClientProcess, *, awaits: bool) -> None:
        self._simulation = simulation
        self._process = client
        self._awaits = awaits
        self._runs: list[Run] = []
        self._outbox: list[Waiting] = []
        self._unread: list[tuple[Route | None, Frames]] = []
        self._looks = False
        self._heard_at = 0.0
        super().__init__(cast(Client, client))

    @property
    def heard(self) -> bool:
        """Whether the service has ever answered here."""
        return self._channel.heard

    def start(self, run: Run) -> None:
        """Begin an operation."""
        if not self._knows_workers:
            self._meet()
        self._runs.append(run)
        self._advance(run, None)
        while self._unread and self._runs:
            self._take(*self._unread.pop(0))

    def abandon(self, run: Run) -> None:
        """Nobody waits for this operation any more."""
        if run in self._runs:
            self._end(run)

    def close(self) -> None:
        """Be gone, with all that waits."""
        for run in list(self._runs):
            self._end(run)
        for transport in self.transports:
            transport.close()

    def _now(self) -> float:
        return self._simulation.clock.now

    @property
    def sockets(self) -> list[Socket]:
        """Those of all transports."""
        return [cast(Transport, transport).socket for transport in self.transports]

    def _open_broker(self) -> Any:
        socket = self._process.new_broker_socket()
        return Transport(socket, lambda frames: self._receive(None, frames), came_back=self._came_back)

    def _came_back(self) -> None:
        if self._awaits or self._runs:  # a blocking line looks during a call only
            self._look_at_broker()

    def _open_lane(self, address: str, route: Route) -> Transport:
        socket = self._process.new_stream(address)
        lane = Transport(socket, lambda frames: self._receive(route, frames), lambda: self._ended(lane, route))
        return lane

    def _ended(self, lane: Transport, route: Route) -> None:
        if route.lane is lane and route.is_direct:
            self._lose(route)

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
            if isinstance(asked, Tell):
                self._channel.abandon(self._send(run, asked.ask))
                self._advance(run, None)
                return
            if isinstance(asked, Work):
                run.sent = []
                run.deadline = self._simulation.clock.now + run.timeout
                self._simulation.clock.call_in(self._simulation.faults.lateness(), self._work, run, asked)
                return
            if isinstance(asked, Chunks):
                run.deadline = self._simulation.clock.now + run.timeout
            run.single = isinstance(asked, Ask)
            run.flow = asked if isinstance(asked, Flow) else None
            run.replies.clear()
            asks = [asked] if isinstance(asked, Ask) else list(asked.asks) if isinstance(asked, Flow) else asked
            run.sent = [self._send(run, ask) for ask in asks]
            if not asks:
                self._simulation.clock.call_in(0, self._answered, run)

    def _answered(self, run: Run) -> None:
        """All that was asked has its answer."""
        if run not in self._runs:
            return
        answers = [run.replies[each.sequence] for each in run.sent]
        self._give_up(run)
        try:
            for at, reply in enumerate(answers if run.flow else ()):
                assert run.flow is not None
                run.flow.take(at, reply)
        except Error as error:
            self._end(run)
            run.done(None, error)
            return
        self._advance(run, None if run.flow else answers[0] if run.single else answers)

    def _work(self, run: Run, work: Work) -> None:
        if run in self._runs:
            self._advance(run, work.do())

    def _send(self, run: Run, ask: Ask) -> Waiting:
        clock = self._simulation.clock
        route = self._channel.route_of_slot[ask.hash >> SLOT_SHIFT]
        if not self._awaits:
            self._try_lane(route)
        waiting = self._channel.send(ask, route, clock.now, run.deadline)
        waiting.answer = run
        if not self._awaits:
            self._transmit(waiting.route, waiting.frames)
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
        groups: dict[Route, list[Waiting]] = {}
        for waiting in outbox:
            groups.setdefault(waiting.route, []).append(waiting)
        for route, group in groups.items():
            self._try_lane(route)
            for message in self._channel.batch(group):
                self._transmit(route, message)

    def _try_lane(self, route: Route) -> None:
        if not route.is_direct:
            self._approach(route, self._simulation.clock.now)

    def _receive(self, route: Route | None, frames: Frames) -> None:
        if self._runs or self._awaits:
            self._take(route, frames)
        else:
            self._unread.append((route, frames))

    def _take(self, route: Route | None, frames: Frames) -> None:
        self._heard_at = self._simulation.clock.now
        payload = memoryview(frames[1]) if len(frames) > 1 else None
        if route is None or route.is_direct:
            answered = self._channel.receive(frames[0], payload)
        else:
            answered = self._heard(route, Received(frames[0], payload))
        for waiting, reply in answered:
            run: Run = waiting.answer
            run.replies[waiting.sequence] = reply
            if len(run.replies) == len(run.sent):
                self._answered(run)

    def _look(self) -> None:
        """Look for overdue answers."""
        now = self._simulation.clock.now
        if not self._awaits and self._heard_at + LOOK_SECONDS > now:
            self._simulation.clock.call_at(self._heard_at + LOOK_SECONDS, self._look)
            return
        self._look_at_broker()
        again, failed = self._channel.overdue(now)
        for waiting in failed:
            run: Run = waiting.answer
            if run in self._runs:
                self._end(run)
                run.done(None, self._channel.failure(waiting, self._client.address, now))
        for waiting in again:
            self._try_lane(waiting.route)
            self._transmit(waiting.route, waiting.frames)
        self._looks = bool(self._channel.waiting)
        if self._looks:
            self._simulation.clock.call_in(LOOK_SECONDS, self._look)
