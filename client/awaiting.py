"""The awaiting driver: one line per event loop, on that loop's own thread.

Whatever is asked in one tick of the loop leaves as one message per worker. ZeroMQ's descriptor is edge-triggered: a relay
through it is read until nothing is left after every wake-up and after every send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdall.client.ask import FLOW_MAX, Answers, Ask, Chunks, Flow, Operation, R, Shared, Tell, Work
from holdall.client.call import Call
from holdall.client.channel import Waiting
from holdall.client.line import BROKER_SECONDS, Line
from holdall.client.route import Route
from holdall.client.stream import AwaitingStream
from holdall.errors import ConnectionError
from holdall.protocol import Reply
from holdall.slots import SLOT_SHIFT

if TYPE_CHECKING:
    from socket import socket

    from holdall.client.client import Client
    from holdall.client.way import Way

LOOK_SECONDS = 0.25
"""How often a waiting line looks whether answers are overdue."""
TRANSFERS_MAX = 4
"""Large values of which chunks are on their way at once, for all tasks of a loop; the others take turns."""
TRANSFERRED_MAX = 32
"""Calls that have begun to transfer large values: a worker takes no more than 1,024 uploads, nor 4 GiB, of one line."""


TOGETHER_MAX = 40
"""Requests that are sent together: of more in one tick, the first are being answered while the others are made."""


class _Answer:
    """A future of a reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Reply] = loop.create_future()

    def answered(self, reply: Reply) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # taken note of, should nobody wait any more


class _Nobody:
    """Who waits for no answer."""

    def answered(self, reply: Reply) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass


class AwaitingLine(Line):
    """A line for all tasks of one loop."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._outbox: list[Waiting] = []
        self._sharing: dict[int, asyncio.Task[None]] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._reaching: asyncio.TimerHandle | None = None
        self._reviving: asyncio.Future[None] | None = None
        self._transfers = asyncio.Semaphore(TRANSFERS_MAX)
        self._transferred = asyncio.Semaphore(TRANSFERRED_MAX)
        super().__init__(client)

    def call(self, operation: Operation[R], timeout: float) -> Coroutine[Any, Any, R]:
        """An operation to be awaited on this loop."""
        return Call(self, operation, timeout)  # pyright: ignore[reportReturnType] - it is registered as one

    async def run(self, operation: Operation[R], timeout: float) -> R:
        """Carry out an operation: ask what it yields, send it the answers, return its result."""
        try:
            asked = next(operation)
        except StopIteration as stop:
            result: R = stop.value
            return result
        return await self.go_on(operation, asked, monotonic() + timeout, timeout)

    async def go_on(self, operation: Operation[R], asked: Any, deadline: float, timeout: float) -> R:
        """Carry out the rest of an operation, which has asked this."""
        ask = asked
        transfers = False
        try:
            while True:
                if isinstance(ask, (Chunks, Work)) and not transfers:
                    transfers = await self._transferred.acquire()
                if isinstance(ask, Shared):
                    await self._share(ask, deadline)
                    ask = operation.send(None)
                elif isinstance(ask, Tell):
                    self._channel.abandon(self.send(ask.ask, deadline, _Nobody()))
                    ask = operation.send(None)
                elif isinstance(ask, Chunks):
                    async with self._transfers:
                        deadline = monotonic() + timeout
                        answers = await self._answers(ask, deadline)
                    ask = operation.send(answers)
                elif isinstance(ask, Flow):
                    await self._flow(ask, deadline)
                    ask = operation.send(None)
                elif isinstance(ask, Work):
                    async with self._transfers:
                        done = await self.loop.run_in_executor(None, ask.do)
                        deadline = monotonic() + timeout
                    ask = operation.send(done)
                else:
                    ask = operation.send(await self._answers(ask, deadline))
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            if transfers:
                self._transferred.release()

    def close(self) -> None:
        """Close the sockets; calls that still wait get ConnectionError."""
        if not self.loop.is_closed():
            if not self._relay.is_broken:
                self.loop.remove_reader(self._relay.fileno())
            for timer in (self._looking, self._reaching):
                if timer is not None:
                    timer.cancel()
            self._outbox.clear()
            closed = f"this client of {self._client.address} is closed: make another one"
            for waiting in list(self._channel.waiting.values()):
                waiting.answer.failed(ConnectionError(closed))
        for way in self.ways:
            way.close()

    def _open_relay(self) -> Way | None:
        client = self._client
        if client.is_near:
            return self._open_stream(client.new_stream(client.address), None)
        from holdall.client.dealer import Dealer

        relay = Dealer(client.new_socket(client.address))
        self.loop.add_reader(relay.fileno(), self._drain, relay, None)
        return relay

    def _open_straight(self, address: str, route: Route) -> Way | None:
        return self._open_stream(self._client.new_straight_stream(address), route)

    def _open_stream(self, stream: socket | None, route: Route | None) -> Way | None:
        if stream is None:
            return None
        way = AwaitingStream(stream, self.loop)
        self.loop.add_reader(way.fileno(), self._drain, way, route)
        return way

    def _reach_broker(self) -> bool:
        reached = super()._reach_broker()
        if not reached and self._reaching is None:
            self._reaching = self.loop.call_later(BROKER_SECONDS, self._reach_broker_again)
        return reached

    def _reach_broker_again(self) -> None:
        self._reaching = None
        if self._channel.waiting:
            self._reach_broker()

    async def _answers(self, asked: Ask | list[Ask], deadline: float) -> Answers:
        sent = [self.send(ask, deadline, _Answer(self.loop)) for ask in ([asked] if isinstance(asked, Ask) else asked)]
        try:
            if isinstance(asked, Ask):
                reply: Reply = await sent[0].answer.future
                return reply
            return [await waiting.answer.future for waiting in sent]
        finally:
            self._forget(sent)

    async def _flow(self, flow: Flow, deadline: float) -> None:
        sent: deque[Waiting] = deque()
        taken = 0
        try:
            for ask in flow.asks:
                sent.append(self.send(ask, deadline, _Answer(self.loop)))
                self._flush()  # its worker may begin, while the next one is made
                if len(sent) == FLOW_MAX:
                    flow.take(taken, await sent[0].answer.future)
                    taken += 1
                    sent.popleft()
            for number, waiting in enumerate(sent, taken):
                flow.take(number, await waiting.answer.future)
        finally:
            self._forget(sent)

    def _forget(self, sent: Iterable[Waiting]) -> None:
        """Nobody waits for these any more."""
        for waiting in sent:
            self._channel.abandon(waiting)
            future = waiting.answer.future
            if not self.loop.is_closed() and not future.cancel() and not future.cancelled():
                future.exception()  # taken note of: asyncio reports errors that nobody looked at

    async def _share(self, shared: Shared, deadline: float) -> None:
        """Wait for the one task that carries it out: cancelling one of those who wait leaves the others alone."""
        task = self._sharing.get(id(shared.of))
        if task is None:
            task = self._sharing[id(shared.of)] = self.loop.create_task(self.run(shared.operation(), deadline - monotonic()))
            task.add_done_callback(lambda done: self._shared(shared, done))
        await asyncio.shield(task)

    def _shared(self, shared: Shared, done: asyncio.Task[None]) -> None:
        self._sharing.pop(id(shared.of), None)
        if not done.cancelled():
            done.exception()  # taken note of, should nobody wait any more

    def send(self, ask: Ask, deadline: float, answer: Any) -> Waiting:
        """Have this asked before the loop waits, and `answer` told of it."""
        if not self._knows_workers:
            self._meet()
        waiting = self._channel.send(ask, self._channel.route_of_slot[ask.hash >> SLOT_SHIFT], monotonic(), deadline)
        waiting.answer = answer
        if not self._outbox:
            self.loop.call_soon(self._flush)
        self._outbox.append(waiting)
        if len(self._outbox) == TOGETHER_MAX:
            self._flush()
        if self._looking is None:
            self._looking = self.loop.call_later(LOOK_SECONDS, self._look_for_overdue)
        return waiting

    def abandon(self, waiting: Waiting) -> None:
        """Nobody waits for this answer any more."""
        self._channel.abandon(waiting)

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
            self._drain(self._relay, None)

    def _drain(self, way: Way, route: Route | None) -> None:
        more = True
        while more:
            answered, more = self._read(way, route, wait=False)
            for waiting, reply in answered:
                waiting.answer.answered(reply)
        if way is self._relay and way.is_broken and self._channel.waiting:
            self._reach_broker()

    def _look_for_overdue(self) -> None:
        now = monotonic()
        again, failed = self._channel.overdue(now)
        for waiting in failed:
            waiting.answer.failed(self._channel.failure(waiting, self._client.address, now))
        waits = bool(self._channel.waiting)
        self._looking = self.loop.call_later(LOOK_SECONDS, self._look_for_overdue) if waits else None
        if again:
            self._revive()
        for waiting in again:
            if not waiting.route.is_direct:
                self._approach(waiting.route, now)
            self._transmit(waiting.route, waiting.frames)
        self._drain(self._relay, None)

    def _revive(self) -> None:
        if self._client.is_local and (self._reviving is None or self._reviving.done()):
            self._reviving = self.loop.run_in_executor(None, self._client.revive)
            self._reviving.add_done_callback(lambda done: done.cancelled() or done.exception())
