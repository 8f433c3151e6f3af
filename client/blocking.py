"""The blocking driver: the caller's own thread sends and receives on sockets that it has to itself for the call.

Lines are taken from the client's pool and put back, so two calls at once never share one, whatever thread or signal handler
they come from; a program with one thread always uses the same one.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from holdall.client.ask import FLOW_MAX, Answers, Ask, Chunks, Flow, Operation, R, Tell, Work
from holdall.client.channel import Waiting
from holdall.client.lane import Lane
from holdall.client.line import Line
from holdall.client.route import Route
from holdall.protocol import Reply
from holdall.slots import SLOT_SHIFT

if TYPE_CHECKING:
    from holdall.client.client import Client
    from holdall.client.dealer import Dealer
    from holdall.client.transport import Transport

WAKE_SECONDS = 0.25
"""How often a waiting call looks whether an answer is overdue."""


class BlockingLine(Line):
    """A line for one call at a time."""

    def __init__(self, client: Client) -> None:
        self._wake_seconds = max(0.001, min(WAKE_SECONDS, client.timeout))
        super().__init__(client)

    def run(self, operation: Operation[R], timeout: float, deadline: float) -> R:
        """Carry out an operation: ask what it yields, send it the answers, return its result. `deadline` is that of its first
        answers; for each part of a large value it has `timeout` seconds more.
        """
        try:
            ask = operation.send(None)
            while True:
                if isinstance(ask, Ask):
                    ask = operation.send(self._answer(self._send(ask, deadline)))
                    continue
                if isinstance(ask, (Chunks, Work)):
                    deadline = monotonic() + timeout
                ask = operation.send(ask.do() if isinstance(ask, Work) else self._others(ask, deadline))
        except StopIteration as stop:
            result: R = stop.value
            return result
        except BaseException:
            self.abandon_all()
            raise

    def answers(self, sent: list[Waiting]) -> list[Reply]:
        """The answers to these requests."""
        return [self._answer(waiting) for waiting in sent]

    def abandon_all(self) -> None:
        """Nobody waits for any answer any more."""
        self._channel.abandon_all()

    def close(self) -> None:
        """Close the sockets."""
        for transport in self.transports:
            transport.close()

    def _open_broker(self) -> Dealer:
        return self._client.new_dealer(self._wake_seconds)

    def _open_lane(self, address: str, route: Route) -> Transport | None:
        stream = self._client.new_stream(address)
        return None if stream is None else Lane(stream, self._wake_seconds)

    def _others(self, asked: list[Ask] | Flow | Tell, deadline: float) -> Answers | None:
        if isinstance(asked, list):
            return self._many(asked, deadline)
        if isinstance(asked, Flow):
            self._flow(asked, deadline)
            return None
        self._channel.abandon(self._send(asked.ask, deadline))
        return None

    def _many(self, asks: list[Ask], deadline: float) -> Answers:
        return self.answers([self._send(ask, deadline) for ask in asks])

    def _flow(self, flow: Flow, deadline: float) -> None:
        sent: deque[Waiting] = deque()
        taken = 0
        for ask in flow.asks:
            sent.append(self._send(ask, deadline))
            if len(sent) == FLOW_MAX:
                flow.take(taken, self._answer(sent.popleft()))
                taken += 1
        for number, waiting in enumerate(sent, taken):
            flow.take(number, self._answer(waiting))

    def _send(self, ask: Ask, deadline: float) -> Waiting:
        """Send a request to the worker that its hash names, by its lane if there is one."""
        now = monotonic()
        route = self._channel.route_of_slot[ask.hash >> SLOT_SHIFT]
        if not route.is_direct:
            if not self._knows_workers:
                self._meet()
                route = self._channel.route_of_slot[ask.hash >> SLOT_SHIFT]
            self._drain(route)
            if not route.is_direct:
                self._approach(route, now)  # while this request is on its way through the broker
        waiting = self._channel.send(ask, route, now, deadline)
        self._transmit(route, waiting.frames)
        return waiting

    def _answer(self, waiting: Waiting) -> Reply:
        """Wait for the answer, where this request went last."""
        while waiting.answer is None:
            route = waiting.route
            if route.is_direct and route.lane is not None:
                answered, _ = self._read(route.lane, route, wait=True)
            else:
                answered, _ = self._read(self.broker, None, wait=True)
            if not answered:  # late ones, of calls that were given up, must not keep this one from its deadline
                self._look_for_overdue()
            for each, reply in answered:
                each.answer = reply
        answer: Reply = waiting.answer
        return answer

    def _drain(self, route: Route) -> None:
        """Take what has come by this worker's lane."""
        more = True
        while more and route.lane is not None:
            answered, more = self._read(route.lane, route, wait=False)
            for waiting, reply in answered:
                waiting.answer = reply

    def _look_for_overdue(self) -> None:
        """Take what has come another way than was waited for; send again what is lost or overdue."""
        now = monotonic()
        for route in self.routes:
            self._drain(route)
        self._look_at_broker()
        again, failed = self._channel.overdue(now)
        if failed:
            raise self._channel.failure(failed[0], self._client.address, now)
        if again:
            self._client.revive()
        for waiting in again:
            if not waiting.route.is_direct:
                self._approach(waiting.route, now)
            self._transmit(waiting.route, waiting.frames)
