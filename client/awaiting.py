"""The awaiting driver: one line per event loop, on that loop's own thread.

Whatever is asked in one tick of the loop leaves as one message per worker. ZeroMQ's descriptors are edge-triggered: the DEALER
is read until nothing is left after every wake-up and after every send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdall.client.ask import FLOW_MAX, Ask, Chunks, Flow, Operation, R, Tell, Work
from holdall.client.channel import Waiting
from holdall.client.lane import AwaitingLane
from holdall.client.line import Line
from holdall.client.route import Route
from holdall.errors import ConnectionError
from holdall.protocol import Reply
from holdall.slots import SLOT_SHIFT

if TYPE_CHECKING:
    from holdall.client.client import Client
    from holdall.client.dealer import Dealer
    from holdall.client.transport import Transport

LOOK_SECONDS = 0.25
"""How often a waiting line looks whether answers are overdue."""
TRANSFERS_MAX = 4
"""Large values of which chunks are on their way at once, for all tasks of a loop; the others take turns."""
TRANSFERRED_MAX = 32
"""Calls that have begun to transfer large values: a worker takes no more than 1,024 uploads, nor 4 GiB, of one line."""


class AwaitingLine(Line):
    """A line for all tasks of one loop."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._is_closed = False
        self._outbox: list[Waiting] = []
        self._looking: asyncio.TimerHandle | None = None
        self._reviving: asyncio.Future[None] | None = None
        self._transfers = asyncio.Semaphore(TRANSFERS_MAX)
        self._transferred = asyncio.Semaphore(TRANSFERRED_MAX)
        super().__init__(client)

    async def run(self, operation: Operation[R], timeout: float, deadline: float) -> R:
        """Carry out an operation: ask what it yields, send it the answers, return its result. `deadline` is that of its first
        answers; for each part of a large value it has `timeout` seconds more.
        """
        try:
            asked = operation.send(None)
            while type(asked) is Ask:
                waiting = self.send(asked, deadline)
                try:
                    reply = await waiting.answer
                except BaseException:  # it was cancelled, or failed: nobody waits for the answer any more
                    self._channel.abandon(waiting)
                    raise
                asked = operation.send(reply)
            return await self._go_on(operation, asked, deadline, timeout)
        except StopIteration as stop:
            result: R = stop.value
            return result

    async def _go_on(self, operation: Operation[R], asked: Any, deadline: float, timeout: float) -> R:
        """Carry out the rest of an operation, which has asked more than one thing."""
        transfers = False
        try:
            while True:
                if isinstance(asked, (Chunks, Work)) and not transfers:
                    transfers = await self._transferred.acquire()
                answers: Any = None
                if isinstance(asked, Tell):
                    self._channel.abandon(self.send(asked.ask, deadline))
                elif isinstance(asked, Chunks):
                    async with self._transfers:
                        deadline = monotonic() + timeout
                        answers = await self._replies(asked, deadline)
                elif isinstance(asked, Flow):
                    await self._flow(asked, deadline)
                elif isinstance(asked, Work):
                    async with self._transfers:
                        answers = await self.loop.run_in_executor(None, asked.do)
                        deadline = monotonic() + timeout
                elif isinstance(asked, Ask):
                    [answers] = await self._replies([asked], deadline)
                else:
                    answers = await self._replies(asked, deadline)
                asked = operation.send(answers)
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            if transfers:
                self._transferred.release()

    def close(self) -> None:
        """Close the sockets; calls that still wait get ConnectionError."""
        if not self.loop.is_closed():
            for descriptor in (self.broker.fileno(), self.broker.monitor_fileno()):
                self.loop.remove_reader(descriptor)
            if self._looking is not None:
                self._looking.cancel()
            self._outbox.clear()
            for waiting in list(self._channel.waiting.values()):
                _fail(waiting, self._closed())
        self._is_closed = True
        for transport in self.transports:
            transport.close()

    def _closed(self) -> ConnectionError:
        return ConnectionError(f"this client of {self._client.address} is closed: make another one")

    def _open_broker(self) -> Dealer:
        dealer = self._client.new_dealer()
        self.loop.add_reader(dealer.fileno(), self._drain, dealer, None)
        self.loop.add_reader(dealer.monitor_fileno(), self._look_at_broker)
        return dealer

    def _open_lane(self, address: str, route: Route) -> Transport | None:
        stream = self._client.new_stream(address)
        if stream is None:
            return None
        lane = AwaitingLane(stream, self.loop)
        self.loop.add_reader(lane.fileno(), self._drain, lane, route)
        return lane

    def _look_at_broker(self) -> None:
        if self.broker.has_come_back():
            self._outbox = [waiting for waiting in self._outbox if waiting.route.is_direct] + self._channel.relayed()
            self._flush()
        self._drain(self.broker, None)

    def _lose(self, route: Route) -> None:
        super()._lose(route)
        self.loop.call_soon(self._drain, self.broker, None)  # which has been used

    async def _replies(self, asks: list[Ask], deadline: float) -> list[Reply]:
        sent = [self.send(ask, deadline) for ask in asks]
        try:
            return [await waiting.answer for waiting in sent]
        finally:
            self._forget(sent)

    async def _flow(self, flow: Flow, deadline: float) -> None:
        sent: deque[Waiting] = deque()
        taken = 0
        try:
            for ask in flow.asks:
                sent.append(self.send(ask, deadline))
                self._flush()  # its worker may begin, while the next one is made
                if len(sent) == FLOW_MAX:
                    flow.take(taken, await sent[0].answer)
                    taken += 1
                    sent.popleft()
            for number, waiting in enumerate(sent, taken):
                flow.take(number, await waiting.answer)
        finally:
            self._forget(sent)

    def _forget(self, sent: Iterable[Waiting]) -> None:
        """Nobody waits for these any more."""
        for waiting in sent:
            self._channel.abandon(waiting)
            future = waiting.answer
            if not self.loop.is_closed() and not future.cancel() and not future.cancelled():
                future.exception()  # taken note of: asyncio reports errors that nobody looked at

    def send(self, ask: Ask, deadline: float) -> Waiting:
        """Have this asked before the loop waits; `answer` of what is returned is a future of the reply."""
        if self._is_closed:
            raise self._closed()
        if not self._knows_workers:
            self._meet()
        channel = self._channel
        waiting = channel.send(ask, channel.route_of_slot[ask.hash >> SLOT_SHIFT], monotonic(), deadline)
        waiting.answer = self.loop.create_future()
        if not self._outbox:
            self.loop.call_soon(self._flush)
        self._outbox.append(waiting)
        if self._looking is None:
            self._looking = self.loop.call_later(LOOK_SECONDS, self._look_for_overdue)
        return waiting

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        groups: dict[Route, list[Waiting]] = {}
        for waiting in outbox:
            groups.setdefault(waiting.route, []).append(waiting)
        for route, group in groups.items():
            if not route.is_direct:
                self._approach(route, monotonic())
            for message in self._channel.batch(group):
                self._transmit(route, message)
        if not all(route.is_direct for route in groups):
            self._drain(self.broker, None)

    def _drain(self, transport: Transport, route: Route | None) -> None:
        more = not self._is_closed
        while more:
            answered, more = self._read(transport, route, wait=False)
            for waiting, reply in answered:
                future = waiting.answer
                if not future.done():
                    future.set_result(reply)

    def _look_for_overdue(self) -> None:
        now = monotonic()
        again, failed = self._channel.overdue(now)
        for waiting in failed:
            _fail(waiting, self._channel.failure(waiting, self._client.address, now))
        waits = bool(self._channel.waiting)
        self._looking = self.loop.call_later(LOOK_SECONDS, self._look_for_overdue) if waits else None
        if again:
            self._revive()
        for waiting in again:
            if not waiting.route.is_direct:
                self._approach(waiting.route, now)
            self._transmit(waiting.route, waiting.frames)
        self._drain(self.broker, None)

    def _revive(self) -> None:
        if self._client.is_local and (self._reviving is None or self._reviving.done()):
            self._reviving = self.loop.run_in_executor(None, self._client.revive)
            self._reviving.add_done_callback(lambda done: done.cancelled() or done.exception())


def _fail(waiting: Waiting, error: Exception) -> None:
    future = waiting.answer
    if not future.done():
        future.set_exception(error)
        future.exception()  # taken note of, should nobody wait any more
