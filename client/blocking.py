"""The blocking driver: the caller's own thread sends and receives on a socket that it has to itself for the call.

Lines are taken from the client's pool and put back, so two calls at once never share one, whatever thread or signal handler
they come from; a program with one thread always uses the same one.
"""

from __future__ import annotations

from threading import TIMEOUT_MAX
from time import monotonic
from typing import TYPE_CHECKING, Any

import zmq

from holdall import frames
from holdall.client.ask import Answers, Ask, Operation, R, Shared
from holdall.client.channel import Waiting
from holdall.errors import TimeoutError
from holdall.protocol import Reply, has_payload_frame

if TYPE_CHECKING:
    from holdall.client.client import Client

WAKE_MILLISECONDS = 250
"""How often a waiting call looks whether an answer is overdue."""


class BlockingLine:
    """A channel and its socket, for one call at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._channel = client.new_channel()
        self.socket: Any = client.new_socket()
        self.socket.rcvtimeo = max(1, min(WAKE_MILLISECONDS, int(min(client.timeout, 1.0) * 1000)))

    def run(self, operation: Operation[R], timeout: float) -> R:
        """Carry out an operation: ask what it yields, send it the answers, return its result."""
        deadline = monotonic() + timeout
        try:
            ask = next(operation)
            while True:
                ask = operation.send(self._one(ask, deadline) if isinstance(ask, Ask) else self._others(ask, deadline))
        except StopIteration as stop:
            result: R = stop.value
            return result

    def close(self) -> None:
        """Close the socket."""
        self.socket.close(0)

    def _one(self, ask: Ask, deadline: float) -> Reply:
        waiting = self._send(ask, deadline)
        try:
            while True:
                for answered, reply in self._receive():
                    if answered is waiting:
                        return reply
        finally:
            self._channel.abandon(waiting)

    def _others(self, asked: list[Ask] | Shared, deadline: float) -> Answers | None:
        if isinstance(asked, list):
            return self._many(asked, deadline)
        lock = asked.of.lock()
        if not lock.acquire(timeout=min(max(0.0, deadline - monotonic()), TIMEOUT_MAX)):
            raise TimeoutError("another thread looks the same Dict up, and has no answer yet: is the service there?")
        try:
            if not asked.of.is_hydrated():
                self.run(asked.operation(), deadline - monotonic())
        finally:
            lock.release()
        return None

    def _many(self, asks: list[Ask], deadline: float) -> Answers:
        sent = [self._send(ask, deadline) for ask in asks]
        missing = len(sent)
        try:
            while missing:
                for answered, reply in self._receive():
                    answered.answer = reply
                    missing -= 1
            return [waiting.answer for waiting in sent]
        finally:
            for waiting in sent:
                self._channel.abandon(waiting)

    def _send(self, ask: Ask, deadline: float) -> Waiting:
        waiting = self._channel.send(ask, monotonic(), deadline)
        self._transmit(waiting)
        return waiting

    def _transmit(self, waiting: Waiting) -> None:
        try:
            frames.send(self.socket, waiting.frames)
        except zmq.Again:  # the way is full: it goes again when it is overdue
            pass

    def _receive(self) -> list[tuple[Waiting, Reply]]:
        try:
            head = self.socket.recv()
        except zmq.Again:
            self._look_for_overdue()
            return []
        payload = self.socket.recv(copy=False).buffer if has_payload_frame(head) else None
        answered = self._channel.receive(head, payload, monotonic())
        if not answered:  # late ones, of calls that were given up, must not keep this one from its deadline
            self._look_for_overdue()
        return answered

    def _look_for_overdue(self) -> None:
        now = monotonic()
        again, failed = self._channel.overdue(now)
        if failed:
            raise self._channel.failure(failed[0], self._client.address, now)
        if again:
            self._client.revive()
        for waiting in again:
            self._transmit(waiting)
