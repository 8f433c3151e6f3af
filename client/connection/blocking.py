"""The blocking driver: the caller's own thread sends and receives on transports that it has to itself for the call."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

from holdall.protocol import Reply

from .driver import CHECK_SECONDS, DRAIN_MAX, Driver
from .query import Operation, Queries, Query, R
from .session import Link, Pending, Session
from .transport import BrokerTransport, Connector, Transport


class BlockingDriver(Driver):
    """For one call at a time, none of which takes longer than `timeout`."""

    def __init__(self, connector: Connector, session: Session, timeout: float) -> None:
        self._wait_seconds = max(0.001, min(CHECK_SECONDS, timeout))
        super().__init__(connector, session)

    def run(self, operation: Operation[R], timeout: float, deadline: float) -> R:
        """Carry out an operation: ask what it yields, send it the answers, return its result. `deadline` is that of its first
        answers; for each part of a large value it has `timeout` seconds more. What interrupts it is raised in the operation,
        which may have a last request that wants no reply.
        """
        try:
            asked = operation.send(None)
            while True:
                answer: Any = None
                try:
                    if isinstance(asked, Query):
                        pending = self._ask(asked, deadline)
                        answer = self._reply(pending) if asked.wants_reply else None
                    else:
                        deadline = monotonic() + timeout if asked.transfers else deadline
                        answer = asked.work() if asked.work is not None else self._replies(asked, deadline)
                        deadline = monotonic() + timeout if asked.work is not None else deadline
                except BaseException as error:
                    self._session.abandon_all()
                    self._lose_broken()
                    asked = operation.throw(error)
                else:
                    asked = operation.send(answer)
        except StopIteration as stop:
            result: R = stop.value
            return result
        except BaseException:
            self._session.abandon_all()
            raise

    def close(self) -> None:
        for transport in self.transports:
            transport.close()

    def _open_broker(self) -> BrokerTransport:
        return self._connector.open_broker(self._wait_seconds)

    def _open_lane(self, address: str, link: Link) -> Transport | None:
        return self._connector.open_lane(address, self._wait_seconds)

    def _ask(self, query: Query, deadline: float) -> Pending:
        now = monotonic()
        pending = self._session.ask(query, now, deadline)
        if not pending.link.is_direct:
            self._drain(pending.link)  # the answer to a probe may be there
        self._send_outgoing(now)
        return pending

    def _reply(self, pending: Pending) -> Reply:
        """Wait for the reply, where this request went last."""
        while pending.reply is None:
            link = pending.link
            if link.is_direct and link.lane is not None:
                answered, _ = self._receive(link.lane, link, wait=True)
            else:
                answered, _ = self._receive(self._broker, None, wait=True)
            if not answered or self._session.outbox:  # late answers, of calls given up, keep no call from its deadline
                self._check()
        return pending.reply

    def _replies(self, asked: Queries, deadline: float) -> list[Reply]:
        replies: list[Reply] = []
        take = asked.take or replies.append
        sent: deque[Pending] = deque()
        for query in asked.queries:
            sent.append(self._ask(query, deadline))
            if len(sent) == asked.window:
                take(self._reply(sent.popleft()))
        while sent:
            take(self._reply(sent.popleft()))
        return replies

    def _drain(self, link: Link) -> None:
        for _ in range(DRAIN_MAX):
            if link.lane is None or not self._receive(link.lane, link, wait=False)[1]:
                return

    def _lose_broken(self) -> None:
        """Lanes that were interrupted in the middle of a message."""
        for link in self._session.links:
            if link.lane is not None and link.lane.is_broken:
                self._session.lose(link, monotonic())

    def _check(self) -> None:
        """Take what has come elsewhere than was waited for; send again what is lost or overdue."""
        for link in self._session.links:
            self._drain(link)
        if self._broker.has_come_back():
            self._session.reconnected()
        if self._broker.is_refused:
            self.is_refused = True
            raise self._session.refusal(next(iter(self._session.pending.values())), self._connector.url)
        now = monotonic()
        again, failed = self._session.overdue(now)
        if failed:
            self.is_refused = bool(self._broker.trouble)  # the next call tries anew, with what the connection file says then
            raise self._session.failure(failed[0], self._connector.url, now, self._broker.trouble)
        if again:
            self._connector.revive()
        self._send_outgoing(now)
