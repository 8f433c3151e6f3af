"""The awaiting driver: one per event loop, on that loop's own thread.

Whatever is asked in one iteration of the loop leaves as one message per worker, within the bounds of `Session`. The broker's
descriptors are edge-triggered: its transport is read until nothing is left after every wake-up and after every send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from time import monotonic
from typing import Any

from holdall.errors import ConnectionError, Error
from holdall.protocol import Reply

from .driver import CHECK_SECONDS, DRAIN_MAX, Driver
from .query import Operation, Queries, Query, R
from .session import Link, Pending, Session
from .transport import BrokerTransport, Connector, Transport

TRANSFERS_MAX = 4
"""Large values of which chunks are on their way at once, for all tasks of a loop; the others take turns."""
TRANSFERRED_MAX = 32
"""Calls that have begun to transfer large values: a worker takes no more than 1,024 uploads, nor 4 GiB, of one session."""


class AwaitingDriver(Driver):
    """For all tasks of one loop."""

    def __init__(self, connector: Connector, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._is_closed = False
        self._is_flushing = False  # whether `_flush` is due
        self._checking: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._looks_at = inf
        self._reviving: asyncio.Future[None] | None = None
        self._transfers = asyncio.Semaphore(TRANSFERS_MAX)
        self._transferred = asyncio.Semaphore(TRANSFERRED_MAX)
        super().__init__(connector, session)

    async def run(self, operation: Operation[R], timeout: float, deadline: float) -> R:
        """The same as `BlockingDriver.run`."""
        has_transferred = False
        try:
            asked = operation.send(None)
            while True:
                answer: Any = None
                pending: Pending | None = None
                try:
                    if isinstance(asked, Query):
                        pending = self._ask(asked, deadline)
                        answer = await pending.waiter if asked.wants_reply else None
                    elif not asked.transfers:
                        answer = await self._replies(asked, deadline)
                    else:
                        has_transferred = has_transferred or await self._transferred.acquire()
                        async with self._transfers:
                            deadline = monotonic() + timeout
                            if asked.work is None:
                                answer = await self._replies(asked, deadline)
                            else:
                                answer = await self.loop.run_in_executor(None, asked.work)
                        deadline = monotonic() + timeout if asked.work is not None else deadline
                except BaseException as error:  # it was cancelled, or failed
                    if pending is not None:
                        self._session.abandon(pending)
                    if self._is_closed or self.loop.is_closed():
                        raise
                    asked = operation.throw(error)
                else:
                    asked = operation.send(answer)
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            if has_transferred:
                self._transferred.release()

    def close(self) -> None:
        """Close the transports; calls that still wait get ConnectionError."""
        if not self.loop.is_closed():
            for descriptor in (self._broker.fileno(), self._broker.monitor_fileno()):
                if descriptor is not None:
                    self.loop.remove_reader(descriptor)
            for timer in (self._checking, self._looking):
                if timer is not None:
                    timer.cancel()
            for pending in list(self._session.pending.values()):
                _fail(pending, self._closed())
            self._session.abandon_all()
        self._is_closed = True
        for transport in self.transports:
            transport.close()

    def _closed(self) -> ConnectionError:
        return ConnectionError(f"this client of {self._connector.url} is closed: make another one")

    def _open_broker(self) -> BrokerTransport:
        broker = self._connector.open_broker()
        self.loop.add_reader(broker.fileno(), self._drain, broker, None)
        if (monitor := broker.monitor_fileno()) is not None:
            self.loop.add_reader(monitor, self._look_at_broker)
        return broker

    def _open_lane(self, address: str, link: Link) -> Transport | None:
        lane = self._connector.open_awaiting_lane(address, self.loop)
        if lane is not None:
            self.loop.add_reader(lane.fileno(), self._drain, lane, link)
        return lane

    def _ask(self, query: Query, deadline: float) -> Pending:
        """Have this sent before the loop waits; the `waiter` of what is returned is a future of the reply."""
        if self._is_closed:
            raise self._closed()
        pending = self._session.ask(query, monotonic(), deadline)
        pending.waiter = self.loop.create_future()
        self._flush_soon()
        if self._checking is None:
            self._checking = self.loop.call_later(CHECK_SECONDS, self._check)
        return pending

    async def _replies(self, asked: Queries, deadline: float) -> list[Reply]:
        replies: list[Reply] = []
        take = asked.take or replies.append
        sent: deque[Pending] = deque()
        try:
            for query in asked.queries:
                sent.append(self._ask(query, deadline))
                if asked.window:
                    self._flush()  # its worker may begin, while the next one is made
                if len(sent) == asked.window:
                    take(await sent[0].waiter)
                    sent.popleft()
            while sent:
                take(await sent[0].waiter)
                sent.popleft()
        finally:
            for pending in sent:
                self._session.abandon(pending)
                if not self.loop.is_closed():
                    pending.waiter.cancel()
        return replies

    def _flush_soon(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if not self._is_closed and self._send_outgoing(monotonic()):
            self._drain(self._broker, None)

    def _drain(self, transport: Transport, link: Link | None) -> None:
        has_more = not self._is_closed
        left = DRAIN_MAX
        while has_more and left:
            left -= 1
            answered, has_more = self._receive(transport, link, wait=False)
            for pending in answered:
                if not pending.waiter.done():
                    pending.waiter.set_result(pending.reply)
        if has_more:
            self.loop.call_soon(self._drain, transport, link)
        elif link is None and (due := self._broker.due) < self._looks_at:
            if self._looking is not None:
                self._looking.cancel()
            self._looks_at = due
            self._looking = self.loop.call_later(max(0.0, due - monotonic()), self._look_when_due)
        if self._session.outbox:  # a lane was proved, or lost
            self._flush_soon()

    def _look_when_due(self) -> None:
        self._looking, self._looks_at = None, inf
        if not self._is_closed:
            self._look_at_broker()

    def _look_at_broker(self) -> None:
        if self._broker.has_come_back():
            self._session.reconnected()
            self._flush_soon()
        if self._broker.is_refused:
            self.is_refused = True
            self._drain(self._broker, None)  # answers may have come before
            for pending in list(self._session.pending.values()):
                _fail(pending, self._session.refusal(pending, self._connector.url))
            self._session.abandon_all()
        self._drain(self._broker, None)

    def _check(self) -> None:
        now = monotonic()
        again, failed = self._session.overdue(now)
        self.is_refused = self.is_refused or bool(failed and self._broker.trouble)
        for pending in failed:
            _fail(pending, self._session.failure(pending, self._connector.url, now, self._broker.trouble))
        self._checking = self.loop.call_later(CHECK_SECONDS, self._check) if self._session.pending else None
        if again:
            self._revive()
        self._flush()
        self._look_at_broker()

    def _revive(self) -> None:
        if self._connector.is_local and (self._reviving is None or self._reviving.done()):
            self._reviving = self.loop.run_in_executor(None, self._connector.revive)
            self._reviving.add_done_callback(lambda done: done.cancelled() or done.exception())


def _fail(pending: Pending, error: Error) -> None:
    if not pending.waiter.done():
        pending.waiter.set_exception(error)
        pending.waiter.exception()  # retrieved here, should no task wait any more
